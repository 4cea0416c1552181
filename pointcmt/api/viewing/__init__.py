"""The page of `pointcmt view` as a function, and what a run adds to it."""
