"""A package of someone else's, with one part of each kind."""
