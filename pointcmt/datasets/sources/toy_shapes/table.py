"""Tables: dining, coffee and side tables on legs, pedestals, trestles and slabs; desks."""

import numpy as np

from pointcmt.datasets.sources.toy_shapes import legs
from pointcmt.datasets.sources.toy_shapes.assembly import Assembly
from pointcmt.datasets.sources.toy_shapes.dice import Dice
from pointcmt.datasets.sources.toy_shapes.finishes import boards, metal, paint, printed, stone, wood
from pointcmt.datasets.sources.toy_shapes.loft import loft
from pointcmt.datasets.sources.toy_shapes.outlines import (
    Curve,
    circle,
    rounded,
    rounded_rectangle,
    spline,
    superellipse,
)
from pointcmt.datasets.sources.toy_shapes.palettes import Scheme, pick_scheme, rgb
from pointcmt.datasets.sources.toy_shapes.patterns import gingham, stripes, tartan
from pointcmt.datasets.sources.toy_shapes.solid import Solid, around, four, pair
from pointcmt.datasets.sources.toy_shapes.solids import (
    box,
    cylinder,
    ellipsoid,
    extrude,
    lathe,
    rod,
    tube,
)
from pointcmt.shapes import Material, Mesh

PARTS = ("top", "leg", "apron", "storage")

# Width, depth and height, from and to.
SIZES = (
    ((1.3, 1.9), (0.75, 0.95), (0.72, 0.76)),  # dining
    ((0.9, 1.3), (0.5, 0.7), (0.34, 0.44)),  # coffee
    ((0.4, 0.55), (0.4, 0.5), (0.42, 0.6)),  # side: as large as a stool
    ((0.9, 1.3), (0.3, 0.42), (0.74, 0.86)),  # console
)
SUNK = 0.008  # how deep legs reach into a top


def build(dice: Dice) -> Mesh:
    """One table; metres, more or less."""
    plans = (four_legged, pedestal_table, trestle_table, slab_table, drum, desk, draped_table)
    plan = dice.pick(plans, (0.44, 0.2, 0.12, 0.05, 0.04, 0.1, 0.05))
    assembly = Assembly(PARTS)
    plan(dice, assembly, pick_scheme(dice), dice.chance(0.5))
    return assembly.mesh()


def _surface(dice: Dice, scheme: Scheme, patterned: bool) -> Material:
    if patterned:
        return stone(dice, scheme) if dice.chance(0.25) else boards(dice)
    glass = paint(rgb("b9d3cf"), "glass")
    painted = paint(dice.pick((scheme.main, scheme.light)))
    return dice.pick((wood(dice, False), painted, glass), (2, 2, 1))


def _frame(dice: Dice, scheme: Scheme, patterned: bool) -> Material:
    painted = paint(dice.pick((scheme.main, scheme.dark)))
    return dice.pick((wood(dice, patterned), painted, metal(dice)), (1, 2, 1))


def _outline(kind: str, width: float, depth: float) -> Curve:
    """A table top seen from above."""
    w, d = width / 2, depth / 2
    if kind == "square":
        return rounded_rectangle(width, depth, 0.02, 2)
    if kind == "soft":
        return rounded_rectangle(width, depth, 0.3 * depth, 5)
    if kind == "boat":
        right = [(w, -0.8 * d), (w, 0.8 * d)]
        return rounded([(0, -d), *right, (0, d), (-w, 0.8 * d), (-w, -0.8 * d)], w)
    return superellipse(w, d, 2.0 if kind == "oval" else 3.5, 36)


def _add_top(
    dice: Dice, assembly: Assembly, material: Material, outline: Curve, height: float
) -> float:
    """Puts the top on at `height` and returns where its lower side is."""
    thickness = dice.pick((0.022, 0.035, 0.055))
    board = extrude(outline, thickness, dice.pick((0.006, 0.3 * thickness)))
    repeat = 0.7 if material.name in ("marble", "terrazzo") else 0.5
    assembly.add("top", material, board.project(repeat, "x").move(z=height - thickness))
    return height - thickness


