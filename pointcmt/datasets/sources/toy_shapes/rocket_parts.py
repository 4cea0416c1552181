"""What rockets are put together from: paintwork, portholes, fins, bells, fire."""

from dataclasses import dataclass

import numpy as np

from pointcmt.datasets.sources.toy_shapes.assembly import Assembly
from pointcmt.datasets.sources.toy_shapes.canvas import Texture, edge, grid, layers, wave
from pointcmt.datasets.sources.toy_shapes.dice import Dice
from pointcmt.datasets.sources.toy_shapes.finishes import metal, paint, printed
from pointcmt.datasets.sources.toy_shapes.outlines import Curve, rounded, spline
from pointcmt.datasets.sources.toy_shapes.palettes import GLASS, GLOW, Scheme, mix, rgb
from pointcmt.datasets.sources.toy_shapes.patterns import checker, chevron, motif, ombre, stripes
from pointcmt.datasets.sources.toy_shapes.solid import Solid, around
from pointcmt.datasets.sources.toy_shapes.solids import ellipsoid, extrude, lathe, torus
from pointcmt.shapes import Material

PANE = Material("glass", GLASS)
FIRE = Material("fire", rgb("f28c28")), Material("fire", GLOW)


@dataclass(frozen=True)
class Skin:
    """A hull's outside (radius, z), bottom to top, to find its surface by height."""

    profile: Curve

    def radius(self, z: float) -> float:
        """The radius at this height."""
        return float(np.interp(z, self.profile[:, 1], self.profile[:, 0]))

    def slope(self, z: float) -> float:
        """Degrees by which the surface looks upwards at this height."""
        run = self.radius(z - 0.03) - self.radius(z + 0.03)
        return float(np.degrees(np.arctan2(run, 0.06)))


def paintwork(dice: Dice, scheme: Scheme) -> Texture:
    """A decorated hull: u around, v up."""
    kinds = ("checker", "checker", "bands", "stripes", "stars", "chevron", "ombre", "quarters")
    kind = dice.pick(kinds)
    ink, ground, u, v = scheme.main, scheme.light, *grid()
    if kind == "checker":
        return checker(ground, ink, dice.pick((4, 6)))
    if kind == "bands":
        broad, narrow = edge(wave(2.5 * v + 0.1) - 0.6, 0.03), edge(0.03 - np.abs(v - 0.52), 0.02)
        return layers(ground, (ink, broad + 0 * u), (scheme.accent, narrow))
    if kind == "stripes":
        return stripes(ground, (ink,), 4)
    if kind == "stars":
        return motif(ink, (ground, scheme.accent), "stars", 4)
    if kind == "chevron":
        return chevron(ground, ink, 4)
    if kind == "ombre":
        return ombre(scheme.accent, scheme.main)
    lower = edge(wave(2 * u + 0.25) - 0.5, 0.03) * edge(0.5 - v, 0.02)
    return layers(ground, (ink, lower), (scheme.accent, edge(v - 0.86, 0.02)))


def hull_finish(dice: Dice, scheme: Scheme, patterned: bool) -> Material:
    """Paintwork, one colour, or bare metal."""
    if patterned:
        return printed(paintwork(dice, scheme), "paintwork")
    colors = paint(scheme.main), paint(scheme.light), paint(scheme.accent)
    return dice.pick((*colors, metal(dice, "chrome")))


def portholes(
    dice: Dice, assembly: Assembly, scheme: Scheme, skin: Skin, low: float, high: float
) -> None:
    """One to three round windows in front, from `high` downwards as far as there is room."""
    ring = dice.pick((paint(scheme.accent), paint(scheme.dark), metal(dice, "brass", "chrome")))
    pane = Material("lit pane", mix(GLOW, scheme.light, 0.2)) if dice.chance(0.35) else PANE
    size, z = dice.between(0.4, 0.55) * skin.radius(high), high
    for _ in range(dice.whole(1, 3)):
        turn, y = 90 - skin.slope(z), 0.012 - skin.radius(z)
        frame = torus(size, 0.2 * size, 24, 8).turn("x", turn).move(y=y, z=z)
        glass = ellipsoid(size, size, 0.25 * size, 20, 6).turn("x", turn).move(y=y, z=z)
        assembly.add("window", ring, frame)
        assembly.add("window", pane, glass)
        z -= 2.6 * size
        size *= 0.85
        if z < low:
            break


