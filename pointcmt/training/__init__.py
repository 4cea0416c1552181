"""Training: from a view store to networks and their numbers. `loop.train` is where to begin."""
