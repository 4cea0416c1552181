"""Readers of mesh files, one format each; `pointcmt.render.load.meshes.load_mesh` picks among them.

Every reader is a function (path, content) -> Mesh that raises ShapeRefused for a file that is not
right. What it gives back keeps the file's order: nothing is merged, dropped or moved, so that face
k is the k-th triangle of the file after its polygons are cut in place.
"""

from pointcmt.shapes import Material

MAX_FACES = 20_000_000  # triangles of one shape; more is refused
GREY = Material().color[0]  # of what has no colour where others have one
