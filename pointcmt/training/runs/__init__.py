"""What a run keeps: its folder, checkpoints, state, splits, metrics and cost."""
