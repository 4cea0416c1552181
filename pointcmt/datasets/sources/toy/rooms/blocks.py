"""Blocks: upright boxes that stand for objects, walls and areas to keep free; and a room's plan.

All lengths are meters, in the room's own frame: most walls run along x or y, and the floor is
z = 0. Two blocks collide if their heights overlap and no edge of their footprints separates them
(the separating axis theorem).
"""

import math
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
TOUCH = 1e-4  # blocks that overlap by less only touch


@dataclass(frozen=True)
class Block:
    """An upright box: the middle of its footprint, its sizes, its turn about z, its heights."""

    x: float
    y: float
    width: float
    depth: float
    degrees: float
    low: float
    high: float

    @cached_property
    def axes(self) -> Floats:
        """Unit vectors along the width and along the depth, [2,2]."""
        cos, sin = math.cos(math.radians(self.degrees)), math.sin(math.radians(self.degrees))
        return np.array([[cos, sin], [-sin, cos]])

    @cached_property
    def corners(self) -> Floats:
        """The footprint's corners, counter-clockwise, [4,2]."""
        w, d = self.width / 2, self.depth / 2
        return np.array([(-w, -d), (w, -d), (w, d), (-w, d)]) @ self.axes + (self.x, self.y)


class Plan:
    """What is where in a room: the outline [S,2] of its floor, and a growing list of blocks."""

    def __init__(self, outline: Floats, height: float) -> None:
        self.outline, self.height = outline, height
        self.blocks: list[Block] = []
        self._solid: list[bool] = []
        self._corners, self._axes = np.zeros((0, 4, 2)), np.zeros((0, 2, 2))
        self._levels = np.zeros((0, 2))

    def add(self, block: Block, solid: bool = True) -> int:
        """Add a block and return its number; not solid: an area that only has to stay free."""
        self.blocks.append(block)
        self._solid.append(solid)
        self._corners = np.concatenate([self._corners, block.corners[None]])
        self._axes = np.concatenate([self._axes, block.axes[None]])
        self._levels = np.concatenate([self._levels, [[block.low, block.high]]])
        return len(self.blocks) - 1

    def fits(self, block: Block, gap: float = 0.0, beside: Collection[int] = ()) -> bool:
        """Tell whether a block is inside the room and `gap` away from all blocks but `beside`."""
        if block.high > self.height:
            return False
        if any(hit not in beside for hit in self.collisions(block, gap)):
            return False
        return bool(inside(self.outline, np.array([[block.x, block.y]]))[0])

    def collisions(self, block: Block, gap: float = 0.0) -> list[int]:
        """Return the numbers of the blocks that this one collides with, or is nearer to than gap.

        The gap counts between footprints only.
        """
        low, high = self._levels.T
        near = np.flatnonzero((low < block.high - TOUCH) & (high > block.low + TOUCH))
        corners, axes = self._corners[near], self._axes[near]
        own = _gaps(block.corners @ block.axes.T, corners @ block.axes.T)
        turned = axes.transpose(0, 2, 1)
        others = _gaps(block.corners @ turned, corners @ turned)
        apart = np.maximum(own, others).max(axis=1, initial=-np.inf)
        hits: list[int] = near[apart < gap - TOUCH].tolist()
        return hits

    def distance(self, points: Floats, low: float, high: float) -> Floats:
        """Return the distance [n] in the plane from points [n,2] to the nearest solid block.

        Only blocks with a part between the heights low and high count. 0 inside a block.
        """
        chosen = [
            block
            for block, solid in zip(self.blocks, self._solid, strict=True)
            if solid and block.low < high and block.high > low
        ]
        middle = np.array([(b.x, b.y) for b in chosen])
        half = np.array([(b.width, b.depth) for b in chosen]) / 2
        axes = np.stack([b.axes for b in chosen])
        local = np.einsum("bij,nbj->nbi", axes, points[:, None] - middle)
        outside = np.maximum(np.abs(local) - half, 0.0)
        return np.sqrt((outside**2).sum(axis=2)).min(axis=1)


def _gaps(a: Floats, b: Floats) -> Floats:
    """Return how far projections [...,4,2] are apart along each of two axes, at most, [B,2]."""
    forth = b.min(axis=-2) - a.max(axis=-2)
    back = a.min(axis=-2) - b.max(axis=-2)
    return np.maximum(forth, back)


def inside(outline: Floats, points: Floats) -> NDArray[np.bool_]:
    """Tell which points [n,2] lie inside a polygon [S,2]: the even-odd rule."""
    start, end = outline, np.roll(outline, -1, axis=0)
    x, y = points[:, :1], points[:, 1:]
    crosses = (start[:, 1] > y) != (end[:, 1] > y)
    rise = np.where(end[:, 1] == start[:, 1], 1.0, end[:, 1] - start[:, 1])
    at = start[:, 0] + (y - start[:, 1]) / rise * (end[:, 0] - start[:, 0])
    odd: NDArray[np.bool_] = (crosses & (x < at)).sum(axis=1) % 2 == 1
    return odd
