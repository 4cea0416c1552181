"""From meshes and clouds to images, faces, depths and visible points."""
