"""The shell of a room: its outline, floor and ceiling, and its walls with their openings."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pointcmt.datasets.sources.toy.objects.outlines import inward
from pointcmt.datasets.sources.toy.objects.solids import Solid, box, extrude
from pointcmt.datasets.sources.toy.rooms import materials
from pointcmt.datasets.sources.toy.rooms.blocks import Block, Plan
from pointcmt.datasets.sources.toy.rooms.piece import Piece, Placed, RoomDice, turn

Floats = NDArray[np.float64]
THICKNESS = 0.25  # of walls; openings are recessed into them
SLAB = 0.1  # thickness of floor and ceiling
PARTS = ("floor", "ceiling", "wall")  # of the shell, by face_part


@dataclass(frozen=True)
class Wall:
    """One wall, from one corner of the outline to the next, with the room to its left.

    before, after: how far its slab continues past its ends, into that of its neighbor.
    """

    start: tuple[float, float]
    length: float
    degrees: float  # of its direction, from +X
    before: float = 0.0
    after: float = 0.0

    @property
    def facing(self) -> float:
        """The turn of a piece that stands with its back to the wall."""
        return self.degrees + 180.0

    def point(self, along: float, out: float = 0.0) -> tuple[float, float]:
        """Return the point `along` the wall from its start, `out` into the room."""
        cos, sin = math.cos(math.radians(self.degrees)), math.sin(math.radians(self.degrees))
        x, y = self.start
        return x + along * cos - out * sin, y + along * sin + out * cos

    def block(self, along: float, width: float, depth: float, low: float, high: float) -> Block:
        """Return a block in front of the wall, its middle `along` it; depth < 0: behind it."""
        x, y = self.point(along, depth / 2)
        return Block(x, y, width, abs(depth), self.degrees, low, high)


@dataclass(frozen=True)
class Opening:
    """A rectangular hole in a wall: `along` to its middle, and how deep its filling is set."""

    wall: Wall
    kind: str  # door, window or niche
    along: float
    width: float
    low: float
    high: float
    recess: float


def draw_outline(dice: RoomDice) -> Floats:
    """Draw a floor's outline [S,2], counter-clockwise about the origin: 3 to 7 m on each side.

    60 % are rectangles, 30 % have the form of an L, 10 % a bay.
    """
    width = dice.between(3.2, 7.0)
    depth = dice.between(3.0, min(7.0, 32.0 / width))
    kind = dice.pick(("rectangle", "L", "bay"), (0.6, 0.3, 0.1))
    w, d = width / 2, depth / 2
    points = [(-w, -d), (w, -d), (w, d), (-w, d)]
    if kind == "L":
        cut_w = dice.between(0.25, 1 - 1.7 / width if width < 3.4 else 0.5) * width
        cut_d = dice.between(0.25, 0.45) * depth
        points[2:3] = [(w, d - cut_d), (w - cut_w, d - cut_d), (w - cut_w, d)]
    elif kind == "bay":
        mouth, deep = dice.between(0.4, 0.6) * width, dice.between(0.5, 0.9)
        slant = dice.pick((0.0, 0.5 * deep, deep))
        x, half = dice.between(-0.15, 0.15) * width, mouth / 2
        points[3:3] = [(x + half, d), (x + half - slant, d + deep)]
        points[5:5] = [(x - half + slant, d + deep), (x - half, d)]
    outline = np.round(np.array(points), 3)
    turns = dice.whole(0, 3)
    return np.round(outline @ turn(90.0 * turns)[:2, :2].T, 3)


def walls_of(outline: Floats) -> list[Wall]:
    """Return the walls along an outline [S,2]."""
    sides = np.roll(outline, -1, axis=0) - outline
    ahead = np.roll(sides, -1, axis=0)
    convex = sides[:, 0] * ahead[:, 1] - sides[:, 1] * ahead[:, 0] > 0  # the corner at the end
    past = np.where(convex, THICKNESS, 0.0)
    return [
        Wall((x, y), math.hypot(dx, dy), math.degrees(math.atan2(dy, dx)), before, after)
        for (x, y), (dx, dy), before, after in zip(
            outline.tolist(), sides.tolist(), np.roll(past, 1).tolist(), past.tolist(), strict=True
        )
    ]


def build_shell(dice: RoomDice, plan: Plan, walls: list[Wall], openings: list[Opening]) -> Placed:
    """Build floor, ceiling and walls, labeled by PARTS, and add the walls to the plan.

    Walls are slabs outside the outline, in one piece from opening to opening.
    """
    b, height = dice.builder(*PARTS), plan.height
    wide = plan.outline - (THICKNESS - 0.02) * inward(plan.outline)
    ground, ceiling, main = materials.floor(b), materials.ceiling(b), materials.wall(b)
    b.add("floor", ground.material, extrude(wide, SLAB).project(ground.size))
    above = extrude(wide, SLAB).project(ceiling.size)
    b.add("ceiling", ceiling.material, above.move(z=SLAB + height))
    accent = materials.wall(b) if b.chance(0.4) else main
    chosen = b.whole(0, len(walls) - 1)
    for number, wall in enumerate(walls):
        finish = accent if number == chosen else main
        holes = [opening for opening in openings if opening.wall is wall]
        for solid in _slabs(wall, height, holes):
            placed = solid.project(finish.size).turn("z", wall.degrees)
            b.add("wall", finish.material, placed.move(*wall.start, SLAB))
        middle = (wall.length + wall.after - wall.before) / 2
        reach = wall.length + wall.before + wall.after
        plan.add(wall.block(middle, reach, -THICKNESS, -1.0, height + 1.0))
    return Placed(Piece("shell", b.mesh()), 0.0, 0.0, 0.0, -SLAB)


def _slabs(wall: Wall, height: float, holes: list[Opening]) -> list[Solid]:
    """Return a wall along +X from the origin, with holes; a niche is closed at its back."""
    pieces = []  # (from, to, low, high, front)
    at = -wall.before
    for hole in sorted(holes, key=lambda hole: hole.along):
        left, right = hole.along - hole.width / 2, hole.along + hole.width / 2
        pieces.append((at, left, 0.0, height, 0.0))
        if hole.low > 0:
            pieces.append((left, right, 0.0, hole.low, 0.0))
        pieces.append((left, right, hole.high, height, 0.0))
        if hole.kind == "niche":
            pieces.append((left, right, hole.low, hole.high, hole.recess))
        at = right
    pieces.append((at, wall.length + wall.after, 0.0, height, 0.0))
    return [
        box(stop - start, THICKNESS - front, high - low).move(
            (start + stop) / 2, -(THICKNESS + front) / 2, low
        )
        for start, stop, low, high, front in pieces
    ]


def choose_openings(dice: RoomDice, walls: list[Wall], height: float) -> list[Opening]:
    """Choose 1 or 2 doors, up to 3 windows and sometimes a niche, recessed by 5 to 15 cm.

    Some windows reach to the floor, as doors do, and niches look like either.
    """
    kinds = ["door"] * dice.pick((1, 2), (0.6, 0.4))
    kinds += ["window"] * dice.pick((0, 1, 2, 3), (0.1, 0.35, 0.35, 0.2))
    kinds += ["niche"] * dice.pick((0, 1), (0.6, 0.4))
    found: list[Opening] = []
    for kind in kinds:
        for _ in range(12):
            opening = _draw_opening(dice, walls, kind, height)
            if opening is not None and not any(_crowd(opening, other) for other in found):
                found.append(opening)
                break
    return found


def _draw_opening(dice: RoomDice, walls: list[Wall], kind: str, height: float) -> Opening | None:
    """Draw an opening on a random wall; None if it does not fit there."""
    wall = dice.pick(walls, [wall.length for wall in walls])
    top = min(dice.between(2.0, 2.12), height - 0.15)
    to_floor = kind == "door" or dice.chance(0.2 if kind == "window" else 0.5)
    low = 0.0 if to_floor else dice.between(0.7, 1.0)
    width = dice.between(0.8, 1.0) if to_floor else dice.between(0.7, 1.7)
    high = top if to_floor else min(low + dice.between(0.9, 1.3), height - 0.15)
    room = wall.length - width - 0.24
    if room < 0:
        return None
    along = 0.12 + width / 2 + dice.between(0.0, room)
    return Opening(wall, kind, along, width, low, high, dice.between(0.05, 0.15))


def _crowd(a: Opening, b: Opening) -> bool:
    return a.wall is b.wall and abs(a.along - b.along) < (a.width + b.width) / 2 + 0.25
