"""Studies: many runs from one file, trained in order and compared in tables."""
