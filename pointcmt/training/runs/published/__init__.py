"""Weights that others have published, read without unpickling and given our names."""
