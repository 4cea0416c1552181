"""`Piece`: one object in its own frame; `Placed`: the same object at its place in the room.

A piece stands on z = 0 with its front toward -Y, as the toy objects do. All lengths are meters.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pointcmt.datasets.sources.toy.objects.builder import Builder
from pointcmt.datasets.sources.toy.objects.dice import Dice
from pointcmt.datasets.sources.toy.rooms.blocks import Block
from pointcmt.shapes import Mesh

Floats = NDArray[np.float64]
CLASSES = (
    *("floor", "ceiling", "wall", "column", "door", "window", "picture", "curtain"),
    *("table", "chair", "sofa", "cabinet", "lamp", "clutter"),
)
EDGE_STEP = 0.05
BOX_CLASSES = ("table", "chair", "sofa", "cabinet", "lamp", "door", "window", "picture")


class RoomDice(Dice):
    """The random decisions of one room, and of the objects in it, each from a seed of its own."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self._key, self._built = key, 0

    def builder(self, *parts: str) -> Builder:
        """Return the builder of the room's next object."""
        self._built += 1
        return Builder(f"{self._key} {self._built}", parts)


@dataclass(frozen=True)
class Support:
    """A level surface of a piece on which other pieces can stand, in the frame of the piece.

    width, depth: of a rectangle about (x, y), or of the ellipse within it if `oval`. clearance: the
    free height above.
    """

    z: float
    width: float
    depth: float
    x: float = 0.0
    y: float = 0.0
    clearance: float = math.inf
    oval: bool = False


@dataclass(frozen=True, eq=False)
class Piece:
    """One object: its class (a name in CLASSES), its mesh, and what can carry other pieces."""

    semantic: str
    mesh: Mesh
    supports: tuple[Support, ...] = ()

    @cached_property
    def bounds(self) -> Floats:
        """Lowest and highest coordinates, [2,3]."""
        return np.stack([self.mesh.vertices.min(axis=0), self.mesh.vertices.max(axis=0)])

    @property
    def size(self) -> Floats:
        """Width, depth and height, [3]."""
        return self.bounds[1] - self.bounds[0]

    @cached_property
    def points(self) -> Floats:
        """Points along all edges, at most EDGE_STEP apart, [n,3]."""
        a = self.mesh.vertices[self.mesh.faces].reshape(-1, 3)
        b = self.mesh.vertices[np.roll(self.mesh.faces, -1, axis=1)].reshape(-1, 3)
        count = np.ceil(np.sqrt(((b - a) ** 2).sum(axis=1)) / EDGE_STEP).astype(np.intp)
        step = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        share = (step / np.repeat(count, count))[:, None]
        return np.repeat(a, count, axis=0) * (1 - share) + np.repeat(b, count, axis=0) * share


@dataclass(frozen=True, eq=False)
class Placed:
    """A piece turned about z, counter-clockwise, and moved: its origin is at (x, y, z)."""

    piece: Piece
    degrees: float
    x: float
    y: float
    z: float = 0.0

    def to_room(self, points: Floats) -> Floats:
        """Return points [n,3] of the piece's frame in the room's frame."""
        turned = points @ turn(self.degrees).T
        return turned + np.array([self.x, self.y, self.z])

    @cached_property
    def block(self) -> Block:
        """The piece's bounding box in its own frame, at its place in the room."""
        low, high = self.piece.bounds
        bottom, top = self.z + float(low[2]), self.z + float(high[2])
        x, y, _ = self.to_room((low + high)[None] / 2)[0].tolist()
        width, depth, _ = self.piece.size.tolist()
        return Block(x, y, width, depth, self.degrees, bottom, top)

    def box(self) -> Floats:
        """Return the bounding box [7]: center, full sizes, yaw in radians.

        The box's own +X axis, which is `yaw` counter-clockwise from the room's, points where the
        piece's front faces. So dx is the piece's depth and dy its width.
        """
        b = self.block
        center, sizes = (b.x, b.y, (b.low + b.high) / 2), (b.depth, b.width, b.high - b.low)
        return np.array([*center, *sizes, math.radians(self.degrees - 90)])


def centered(piece: Piece, degrees: float, x: float, y: float, z: float = 0.0) -> Placed:
    """Place a piece so that the middle of its footprint, not its origin, is at (x, y)."""
    dx, dy, _ = (turn(degrees) @ piece.bounds.mean(axis=0)).tolist()
    return Placed(piece, degrees, x - dx, y - dy, z)


def turn(degrees: float) -> Floats:
    """Return the rotation matrix [3,3] about z, counter-clockwise."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
