"""Mugs: cups of many profiles, with ears, loops or none, drinks and saucers."""

import numpy as np

from pointcmt.datasets.sources.toy_shapes.assembly import Assembly
from pointcmt.datasets.sources.toy_shapes.canvas import Texture, edge, grid, layers
from pointcmt.datasets.sources.toy_shapes.dice import Dice
from pointcmt.datasets.sources.toy_shapes.finishes import ceramic, paint, printed
from pointcmt.datasets.sources.toy_shapes.outlines import Curve, rounded, spline, superellipse
from pointcmt.datasets.sources.toy_shapes.palettes import Color, Scheme, mix, pick_scheme, rgb
from pointcmt.datasets.sources.toy_shapes.solid import Solid
from pointcmt.datasets.sources.toy_shapes.solids import cylinder, lathe, soft_box, torus, tube
from pointcmt.shapes import Material, Mesh

PARTS = ("body", "handle", "drink", "saucer")
RADIUS = 0.5  # of every cup: cups differ in height
SMOOTH = 32  # segments around; fewer are facets

# Outsides of cups, (radius, height) of 1, from the foot to the rim.
CUPS = {
    "straight": ((0.94, 0), (1.0, 0.06), (1.0, 0.5), (1.0, 1)),
    "tapered": ((0.7, 0), (0.76, 0.05), (0.88, 0.5), (1.0, 1)),
    "belly": ((0.62, 0), (0.88, 0.14), (1.0, 0.42), (0.93, 0.75), (0.88, 1)),
    "tulip": ((0.5, 0), (0.82, 0.14), (0.88, 0.4), (0.84, 0.68), (1.0, 1)),
    "bowl": ((0.42, 0), (0.5, 0.06), (0.86, 0.4), (0.97, 0.75), (1.0, 1)),
    "barrel": ((0.86, 0), (0.96, 0.25), (1.0, 0.5), (0.96, 0.75), (0.86, 1)),
    "waist": ((0.95, 0), (0.98, 0.06), (0.82, 0.5), (0.9, 0.8), (1.0, 1)),
    "footed": ((0.6, 0), (0.58, 0.08), (0.42, 0.13), (0.8, 0.34), (0.98, 0.7), (1.0, 1)),
}
FOOT = 0.2  # what the hollow of a footed cup leaves out of its height
HEIGHTS = (1.1, 1.5), (1.7, 2.3), (1.7, 2.3), (2.3, 3.0)  # in radii, from and to

COFFEE, CREMA, MILK = rgb("4b2b1a"), rgb("b98552"), rgb("f3e6cf")
DRINKS: dict[str, Color] = {
    "coffee": COFFEE,
    "latte": CREMA,
    "tea": rgb("a9622f"),
    "matcha": rgb("a3b763"),
    "cocoa": rgb("6f4530"),
}


def build(dice: Dice) -> Mesh:
    """One mug, its rim 1 across, its handle to the right."""
    assembly = Assembly(PARTS)
    scheme, patterned = pick_scheme(dice), dice.chance(0.5)
    kind, facets = dice.pick(tuple(CUPS)), dice.pick((SMOOTH, SMOOTH, SMOOTH, SMOOTH, 8, 10, 12))
    low = kind in ("bowl", "footed")
    height = RADIUS * dice.between(*((1.2, 1.8) if low else dice.pick(HEIGHTS)))
    points, wall = np.array(CUPS[kind]) * (RADIUS, height), dice.between(0.04, 0.075)
    if facets < SMOOTH or kind in ("straight", "tapered"):
        outside = rounded(points, 0.06 * height, 3, closed=False)
    else:
        outside = spline(points, per=4)
    if dice.chance(0.22):
        _saucer(dice, assembly, scheme)
    finish = ceramic(dice, scheme, patterned)
    hollow = _hollow(outside, wall, FOOT * height if kind == "footed" else 1.3 * wall)
    body, liner = _cup(outside, hollow, wall, facets)
    assembly.add("body", finish, body.tile(2, 1).upright_v(0.0, height))
    inside = dice.pick((scheme.light, scheme.accent, mix(scheme.main, scheme.light, 0.5)))
    assembly.add("body", paint(inside, "liner"), liner)
    if dice.chance(0.2):
        rim = torus(float(outside[-1, 0]) - wall / 2, 0.56 * wall, facets, 8).move(z=height)
        assembly.add("body", paint(dice.pick((scheme.dark, scheme.accent)), "rim"), rim)
    if dice.chance(0.7):
        _drink(dice, assembly, hollow, wall, facets)
    plain = paint(scheme.main, "glaze") if patterned else finish
    grip = dice.pick((plain, paint(scheme.accent, "glaze")))
    handle = _handle(dice, outside, wall)
    count = dice.pick((0, 1, 2), (0.1, 0.82, 0.08))
    assembly.add("handle", grip, [handle, handle.mirror("x")][:count])
    return assembly.mesh()


def _cup(outside: Curve, hollow: Curve, wall: float, facets: int) -> tuple[Solid, Solid]:
    """The cup, closed over its wall and floor, and the glaze that lines it, up to near the rim."""
    rim, height = outside[-1].tolist()
    lip = [(rim - 0.25 * wall, height + 0.25 * wall), (rim - 0.75 * wall, height + 0.25 * wall)]
    floor = (0.0, float(hollow[0, 1]))
    cup = lathe([*outside, *lip, *hollow[::-1], floor], facets)
    behind = hollow + np.array([0.006, -0.006])
    before = hollow + np.array([-0.008, 0.008])
    behind[-1, 1] = before[-1, 1] = 0.96 * height
    ends = (0.0, float(behind[0, 1])), (0.0, float(before[0, 1]))
    return cup, lathe([ends[0], *behind, *before[::-1], ends[1]], facets)


