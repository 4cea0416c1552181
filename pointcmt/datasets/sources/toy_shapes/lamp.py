"""Lamps: table and floor lamps, tripods, arcs, desk lamps, mushrooms, globes and lava lamps."""

import itertools
import math

from pointcmt.datasets.sources.toy_shapes import legs
from pointcmt.datasets.sources.toy_shapes.assembly import Assembly
from pointcmt.datasets.sources.toy_shapes.canvas import cloud, edge, layers
from pointcmt.datasets.sources.toy_shapes.dice import Dice
from pointcmt.datasets.sources.toy_shapes.finishes import (
    ceramic,
    metal,
    paint,
    printed,
    stone,
    wood,
)
from pointcmt.datasets.sources.toy_shapes.lamp_shades import (
    LIT,
    add_dome,
    add_reflector,
    add_shade,
)
from pointcmt.datasets.sources.toy_shapes.outlines import spline
from pointcmt.datasets.sources.toy_shapes.palettes import GLOW, Scheme, mix, pick_scheme
from pointcmt.datasets.sources.toy_shapes.patterns import stripes
from pointcmt.datasets.sources.toy_shapes.solids import (
    box,
    cylinder,
    ellipsoid,
    frustum,
    lathe,
    rod,
    soft_box,
    torus,
    tube,
)
from pointcmt.shapes import Material, Mesh

PARTS = ("base", "pole", "shade", "bulb")

# Silhouettes of ceramic bases, (radius, height) of 1.
VASES = (
    ((0.55, 0), (0.85, 0.1), (1.0, 0.35), (0.8, 0.65), (0.35, 0.88), (0.3, 1)),  # jar
    ((0.6, 0), (0.95, 0.15), (0.85, 0.4), (0.42, 0.58), (0.6, 0.78), (0.3, 1)),  # gourd
    ((0.75, 0), (0.72, 0.05), (0.9, 0.5), (1.0, 0.85), (0.7, 0.97), (0.25, 1)),  # shoulder
    ((0.4, 0), (0.8, 0.18), (1.0, 0.5), (0.8, 0.82), (0.4, 0.97), (0.25, 1)),  # ball
    ((1.0, 0), (0.9, 0.06), (0.5, 0.35), (0.35, 0.65), (0.32, 0.9), (0.25, 1)),  # cone
)


def build(dice: Dice) -> Mesh:
    """One lamp; metres, more or less."""
    plans = (table_lamp, floor_lamp, arc_lamp, desk_lamp, mushroom, globe_lamp, lava_lamp)
    plan = dice.pick(plans, (0.32, 0.22, 0.08, 0.14, 0.1, 0.09, 0.05))
    sideways = plan in (arc_lamp, desk_lamp)
    heading = dice.pick((0.0, 180.0, -90.0)) if sideways else 0.0  # right, left, to the front
    assembly = Assembly(PARTS, place=lambda solid: solid.turn("z", heading))
    plan(dice, assembly, pick_scheme(dice), dice.chance(0.5))
    return assembly.mesh()


def table_lamp(dice: Dice, assembly: Assembly, scheme: Scheme, patterned: bool) -> None:
    """A vase, turned column, block or stack of balls under a shade."""
    height, radius = dice.between(0.3, 0.5), dice.between(0.12, 0.19)
    kind = dice.pick(("vase", "vase", "turned", "balls", "block", "disc"))
    if kind == "vase":
        profile = spline(dice.pick(VASES), per=4) * (radius, height)
        foot, neck = (0.9 * float(profile[0, 0]), -0.012), (0.0, height)
        vase = lathe([foot, *profile, neck]).tile(2, 1).move(z=0.012)
        assembly.add("base", ceramic(dice, scheme, patterned), vase)
    elif kind == "turned":
        column = [(0.4 * radius * r, 0.01 + (height - 0.01) * z) for r, z in legs.TURNED]
        plate = cylinder(0.75 * radius, 0.04, 24, 0.01)
        assembly.add("base", wood(dice, patterned), lathe(column, 20), plate)
    elif kind == "balls":
        _balls(dice, assembly, scheme, height)
    elif kind == "block":
        block = box(1.3 * radius, 1.3 * radius, height, 0.012).project(0.3)
        assembly.add("base", ceramic(dice, scheme, patterned), block)
    else:
        assembly.add("base", metal(dice), legs.disc_base(height, radius, 0.018))
    post = cylinder(0.014, 0.1, 10).move(z=height - 0.02)
    assembly.add("pole", metal(dice, "brass", "black steel", "chrome"), post)
    wide, rim = dice.between(1.15, 1.7) * max(radius, 0.13), height + dice.between(0.01, 0.05)
    add_shade(dice, assembly, scheme, patterned, wide, rim)


