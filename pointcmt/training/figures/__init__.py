"""Pictures of runs as PNG bytes, from plain values."""
