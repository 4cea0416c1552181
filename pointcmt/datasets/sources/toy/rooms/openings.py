"""What belongs to walls: doors, windows, curtains, pictures and boards, and panels of the wall.

Pieces are upright, with their front toward -Y and their lower edge on z = 0.
"""

import math

import numpy as np

from pointcmt.datasets.sources.toy.objects.builder import Builder
from pointcmt.datasets.sources.toy.objects.colors import IVORY, mix
from pointcmt.datasets.sources.toy.objects.solids import (
    Solid,
    ball,
    box,
    cylinder,
    rod,
    sheet,
)
from pointcmt.datasets.sources.toy.rooms import materials
from pointcmt.datasets.sources.toy.rooms.piece import Piece, RoomDice
from pointcmt.shapes import Material

HIDDEN = 0.01  # by how much fillings reach into the wall on all sides of their opening
DEEP = 0.05  # thickness of doors and windows


def door(dice: RoomDice, width: float, height: float) -> Piece:
    """Build a door for an opening: a frame, and a leaf that is plain, paneled or glazed."""
    b = dice.builder("door")
    finish = b.pick((b.wood(), b.paint("light", "main", "dark"), Material("paint", IVORY)))
    frame = b.pick((finish, b.wood(plain=True), Material("paint", IVORY)))
    bar = b.between(0.04, 0.08)
    b.add("door", frame, _frame(width, height, bar, DEEP, sill=False))
    w, h, thick = width - 2 * bar, height - bar, 0.035
    b.add("door", finish, box(w, thick, h - 0.006).project(0.8).move(y=0.004, z=0.006))
    rows, columns = b.pick(((0, 0), (2, 1), (3, 2), (1, 1), (4, 1)), (3, 2, 2, 1, 1))
    inset = b.pick((finish, finish, materials.pane(b)))
    for row in range(rows):
        for column in range(columns):
            pw, ph = w / columns - 0.12, (h - 0.12) / rows - 0.1
            x, z = (column - (columns - 1) / 2) * (w / columns - 0.04), 0.1 + row * (h - 0.1) / rows
            panel = box(pw, 0.012, ph, 0.004).project(0.5).move(x, -0.018, z)
            b.add("door", inset, panel)
    side = b.pick((-1, 1)) * (w / 2 - 0.06)
    metal, z = b.metal(), b.between(0.95, 1.05)
    b.add("door", metal, cylinder(0.024, 0.012, 14).turn("x", 90).move(side, -0.012, z))
    b.add("door", metal, rod((side, -0.012, z), (side, -0.055, z), 0.009))
    if b.chance(0.6):
        grip = rod((side, -0.052, z), (side - math.copysign(0.11, side), -0.052, z), 0.009)
    else:
        grip = ball(0.026, 12, 8).move(side, -0.055, z)
    b.add("door", metal, grip)
    return Piece("door", b.mesh())


def window(dice: RoomDice, width: float, height: float) -> Piece:
    """Build a window for an opening: a frame, panes, and bars between them."""
    b = dice.builder("window")
    frame = b.pick((b.wood(), b.paint("light", "dark"), Material("paint", IVORY)))
    bar = b.between(0.04, 0.08)
    b.add("window", frame, _frame(width, height, bar, DEEP, sill=True))
    view = box(width - bar, 0.012, height - bar).move(z=bar / 2)
    b.add("window", materials.pane(b), _stretched(view.move(y=0.006)))
    for i in range(b.pick((0, 1, 2), (2, 3, 1)) if width < 1.2 else b.whole(1, 3)):
        count = max(1, round(width / 0.6))
        x = ((i + 1) / (count + 1) - 0.5) * width
        if i < count:
            b.add("window", frame, box(0.6 * bar, 0.03, height - bar).move(x, -0.003, bar / 2))
    if b.chance(0.5):
        z = b.pick((0.33, 0.5, 0.67)) * height
        b.add("window", frame, box(width - bar, 0.026, 0.6 * bar).move(0.0, -0.004, z))
    return Piece("window", b.mesh())


