"""Trained networks in one file, for use without their run."""