def _hollow(outside: Curve, wall: float, floor: float) -> Curve:
    """The inside of the wall, from z = `floor` up to the rim."""
    z = np.linspace(floor, float(outside[-1, 1]), 9)
    radius = np.interp(z, outside[:, 1], outside[:, 0]) - wall
    radius[0] = min(radius[0], radius[1]) - 0.3 * wall
    return np.stack([np.maximum(radius, 0.1), z], axis=1)


def _handle(dice: Dice, outside: Curve, wall: float) -> Solid:
    """A handle in the plane y = 0 on the side of +x, its ends inside the wall."""
    height, reach = float(outside[-1, 1]), dice.between(0.26, 0.42)
    low, high = dice.between(0.12, 0.3) * height, dice.between(0.72, 0.88) * height
    start, middle, end = (
        float(np.interp(z, outside[:, 1], outside[:, 0])) - 0.5 * wall
        for z in (low, (low + high) / 2, high)
    )
    line = _handle_line(dice, (start, low), (end, high), middle, reach)
    path = np.stack([line[:, 0], np.zeros(len(line)), line[:, 1]], axis=1)
    broad, thick = dice.between(1.0, 1.5), dice.between(0.055, 0.08)
    return tube(path, thick, section=superellipse(broad, 0.72, 2.4, 10))


def _handle_line(
    dice: Dice,
    start: tuple[float, float],
    end: tuple[float, float],
    middle: float,
    reach: float,
) -> Curve:
    """A curve (x, z) from one end to the other; `middle` is the wall's x between them."""
    low, high = start[1], end[1]
    side, tall = max(start[0], end[0]) + reach, high - low
    kind = dice.pick(("ear", "bow", "square", "drop", "ring"))
    if kind == "ear":
        out = (side - 0.08, low + 0.2 * tall), (side, high - 0.2 * tall)
        over = end[0] + 0.4 * reach, high + 0.03
        return spline([start, *out, over, (end[0], high - 0.02)], per=5)
    if kind == "bow":
        return spline([start, (side - 0.06, low + 0.04), (side - 0.06, high - 0.04), end], per=6)
    if kind == "square":
        return rounded([start, (side, low), (side, high), end], 0.16, 4, closed=False)
    if kind == "drop":
        return rounded([start, (side, high), end], 0.3, 6, closed=False)
    size, angle = min(0.4 * tall, reach), np.radians(np.linspace(-150, 150, 18))
    center = middle + 0.03 + 0.75 * size, (low + high) / 2
    return size * np.stack([np.cos(angle), np.sin(angle)], axis=1) + center


def _drink(dice: Dice, assembly: Assembly, hollow: Curve, wall: float, facets: int) -> None:
    """Coffee, tea, matcha or cocoa up to below the rim."""
    z = dice.between(0.76, 0.9) * float(hollow[-1, 1])
    radius = float(np.interp(z, hollow[:, 1], hollow[:, 0]))
    kind = dice.pick(tuple(DRINKS))
    surface = Material(kind, DRINKS[kind])
    if kind == "latte" or (kind == "matcha" and dice.chance(0.6)):
        surface = printed(_latte_art(dice, DRINKS[kind]), kind)
    disc = cylinder(radius + 0.3 * wall, 0.03, facets)
    assembly.add("drink", surface, disc.move(z=z - 0.03))
    if kind == "cocoa":
        cube = soft_box(0.13, 0.13, 0.12, 0.04)
        for i in range(dice.whole(2, 5)):
            far, spin = dice.between(0.1, 0.55) * radius, dice.between(0, 360)
            floating = cube.turn("z", spin).move(x=far, z=z - 0.06 - 0.004 * i)
            around = floating.turn("z", dice.between(0, 360))
            assembly.add("drink", Material("marshmallow", MILK), around)


def _latte_art(dice: Dice, ground: Color) -> Texture:
    """A heart, a rosette or rings of milk foam, the drink darker at its rim."""
    u, v = grid()
    x, y = 2 * u - 1, 2 * v - 1
    far = np.sqrt(x**2 + y**2)
    kind = dice.pick(("heart", "rosette", "rings"))
    if kind == "heart":
        side = np.abs(x) / 0.6
        foam = 1 - np.sqrt(side**2 + ((y - 0.05) / 0.55 - 0.7 * np.sqrt(side)) ** 2)
    elif kind == "rosette":
        leaf = 0.62 - np.sqrt((1.6 * x) ** 2 + y**2)
        foam = np.minimum(leaf, 0.35 * np.sin(16 * (y - 0.9 * np.abs(x))) + 0.12)
    else:
        foam = np.minimum(0.6 - far, 0.3 * np.cos(22 * far))
    return layers(ground, (COFFEE, 0.6 * edge(far - 0.84, 0.25)), (MILK, edge(foam, 0.06)))


def _saucer(dice: Dice, assembly: Assembly, scheme: Scheme) -> None:
    """A dish the cup stands in, 0.045 above its foot."""
    r = dice.between(0.85, 1.0)
    under = [(0.45 * r, 0.0), (0.5 * r, 0.015), (0.78 * r, 0.045), (r + 0.01, 0.15)]
    above = [(r, 0.17), (0.75 * r, 0.085), (0.5 * r, 0.05), (0.0, 0.05)]
    color = dice.pick((scheme.main, scheme.accent, scheme.light))
    dish = lathe([(0.0, 0.0), *under, *above], 36)
    assembly.add("saucer", paint(color, "glaze"), dish.move(z=-0.045))
