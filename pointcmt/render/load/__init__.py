"""Read files into checked meshes and clouds."""
