"""One page about a run, or about a comparison of runs, from what the runs' folders hold."""
