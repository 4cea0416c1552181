"""A tetrahedron, and the GLB specification's formulas as plain loops in float64."""

from typing import Any

import numpy as np

from pointcmt.shapes import Mesh
from tests.render.load.readers.glb_files import (
    BYTE,
    FLOAT,
    SHORT,
    Builder,
)

TETRAHEDRON = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float64)
OUTWARD = [(0, 2, 1), (0, 1, 3), (0, 3, 2), (1, 2, 3)]  # counterclockwise from outside
LIST, STRIP, FAN = 4, 5, 6


def triangles(mode: int, corners: list[int]) -> list[tuple[int, ...]]:
    """Section 3.7.2.1 of the specification, literally."""
    if mode == LIST:
        return [(corners[i], corners[i + 1], corners[i + 2]) for i in range(0, len(corners), 3)]
    found = []
    for i in range(len(corners) - 2):
        if mode == STRIP:
            found.append((corners[i], corners[i + 1 + i % 2], corners[i + 2 - i % 2]))
        else:
            found.append((corners[i + 1], corners[i + 2], corners[0]))
    return found


def turned(triangle: Any) -> tuple[Any, ...]:
    """A triangle rotated to begin with its smallest corner, so that equal ones compare equal."""
    corners = [tuple(corner) if np.ndim(corner) else corner for corner in triangle]
    return min(tuple(corners[first:] + corners[:first]) for first in range(3))


def shown(mesh: Mesh) -> list[tuple[Any, ...]]:
    return [turned(triangle) for triangle in mesh.vertices[mesh.faces].tolist()]


def signed_volume(mesh: Mesh) -> float:
    return float(np.linalg.det(mesh.vertices[mesh.faces]).sum() / 6)


def local_matrix(node: dict[str, Any]) -> np.ndarray:
    """Translation · rotation · scale, each as a separate matrix."""
    move, scale = np.eye(4), np.diag([*node.get("scale", (1, 1, 1)), 1])
    move[:3, 3] = node.get("translation", (0, 0, 0))
    *axis, w = node.get("rotation", (0, 0, 0, 1))
    rotation = np.eye(4)
    for column in range(3):  # q v q*, by Rodrigues
        v = np.eye(3)[column]
        t = 2 * np.cross(axis, v)
        rotation[:3, column] = v + w * t + np.cross(axis, t)
    return move @ rotation @ scale


def transformed(points: Any, matrix: np.ndarray) -> np.ndarray:
    return np.array([(matrix @ [*point, 1])[:3] for point in np.asarray(points, np.float64)])


# Skins


def skinned(
    points: np.ndarray, matrices: list[np.ndarray], joints: Any, weights: Any
) -> np.ndarray:
    """Each point by the sum of its joints' matrices times their weights."""
    moved = []
    for point, own, shares in zip(points, joints, weights, strict=True):
        total = np.zeros(4)
        for joint, share in zip(own, shares, strict=True):
            total += share * (matrices[int(joint)] @ [*point, 1])
        moved.append(total[:3])
    return np.array(moved)


JOINTS = np.array([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [1, 1, 0, 0]])
WEIGHTS = np.array([[0.5, 0.5, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0], [0.25, 0.75, 0, 0]])
FIRST = {"translation": [1, 0, 0], "rotation": [0, 0, 0.6, 0.8], "scale": [1, 2, 1]}
SECOND = {"translation": [0, 3, 0], "rotation": [0.6, 0, 0, 0.8]}


def stored_weights(white: int) -> np.ndarray:
    """WEIGHTS as integers whose rows sum to `white`, as the specification requires."""
    if white == 1:
        return WEIGHTS
    values = np.floor(WEIGHTS * white)
    values[:, 0] += white - values.sum(axis=1)
    return values


def skin(
    kind: int = FLOAT, inverse: Any = None, **more: Any
) -> tuple[Builder, dict[str, Any], list[np.ndarray]]:
    """A skinned tetrahedron, its primitive, and the matrices of its joints in the scene."""
    build = Builder()
    white = {FLOAT: 1, BYTE: 255, SHORT: 65535}[kind]
    values = stored_weights(white)
    attributes = {
        "JOINTS_0": build.accessor(JOINTS, BYTE),
        "WEIGHTS_0": build.accessor(values, kind, normalized=kind != FLOAT),
    }
    primitive = build.primitive(TETRAHEDRON, OUTWARD, attributes=attributes)
    mesh = build.mesh(primitive)
    second = build.node(**SECOND)
    first = build.node(children=[second], **FIRST)
    own = build.node(mesh=mesh, skin=0, translation=[50, 0, 0], scale=[-9, 9, 9], **more)
    build.node(children=[first, own], translation=[0, 0, 7])
    build.tree["skins"] = [{"joints": [first, second]}]
    root = local_matrix({"translation": [0, 0, 7]})
    one = root @ local_matrix(FIRST)
    matrices = [one, one @ local_matrix(SECOND)]
    if inverse is not None:
        columns = [matrix.T.ravel() for matrix in inverse]
        build.tree["skins"][0]["inverseBindMatrices"] = build.accessor(columns)
        matrices = [m @ i.astype("<f4") for m, i in zip(matrices, inverse, strict=True)]
    return build, primitive, matrices
