"""Hulls and wings: what flies and drives, nose towards -y."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pointcmt.datasets.sources.toy_shapes.loft import loft
from pointcmt.datasets.sources.toy_shapes.outlines import Curve, spline, superellipse
from pointcmt.datasets.sources.toy_shapes.solid import Solid
from pointcmt.datasets.sources.toy_shapes.solids import lathe

Station = tuple[float, float, float, float]


def hull(
    stations: Sequence[Station] | NDArray[np.float64],
    power: float = 2.0,
    segments: int = 20,
    per: int = 3,
) -> Solid:
    """A body along y through stations (y, half width, lowest z, highest z), from nose to tail.

    Its sections are superellipses; a station without width or height ends in a tip. Texture: u
    around from +x over the top, v from the nose to the tail.
    """
    line = spline(stations, per) if per > 1 else np.asarray(stations, np.float64)
    y, width, low, high = line.T
    width, tall = np.maximum(width, 0.0), np.maximum(high - low, 0.0) / 2
    inner = np.zeros(len(line))
    inner[1:-1] = 0.002  # a spline may dip to nothing between stations, which only tips may
    ring = superellipse(1.0, 1.0, power, segments)
    rings = np.empty((len(line), segments, 3))
    rings[..., 0] = np.maximum(width, inner)[:, None] * ring[:, 0]
    rings[..., 1] = y[:, None]
    rings[..., 2] = ((low + high) / 2)[:, None] + np.maximum(tall, inner)[:, None] * ring[:, 1]
    return loft(rings)


def wing(
    span: float, root: float, tip: float, sweep: float, thickness: float, rise: float = 0.0
) -> Solid:
    """One wing from x = 0 to x = `span`, its leading edge at y = 0 there, swept back by `sweep`.

    root, tip: chords. thickness: of the root, as a share of its chord. rise: z at the tip.
    """
    return loft(_ribs(span, root, tip, sweep, thickness, rise))


def wings(
    span: float, root: float, tip: float, sweep: float, thickness: float, rise: float = 0.0
) -> Solid:
    """Two wings in one piece, mirror images in x = 0."""
    right = _ribs(span, root, tip, sweep, thickness, rise)
    return loft(np.concatenate([(right * np.array([-1.0, 1.0, 1.0]))[:0:-1], right]))


def _ribs(
    span: float, root: float, tip: float, sweep: float, thickness: float, rise: float
) -> NDArray[np.float64]:
    share = np.array([0.0, 0.5, 0.93, 1.0])
    chord, lead = root + (tip - root) * share, sweep * share
    chord[-1] *= 0.72  # the tip is rounded off
    lead[-1] += 0.15 * tip
    thick = thickness * chord * np.array([1.0, 0.85, 0.7, 0.25])
    section = _airfoil()
    rings = np.empty((len(share), len(section), 3))
    rings[..., 0] = (span * share)[:, None]
    rings[..., 1] = lead[:, None] + chord[:, None] * section[:, 0]
    rings[..., 2] = (rise * share)[:, None] + thick[:, None] * section[:, 1]
    return rings


def _airfoil() -> Curve:
    """A drop of length 1 and thickness 1, blunt in front."""
    x = np.array([0.0, 0.06, 0.22, 0.45, 0.75, 1.0])
    z = np.array([0.0, 0.3, 0.48, 0.46, 0.25, 0.04])
    return np.concatenate([np.stack([x, -z], axis=1), np.stack([x, z], axis=1)[:0:-1]])


def blades(count: int, length: float, width: float) -> list[Solid]:
    """A propeller in the plane y = 0 about the y axis."""
    stations = np.array(
        [(-0.1, 0.3, -0.1, 0.1), (0.15, 0.4, -0.1, 0.1), (0.7, 0.6, -0.08, 0.08), (1.0, 0, 0, 0)]
    )
    one = hull(stations * np.array([length, width, width, width]), segments=8)
    up = one.turn("y", 35).turn("x", 90)
    return [up.turn("y", 360 * i / count + 20) for i in range(count)]


def wheel(radius: float, width: float, segments: int = 20) -> tuple[Solid, Solid]:
    """A tyre about the x axis, centred at the origin, and its hub, which faces +x and -x."""
    w, r = width / 2, radius
    tyre = [(0.5 * r, -0.7 * w), (0.72 * r, -w), (0.92 * r, -0.86 * w), (r, -0.45 * w)]
    tyre += [(radius, -z) for radius, z in tyre[::-1]]
    hub = [(0.0, -0.9 * w), (0.2 * r, -0.9 * w), (0.3 * r, -0.72 * w), (0.56 * r, -0.66 * w)]
    hub += [(radius, -z) for radius, z in hub[::-1]]
    return lathe(tyre, segments, ring=True).turn("y", 90), lathe(hub, 12).turn("y", 90)


def nacelle(radius: float, length: float) -> tuple[Solid, Solid]:
    """A jet engine along y with its intake at y = 0: the cowling and the fan with its cone."""
    skin = [(0.8, 0.06), (0.88, 0.0), (1.0, 0.12), (1.0, 0.45), (0.72, 1.0), (0.6, 1.0), (0.6, 0.3)]
    cowl = lathe([(r * radius, z * length) for r, z in skin], 18, ring=True)
    fan = [
        (0.0, 0.08),
        (0.2, 0.14),
        (0.25, 0.2),
        (0.84, 0.22),
        (0.64, 0.9),
        (0.3, 1.0),
        (0.0, 1.15),
    ]
    core = lathe([(r * radius, z * length) for r, z in fan], 18)
    return cowl.turn("x", -90), core.turn("x", -90)


def upright(fin: Solid) -> Solid:
    """A wing set on edge: its span points up."""
    return fin.turn("y", -90)
