"""Render meshes and clouds: images, faces, depths and visible points."""
