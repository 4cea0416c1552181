"""From a data set to a store: planning, workers, claims, commits, repairs."""
