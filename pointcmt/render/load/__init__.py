"""From files to checked meshes and clouds."""
