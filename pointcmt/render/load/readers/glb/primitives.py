"""Primitives of glTF as triangles in the scene: strips, fans, morph targets, skins, mirroring."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointcmt.arrays import normal_matrices, unit_vectors
from pointcmt.errors import Reason, ShapeRefused
from pointcmt.render.load.readers.glb.accessors import Accessor, Accessors
from pointcmt.render.load.readers.glb.budget import Budget
from pointcmt.render.load.readers.glb.buffers import Buffers
from pointcmt.render.load.readers.glb.container import member
from pointcmt.render.load.readers.glb.draco import DRACO, unpack
from pointcmt.render.load.readers.glb.nodes import Nodes, Skin, mirrors, moved
from pointcmt.render.load.readers.sidecars import printable

_LIST, _STRIP, _FAN = 4, 5, 6  # modes of triangles
_TURNED = [0, 2, 1]  # corner order that flips a triangle
_NO_SURFACE = {0: "points", 1: "lines", 2: "lines", 3: "lines"}
_COLOR_WHITE = {"u1": 255, "u2": 65535}  # integer colors represent 0..1, normalized or not
_PART_BYTES = 2048  # bytes that a primitive takes in addition to its arrays
_JOINTED_BYTES = 64  # bytes that a set of four joints takes per vertex
_NORMAL_BYTES = 96  # bytes that normals take per vertex, and per face
_BLOCK = 1 << 14  # vertices that are skinned at a time


@dataclass(frozen=True)
class Coordinates:
    """The sets of texture coordinates of a primitive, by number. rows: the items used; None: all"""

    sets: dict[int, Accessor]
    rows: NDArray[np.int64] | None

    @property
    def numbers(self) -> frozenset[int]:
        return frozenset(self.sets)

    def take(self, number: int) -> NDArray[np.float64]:
        """Copy the coordinates [P,2] of a set; v downwards as in glTF."""
        return self.sets[number].take(self.rows)


@dataclass(frozen=True)
class Part:
    """One primitive as placed by a node. P vertices, F faces."""

    vertices: NDArray[np.float64]  # [P,3] in the scene
    faces: NDArray[np.int32]  # [F,3]
    uv: Coordinates
    colors: NDArray[np.float64] | None  # [P,3] linear 0..1
    normals: NDArray[np.float32] | None  # [P,3] unit or 0, in the scene
    material: int | None


@dataclass(frozen=True)
class _Shape:
    """A primitive in its mesh. rows: the accessor items that it uses as vertices, None for all."""

    position: Accessor
    rows: NDArray[np.int64] | None
    faces: NDArray[np.int32]
    uv: Coordinates
    colors: NDArray[np.float64] | None

    @property
    def used(self) -> int:
        """Return the number of vertices that it uses."""
        return len(self.position) if self.rows is None else len(self.rows)


@dataclass
class Primitives:
    """Read primitives of one file. `notes` lists oddities, in order, without duplicates.

    with_normals: whether to read those of vertices.
    """

    tree: dict[str, Any]
    buffers: Buffers
    accessors: Accessors
    nodes: Nodes
    budget: Budget
    with_normals: bool = False
    notes: dict[str, None] = field(default_factory=dict)
    _shapes: dict[int, _Shape] = field(default_factory=dict)  # by `id` of the object in the tree

    def reserve(self, node: dict[str, Any]) -> None:
        """Charge the parts of a node's mesh in advance: a few bytes may place it many times."""
        mesh = member(self.tree, "meshes", node["mesh"])
        self.budget.spend(_PART_BYTES * len(mesh["primitives"]))

    def parts(self, matrix: NDArray[np.float64], node: dict[str, Any]) -> list[Part]:
        """Return the triangle parts of a node's mesh, in the file's order."""
        mesh = member(self.tree, "meshes", node["mesh"])
        weights = np.array(node.get("weights", mesh.get("weights", [])), np.float64)
        parts = []
        for primitive in mesh["primitives"]:
            mode = primitive.get("mode", _LIST)
            if DRACO in primitive.get("extensions", {}) and id(primitive) not in self._shapes:
                unpacked = unpack(self.tree, primitive, self.buffers, self.accessors, self.budget)
                mode = _LIST if unpacked else mode  # the library returns triangles
            if mode in (_LIST, _STRIP, _FAN):
                parts.append(self._part(primitive, mode, matrix, node, weights))
            else:
                kind = _NO_SURFACE.get(mode, "primitives of an unknown mode")
                self._note(f"{kind} are ignored: they have no surface")
        return parts

    def _part(
        self,
        primitive: dict[str, Any],
        mode: int,
        matrix: NDArray[np.float64],
        node: dict[str, Any],
        weights: NDArray[np.float64],
    ) -> Part:
        shape = self._shape(primitive, mode)
        vertices, faces = self._morphed(primitive, shape, weights), shape.faces
        normals = self._normals(primitive, shape, weights) if self.with_normals else None
        skin = self._skin(primitive, node)
        if skin is not None:
            vertices, normals, signs = self._bent(primitive, shape, vertices, normals, skin)
            mirrored = signs[faces].sum(axis=1) < 0
            faces = np.where(mirrored[:, None], faces[:, _TURNED], faces)
        else:
            vertices = moved(vertices, matrix)
            normals = None if normals is None else normals @ normal_matrices(matrix[:3, :3]).T
            faces = faces[:, _TURNED] if mirrors(matrix) else faces
        unit = None if normals is None else unit_vectors(normals)
        return Part(vertices, faces, shape.uv, shape.colors, unit, primitive.get("material"))

    def _shape(self, primitive: dict[str, Any], mode: int) -> _Shape:
        """Read what does not depend on a primitive's placement, once, but charge it each time."""
        known = self._shapes.get(id(primitive))
        if known is not None:
            self.budget.add(len(known.faces), known.used)
            return known
        position = self._position(primitive)
        rows, faces = self._faces(primitive, mode, len(position))
        shape = _Shape(
            position,
            rows,
            faces.astype(np.int32),
            Coordinates(self._uv(primitive, len(position)), rows),
            self._colors(primitive, rows, len(position)),
        )
        self._shapes[id(primitive)] = shape
        return shape

    def _position(self, primitive: dict[str, Any]) -> Accessor:
        position = self.accessors.get(primitive["attributes"]["POSITION"])
        if position.kind != "VEC3":
            raise ValueError(f"positions have the type {position.kind}")
        return position

    def _faces(
        self, primitive: dict[str, Any], mode: int, count: int
    ) -> tuple[NDArray[np.int64] | None, NDArray[np.int64]]:
        """Return the vertices [P] that a primitive uses (None for all) and its triangles [F,3].

        The triangles index those vertices. Many primitives may share one long vertex list, so a
        primitive with fewer corners takes only the vertices that it uses.
        """
        indices = primitive.get("indices")
        accessor = None if indices is None else self.accessors.get(indices)
        if accessor is not None and accessor.kind != "SCALAR":
            raise ValueError(f"indices have the type {accessor.kind}")
        corners = count if accessor is None else len(accessor)
        triangles = corners // 3 if mode == _LIST else max(0, corners - 2)
        self.budget.add(triangles, min(count, corners))
        if mode == _LIST and corners % 3:
            raise ShapeRefused(Reason.BAD_SYNTAX, f"{corners} corners do not form triangles")
        if accessor is None:
            return None, _triangles(np.arange(count), mode)
        used = accessor.integers().reshape(-1)
        if corners and used.max() >= count:
            raise ShapeRefused(
                Reason.BAD_INDEX,
                f"vertex {used.max()} is used, but there are only {count} (from 0)",
            )
        if count <= corners:
            return None, _triangles(used, mode)
        rows, found = np.unique(used, return_inverse=True)
        return rows, _triangles(found.reshape(-1), mode)

    def _morphed(
        self, primitive: dict[str, Any], shape: _Shape, weights: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return positions [P,3] plus the weighted morph targets."""
        vertices = shape.position.take(shape.rows)
        targets, count = primitive.get("targets", []), len(shape.position)
        if weights.shape != (len(targets),) and targets and weights.size:
            self._note(f"{weights.size} weights for {len(targets)} morph targets")
        for weight, target in zip(weights, targets, strict=False):
            if weight == 0:
                continue
            for name in sorted(target):
                if name.startswith(("TEXCOORD_0", "COLOR_0")):
                    self._note(f"morph targets of {name} are not applied")
            if "POSITION" in target:
                self.budget.spend(vertices.nbytes)
                accessor = self._matching(target["POSITION"], count, ("VEC3",), "a morph target")
                with np.errstate(all="ignore"):
                    vertices = vertices + weight * accessor.take(shape.rows)
        return vertices

    def _normals(
        self, primitive: dict[str, Any], shape: _Shape, weights: NDArray[np.float64]
    ) -> NDArray[np.float64] | None:
        """Return normals [P,3] of any length, with morph targets; None if it has none."""
        count, normals = len(shape.position), None
        accessor = self._attribute(primitive["attributes"], "NORMAL", ("VEC3",), count)
        if accessor is None:
            return None
        self.budget.spend(_NORMAL_BYTES * (shape.used + len(shape.faces)))
        normals = accessor.take(shape.rows)
        for weight, target in zip(weights, primitive.get("targets", []), strict=False):
            change = self._attribute(target, "NORMAL", ("VEC3",), count) if weight else None
            if change is not None:
                with np.errstate(all="ignore"):
                    normals += weight * change.take(shape.rows)
        return normals

    def _skin(self, primitive: dict[str, Any], node: dict[str, Any]) -> Skin | None:
        """Return the skin of a primitive, if any."""
        if "skin" not in node:
            return None
        attributes = primitive["attributes"]
        if "JOINTS_0" not in attributes or "WEIGHTS_0" not in attributes:
            self._note("a skin is ignored: its mesh has no JOINTS_0 and WEIGHTS_0")
            return None
        return self.nodes.skin(node["skin"])

    def _joint_sets(
        self, primitive: dict[str, Any], shape: _Shape
    ) -> list[tuple[Accessor, Accessor]]:
        """Return (joints, weights) of each vertex, in sets of four."""
        attributes = primitive["attributes"]
        sets: list[tuple[Accessor, Accessor]] = []
        while f"JOINTS_{len(sets)}" in attributes:
            joints, weights = f"JOINTS_{len(sets)}", f"WEIGHTS_{len(sets)}"
            self.budget.spend(_JOINTED_BYTES * shape.used)
            pair = [
                self._matching(attributes[name], len(shape.position), ("VEC4",), name)
                for name in (joints, weights)
            ]
            sets.append((pair[0], pair[1]))
        return sets

    def _bent(
        self,
        primitive: dict[str, Any],
        shape: _Shape,
        vertices: NDArray[np.float64],
        normals: NDArray[np.float64] | None,
        skin: Skin,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64] | None, NDArray[np.float64]]:
        """Return vertices [P,3] and normals [P,3] moved by their joints, and signs [P]: below 0
        where they mirror."""
        sets = self._joint_sets(primitive, shape)
        bent, signs = np.empty_like(vertices), np.empty(len(vertices))
        turned = None if normals is None else np.empty_like(normals)
        for start in range(0, len(vertices), _BLOCK):
            block = slice(start, start + _BLOCK)
            points = vertices[block]
            items = (
                np.arange(start, start + len(points)) if shape.rows is None else shape.rows[block]
            )
            with np.errstate(all="ignore"):
                joints = np.hstack([joints.take(items) for joints, _ in sets]).astype(np.int64)
                weights = self._normalized(np.hstack([weights.take(items) for _, weights in sets]))
                joints[weights == 0] = 0
                if not 0 <= joints.min() <= joints.max() < len(skin.signs):
                    what = (
                        f"joint {joints.max()} is used, but there are only {len(skin.signs)} "
                        "(from 0)"
                    )
                    raise ShapeRefused(Reason.BAD_INDEX, what)
                blended = np.zeros((len(points), 3, 4))
                for joint, weight in zip(joints.T, weights.T, strict=True):
                    blended += weight[:, None, None] * skin.matrices[joint, :3]
                bent[block] = (blended[:, :, :3] @ points[:, :, None])[:, :, 0] + blended[:, :, 3]
                signs[block] = (weights * skin.signs[joints]).sum(axis=1)
                if normals is not None and turned is not None:
                    matrices = normal_matrices(blended[:, :, :3])
                    turned[block] = (matrices @ normals[block, :, None])[:, :, 0]
        return bent, turned, signs

    def _normalized(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scale weights [P,K] to a sum of 1. If a vertex has only zeros, use its first joint."""
        sums = weights.sum(axis=1)
        wrong = ~(np.abs(sums - 1) <= 1e-3)
        if wrong.any():
            self._note("joint weights do not sum to 1: rescaled")
            weights[sums == 0, 0] = 1
            sums[sums == 0] = 1
            weights[wrong] /= sums[wrong, None]
        return weights

    def _uv(self, primitive: dict[str, Any], count: int) -> dict[int, Accessor]:
        """Return the sets of texture coordinates by their numbers."""
        sets: dict[int, Accessor] = {}
        for name in sorted(primitive["attributes"]):
            number = name.removeprefix("TEXCOORD_")
            if number != name and number.isascii() and number.isdigit():
                attributes = primitive["attributes"]
                accessor = self._attribute(attributes, name, ("VEC2",), count)
                if accessor is not None:
                    sets[int(number)] = accessor
        return sets

    def _colors(
        self, primitive: dict[str, Any], rows: NDArray[np.int64] | None, count: int
    ) -> NDArray[np.float64] | None:
        attributes = primitive["attributes"]
        accessor = self._attribute(attributes, "COLOR_0", ("VEC3", "VEC4"), count)
        if accessor is None:
            return None
        values = accessor.take(rows)[:, :3]
        if accessor.white is None:
            values = values / _COLOR_WHITE.get(accessor.stored.dtype.str[1:], 1)
        return np.clip(np.nan_to_num(values), 0, 1)

    def _attribute(
        self, attributes: dict[str, Any], name: str, kinds: tuple[str, ...], count: int
    ) -> Accessor | None:
        """Return an attribute that only affects looks; None, with a note, if it does not fit."""
        if name not in attributes:
            return None
        try:
            return self._matching(attributes[name], count, kinds, name)
        except ValueError as error:
            self._note(f"{error}: ignored")
            return None

    def _matching(self, index: Any, count: int, kinds: tuple[str, ...], name: str) -> Accessor:
        """Return an accessor with one item per vertex. Raises ValueError if it does not fit."""
        accessor = self.accessors.get(index)
        if accessor.kind not in kinds or len(accessor) != count:
            what = f"{len(accessor)} {accessor.kind} for {count} vertices"
            raise ValueError(f"{printable(name)} has {what}")
        return accessor

    def _note(self, text: str) -> None:
        self.notes[text] = None


def _triangles(corners: NDArray[np.int64], mode: int) -> NDArray[np.int64]:
    """Return triangles [F,3] of a list, strip or fan of corners [C], with glTF's winding."""
    if mode == _LIST:
        return corners.reshape(-1, 3).copy()
    if len(corners) < 3:
        return np.empty((0, 3), np.int64)
    if mode == _FAN:
        first = np.broadcast_to(corners[0], len(corners) - 2)
        return np.stack([corners[1:-1], corners[2:], first], axis=1)
    faces = np.stack([corners[:-2], corners[1:-1], corners[2:]], axis=1)
    faces[1::2] = faces[1::2, ::-1].copy()  # every other triangle of a strip is flipped
    return faces
