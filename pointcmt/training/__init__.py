"""Training: from a view store to networks and their scores. Start reading at `loop.train`."""
