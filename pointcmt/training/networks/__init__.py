"""The networks to train."""
