"""Turn a data set into a store: planning, workers, claims, commits, repairs."""
