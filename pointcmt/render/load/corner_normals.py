"""Normals of a mesh's corners for smooth shading: those of its file, or made by a crease angle."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pointcmt.compiled import compiled
from pointcmt.geometry import face_normals, first_equal_rows
from pointcmt.shapes import UnitMesh

NO_NORMALS = "drawn flat, since it has no vertex normals (--crease-angle makes some)"
_MOST_AROUND = 1000  # faces around a vertex: comparing all pairs of more would take too long


def for_shading(mesh: UnitMesh, shading: str, crease_angle: float | None) -> UnitMesh:
    """Return a mesh with the corner normals that it is drawn with, or without any.

    shading, crease_angle: as in `RenderConfig`. A mesh that has no normals, and gets none by a
    crease angle, stays flat, with a note; so do faces whose corners have none.
    """
    if shading == "flat":
        return mesh if mesh.corner_normals is None else replace(mesh, corner_normals=None)
    if mesh.corner_normals is not None:
        missing = int(np.count_nonzero(~mesh.corner_normals.any(axis=2)))
        count = 3 * len(mesh.faces)
        note = f"{missing} of {count} corners have no vertex normal and get their face's"
        return replace(mesh, notes=(*mesh.notes, note)) if missing else mesh
    if crease_angle is None:
        return replace(mesh, notes=(*mesh.notes, NO_NORMALS))
    return replace(mesh, corner_normals=crease_normals(mesh, crease_angle))


def crease_normals(mesh: UnitMesh, angle: float) -> NDArray[np.float32]:
    """Return corner normals [F,3,3]: unit vectors, on the side of their face's normal.

    The mean over all faces around the corner's vertex whose normals differ from the face's by less
    than `angle` (degrees), weighted by their angles there (Thürmer and Wüthrich 1998). Vertices at
    the same place are one. Where two faces that share an edge have opposite windings, one of them
    counts as turned around. Zero for faces without area, and where more than 1,000 faces meet.
    """
    places = first_equal_rows((mesh.vertices + 0.0).view(np.int64))  # + 0.0: -0.0 becomes 0.0
    corners = places[mesh.faces]
    normals = face_normals(mesh) * _windings(corners)[:, None]
    order = np.argsort(corners, axis=None, kind="stable")
    starts = np.append(0, np.cumsum(np.bincount(corners.ravel(), minlength=len(places))))
    angles = _corner_angles(mesh.vertices, mesh.faces)
    found = _means(order, starts, normals, angles.ravel(), np.cos(np.radians(angle)))
    facing = np.einsum("fci,fi->fc", found, face_normals(mesh))
    return np.where(facing[..., None] < 0, -found, found).astype(np.float32)


def _windings(corners: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return 1 or -1 for each face, so that neighbors times it have the same winding.

    corners [F,3]. Neighbors share an edge that no third face has; a Möbius strip keeps a seam.
    """
    here, there = corners.ravel().astype(np.int64), np.roll(corners, -1, axis=1).ravel()
    edges = np.minimum(here, there) << 32 | np.maximum(here, there)
    order = np.argsort(edges, kind="stable")
    starts = np.flatnonzero(np.diff(edges[order], prepend=-1))
    pair = starts[np.diff(starts, append=len(edges)) == 2]
    pair = pair[here[order[pair]] != there[order[pair]]]
    first, second = order[pair], order[pair + 1]
    opposite = here[first] == here[second]
    root, sign = _signs(first // 3, second // 3, opposite, len(corners))
    more = np.bincount(root, sign, len(corners))  # let most faces of a piece keep theirs
    found: NDArray[np.float64] = np.where(more[root] < 0, -sign, sign)
    return found


@compiled
def _signs(first, second, opposite, faces):  # type: ignore[no-untyped-def]
    """Return a root for each face of a connected piece, and signs [faces] relative to it.

    The faces of a pair have different signs where `opposite`, if possible. By a union-find
    structure: each face has a parent, and its sign relative to that.
    """
    parent, sign = np.arange(faces), np.ones(faces)
    for n in range(len(first)):
        a, sign_a = _root(first[n], parent, sign)
        b, sign_b = _root(second[n], parent, sign)
        if a != b:
            parent[b], sign[b] = a, -sign_a * sign_b if opposite[n] else sign_a * sign_b
    roots, signs = np.empty(faces, np.int64), np.empty(faces)
    for face in range(faces):
        roots[face], signs[face] = _root(face, parent, sign)
    return roots, signs


@compiled
def _root(face, parent, sign):  # type: ignore[no-untyped-def]
    """Return the root of a face and the face's sign relative to it; shorten the path there."""
    root, whole = face, 1.0
    while parent[root] != root:
        whole *= sign[root]
        root = parent[root]
    rest = whole
    while face != root:
        following, own = parent[face], sign[face]
        parent[face], sign[face] = root, rest
        rest *= own
        face = following
    return root, whole


@compiled
def _corner_angles(vertices, faces):  # type: ignore[no-untyped-def]
    """Return the angles [F,3] of the corners of faces, in radians; 0 at edges of no length."""
    angles = np.zeros((len(faces), 3))
    for face in range(len(faces)):
        for corner in range(3):
            i, j, k = faces[face, corner], faces[face, corner - 2], faces[face, corner - 1]
            ux, uy, uz = (
                vertices[j, 0] - vertices[i, 0],
                vertices[j, 1] - vertices[i, 1],
                vertices[j, 2] - vertices[i, 2],
            )
            vx, vy, vz = (
                vertices[k, 0] - vertices[i, 0],
                vertices[k, 1] - vertices[i, 1],
                vertices[k, 2] - vertices[i, 2],
            )
            x, y, z = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
            across = np.sqrt(x * x + y * y + z * z)
            angles[face, corner] = np.arctan2(across, ux * vx + uy * vy + uz * vz)
    return angles


@compiled
def _means(order, starts, normals, angles, least):  # type: ignore[no-untyped-def]
    """Return the mean normals [F,3,3] of corners, which `order` lists vertex by vertex.

    starts: where the list of each vertex starts, and its end. least: cosine of the crease angle.
    """
    found = np.zeros((len(normals), 3, 3))
    for vertex in range(len(starts) - 1):
        begin, end = starts[vertex], starts[vertex + 1]
        if end - begin > _MOST_AROUND:
            continue
        for n in range(begin, end):
            face, corner = order[n] // 3, order[n] % 3
            own, total = normals[face], found[face, corner]
            if own[0] == 0.0 and own[1] == 0.0 and own[2] == 0.0:
                continue
            for k in range(begin, end):
                other = normals[order[k] // 3]
                cosine = own[0] * other[0] + own[1] * other[1] + own[2] * other[2]
                if k == n or cosine > least:
                    for axis in range(3):
                        total[axis] += angles[order[k]] * other[axis]
            length = np.sqrt(total[0] ** 2 + total[1] ** 2 + total[2] ** 2)
            for axis in range(3):
                total[axis] = total[axis] / length if length > 0.0 else 0.0
    return found
