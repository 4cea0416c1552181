"""Parts that several classes share: legs and feet, wheels, wings."""

import numpy as np

from pointcmt.datasets.sources.toy.objects.outlines import Curve, Points, rounded, spline
from pointcmt.datasets.sources.toy.objects.solids import (
    Solid,
    around,
    ball,
    cylinder,
    hull,
    lath,
    lathe,
    loft,
    pair,
    rod,
    tube,
)

# Straight legs: number of segments around, and (radius, height) relative to the leg's own.
TURNED: Points = (
    *((0.55, 0.0), (0.5, 0.04), (0.75, 0.08), (0.55, 0.12), (0.6, 0.3), (0.85, 0.5)),
    *((0.95, 0.62), (0.6, 0.68), (1.0, 0.72), (0.6, 0.76), (1.0, 0.8), (1.0, 1.0)),
)
LEGS: dict[str, tuple[int, Points]] = {
    "round": (12, ((0.55, 0), (1, 1))),
    "square": (4, ((0.8, 0), (0.85, 0.01), (1.41, 0.99), (1.36, 1))),
    "block": (4, ((1.36, 0), (1.41, 0.01), (1.41, 0.99), (1.36, 1))),
    "turned": (12, TURNED),
}


def leg(kind: str, height: float, thickness: float, splay: tuple[float, float] = (0, 0)) -> Solid:
    """Return a leg from z = 0 to `height`, top on the z axis, foot shifted by `splay`.

    kind: one of LEGS, or hairpin.
    """
    if kind == "hairpin":
        wire, spread = 0.11 * thickness, 0.9 * thickness
        ends = [(-spread, 0, height), (0, 0, wire), (spread, 0, height)]
        straight = tube(rounded(ends, 2 * spread, 5, closed=False), wire, 6)
        straight = straight.move(z=-float(straight.vertices[:, 2].min()))
    else:
        segments, profile = LEGS[kind]
        straight = lathe(np.array(profile) * (thickness / 2, height), segments)
    dx, dy = splay
    return straight.shear(-dx / height, -dy / height).move(dx, dy).tile(1, 2 * height)


def foot(kind: str, height: float, reach: float, neck: float, count: int = 4) -> list[Solid]:
    """Return a central foot on z = 0 that ends at `height` in a column of radius `neck`.

    kind: tulip (flared), disc (a plate), star (straight arms), casters (the same on wheels),
    tripod (slender legs that meet under the top).
    """
    if kind == "tulip":
        low = [(reach, 0), (0.97 * reach, 0.02 * height), (0.35 * reach + neck, 0.12 * height)]
        high = [(neck, 0.5 * height), (1.1 * neck, 0.8 * height), (2 * neck, height)]
        return [lathe(spline([*low, *high]))]
    if kind == "tripod":
        one = rod((reach, 0, 0), (0.06 * reach, 0, height), 0.5 * neck, 0.7 * neck)
        return around(one.clip(), count, -90.0)
    if kind == "disc":
        thick = 0.1 * reach
        plate = lathe([(reach, 0), (reach, 0.5 * thick), (0.9 * reach, thick)])
        return [plate, cylinder(neck, height - 0.5 * thick, 14).move(z=0.5 * thick)]
    lift = 0.16 * reach if kind == "casters" else 0.0
    knee = 0.6 * reach, 0, lift + neck
    path = np.array([(0.6 * neck, 0, lift + 2.2 * neck), knee, (reach, 0, lift + 0.5 * neck)])
    solids = around(lath(path, 1.7 * neck, 1.8 * neck).clip(), count, -90.0)
    if kind == "casters":
        wheel = ball(0.09 * reach, 10, 6).move(x=0.97 * reach, z=0.09 * reach)
        solids += around(wheel, count, -90.0)
    return [*solids, cylinder(neck, height - lift - neck, 14).move(z=lift + neck)]


def runners(width: float, depth: float, height: float, thickness: float) -> list[Solid]:
    """Return sled runners: on each side, a bar from the top down, along the floor and up again."""
    y, x, r = depth / 2, width / 2, thickness / 2
    line = [(x, -0.75 * y, height), (x, -y, r), (x, y, r), (x, 0.75 * y, height)]
    return pair(tube(rounded(line, 3 * thickness, 3, closed=False), r))


def wheel(radius: float, width: float, segments: int = 16) -> tuple[Solid, Solid]:
    """Return a tire about the x axis, centered at the origin, and its hub."""
    tire = [(0.5, -0.7), (0.72, -1), (0.92, -0.86), (1, -0.45)]
    hub = [(0, -0.9), (0.2, -0.9), (0.3, -0.72), (0.56, -0.66)]
    both = (
        np.array([*half, *((r, -z) for r, z in half[::-1])]) * (radius, width / 2)
        for half in (tire, hub)
    )
    first, second = both
    return lathe(first, segments, ring=True).turn("y", 90), lathe(second, 12).turn("y", 90)


def wings(
    span: float, root: float, tip: float, sweep: float, thickness: float = 0.12, rise: float = 0.0
) -> Solid:
    """Return two wings in one piece, symmetric in x = 0, with the leading edge at y = 0 there.

    root, tip: chords. thickness: of the root, relative to its chord. rise: z at the tips.
    """
    right = _ribs(span, root, tip, sweep, thickness, rise)
    return loft(np.concatenate([(right * np.array([-1.0, 1.0, 1.0]))[:0:-1], right]))


def fin(height: float, root: float, tip: float, sweep: float, thickness: float = 0.12) -> Solid:
    """Return one upright wing from z = 0 up to `height`."""
    return loft(_ribs(height, root, tip, sweep, thickness, 0.0)).turn("y", -90)


def _ribs(
    span: float, root: float, tip: float, sweep: float, thickness: float, rise: float
) -> Curve:
    share = np.array([0.0, 0.5, 0.93, 1.0])[:, None]
    chord, lead = root + (tip - root) * share, sweep * share
    chord[-1] *= 0.72  # round off the tip
    lead[-1] += 0.15 * tip
    thick = thickness * chord * np.array([[1.0], [0.85], [0.7], [0.25]])
    x, z = np.array([(0, 0), (0.06, 0.3), (0.22, 0.48), (0.45, 0.46), (0.75, 0.25), (1, 0.04)]).T
    x, z = np.concatenate([x, x[:0:-1]]), np.concatenate([-z, z[:0:-1]])
    rings = (span * share, lead + chord * x, rise * share + thick * z)
    return np.stack(np.broadcast_arrays(*rings), axis=-1)


def propeller(count: int, length: float, width: float) -> list[Solid]:
    """Return blades in the plane y = 0 about the y axis."""
    stations = np.array(
        [(-0.1, 0.3, -0.1, 0.1), (0.15, 0.4, -0.1, 0.1), (0.7, 0.6, -0.08, 0.08), (1, 0, 0, 0)]
    )
    up = hull(stations * (length, width, width, width), segments=8).turn("y", 35).turn("x", 90)
    return [up.turn("y", 360 * i / count + 20) for i in range(count)]
