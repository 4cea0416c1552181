"""View stores as files that other programs read: PNG, nerfstudio, COLMAP, PLY."""