def four_legged(dice: Dice, assembly: Assembly, scheme: Scheme, patterned: bool) -> None:
    """A top on four legs, with or without an apron, a shelf or drawers."""
    width, depth, height = (dice.between(*span) for span in dice.pick(SIZES))
    shape = dice.pick(("square", "soft", "squircle", "boat", "oval"))
    surface, outline = _surface(dice, scheme, patterned), _outline(shape, width, depth)
    low, frame = _add_top(dice, assembly, surface, outline, height), _frame(dice, scheme, patterned)
    kind = dice.pick(("round", "square", "block", "turned", "hairpin", "cabriole"))
    thickness = dice.between(0.045, 0.07) * min(1.0, 0.4 + height)
    out = dice.between(0.0, 0.14) * height if kind in ("round", "square", "hairpin") else 0.0
    splay = (0.05, 0.05) if kind == "cabriole" else (out, 0.7 * out)
    inset = 0.8 if shape == "oval" else 1.0  # its corners are further in
    x, y = 0.37 * inset * width - 0.4 * out, 0.34 * inset * depth - 0.3 * out
    assembly.add("leg", frame, four(legs.leg(kind, low + SUNK, thickness, splay).move(x, y)))
    if kind == "hairpin":
        return
    if dice.chance(0.6):
        _apron(dice, assembly, frame, (x, y, low), 0.35 * thickness)
        if dice.chance(0.4):
            _drawers(dice, assembly, paint(scheme.accent), (1.5 * x, -y, low))
    if kind != "cabriole" and dice.chance(0.4):
        share = dice.between(0.2, 0.4)
        reach_x, reach_y = legs.along((x, y), splay, share)
        shelf = box(2 * reach_x + 0.02, 2 * reach_y + 0.02, 0.02, 0.005).project(0.5, "x")
        color = dice.pick((frame, paint(scheme.accent)))
        assembly.add("storage", color, shelf.move(z=share * low))


def _apron(
    dice: Dice,
    assembly: Assembly,
    material: Material,
    corner: tuple[float, float, float],
    thickness: float,
) -> None:
    """Boards between the legs, just under the top."""
    x, y, low = corner
    drop = dice.between(0.06, 0.1) * min(1.0, 0.3 + low)
    side = box(2 * x, thickness, drop + 0.5 * SUNK).project(0.5, "x").move(y=y, z=low - drop)
    end = box(thickness, 2 * y, drop + 0.4 * SUNK).project(0.5, "y").move(x=x, z=low - drop + 0.001)
    assembly.add("apron", material, side, side.mirror("y"), pair(end))


def _drawers(
    dice: Dice, assembly: Assembly, front: Material, place: tuple[float, float, float]
) -> None:
    """One to three drawers side by side, `place`: their width, the plane of the front, the top."""
    width, y, low = place
    count, tall, brass = dice.whole(1, 3), 0.075 * min(1.0, 0.35 + low), metal(dice)
    each = width / count
    board = box(each - 0.02, 0.06, tall, 0.006).project(0.5, "x")
    knob = ellipsoid(0.014, 0.016, 0.014, 8, 6)
    for i in range(count):
        x = (i + 0.5) * each - width / 2
        assembly.add("storage", front, board.move(x, y, low - tall - 0.006))
        assembly.add("storage", brass, knob.move(x, y - 0.04, low - 0.5 * tall))


def pedestal_table(dice: Dice, assembly: Assembly, scheme: Scheme, patterned: bool) -> None:
    """A top on one foot: bistro tables, tulip tables, turned columns with claws."""
    small = dice.chance(0.4)
    height = dice.between(0.45, 0.58) if small else dice.pick((0.72, 0.74, 1.02))
    radius = dice.between(0.2, 0.3) if small else dice.between(0.34, 0.62)
    outlines = {
        "round": circle(radius, 36),
        "oval": superellipse(1.25 * radius, 0.85 * radius, 2.0, 36),
        "octagon": rounded(circle(radius, 8), 0.02, 1),
        "square": rounded_rectangle(1.7 * radius, 1.7 * radius, 0.06),
    }
    outline = outlines[dice.pick(("round", "round", "oval", "octagon", "square"))]
    low = _add_top(dice, assembly, _surface(dice, scheme, patterned), outline, height)
    frame, foot, neck = _frame(dice, scheme, False), 0.62 * radius, 0.035 + 0.04 * radius
    kind = dice.pick(("tulip", "disc", "star", "claws", "tripod"))
    if kind == "tulip":
        assembly.add("leg", frame, legs.tulip(low + SUNK, foot, neck))
    elif kind == "disc":
        assembly.add("leg", frame, legs.disc_base(low + SUNK, foot, 0.7 * neck))
    elif kind == "star":
        assembly.add("leg", frame, legs.star_base(low + SUNK, 1.1 * foot, 0.7 * neck, 4, False))
    elif kind == "claws":
        base = 0.2 * low
        assembly.add("leg", frame, legs.claws(1.5 * base, 1.1 * foot, 0.035, dice.whole(3, 4)))
        column = [(r * neck, base + z * (low + SUNK - base)) for r, z in legs.TURNED]
        assembly.add("leg", frame, lathe(column, 16))
    else:
        splayed = legs.tripod(low + SUNK, 0.85 * radius, 0.05, dice.whole(3, 4))
        assembly.add("leg", frame, splayed)
    if dice.chance(0.4):
        collar = cylinder((0.3 if kind == "tripod" else 0.5) * radius, 0.026, 24)
        assembly.add("apron", frame, collar.move(z=low - 0.022))


