"""`Layout`: the objects placed so far, and the relations by which more are placed.

Nothing is placed where it would collide, except where a relation allows it: a chair may be
pushed under its table, and things stand on tables and in shelves.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pointcmt.datasets.sources.toy.rooms.blocks import Block, Plan, inside
from pointcmt.datasets.sources.toy.rooms.piece import (
    Floats,
    Piece,
    Placed,
    RoomDice,
    Support,
    centered,
    turn,
)
from pointcmt.datasets.sources.toy.rooms.shell import Wall

APART = 0.03  # between neighbors that do not belong together
IN_FRONT = 0.25  # kept free in front of what stands at a wall, when it is placed
LIFT = 0.0005  # of what stands on something, so that no faces coincide
STEP = 0.2  # the greatest height of a platform
UNDER_TOP = 0.07  # arms of chairs go under the top of a table if they are lower by this
TRIES = 14


class Layout:
    """A room being furnished: its dice, plan, walls, and the objects placed so far.

    `items[i]` is block `numbers[i]` of the plan. platform: a raised part of the floor.
    """

    def __init__(self, dice: RoomDice, plan: Plan, walls: Sequence[Wall]) -> None:
        self.dice, self.plan, self.walls = dice, plan, walls
        self.items: list[Placed] = []
        self.numbers: list[int] = []
        self.platform: Block | None = None

    def put(self, placed: Placed) -> int:
        """Add an object without any test; return its index."""
        self.items.append(placed)
        self.numbers.append(self.plan.add(placed.block))
        return len(self.items) - 1

    def try_put(self, placed: Placed, gap: float = APART, beside: Sequence[int] = ()) -> int | None:
        """Add an object if it collides with nothing but the objects `beside` (indices).

        An object on the floor may also stand on the platform, if entirely. Return its index.
        """
        known = [self.numbers[index] for index in beside]
        block = placed.block
        if self.plan.fits(block, gap, known):
            return self.put(placed)
        stage = self.platform
        if stage is None or placed.z != 0 or not inside(stage.corners, block.corners).all():
            return None
        raised = replace(placed, z=stage.high)
        return self.put(raised) if self.plan.fits(raised.block, gap, known) else None

    def against_wall(self, piece: Piece, gap: float) -> int | None:
        """Place a piece with its back to a wall, `gap` away, often in a corner."""
        dice, (width, depth, height) = self.dice, piece.size.tolist()
        for _ in range(TRIES):
            wall = dice.pick(self.walls, [wall.length for wall in self.walls])
            room = wall.length - width - 2 * APART
            if room < 0:
                continue
            share = dice.pick((0.0, 1.0, dice.between(0.0, 1.0)), (1, 1, 2))
            at = APART + width / 2 + share * room
            x, y = wall.point(at, depth / 2 + gap)
            placed = centered(piece, wall.facing, x, y)
            low = min(STEP, height / 2)
            space = wall.block(at, width + 2 * APART, depth + gap + IN_FRONT, low, height)
            if not self.plan.fits(space):
                continue
            index = self.try_put(placed, 0.0)
            if index is not None:
                return index
        return None

    def anywhere(self, piece: Piece, gap: float, straight: float = 0.7) -> int | None:
        """Place a piece `gap` away from everything; straight: the chance that it is parallel."""
        low, high = self.plan.outline.min(axis=0).tolist(), self.plan.outline.max(axis=0).tolist()
        dice = self.dice
        for _ in range(TRIES):
            x, y = (dice.between(a, b) for a, b in zip(low, high, strict=True))
            parallel = dice.chance(straight)
            degrees = 90.0 * dice.whole(0, 3) if parallel else dice.between(0.0, 360.0)
            index = self.try_put(centered(piece, degrees, x, y), gap)
            if index is not None:
                return index
        return None

    def before(
        self, index: int, piece: Piece, gap: float, turned: float, shift: float = 0.0
    ) -> int | None:
        """Place a piece in front of another, `gap` away, turned relative to it."""
        other = self.items[index]
        extent = piece.size[0] if round(turned / 90.0) % 2 else piece.size[1]
        low, high = other.piece.bounds[:, :2]
        middle = (low[0] + high[0]) / 2 + shift, low[1] - gap - extent / 2, 0.0
        x, y, _ = other.to_room(np.array([middle]))[0].tolist()
        return self.try_put(centered(piece, other.degrees + turned, x, y))

    def next_to(self, index: int, piece: Piece, gap: float, side: int) -> int | None:
        """Place a piece beside another, at its right (side 1, along +X) or left (-1)."""
        other = self.items[index]
        low, high = other.piece.bounds[:, :2]
        edge = high[0] if side > 0 else low[0]
        back = high[1] - piece.size[1] / 2
        middle = np.array([[edge + side * (gap + piece.size[0] / 2), back, 0.0]])
        x, y, _ = other.to_room(middle)[0].tolist()
        return self.try_put(centered(piece, other.degrees, x, y), 0.01)

    def upon(self, index: int, piece: Piece, spread: float = 1.0) -> int | None:
        """Stand a piece on one of the supports of another, within `spread` of its middle."""
        other, dice = self.items[index], self.dice
        supports = [s for s in other.piece.supports if s.clearance >= piece.size[2] + 0.01]
        for _ in range(6 if supports else 0):
            support = dice.pick(supports)
            across = support.width - piece.size[0], support.depth - piece.size[1]
            if min(across) < 0:
                continue
            x, y = (spread * dice.between(-0.5, 0.5) * room for room in across)
            degrees = dice.pick((0.0, 90.0, 180.0, dice.between(0.0, 360.0)), (4, 1, 1, 2))
            middle = np.array([[support.x + x, support.y + y, support.z + LIFT]])
            at_x, at_y, z = other.to_room(middle)[0].tolist()
            placed = centered(piece, other.degrees + degrees, at_x, at_y, z)
            if not _carried(placed, other, support):
                continue
            found = self.try_put(placed, 0.005, (index,))
            if found is not None:
                return found
        return None

    def tuck(
        self, table: int, chair: Piece, degrees: float, shift: float, push: float
    ) -> int | None:
        """Place a chair so that it faces a table, pushed under it as far as it goes.

        degrees: the direction from the table's middle to the chair, in the table's frame. shift:
        to the side. push: the share of the possible way under the top; below 0, meters away.
        """
        other = self.items[table]
        away = np.array([math.cos(math.radians(degrees)), math.sin(math.radians(degrees))])
        reach = _edge(other.piece, away)
        front = float(chair.bounds[0, 1])
        most = _room_under(chair, other.piece)
        ways = [push]
        if push > 0:  # less far where legs are in the way, or not at all
            ways = [share * push * most for share in (1.0, 0.75, 0.5, 0.25) if most > 0.05]
            ways.append(-0.04)
        for way in ways:
            side = np.array([-away[1], away[0]]) * shift
            origin = other.piece.bounds.mean(axis=0)[:2] + side + away * (reach - way - front)
            facing = degrees - 90.0
            if way > 0 and _legs_clash(chair, other.piece, origin, facing, front + way):
                continue
            x, y, _ = other.to_room(np.array([[*origin, 0.0]]))[0].tolist()
            placed = Placed(chair, other.degrees + facing, x, y)
            index = self.try_put(placed, 0.02, (table,))
            if index is not None:
                return index
        return None


def _carried(placed: Placed, other: Placed, support: Support) -> bool:
    """Tell whether a piece's whole footprint is above the support of another."""
    corners = placed.block.corners - (other.x, other.y)
    local = corners @ turn(other.degrees)[:2, :2] - (support.x, support.y)
    scaled = np.abs(local) / (support.width / 2, support.depth / 2)
    if support.oval:
        return bool(((scaled**2).sum(axis=1) <= 0.94).all())
    return bool((scaled <= 1.0).all())


def _edge(table: Piece, away: Floats) -> float:
    """Return how far a table's bounding box reaches from its middle in a direction [2]."""
    return float(1 / (2 * np.abs(away) / table.size[:2]).max())


def _room_under(chair: Piece, table: Piece) -> float:
    """Return how far a chair goes under a table before its back, or an arm, meets the top."""
    top = float(table.bounds[1, 2])
    points = chair.points
    tall = points[points[:, 2] > top - UNDER_TOP, 1]
    limit = float(tall.min()) if len(tall) else float(chair.bounds[1, 1])
    return max(0.0, limit - 0.03 - float(chair.bounds[0, 1]))


def _legs_clash(chair: Piece, table: Piece, origin: Floats, facing: float, end: float) -> bool:
    """Tell whether something below the top stands in the box around what is pushed under it.

    That is the part of the chair with y < end, in the chair's frame.
    """
    under = chair.points[chair.points[:, 1] < end + 0.02]
    low, high = under.min(axis=0) - 0.01, under.max(axis=0) + 0.01
    points = table.points - np.array([*origin, 0.0])
    local = points @ turn(facing)
    return bool(((local > low) & (local < high)).all(axis=1).any())