def _balls(dice: Dice, assembly: Assembly, scheme: Scheme, height: float) -> None:
    """Two to four balls on top of each other, each in its colour."""
    count = dice.whole(2, 4)
    size = height / (2 * count - 0.3)
    ball = ellipsoid(1.05 * size, 1.05 * size, 1.05 * size, 18, 10)
    colors = scheme.main, scheme.accent, scheme.dark, scheme.light
    for i, color in enumerate(colors[:count]):
        assembly.add("base", paint(color, "ball"), ball.move(z=(2 * i + 0.95) * size))
    assembly.add("base", paint(scheme.dark), cylinder(0.9 * size, 0.1 * size, 20))


def floor_lamp(dice: Dice, assembly: Assembly, scheme: Scheme, patterned: bool) -> None:
    """A tall pole or a tripod under a shade, with or without a little table."""
    height, radius = dice.between(1.0, 1.35), dice.between(0.2, 0.28)
    frame = dice.pick((metal(dice), wood(dice, patterned), paint(scheme.main)))
    if dice.chance(0.4):
        assembly.add("base", frame, legs.tripod(height, dice.between(0.28, 0.4), 0.036))
        assembly.add("base", frame, cylinder(0.045, 0.05, 16).move(z=height - 0.03))
        if dice.chance(0.4):
            table = cylinder(0.15, 0.02, 24).move(z=0.45 * height)
            assembly.add("base", paint(scheme.accent), table)
    else:
        assembly.add("base", frame, cylinder(dice.between(0.13, 0.18), 0.03, 28, 0.008))
        assembly.add("pole", frame, cylinder(0.016, height, 10).move(z=0.01))
        if dice.chance(0.3):
            table = cylinder(0.2, 0.02, 28, 0.006).project(0.3).move(z=0.42 * height)
            assembly.add("base", wood(dice, patterned), table)
    add_shade(dice, assembly, scheme, patterned, radius, height + 0.01)


def arc_lamp(dice: Dice, assembly: Assembly, scheme: Scheme, patterned: bool) -> None:
    """A bow from a heavy foot to a dome that hangs far to the right of it."""
    height, reach = dice.between(1.0, 1.35), dice.between(0.55, 0.9)
    foot = dice.pick((cylinder(0.17, 0.06, 28, 0.01), box(0.3, 0.3, 0.07, 0.012)))
    block = stone(dice, scheme) if patterned else paint(scheme.dark, "stone")
    assembly.add("base", block, foot.project(0.3).move(x=-reach / 2))
    line = [(-0.5, 0.03), (-0.5, 0.5), (-0.38, 0.86), (-0.02, 1.0), (0.36, 0.9), (0.5, 0.68)]
    bow = spline([(x * reach, 0.0, z * height) for x, z in line], per=5)
    assembly.add("pole", metal(dice, "chrome", "brass", "black steel"), tube(bow, 0.015, 8))
    r = dice.between(0.17, 0.26)
    add_dome(dice, assembly, scheme, patterned, r, (reach / 2, 0.0, 0.68 * height - r + 0.02))


def desk_lamp(dice: Dice, assembly: Assembly, scheme: Scheme, patterned: bool) -> None:
    """Two arms with joints and a tilted reflector, leaning to the right."""
    body, steel = paint(scheme.main), metal(dice, "chrome", "black steel", "brass")
    foot = dice.pick((cylinder(0.13, 0.035, 28, 0.01), soft_box(0.2, 0.2, 0.05, 0.02)))
    assembly.add("base", wood(dice, True) if patterned else body, foot.project(0.25))
    lean, fold = math.radians(dice.between(5, 40)), math.radians(dice.between(35, 75))
    lower, upper = dice.between(0.26, 0.36), dice.between(0.24, 0.34)
    elbow = -lower * math.sin(lean), 0.0, 0.04 + lower * math.cos(lean)
    head = elbow[0] + upper * math.sin(fold), 0.0, elbow[2] + upper * math.cos(fold)
    joints, double = ((0.0, 0.0, 0.04), elbow, head), dice.chance(0.5)
    for start, end in itertools.pairwise(joints):
        if double:
            bar = rod(start, end, 0.009)
            assembly.add("pole", steel, bar.move(y=0.02), bar.move(y=-0.02))
        else:
            assembly.add("pole", steel, rod(start, end, 0.013))
    pin, color = cylinder(0.022, 0.07, 12).turn("x", 90), dice.pick((body, paint(scheme.accent)))
    assembly.add("pole", color, [pin.move(x, 0.035, z) for x, _, z in joints])
    add_reflector(dice, assembly, scheme, body, head, dice.between(15, 60))


