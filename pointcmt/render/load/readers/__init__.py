"""Readers of mesh files, one per format; `pointcmt.render.load.meshes.load_mesh` chooses one.

Every reader is a function (path, content, normals) -> Mesh that raises ShapeRefused for an invalid
file. Those whose files name others also take `folder`, which says where these are looked for. The
result keeps the file's order: nothing is merged, dropped or moved, so face k is the k-th triangle
of the file after its polygons are triangulated in place. normals: whether to read the vertices'
normals as well. They only affect shading, so invalid ones count as missing.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pointcmt.arrays import unit_vectors
from pointcmt.shapes import Material

MAX_FACES = 20_000_000  # triangles per shape; more are refused
GRAY = Material().color[0]  # for elements without a color if others have one
NEARLY_BLACK = 2 / 255  # of a color's largest channel
_MOST_TRAILING = 49  # bytes: a facet of a binary STL file takes 50


def trailing_note(rest: bytes) -> str:
    """Return the note on bytes after the end of a binary file; "" for data that it should declare.

    A few bytes (checksums, padding) and any number of zeros are harmless.
    """
    if len(rest) > _MOST_TRAILING and rest.strip(b"\0"):
        return ""
    return f"{len(rest)} bytes after the end of the data ignored"


def corner_normals(
    normals: NDArray[np.floating], corners: NDArray[np.integer]
) -> NDArray[np.float32] | None:
    """Return the unit normals [F,3,3] of corners, zero if missing; None if all of them are.

    normals [M,3]: of any length; missing if not finite or 0. corners [F,3]: indices into them, -1 =
    none.
    """
    found = unit_vectors(np.vstack([normals, np.zeros((1, 3))]))[corners]  # at -1: zeros
    return found if found.any() else None


def without_texture(material: Material) -> Material:
    """Return the material in gray if it is black: exporters write black beside a texture."""
    black = max(material.color) <= NEARLY_BLACK
    return replace(material, color=Material().color) if black else material
