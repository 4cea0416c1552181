"""Nodes of glTF: the placement of a scene's meshes, and the matrices of the joints that bend them.

All matrices are [4,4] f64, act on columns, and map a node's own coordinates to the scene's.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointcmt.errors import Reason, ShapeRefused
from pointcmt.render.load.readers.glb.accessors import Accessors
from pointcmt.render.load.readers.glb.budget import Budget
from pointcmt.render.load.readers.glb.container import member, whole

_DEEPEST = 200  # levels of nodes
_JOINT_BYTES = 512  # bytes of a joint's matrices
_INSTANCE_BYTES = 1024  # bytes of an instance's matrices
_PARTS = {"translation": "VEC3", "rotation": "VEC4", "scale": "VEC3"}
_INSTANCES, _VISIBILITY = "EXT_mesh_gpu_instancing", "KHR_node_visibility"


@dataclass(frozen=True)
class Skin:
    """The joints of a skin: mesh to scene [J,4,4], and signs [J]: -1 if a joint mirrors, else 1."""

    matrices: NDArray[np.float64]
    signs: NDArray[np.float64]


@dataclass
class Nodes:
    """The nodes of one file."""

    tree: dict[str, Any]
    accessors: Accessors
    budget: Budget
    _parents: dict[int, int] = field(default_factory=dict)
    _places: dict[int, NDArray[np.float64]] = field(default_factory=dict)
    _skins: dict[int, Skin] = field(default_factory=dict)

    def placed(self) -> Iterator[tuple[NDArray[np.float64], dict[str, Any]]]:
        """Yield (matrix, node) for all visible meshes of the scene, depth first.

        A node with instances (EXT_mesh_gpu_instancing) appears once for each of them.
        """
        nodes = self.tree.get("nodes", [])
        path = [(np.eye(4), iter(self._roots()))]
        seen = 0
        while path:
            parent, siblings = path[-1]
            index = next(siblings, None)
            if index is None:
                path.pop()
                continue
            seen += 1
            if seen > 10 * len(nodes) + 10 or len(path) > _DEEPEST + 1:  # a cycle, or nearly one
                raise _ring()
            node = member(self.tree, "nodes", index)
            if node.get("extensions", {}).get(_VISIBILITY, {}).get("visible") is False:
                continue
            matrix = _compose(parent, node)
            if "mesh" in node:
                for placed in self._instances(matrix, node):
                    yield placed, node
            path.append((matrix, iter(node.get("children", []))))

    def skin(self, index: Any) -> Skin:
        """Return a skin in the file's pose: each joint's matrix times its inverse bind matrix."""
        if index not in self._skins:
            self._skins[index] = self._pose(member(self.tree, "skins", index))
        return self._skins[index]

    def _instances(
        self, matrix: NDArray[np.float64], node: dict[str, Any]
    ) -> Iterable[NDArray[np.float64]]:
        """Return the matrices of a node's instances, or only its own if it has none."""
        extension = node.get("extensions", {}).get(_INSTANCES)
        if extension is None or "skin" in node:  # joints place a skinned mesh, wherever its node is
            return [matrix]
        names = [name for name in _PARTS if name.upper() in extension["attributes"]]
        found = [self.accessors.get(extension["attributes"][name.upper()]) for name in names]
        if not found:
            return [matrix]
        count = len(found[0])
        kinds = [(accessor.kind, len(accessor)) for accessor in found]
        if kinds != [(_PARTS[name], count) for name in names]:
            raise ValueError("the attributes of instances do not fit together")
        self.budget.spend(_INSTANCE_BYTES * count)
        parts = {name: accessor.take() for name, accessor in zip(names, found, strict=True)}
        with np.errstate(all="ignore"):
            return matrix @ _transforms(parts, count)

    def _roots(self) -> list[int]:
        scenes = self.tree.get("scenes")
        if scenes:
            return member(self.tree, "scenes", self.tree.get("scene", 0)).get("nodes", [])
        # If there is no scene, start with all nodes without a parent.
        nodes = self.tree.get("nodes", [])
        children = {child for node in nodes for child in node.get("children", [])}
        return [index for index in range(len(nodes)) if index not in children]

    def _pose(self, skin: dict[str, Any]) -> Skin:
        joints = skin["joints"]
        self.budget.spend(_JOINT_BYTES * len(joints))
        matrices = np.array([self._place(whole(joint)) for joint in joints]).reshape(-1, 4, 4)
        if "inverseBindMatrices" in skin:
            inverse = self.accessors.get(skin["inverseBindMatrices"])
            if inverse.kind != "MAT4" or len(inverse) < len(joints):
                raise ValueError(f"{len(inverse)} inverse bind matrices for {len(joints)} joints")
            columns = inverse.take(np.arange(len(joints))).reshape(-1, 4, 4)
            with np.errstate(all="ignore"):
                matrices = matrices @ columns.transpose(0, 2, 1)
        return Skin(matrices, np.where(mirrors(matrices), -1.0, 1.0))

    def _place(self, index: int) -> NDArray[np.float64]:
        """Return the matrix of any node, in the scene or not."""
        if not self._parents:
            for parent, node in enumerate(self.tree["nodes"]):
                self._parents |= dict.fromkeys(node.get("children", []), parent)
        path = [index]
        while path[-1] in self._parents and path[-1] not in self._places:
            if len(path) > _DEEPEST:
                raise _ring()
            path.append(self._parents[path[-1]])
        matrix = np.eye(4)
        for step in reversed(path):
            if step not in self._places:
                self._places[step] = _compose(matrix, member(self.tree, "nodes", step))
            matrix = self._places[step]
        return matrix


def mirrors(matrices: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return whether matrices [...,4,4] turn surfaces inside out (a negative determinant)."""
    # slogdet: the determinant itself may underflow.
    with np.errstate(all="ignore"):
        return np.linalg.slogdet(matrices[..., :3, :3])[0] < 0


def moved(points: NDArray[np.float64], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Transform points [P,3]; an identity matrix keeps them bit for bit."""
    if (matrix == np.eye(4)).all():
        return points
    with np.errstate(all="ignore"):
        return points @ matrix[:3, :3].T + matrix[:3, 3]


def _ring() -> ShapeRefused:
    return ShapeRefused(Reason.BAD_SYNTAX, "its nodes form a cycle")


def _compose(parent: NDArray[np.float64], node: dict[str, Any]) -> NDArray[np.float64]:
    with np.errstate(all="ignore"):
        return parent @ _local_matrix(node)


def _local_matrix(node: dict[str, Any]) -> NDArray[np.float64]:
    """Return a node's matrix to its parent: as given, or translation · rotation · scale."""
    if "matrix" in node:
        return np.array(node["matrix"], np.float64).reshape(4, 4).T
    parts = {name: np.array([node[name]], np.float64) for name in _PARTS if name in node}
    return _transforms(parts, 1)[0]


def _transforms(parts: dict[str, NDArray[np.float64]], count: int) -> NDArray[np.float64]:
    """Return translation · rotation · scale [count,4,4]; those that are missing do nothing."""
    matrices = np.tile(np.eye(4), (count, 1, 1))
    if "rotation" in parts:
        x, y, z, w = parts["rotation"].T
        rows = [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
        matrices[:, :3, :3] = np.array(rows).transpose(2, 0, 1)
    if "scale" in parts:
        matrices[:, :3, :3] *= parts["scale"][:, None, :]
    if "translation" in parts:
        matrices[:, :3, 3] = parts["translation"]
    return matrices