def trestle_table(dice: Dice, assembly: Assembly, scheme: Scheme, patterned: bool) -> None:
    """A long top on two trestles, A- or X-shaped, joined by a beam."""
    width, depth, height = dice.between(1.2, 1.9), dice.between(0.65, 0.9), dice.between(0.7, 0.76)
    outline = rounded_rectangle(width, depth, dice.pick((0.012, 0.06)), 2)
    low = _add_top(dice, assembly, _surface(dice, scheme, patterned), outline, height)
    frame, crossed = _frame(dice, scheme, patterned), dice.chance(0.5)
    x, y, t = 0.34 * width, 0.36 * depth, dice.between(0.05, 0.08)
    section = 0.5 * t * np.array([(-1, -0.7), (1, -0.7), (1, 0.7), (-1, 0.7)])
    line = [(x, y, -0.1), (x, -0.9 * y if crossed else 0.35 * y, low + 0.1)]
    post = _cut_level(tube(line, 1.0, section=section).tile(1, 2), low + SUNK)
    other = post.mirror("y").move(x=0.4 * t if crossed else 0.0)
    assembly.add("leg", frame, pair(post), pair(other))
    beam = box(2 * x + 0.5 * t, 0.5 * t, 1.2 * t, 0.006).project(0.5, "x")
    rise = (0.48 if crossed else dice.between(0.25, 0.4)) * low
    assembly.add("apron", frame, beam.move(z=rise))
    if not crossed:
        tie = box(t, 1.7 * y, 0.6 * t).project(0.5, "y").move(x=x, z=rise + 0.3 * t)
        assembly.add("leg", frame, pair(tie))
    if dice.chance(0.35):
        shelf = box(2 * x, 0.5 * depth, 0.022, 0.005).project(0.5, "x")
        color = dice.pick((frame, paint(scheme.accent)))
        assembly.add("storage", color, shelf.move(z=0.21 * low))


def _cut_level(solid: Solid, high: float) -> Solid:
    """Slanted ends below the floor and above `high` cut level."""
    return solid.warp(lambda v: np.clip(v, (-np.inf, -np.inf, 0.0), (np.inf, np.inf, high)))


def slab_table(dice: Dice, assembly: Assembly, scheme: Scheme, patterned: bool) -> None:
    """A low board that folds down at both ends, mostly with a shelf."""
    width, depth, height = dice.between(0.6, 1.2), dice.between(0.4, 0.6), dice.between(0.34, 0.6)
    t, material = dice.between(0.025, 0.05), _surface(dice, scheme, patterned)
    board = extrude(rounded_rectangle(width, depth, 0.02, 2), t, 0.006).project(0.5, "x")
    assembly.add("top", material, board.move(z=height - t))
    side = box(0.8 * t, depth - 0.02, height - 0.4 * t, 0.004).project(0.5, "z")
    flank = dice.pick((material, paint(scheme.accent)))
    assembly.add("leg", flank, pair(side.move(x=width / 2 - 0.7 * t)))
    if dice.chance(0.7):
        shelf = box(width - 2 * t, depth - 0.06, 0.6 * t).project(0.5, "x")
        assembly.add("storage", material, shelf.move(z=dice.between(0.2, 0.5) * height))


def drum(dice: Dice, assembly: Assembly, scheme: Scheme, patterned: bool) -> None:
    """A round side table on a cage of bars or a waisted drum."""
    radius, height = dice.between(0.2, 0.3), dice.between(0.36, 0.5)
    surface = _surface(dice, scheme, patterned)
    low = _add_top(dice, assembly, surface, circle(radius, 36), height)
    frame = _frame(dice, scheme, False)
    if dice.chance(0.5):
        bar = rod((0.86 * radius, 0, 0.03), (0.86 * radius, 0, low + SUNK), 0.009)
        assembly.add("leg", frame, around(bar, dice.whole(10, 18)))
        assembly.add("storage", frame, cylinder(0.93 * radius, 0.035, 28))
    else:
        waist = dice.between(0.4, 0.95)
        half = spline([(0.8, 0), (0.9 * waist, 0.3), (0.85 * waist, 0.6), (0.82, 1)], per=5)
        assembly.add("leg", frame, lathe(half * (radius, low + SUNK)))


