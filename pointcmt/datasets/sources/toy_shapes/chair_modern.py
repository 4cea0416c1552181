"""Chairs without a joiner: moulded shells, bent tubes, office chairs, club chairs."""

import numpy as np

from pointcmt.datasets.sources.toy_shapes import legs
from pointcmt.datasets.sources.toy_shapes.assembly import Assembly
from pointcmt.datasets.sources.toy_shapes.chair_parts import Seat, bent_arms, straight_arms
from pointcmt.datasets.sources.toy_shapes.dice import Dice
from pointcmt.datasets.sources.toy_shapes.finishes import fabric, metal, paint, wood
from pointcmt.datasets.sources.toy_shapes.outlines import rounded, spline
from pointcmt.datasets.sources.toy_shapes.palettes import Scheme
from pointcmt.datasets.sources.toy_shapes.solid import Solid, four, pair
from pointcmt.datasets.sources.toy_shapes.solids import box, rod, sheet, soft_box, tube


def shell_chair(dice: Dice, assembly: Assembly, scheme: Scheme, patterned: bool) -> None:
    """A moulded shell on dowels, wires, runners, a star or a tulip foot."""
    width, depth = dice.between(0.46, 0.54), dice.between(0.42, 0.48)
    height = dice.between(0.42, 0.47)
    seat = Seat(width, depth, height, 0.016)
    body = fabric(dice, scheme, patterned) if dice.chance(0.7) else wood(dice, patterned)
    shell = _shell(dice, seat)
    assembly.add_split("seat", "back", lambda c: c[:, 2] > height + 0.09, body, shell.tile(2, 2))
    if dice.chance(0.35):
        cover = soft_box(0.62 * width, 0.6 * depth, 0.05, 0.025).move(z=height - 0.012)
        assembly.add("seat", paint(scheme.accent, "felt"), cover)
    _shell_base(dice, assembly, scheme, height - 0.03)
    if dice.chance(0.25):
        steel = metal(dice, "chrome", "black steel", "brass")
        inner = Seat(0.97 * width, depth, height + 0.03, 0.02)
        bent_arms(assembly, steel, inner, 0.44 * depth, 0.18)


def _shell(dice: Dice, seat: Seat) -> Solid:
    """Seat and back in one, the sides turned up."""
    rise, wings, taper = dice.between(0.3, 0.52), dice.between(0.02, 0.12), dice.between(0.0, 0.2)
    line = [(-0.5, -0.02), (-0.42, 0.02), (-0.1, -0.01), (0.26, 0.0), (0.42, 0.12)]
    knots = [(y * seat.depth, z) for y, z in line]
    knots += [(0.5 * seat.depth + 0.06, rise - 0.1), (0.5 * seat.depth + 0.12, rise)]
    middle = spline(knots, per=3)
    t, x = np.linspace(0, 1, len(middle))[:, None], np.linspace(-1, 1, 11)[None]
    lift = wings * np.abs(x) ** 3 * np.sin(np.pi * np.clip(1.15 * t, 0, 1))
    grid = np.empty((len(middle), 11, 3))
    grid[..., 0] = 0.5 * seat.width * x * (1 - 0.18 * np.abs(2 * t - 1.1) ** 3 - taper * t)
    grid[..., 1] = middle[:, :1] - lift * t
    grid[..., 2] = seat.height + middle[:, 1:] + lift * (1 - t) - 0.1 * rise * x**4 * t**4
    return sheet(grid, seat.thickness)


def _shell_base(dice: Dice, assembly: Assembly, scheme: Scheme, top: float) -> None:
    kind = dice.pick(("dowel", "wire", "runner", "star", "tulip"))
    steel = metal(dice, "chrome", "black steel", "brass")
    if kind == "dowel":
        one = legs.leg("round", top, 0.034, (0.1, 0.09)).move(0.1, 0.1)
        assembly.add("leg", wood(dice, False, "beech", "oak", "walnut"), four(one))
        brace = rod((-0.16, -0.15, 0.2), (0.16, 0.15, 0.2), 0.006)
        assembly.add("leg", steel, brace, brace.mirror("x").move(z=0.01))
    elif kind == "wire":
        one = legs.leg("round", top, 0.02, (0.12, 0.1)).move(0.1, 0.1)
        brace = rod((0.17, 0.15, 0.12), (-0.02, 0.02, top), 0.006)
        assembly.add("leg", steel, four(one), four(brace))
    elif kind == "runner":
        assembly.add("leg", steel, legs.wire_loop(0.36, 0.42, top, 0.022))
    elif kind == "star":
        assembly.add("leg", steel, legs.star_base(top + 0.01, 0.29, 0.022, dice.whole(4, 5), False))
    else:
        foot = dice.pick((steel, paint(scheme.light)))
        assembly.add("leg", foot, legs.tulip(top + 0.01, 0.24, 0.03))


