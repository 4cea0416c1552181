"""Streams of training samples from stores of scenes: pairs of frames, and crops."""
