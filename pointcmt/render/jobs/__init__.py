"""Turn a dataset into a store: planning, workers, claims, commits, repairs."""
