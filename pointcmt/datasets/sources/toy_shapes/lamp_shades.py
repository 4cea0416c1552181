"""What throws the light: shades with their bulbs, domes, reflectors."""

import numpy as np
from numpy.typing import NDArray

from pointcmt.datasets.sources.toy_shapes.assembly import Assembly
from pointcmt.datasets.sources.toy_shapes.dice import Dice
from pointcmt.datasets.sources.toy_shapes.finishes import metal, paint, printed
from pointcmt.datasets.sources.toy_shapes.outlines import arc, spline
from pointcmt.datasets.sources.toy_shapes.palettes import GLOW, Scheme, mix
from pointcmt.datasets.sources.toy_shapes.patterns import cloth, ombre, stripes
from pointcmt.datasets.sources.toy_shapes.solid import Solid, around
from pointcmt.datasets.sources.toy_shapes.solids import cylinder, ellipsoid, lathe, rod, torus
from pointcmt.shapes import Material

LIT = Material("bulb", GLOW)
SEGMENTS = {"pleated": 72, "square": 4, "octagonal": 8}  # around; 36 for the others
Place = tuple[float, float, float]


def add_shade(
    dice: Dice, assembly: Assembly, scheme: Scheme, patterned: bool, radius: float, z: float
) -> None:
    """A shade, its rim at z, with its bulb and the wires it hangs from."""
    kinds = ("straight", "straight", "bell", "pleated", "scalloped", "square", "octagonal")
    kind, height = dice.pick(kinds), radius * dice.between(1.0, 1.5)
    high = radius * dice.pick((dice.between(0.9, 1.0), dice.between(0.4, 0.7)))
    material, repeats = _cover(dice, scheme, patterned)
    cover = _shade(kind, radius, high, height).tile(repeats, 1)
    assembly.add("shade", material, cover.move(z=z))
    wire, reach = metal(dice, "brass", "black steel"), 0.9 * (high + 0.12 * (radius - high))
    spokes = around(rod((0, 0, 0), (reach, 0, 0), 0.012 * radius), 3, 90)
    assembly.add("pole", wire, [spoke.move(z=z + 0.88 * height) for spoke in spokes])
    knob = ellipsoid(0.06 * radius, 0.06 * radius, 0.08 * radius, 10, 6)
    stem = cylinder(0.03 * radius, 0.95 * height, 8)
    assembly.add("pole", wire, knob.move(z=z + 0.95 * height), stem.move(z=z - 0.02 * height))
    bulb = ellipsoid(0.22 * radius, 0.22 * radius, 0.3 * radius, 14, 8)
    assembly.add("bulb", LIT, bulb.move(z=z + 0.42 * height))


def _shade(kind: str, low: float, high: float, height: float) -> Solid:
    """A thin shade on z = 0 with these radii below and above; one texture fits its outside."""
    z = np.linspace(0, 1, 7 if kind == "bell" else 2)
    radius = low + (high - low) * (z**0.45 if kind == "bell" else z)
    outside = np.stack([radius, z * height], axis=1)
    inside = outside[::-1] - (0.025 * low, 0.0)
    body = lathe(np.concatenate([outside, inside]), SEGMENTS.get(kind, 36), ring=True).tile(1, 2)
    if kind == "square":
        return body.scale(1.2, 1.2)
    if kind == "pleated":
        return body.warp(_pleated)
    if kind == "scalloped":
        return body.warp(lambda v: _scalloped(v, height))
    return body


def _pleated(v: NDArray[np.float64]) -> NDArray[np.float64]:
    """Every other vertex around is drawn in."""
    drawn = np.where(np.arange(len(v)) % 2, 0.93, 1.0)
    return v * np.stack([drawn, drawn, np.ones_like(drawn)], axis=1)


def _scalloped(v: NDArray[np.float64], height: float) -> NDArray[np.float64]:
    """The lower rim hangs in nine arcs."""
    hang = 0.1 * height * np.abs(np.sin(4.5 * np.arctan2(v[:, 1], v[:, 0])))
    return np.stack([v[:, 0], v[:, 1], v[:, 2] - hang * (1 - v[:, 2] / height)], axis=1)


def _cover(dice: Dice, scheme: Scheme, patterned: bool) -> tuple[Material, float]:
    """A shade's material and how often it repeats around."""
    if not patterned:
        return paint(dice.pick((scheme.light, scheme.main, scheme.accent)), "linen"), 1.0
    kind = dice.pick(("cloth", "cloth", "glow", "ribs"))
    if kind == "cloth":
        return printed(cloth(dice, scheme), "cloth"), 4.0
    if kind == "glow":
        return printed(ombre(mix(scheme.main, GLOW, 0.6), scheme.main), "parchment"), 1.0
    return printed(stripes(scheme.light, (scheme.main,), 8), "ribbed cloth"), 3.0


def add_dome(
    dice: Dice, assembly: Assembly, scheme: Scheme, patterned: bool, radius: float, at: Place
) -> None:
    """A half ball open below, with its bulb; `at` is the middle of its rim."""
    outer = arc(radius, 0, 90, 7)
    outer[-1, 0] = 0.0
    shell = lathe(np.concatenate([0.95 * outer[::-1], outer]))
    material = paint(dice.pick((scheme.main, scheme.light)), "enamel")
    if patterned:
        material = printed(ombre(GLOW, scheme.main), "enamel")
    assembly.add("shade", material, shell.move(*at))
    bulb = ellipsoid(0.4 * radius, 0.4 * radius, 0.4 * radius, 14, 8).move(*at)
    assembly.add("bulb", LIT, bulb.move(z=0.12 * radius))


def add_reflector(
    dice: Dice, assembly: Assembly, scheme: Scheme, body: Material, at: Place, tilt: float
) -> None:
    """A cone or a cup that looks downwards, turned by `tilt` degrees about y."""
    r = dice.between(0.1, 0.14)
    cone = (0.3, 0.0), (0.38, -0.35), (0.55, -0.6), (1.0, -1.15)
    cup = (0.3, 0.0), (0.75, -0.3), (0.98, -0.75), (1.0, -1.0)
    outer = spline(dice.pick((cone, cup)), per=3)
    inner = outer[::-1] - 0.05
    inner[0, 1] = outer[-1, 1]
    shell = lathe(np.concatenate([[(0.0, 0.12)], outer, inner, [(0.0, -0.08)]]) * r)
    ring = torus(0.34 * r, 0.05 * r, 20, 8).move(z=-0.1 * r)
    bulb = ellipsoid(0.34 * r, 0.34 * r, 0.42 * r, 14, 8).move(z=-0.62 * r)
    for part, material, solid in (
        ("shade", body, shell),
        ("shade", paint(scheme.accent), ring),
        ("bulb", LIT, bulb),
    ):
        assembly.add(part, material, solid.turn("y", tilt).move(*at))
