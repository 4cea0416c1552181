"""The vertices of a PLY file as the points of a scene: all of them, in the file's order."""

import numpy as np
from numpy.typing import NDArray

from pointcmt.errors import Reason, ShapeRefused
from pointcmt.render.load.readers.ply import geometry
from pointcmt.render.load.readers.ply_elements import read_body, read_header
from pointcmt.render.load.readers.polygons import triangulate
from pointcmt.render.load.scenes.folder import named
from pointcmt.render.load.scenes.poses import FAR
from pointcmt.scenes import ScenePoints
from pointcmt.shapes import Mesh


def read_vertices(data: bytes, name: str) -> tuple[ScenePoints, Mesh | None]:
    """Return the vertices of a mesh or a cloud, and the mesh itself if it has faces.

    Those that no face uses are there, too. Normals are those of the faces; of a file without faces,
    those of the file (nx, ny, nz), 0 if it has none. Raises ShapeRefused for a damaged file, and
    for vertices that are not finite or very far away.
    """
    with named(name):
        tables, _ = read_body(data, read_header(data))
    if "face" in tables:
        points, sizes, corners = geometry(tables)
        triangles, _ = triangulate(points, corners, sizes)
        faces = corners[triangles]
    else:
        columns = tables["vertex"].columns("xyz") if "vertex" in tables else None
        if columns is None:
            raise ShapeRefused(Reason.BAD_SYNTAX, f"{name} has no vertices")
        points, faces = np.ascontiguousarray(columns), np.zeros((0, 3), np.int32)
    if not len(points):
        raise ShapeRefused(Reason.EMPTY_FILE, f"{name} has no vertices")
    if not (np.abs(points) <= FAR).all():
        what = f"{name} has vertices that are not finite, or more than {FAR:g} m away"
        raise ShapeRefused(Reason.NOT_FINITE, what)
    colors = tables["vertex"].colors()
    normals = vertex_normals(points, faces)
    given = tables["vertex"].columns(("nx", "ny", "nz"))
    if given is not None and not len(faces):
        normals = np.where(np.isfinite(given), given, 0).astype(np.float32)
    found = ScenePoints(
        points=points,
        color=None if colors is None else np.rint(colors * 255).astype(np.uint8),
        normals=normals,
    )
    mesh = Mesh(points, faces, vertex_colors=colors) if len(faces) else None
    return found, mesh


def vertex_normals(points: NDArray[np.float64], faces: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return unit normals [N,3] of vertices: of their faces, weighted by area; 0 without faces."""
    if not len(faces):
        return np.zeros((len(points), 3), np.float32)
    corners = points[faces]
    of_face = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    total = np.stack(
        [np.bincount(faces.ravel(), np.repeat(axis, 3), len(points)) for axis in of_face.T], axis=1
    )
    length = np.linalg.norm(total, axis=1, keepdims=True)
    return np.divide(total, length, out=np.zeros_like(total), where=length > 0).astype(np.float32)
