"""Legs and bases of furniture and lamps: they stand on z = 0 and end at their height."""

import math

import numpy as np

from pointcmt.datasets.sources.toy_shapes.outlines import rounded, spline
from pointcmt.datasets.sources.toy_shapes.solid import Solid, around, pair
from pointcmt.datasets.sources.toy_shapes.solids import (
    cylinder,
    ellipsoid,
    frustum,
    lathe,
    rod,
    tube,
)

Point = tuple[float, float]

# Radii and heights (of 1) of a leg turned on a lathe.
TURNED = (
    *((0.55, 0.0), (0.5, 0.04), (0.75, 0.08), (0.55, 0.12), (0.6, 0.3), (0.85, 0.5)),
    *((0.95, 0.62), (0.6, 0.68), (1.0, 0.72), (0.6, 0.76), (1.0, 0.8), (1.0, 1.0)),
)
CORNER = 1.41  # from half the side of a square to its corner


def leg(kind: str, height: float, thickness: float, splay: Point = (0.0, 0.0)) -> Solid:
    """One leg whose top is centred on the z axis; its foot is shifted by `splay` (x, y).

    kind: round, square (both taper), block, turned, hairpin or cabriole (which bends by as much
    as it is thick, in the direction of `splay`). thickness: the widest diameter.
    """
    if kind == "cabriole":
        towards = math.degrees(math.atan2(splay[1], splay[0]))
        return _cabriole(height, thickness).turn("z", towards)
    dx, dy = splay
    straight = _straight(kind, height, thickness / 2)
    return straight.shear(-dx / height, -dy / height).move(dx, dy).tile(1, 2 * height)


def _straight(kind: str, height: float, radius: float) -> Solid:
    if kind == "round":
        return frustum(0.55 * radius, radius, height, segments=12)
    if kind in ("square", "block"):
        foot = 0.6 if kind == "square" else 1.0
        return frustum(foot * CORNER * radius, CORNER * radius, height, 4, 0.12 * radius)
    if kind == "turned":
        return lathe([(radius * r, height * z) for r, z in TURNED], 12)
    wire, spread = 0.22 * radius, 1.8 * radius  # hairpin
    line = [(-spread, 0, height), (0, 0, wire), (spread, 0, height)]
    bent = tube(rounded(line, 2 * spread, 5, closed=False), wire, 6)
    return bent.move(z=-float(bent.vertices[:, 2].min()))


def _cabriole(height: float, thickness: float) -> Solid:
    """An S-shaped leg: a knee above, a slender ankle, a foot that points along x."""
    line = spline([(0.9, 0, 0), (0.2, 0, 0.25), (0.6, 0, 0.7), (0, 0, 1)], per=4)
    radius = np.interp(line[:, 2], (0, 0.2, 0.75, 1), (0.75, 0.5, 1.0, 1.0)) * thickness / 2
    return on_floor(tube(line * (thickness, 1.0, height), radius, 8))


def along(top: Point, splay: Point, share: float) -> Point:
    """Where a leg's middle is at this share of its height: (x, y)."""
    return top[0] + splay[0] * (1 - share), top[1] + splay[1] * (1 - share)


def on_floor(solid: Solid) -> Solid:
    """What reaches below z = 0 is flattened onto it."""
    return solid.warp(lambda v: np.maximum(v, (-np.inf, -np.inf, 0.0)))


def tulip(height: float, foot: float, neck: float) -> Solid:
    """A flared pedestal, broad at the floor and a little at the top."""
    low = [(foot, 0), (0.97 * foot, 0.02 * height), (0.35 * foot + neck, 0.12 * height)]
    high = [(neck, 0.5 * height), (1.1 * neck, 0.8 * height), (2 * neck, height)]
    return lathe(spline([*low, *high], per=4))


def disc_base(height: float, foot: float, neck: float) -> list[Solid]:
    """A flat round plate with a column."""
    plate = lathe([(foot, 0), (foot, 0.05 * foot), (0.9 * foot, 0.1 * foot)])
    return [plate, cylinder(neck, height - 0.05 * foot, 14).move(z=0.05 * foot)]


def star_base(height: float, reach: float, neck: float, count: int, wheels: bool) -> list[Solid]:
    """A column on `count` arms, with or without wheels under them."""
    lift = 0.16 * reach if wheels else 0.0
    start, knee = (0.6 * neck, 0, lift + 2.2 * neck), (0.6 * reach, 0, lift + neck)
    section = 0.9 * neck * np.array([(-0.9, -1), (0.9, -1), (0.9, 1), (-0.9, 1)])
    arm = tube([start, knee, (reach, 0, lift + 0.5 * neck)], [1.0, 0.8, 0.5], section=section)
    solids = around(on_floor(arm), count, -90.0)
    if wheels:
        ball = ellipsoid(0.09 * reach, 0.09 * reach, 0.09 * reach, 10, 6)
        solids += around(ball.move(x=0.97 * reach, z=0.09 * reach), count, -90.0)
    return [*solids, cylinder(neck, height - lift - neck, 14).move(z=lift + neck)]


def claws(height: float, reach: float, thickness: float, count: int) -> list[Solid]:
    """Curved feet that spring from a column at `height`."""
    line = spline([(reach, 0, 0.1), (0.78 * reach, 0, 0.16), (0.45 * reach, 0, 0.62), (0, 0, 1)], 4)
    radius = np.interp(line[:, 2], (0.1, 0.2, 1), (0.55, 0.4, 0.7)) * thickness
    one = tube(line * (1.0, 1.0, height), radius, 8)
    return around(on_floor(one), count, -90.0)


def tripod(height: float, reach: float, thickness: float, count: int = 3) -> list[Solid]:
    """Slender legs that meet under the top."""
    one = rod((reach, 0, 0), (0.06 * reach, 0, height), 0.5 * thickness, 0.7 * thickness)
    return around(on_floor(one), count, -90.0)


def wire_loop(width: float, depth: float, height: float, thickness: float) -> list[Solid]:
    """Sled runners: on either side a bent bar from the top down, along the floor and up again."""
    y, x, r = depth / 2, width / 2, thickness / 2
    line = [(x, -0.75 * y, height), (x, -y, r), (x, y, r), (x, 0.75 * y, height)]
    return pair(tube(rounded(line, 3 * thickness, 3, closed=False), r, 8))