def standing_fins(
    dice: Dice, assembly: Assembly, material: Material, skin: Skin, lift: float, top: float
) -> None:
    """Three to five fins that reach from `top` down to the floor and carry the rocket."""
    count, reach = dice.pick((3, 3, 4, 4, 5)), dice.between(0.2, 0.34)
    kind = dice.pick(("leg", "swept", "delta", "paddle"))
    upper, lower = skin.radius(top) - 0.03, skin.radius(lift + 0.04) - 0.05
    far = max(upper, lower) + reach
    if kind == "leg":
        knots = [(upper, top), (far - 0.06, 0.5 * top), (far, 0.1 * top), (far + 0.02, 0.0)]
        outer = spline(knots, per=4)
        knee = far - 0.1, 0.24 * lift + 0.04
        inner = spline([(far - 0.05, 0.0), knee, (lower, lift + 0.08)], per=4)
    elif kind == "swept":
        outer = np.array([(upper, top), (far, 0.34 * top), (far, 0.0)])
        inner = np.array([(far - 0.09, 0.0), (lower, lift + 0.03)])
    elif kind == "delta":
        outer = np.array([(upper, top), (far, 0.1), (far, 0.0)])
        inner = np.array([(far - 0.2, 0.0), (lower, lift + 0.03)])
    else:
        corners = [(upper, top), (far, 0.75 * top), (far, 0.0)]
        outer = rounded(corners, 0.15, 4, closed=False)
        inner = np.array([(far - 0.12, 0.0), (lower, lift + 0.06)])
    fin = upright_plate(np.concatenate([outer, inner])[::-1], dice.between(0.035, 0.06))
    start = 180.0 / count - 90.0  # none right in front of the portholes
    assembly.add("fin", material, around(fin, count, start))
    if kind in ("leg", "swept") and dice.chance(0.4):
        pod = ellipsoid(0.06, 0.06, 0.12, 14, 8).move(x=far, z=0.12)
        assembly.add("fin", material, around(pod, count, start))


def upright_plate(outline: Curve, thickness: float) -> Solid:
    """An outline (x, z) as a plate in the plane y = 0."""
    return extrude(outline, thickness, 0.3 * thickness).turn("x", 90).move(y=thickness / 2)


def bell(radius: float) -> Solid:
    """A nozzle on the floor, 0.15 high."""
    outer = [(radius, 0.0), (0.75 * radius, 0.06), (0.45 * radius, 0.15)]
    inner = [(0.3 * radius, 0.15), (0.6 * radius, 0.05), (0.9 * radius, 0.0)]
    return lathe([*outer, *inner], 14, ring=True)


def nozzle(dice: Dice, assembly: Assembly, radius: float, lift: float) -> None:
    """A bell under a hull that begins at z = `lift`, now and then with fire below."""
    steel = metal(dice, "steel", "black steel", "copper", "brass")
    low = lift - min(0.12, 0.7 * lift)
    outer = [(0.7 * radius, lift + 0.03), (1.05 * radius, low)]
    inner = [(0.9 * radius, low), (0.55 * radius, lift + 0.02)]
    assembly.add("engine", steel, lathe([*outer, *inner], 24, ring=True))
    if dice.chance(0.35):
        for share, z, material in ((1.0, 0.012, FIRE[0]), (0.55, 0.5 * low, FIRE[1])):
            belly = 0.45 * share * radius, z + 0.35 * (low - z)
            plume = [(0.0, z), belly, (0.86 * share * radius, low + 0.018 * share), (0.0, lift)]
            assembly.add("engine", material, lathe(plume, 20))