def desk(dice: Dice, assembly: Assembly, scheme: Scheme, patterned: bool) -> None:
    """A writing desk with drawers on one side or both, often closed at the back."""
    width, depth, height = dice.between(1.1, 1.5), dice.between(0.5, 0.65), dice.between(0.72, 0.76)
    timber, outline = _surface(dice, scheme, patterned), rounded_rectangle(width, depth, 0.03, 2)
    low = _add_top(dice, assembly, timber, outline, height)
    x, y, frame = 0.44 * width, 0.4 * depth, _frame(dice, scheme, False)
    kind = dice.pick(("round", "square", "block"))
    one = legs.leg(kind, low + SUNK, 0.05, (0.03, 0.02)).move(x - 0.03, y - 0.02)
    assembly.add("leg", frame, four(one))
    front = paint(dice.pick((scheme.main, scheme.accent, scheme.light)))
    for side in dice.pick(((1,), (-1,), (1, -1))):
        at = side * (x - 0.15 * width - 0.03), y, low
        _pedestal(dice, assembly, timber, front, at, 0.3 * width)
    if dice.chance(0.5):
        back = box(2 * x - 0.04, 0.015, dice.between(0.15, 0.35)).project(0.5, "x")
        assembly.add("apron", timber, back.move(y=y - 0.03, z=low + 0.5 * SUNK - back.top))


def _pedestal(
    dice: Dice,
    assembly: Assembly,
    timber: Material,
    front: Material,
    place: tuple[float, float, float],
    width: float,
) -> None:
    """Two or three drawers under a desk top; `place`: x, half the depth, the top's lower side."""
    x, y, low = place
    tall, count = dice.pick(((0.24, 2), (0.5, 3)))
    case = box(width, 1.7 * y, tall).project(0.5, "x")
    assembly.add("storage", timber, case.move(x, 0, low + 0.75 * SUNK - tall))
    step = (tall - 0.03) / count
    panel = box(width - 0.03, 0.03, step - 0.016, 0.005)
    for i in range(count):
        z = low - (i + 1) * step - 0.008
        assembly.add("storage", front, panel.move(x, -0.85 * y - 0.005, z))
        grip = box(0.08, 0.02, 0.012).move(x, -0.85 * y - 0.027, z + 0.5 * step)
        assembly.add("storage", metal(dice, "brass"), grip)


def draped_table(dice: Dice, assembly: Assembly, scheme: Scheme, patterned: bool) -> None:
    """A round table under a cloth that falls in folds."""
    radius, height, hem = dice.between(0.4, 0.55), dice.between(0.7, 0.76), dice.between(0.2, 0.55)
    prints = (
        gingham(scheme.light, scheme.main),
        stripes(scheme.light, (scheme.main, scheme.accent), 4),
        tartan(scheme.main, scheme.dark, scheme.light),
    )
    cloth = printed(dice.pick(prints), "cloth") if patterned else paint(scheme.light, "linen")
    folds, angle = dice.whole(6, 9), 2 * np.pi * np.arange(54) / 54
    below = [(0.0, 0.0, -0.012), (0.985, 0.0, -0.012), (1.0, 1.0, -hem), (1.02, 1.0, -hem)]
    above = [(1.02, 0.45, -0.5 * hem), (1.012, 0.06, -0.025), (0.995, 0.0, 0.0), (0.0, 0.0, 0.0)]
    levels = np.array([*below, *above])  # radius, depth of the folds, z
    reach = radius * (levels[:, :1] + levels[:, 1:2] * (0.09 + 0.07 * np.cos(folds * angle)))
    z = np.broadcast_to(height + levels[:, 2:], reach.shape)
    rings = np.stack([reach * np.cos(angle), reach * np.sin(angle), z], axis=-1)
    assembly.add("top", cloth, loft(rings).project(0.4))
    frame, top = wood(dice, False), height - 0.006
    if dice.chance(0.5):
        one = legs.leg("turned", top, 0.06).move(0.55 * radius, 0.55 * radius)
        assembly.add("leg", frame, four(one))
    else:
        assembly.add("leg", frame, legs.tulip(top, 0.6 * radius, 0.05))
