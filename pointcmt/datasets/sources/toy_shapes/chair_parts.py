"""Seats, legs and arm rests that several kinds of chairs share."""

from dataclasses import dataclass

import numpy as np

from pointcmt.datasets.sources.toy_shapes import legs
from pointcmt.datasets.sources.toy_shapes.assembly import Assembly
from pointcmt.datasets.sources.toy_shapes.dice import Dice
from pointcmt.datasets.sources.toy_shapes.outlines import (
    Curve,
    rounded,
    rounded_rectangle,
    spline,
    superellipse,
)
from pointcmt.datasets.sources.toy_shapes.solid import Solid, four, pair
from pointcmt.datasets.sources.toy_shapes.solids import rod, tube
from pointcmt.shapes import Material


@dataclass(frozen=True)
class Seat:
    """Width and depth of a seat, the height of its upper side, and its thickness."""

    width: float
    depth: float
    height: float
    thickness: float


def seat_outline(dice: Dice, seat: Seat) -> Curve:
    """A seat from above: square, narrower at the back, round, or a horseshoe."""
    w, d = seat.width / 2, seat.depth / 2
    kind = dice.pick(("square", "trapezoid", "round", "horseshoe"))
    if kind == "square":
        return rounded_rectangle(seat.width, seat.depth, 0.05)
    if kind == "trapezoid":
        return rounded([(-w, -d), (w, -d), (0.84 * w, d), (-0.84 * w, d)], 0.06)
    if kind == "round":
        return superellipse(w, d, 2.4, 28)
    return rounded([(-w, -d), (w, -d), (w, d), (-w, d)], 0.8 * w, 6)


def four_legs(
    dice: Dice, assembly: Assembly, material: Material, seat: Seat, thickness: float
) -> None:
    """One leg and its mirror images, with or without stretchers, now and then on rockers."""
    kind = dice.pick(("round", "square", "turned", "block", "hairpin"), (3, 2, 1.5, 1, 0.7))
    splay = dice.between(0.0, 0.07), dice.between(0.01, 0.08)
    top, height = (0.38 * seat.width, 0.36 * seat.depth), seat.height - 0.6 * seat.thickness
    assembly.add("leg", material, four(legs.leg(kind, height, thickness, splay).move(*top)))
    if kind == "hairpin":
        return
    if dice.chance(0.13):
        foot = legs.along(top, splay, 0.0)
        assembly.add("leg", material, pair(_rocker(foot, thickness)))
    if dice.chance(0.55):
        share, bar = dice.between(0.25, 0.45), 0.28 * thickness
        (x, y), z = legs.along(top, splay, share), share * height
        assembly.add("leg", material, pair(rod((x, -y, z), (x, y, z), bar)))
        if dice.chance(0.6):
            assembly.add("leg", material, rod((-x, 0, z), (x, 0, z), bar))
        else:
            across = rod((-x, y, z + 0.05), (x, y, z + 0.05), bar)
            assembly.add("leg", material, across, across.mirror("y"))


def _rocker(foot: tuple[float, float], thickness: float) -> Solid:
    """A runner under the right legs, its middle lower than the feet."""
    x, y = foot
    knots = [(-1.7 * y, 0.05), (-y, 0.005), (0, -0.03), (y, 0.005), (1.9 * y, 0.07)]
    section = 0.5 * thickness * np.array([(-0.9, -0.7), (0.9, -0.7), (0.9, 0.7), (-0.9, 0.7)])
    return tube(spline([(x, at, z) for at, z in knots]), 1.0, section=section)


def straight_arms(assembly: Assembly, material: Material, seat: Seat, back: float) -> None:
    """Two flat rests from the back (at this y) forwards, each on a post."""
    x, z, front = 0.5 * seat.width + 0.012, seat.height + 0.22, -0.34 * seat.depth
    flat = np.array([(-0.025, -0.011), (0.025, -0.011), (0.025, 0.011), (-0.025, 0.011)])
    rest = tube([(x, back + 0.03, z), (x, front - 0.04, z + 0.01)], 1.0, section=flat)
    post = rod((x - 0.015, front, seat.height - 0.03), (x, front, z), 0.013)
    assembly.add("arm", material, pair(rest.project(0.4, "y")), pair(post))


def bent_arms(assembly: Assembly, material: Material, seat: Seat, back: float, rise: float) -> None:
    """Two bars from the back (at this y) forwards, bent down to the seat."""
    x, z, front = 0.5 * seat.width, seat.height, -0.34 * seat.depth
    start, end = (x - 0.008, back + 0.03, z + rise), (x - 0.023, front + 0.03, z - 0.025)
    line = rounded([start, (x + 0.022, front, z + rise), end], 0.16, 6, closed=False)
    assembly.add("arm", material, pair(tube(line, 0.014, 8)))