def _frame(width: float, height: float, bar: float, deep: float, sill: bool) -> list[Solid]:
    """Return upright bars, a head and a sill around an opening; they reach into the wall."""
    post = box(bar + HIDDEN, deep, height + HIDDEN + (HIDDEN if sill else 0.0)).project(0.8)
    low = -HIDDEN if sill else 0.0
    x = width / 2 - (bar - HIDDEN) / 2
    beam = box(width - 2 * bar + 0.002, deep, bar + HIDDEN).project(0.8, "x")
    solids = [post.move(-x, 0, low), post.move(x, 0, low), beam.move(z=height - bar)]
    return [*solids, beam.move(z=low)] if sill else solids


def _stretched(solid: Solid) -> Solid:
    """Show the texture once over the whole front, x to the right."""
    corners = solid.vertices[solid.faces][..., [0, 2]]
    low, high = corners.min(axis=(0, 1)), corners.max(axis=(0, 1))
    return Solid(solid.vertices, solid.faces, (corners - low) / (high - low))


def picture(dice: RoomDice, room: float, wide: bool) -> Piece:
    """Build a picture, framed or not, at most `room` wide; wide: a board to write on."""
    b = dice.builder("picture")
    if wide:
        width, height = b.between(1.0, min(2.0, room)), b.between(0.8, 1.2)
        chalk = Material(
            "chalkboard", mix(b.scheme.dark, b.pick((b.scheme.main, b.scheme.dark)), 0.3)
        )
        art = b.pick((Material("whiteboard", IVORY), chalk, materials.noise(b, b.scheme.main)))
    else:
        width, height = b.between(0.4, min(1.2, room)), b.between(0.4, 1.0)
        art = materials.artwork(b)
    thick, bar = b.between(0.01, 0.04), b.pick((0.0, b.between(0.02, 0.06)))
    if bar:
        frame = b.pick((b.wood(), b.metal(), b.paint("dark", "light")))
        post = box(bar, thick, height).project(0.6)
        beam = box(width - 2 * bar, thick, bar).project(0.6, "x")
        x = (width - bar) / 2
        b.add("picture", frame, post.move(-x), post.move(x), beam, beam.move(z=height - bar))
    deep = 0.7 * thick if bar else thick
    flat = box(width - 2 * bar + 0.002, deep, height - 2 * bar + 0.002)
    b.add("picture", art, _stretched(flat.move(y=(thick - deep) / 2, z=bar - 0.001)))
    return Piece("picture", b.mesh())


def wall_panel(dice: RoomDice, room: float) -> Piece:
    """Build a flat panel of the wall, which has the form of a picture or a board."""
    b = dice.builder("wall")
    finish = materials.wall(b)
    panel = box(b.between(0.4, min(1.8, room)), b.between(0.01, 0.04), b.between(0.4, 1.2))
    b.add("wall", finish.material, panel.project(finish.size))
    return Piece("wall", b.mesh())


def curtain(dice: RoomDice, width: float, height: float) -> Piece:
    """Build a curtain in waves, or gathered toward one side; or, with few waves, a blind."""
    b = dice.builder("curtain")
    cloth = _cloth(b)
    waves, deep = max(2, round(width / b.between(0.12, 0.25))), b.between(0.012, 0.045)
    if b.chance(0.2):
        deep = 0.004
    share, z = np.linspace(0, 1, 8 * waves + 1)[None], np.linspace(0, height, 5)[:, None]
    drawn = 1 - b.pick((0.0, 0.0, 0.4)) * np.sin(math.pi * np.clip(z / height, 0, 1)) ** 2
    x = (share - 0.5) * width
    side = b.pick((-0.5, 0.5)) * width
    x = side + (x - side) * drawn
    folds = np.sin(2 * math.pi * waves * share) + 0.3 * np.sin(2 * math.pi * share + z)
    grid = np.broadcast_arrays(x, deep * folds, z + 0 * x)
    b.add("curtain", cloth, sheet(np.stack(grid, axis=-1), 0.006).tile(round(2 * width + 1), 2))
    if b.chance(0.7):
        pole = cylinder(0.014, width + 0.1, 10).turn("y", 90).move(-(width + 0.1) / 2, 0.0, height)
        b.add("curtain", b.metal(), pole)
    return Piece("curtain", b.mesh())


def _cloth(b: Builder) -> Material:
    if b.chance(0.5):
        return b.fabric()
    return Material("cloth", b.pick((*materials.PLASTERS, b.scheme.main, b.scheme.light)))
