"""Pictures of runs as PNG bytes, drawn from plain values."""
