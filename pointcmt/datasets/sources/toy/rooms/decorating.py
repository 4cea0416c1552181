"""What is mounted on walls: doors and windows in their openings, curtains, pictures, panels."""

from pointcmt.datasets.sources.toy.rooms import openings
from pointcmt.datasets.sources.toy.rooms.layout import Layout
from pointcmt.datasets.sources.toy.rooms.piece import Piece, Placed
from pointcmt.datasets.sources.toy.rooms.shell import Opening, Wall

DOOR_SPACE = 0.85  # kept free in front of doors
VIEW, FLOOR_VIEW = 0.05, 0.3  # kept free in front of windows and niches, and of those to the floor
FLUSH = 0.001  # how far flat pieces reach into their wall


def fill_openings(layout: Layout, holes: list[Opening]) -> list[Placed]:
    """Set doors and windows into their openings; keep the space in front of doors free."""
    placed = []
    for hole in holes:
        height, middle = hole.high - hole.low, -hole.recess - openings.DEEP / 2
        x, y = hole.wall.point(hole.along, middle)
        if hole.kind == "door":
            piece = openings.door(layout.dice, hole.width, height)
            placed.append(Placed(piece, hole.wall.facing, x, y, hole.low))
        elif hole.kind == "window":
            piece = openings.window(layout.dice, hole.width, height)
            placed.append(Placed(piece, hole.wall.facing, x, y, hole.low - openings.HIDDEN))
        if hole.kind == "door":
            free = hole.wall.block(hole.along, hole.width, DOOR_SPACE, 0.0, hole.high)
            layout.plan.add(free, solid=False)
    return placed


def hang_curtains(layout: Layout, holes: list[Opening]) -> list[Placed]:
    """Hang curtains beside most windows, and now and then on a wall or before a niche.

    Nothing else will stand in front of windows and niches.
    """
    dice, found = layout.dice, []
    for hole in holes:
        if hole.kind != "door" and dice.chance(0.8 if hole.kind == "window" else 0.3):
            found += _pair_of_curtains(layout, hole)
    for hole in holes:
        if hole.kind != "door":
            depth = VIEW if hole.low > 0 else FLOOR_VIEW
            view = hole.wall.block(hole.along, hole.width, depth, hole.low, hole.high)
            layout.plan.add(view, solid=False)
    if not found and dice.chance(0.7):
        wall = dice.pick(layout.walls, [wall.length for wall in layout.walls])
        width = dice.between(0.5, max(0.6, min(1.8, wall.length - 0.5)))
        along = dice.between(width / 2 + 0.1, max(width, wall.length - width / 2 - 0.1))
        top = layout.plan.height - dice.between(0.05, 0.3)
        piece = openings.curtain(dice, width, top - 0.03)
        found += _hang(layout, piece, wall, along, 0.03)
    return found


def _pair_of_curtains(layout: Layout, hole: Opening) -> list[Placed]:
    dice, top = layout.dice, layout.plan.height - 0.06
    top = min(top, hole.high + dice.between(0.08, 0.25))
    low = dice.pick((0.03, max(0.03, hole.low - 0.15)), (2, 1))
    width = dice.between(0.3, 0.55) * hole.width + 0.12
    piece, found = openings.curtain(dice, width, top - low), []
    for side in dice.pick(((-1, 1), (-1,), (1,)), (3, 1, 1)):
        along = hole.along + side * (hole.width / 2 + 0.15 - width / 2)
        found += _hang(layout, piece, hole.wall, along, low)
    return found


def _hang(layout: Layout, piece: Piece, wall: Wall, along: float, low: float) -> list[Placed]:
    x, y = wall.point(along, piece.size[1] / 2 + layout.dice.between(0.015, 0.05))
    placed = Placed(piece, wall.facing, x, y, low)
    if not layout.plan.fits(placed.block):
        return []
    layout.plan.add(placed.block)
    return [placed]


def decorate(layout: Layout) -> list[Placed]:
    """Hang pictures and boards, and panels of the wall that have the same form."""
    dice, found = layout.dice, []
    for _ in range(dice.whole(2, 7)):
        panel, wide = dice.chance(0.3), dice.chance(0.3)
        wall = dice.pick(layout.walls, [wall.length for wall in layout.walls])
        room = wall.length - 0.3
        if room < (1.05 if wide else 0.5):
            continue
        piece = openings.wall_panel(dice, room) if panel else openings.picture(dice, room, wide)
        width, thick, height = piece.size.tolist()
        for _ in range(10):
            along = 0.15 + width / 2 + dice.between(0.0, wall.length - 0.3 - width)
            low = dice.between(0.85, max(0.9, min(1.9, layout.plan.height - 0.2) - height))
            x, y = wall.point(along, thick / 2 - FLUSH)
            placed = Placed(piece, wall.facing, x, y, low)
            block = wall.block(along, width + 0.06, thick, low - 0.05, low + height + 0.03)
            if layout.plan.fits(block):
                layout.plan.add(placed.block)
                found.append(placed)
                break
    return found