def mushroom(dice: Dice, assembly: Assembly, scheme: Scheme, patterned: bool) -> None:
    """A stem that flares out to a foot, under a smooth or spotted cap."""
    r, height = dice.between(0.2, 0.28), dice.between(0.26, 0.4)
    foot, neck = dice.between(0.45, 0.8) * r, dice.between(0.1, 0.3) * r
    stem = spline([(foot, 0), (0.7 * foot, 0.04), (neck, 0.4 * height), (neck, height)], per=4)
    color = dice.pick((scheme.light, scheme.main))
    assembly.add("base", paint(color, "enamel"), lathe(stem))
    rise, lip = dice.between(0.55, 1.0) * r, dice.between(0.0, 0.12) * r
    rim = [(0.97 * r, -lip), (r, 0.02 - lip), (0.93 * r, 0.36 * rise)]
    dome = [(0.7 * r, 0.72 * rise), (0.36 * r, 0.94 * rise), (0.0, rise)]
    cap = lathe([(0.0, -0.01), (0.8 * r, -0.01), *spline([*rim, *dome], per=3)], 32)
    material = paint(scheme.main, "enamel")
    if patterned:
        spots = edge(cloud(dice, 10, 12) - 0.68, 0.06)
        material = printed(layers(scheme.main, (scheme.light, spots)), "enamel")
    assembly.add("shade", material, cap.tile(2, 1).move(z=height))
    assembly.add("bulb", LIT, ellipsoid(0.3 * r, 0.3 * r, 0.1 * r, 16, 6).move(z=height - 0.02))


def globe_lamp(dice: Dice, assembly: Assembly, scheme: Scheme, patterned: bool) -> None:
    """A ribbed paper lantern on feet, or one to five glowing globes on stems."""
    brass = metal(dice, "brass", "black steel", "copper")
    if patterned:
        r = dice.between(0.2, 0.28)
        lantern = ellipsoid(r, r, r * dice.between(0.85, 1.3), 32, 18)
        paper, rib = mix(GLOW, scheme.light, 0.5), mix(GLOW, scheme.main, 0.4)
        ribs, lift = stripes(paper, (rib,), 16, upright=False), 0.14 + lantern.top
        assembly.add("shade", printed(ribs, "paper"), lantern.move(z=lift))
        assembly.add("base", brass, legs.tripod(0.3, 0.8 * r, 0.02))
        assembly.add("pole", brass, torus(0.3 * r, 0.01, 20, 8).move(z=lift + 0.94 * lantern.top))
        return
    assembly.add("base", paint(scheme.main), cylinder(0.13, 0.03, 28, 0.008))
    count, height, size = (
        dice.pick((1, 1, 2, 3, 5)),
        dice.between(0.45, 1.0),
        dice.between(0.1, 0.15),
    )
    globe = ellipsoid(size, size, size, 22, 12).move(z=0.9 * size)
    collar = frustum(0.2 * size, 0.5 * size, 0.3 * size, 14).move(z=-0.12 * size)
    for i in range(count):
        turn, spread = math.radians(360 * i / count - 60), 0.0 if count == 1 else 0.2
        x, y, z = spread * math.cos(turn), spread * math.sin(turn), height * (1 - 0.13 * i)
        stem = spline([(0.08 * x, 0.08 * y, 0.01), (0.15 * x, 0.15 * y, 0.5 * z), (x, y, z)], 6)
        assembly.add("pole", brass, tube(stem, 0.01, 8), collar.move(x, y, z))
        opal = Material("opal", mix(GLOW, scheme.light, 0.4))
        assembly.add("shade", opal, globe.move(x, y, z))


def lava_lamp(dice: Dice, assembly: Assembly, scheme: Scheme, patterned: bool) -> None:
    """A rocket of a lamp: a cone, a glass with rising blobs, a cap."""
    steel, r = metal(dice, "chrome", "brass", "copper"), dice.between(0.1, 0.13)
    low, tall = dice.between(0.14, 0.2), dice.between(0.3, 0.42)
    assembly.add("base", steel, lathe([(r, 0), (0.55 * r, 0.55 * low), (0.85 * r, low)]))
    liquid = mix(scheme.main, scheme.dark, 0.25)
    glass = Material("lava", liquid)
    if patterned:
        blobs = edge(cloud(dice, 5, 4) - 0.62, 0.05)
        glass = printed(layers(liquid, (scheme.accent, blobs)), "lava")
    body = lathe(spline([(0.84 * r, 0), (0.92 * r, 0.25 * tall), (0.45 * r, tall)], per=4))
    assembly.add("shade", glass, body.move(z=low - 0.004))
    cap = frustum(0.47 * r, 0.3 * r, 0.08, 24, 0.008)
    assembly.add("pole", steel, cap.move(z=low + tall - 0.014))