def cantilever(dice: Dice, assembly: Assembly, scheme: Scheme, patterned: bool) -> None:
    """One bent steel tube for base, front legs and back; a seat and a back stretched between."""
    width, depth = dice.between(0.42, 0.5), dice.between(0.42, 0.48)
    height = dice.between(0.42, 0.47)
    x, y, r = width / 2, depth / 2, 0.013
    rise, lean = dice.between(0.34, 0.46), dice.between(0.08, 0.16)
    floor = [(0, y, r), (x, y, r), (x, -y, r)]
    above = [(x, -y, height), (x, y - 0.02, height), (x, y + lean, height + rise)]
    right = rounded([*floor, *above], 0.07, 5, closed=False)
    frame = metal(dice, "chrome", "black steel", "brass", "steel")
    whole = tube(np.concatenate([(right * (-1, 1, 1))[:0:-1], right]), r, 8)
    assembly.add_split("leg", "back", lambda c: c[:, 2] > height + 0.02, frame, whole)
    cover = fabric(dice, scheme, patterned) if dice.chance(0.6) else wood(dice, patterned)
    if dice.chance(0.5):
        pad = soft_box(width + 0.03, depth - 0.05, 0.05, 0.024)
        rest = soft_box(width + 0.03, 0.5 * rise, 0.045, 0.02)
    else:
        pad = box(width + 0.03, depth - 0.08, 0.036, 0.008)
        rest = box(width + 0.03, 0.45 * rise, 0.03, 0.008)
    assembly.add("seat", cover, pad.project(0.4, "y").move(z=height - 0.02))
    upright = rest.project(0.4).turn("x", 90).move(y=y + 0.012, z=0.72 * rise)
    assembly.add("back", cover, upright.shear(y=lean / rise).move(z=height))
    if dice.chance(0.4):
        back, front = (x, y + 0.5 * lean, height + 0.22), (x, -0.7 * y, height + 0.2)
        bar = rounded([back, front, (x, -0.85 * y, height)], 0.06, 4, closed=False)
        assembly.add("arm", frame, pair(tube(bar, 0.9 * r, 8)))
        rest = box(0.05, 0.6 * depth, 0.025, 0.008).project(0.4, "y")
        assembly.add("arm", cover, pair(rest.move(x=x, z=height + 0.205)))


def office_chair(dice: Dice, assembly: Assembly, scheme: Scheme, patterned: bool) -> None:
    """A padded seat and back on a column with a star of castors."""
    soft, hard = fabric(dice, scheme, patterned), metal(dice, "chrome", "black steel", "steel")
    width, depth = dice.between(0.46, 0.52), dice.between(0.44, 0.5)
    height = dice.between(0.44, 0.52)
    pad = soft_box(width, depth, 0.09, 0.04).project(0.4)
    assembly.add("seat", soft, pad.move(z=height - 0.09))
    tall, lean, y = dice.between(0.38, 0.66), dice.between(0.08, 0.16), depth / 2 + 0.05
    rest = soft_box(dice.between(0.8, 0.98) * width, tall, 0.07, 0.034).project(0.4).turn("x", 90)
    hollow = rest.warp(lambda v: v - np.array([0.0, 0.5, 0.0]) * v[:, :1] ** 2).shear(y=lean)
    assembly.add("back", soft, hollow.move(y=y + 0.05, z=height + 0.1 + tall / 2))
    below, above = (0, 0.1 * depth, height - 0.1), (0, y + 0.05, height + 0.3)
    spine = rounded([below, (0, y + 0.03, height - 0.08), above], 0.08, 4, closed=False)
    assembly.add("back", hard, tube(spine, 0.02, 8))
    assembly.add("leg", hard, legs.star_base(height - 0.07, 0.3, 0.024, 5, wheels=True))
    if dice.chance(0.7):
        x, z = width / 2 + 0.03, height + 0.2
        line = [(0.3 * width, 0, height - 0.06), (x, 0, height - 0.03), (x, 0.02, z)]
        assembly.add("arm", hard, pair(tube(rounded(line, 0.04, 4, closed=False), 0.014, 8)))
        rest = box(0.06, 0.26, 0.035, 0.012).move(x, 0, z - 0.01)
        assembly.add("arm", paint(scheme.dark), pair(rest))


def club_chair(dice: Dice, assembly: Assembly, scheme: Scheme, patterned: bool) -> None:
    """An upholstered armchair, as a sofa for one, but slighter and on taller legs."""
    soft = fabric(dice, scheme, patterned)
    width, depth = dice.between(0.48, 0.56), dice.between(0.48, 0.54)
    height = dice.between(0.4, 0.44)
    rise, thick, lean = dice.between(0.36, 0.52), dice.between(0.09, 0.12), dice.between(0.1, 0.22)
    pad = soft_box(width, depth, 0.16, 0.04).project(0.45)
    assembly.add("seat", soft, pad.move(z=height - 0.16))
    rest = soft_box(width + 0.02, rise + 0.1, thick, 0.042).turn("x", 90).shear(y=lean)
    back = rest.project(0.45).move(y=depth / 2 + 0.03, z=height + rise / 2 - 0.06)
    assembly.add("back", soft, back)
    if dice.chance(0.75):
        side = soft_box(0.08, 0.96 * depth, dice.between(0.28, 0.34), 0.035).project(0.45)
        assembly.add("arm", soft, pair(side.move(width / 2 + 0.02, 0.015, height - 0.12)))
    else:
        straight_arms(assembly, wood(dice, False), Seat(width, depth, height, 0.1), depth / 2)
    kind, splay = dice.pick(("round", "square", "turned")), dice.between(0.0, 0.06)
    one = legs.leg(kind, height - 0.13, 0.045, (splay, splay)).move(0.4 * width, 0.4 * depth)
    assembly.add("leg", wood(dice, patterned), four(one))
