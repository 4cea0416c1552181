"""Rockets: comic-book ones, moon rockets, staged launchers, ships with flaps, fireworks, probes."""

import numpy as np

from pointcmt.datasets.sources.toy_shapes.assembly import Assembly
from pointcmt.datasets.sources.toy_shapes.dice import Dice
from pointcmt.datasets.sources.toy_shapes.finishes import metal, paint, printed
from pointcmt.datasets.sources.toy_shapes.outlines import rounded, spline
from pointcmt.datasets.sources.toy_shapes.palettes import INK, WOODS, Scheme, pick_scheme
from pointcmt.datasets.sources.toy_shapes.rocket_parts import (
    PANE,
    Skin,
    bell,
    hull_finish,
    nozzle,
    paintwork,
    portholes,
    standing_fins,
    upright_plate,
)
from pointcmt.datasets.sources.toy_shapes.solid import Solid, around
from pointcmt.datasets.sources.toy_shapes.solids import (
    cylinder,
    ellipsoid,
    extrude,
    frustum,
    lathe,
    rod,
    tube,
)
from pointcmt.shapes import Material, Mesh

PARTS = ("body", "nose", "fin", "engine", "window")

# Silhouettes (radius, z) of comic-book rockets, from the nozzle up; tips at z = 1.
HULLS = {
    "cigar": ((0.1, 0), (0.15, 0.12), (0.19, 0.36), (0.17, 0.64), (0.09, 0.88), (0.0, 1.0)),
    "egg": ((0.14, 0), (0.25, 0.16), (0.31, 0.4), (0.26, 0.66), (0.13, 0.9), (0.0, 1.0)),
    "moon": ((0.08, 0), (0.12, 0.1), (0.2, 0.42), (0.18, 0.62), (0.08, 0.88), (0.0, 1.0)),
    "dart": ((0.12, 0), (0.15, 0.05), (0.14, 0.5), (0.1, 0.78), (0.04, 0.94), (0.0, 1.0)),
    "pear": ((0.2, 0), (0.27, 0.12), (0.27, 0.3), (0.18, 0.6), (0.1, 0.85), (0.0, 1.0)),
}


def build(dice: Dice) -> Mesh:
    """One rocket, upright, about 1.2 to 2 high."""
    plans = (comic_rocket, launcher, starship, firework, probe)
    plan = dice.pick(plans, (0.46, 0.24, 0.1, 0.1, 0.1))
    assembly = Assembly(PARTS)
    plan(dice, assembly, pick_scheme(dice), dice.chance(0.52))
    return assembly.mesh()


def comic_rocket(dice: Dice, assembly: Assembly, scheme: Scheme, patterned: bool) -> None:
    """A swelling hull with portholes on three to five fins."""
    shape, tall, lift = dice.pick(tuple(HULLS)), dice.between(1.1, 1.7), dice.between(0.16, 0.34)
    girth = dice.between(0.85, 1.15) * (1.25 if tall < 1.3 else 1.0)
    profile = spline(HULLS[shape], per=5) * (girth, tall) + (0.0, lift)
    skin, cut = Skin(profile), lift + tall * dice.between(0.66, 0.78)
    _hull_and_nose(dice, assembly, scheme, patterned, skin, cut)
    if dice.chance(0.45):
        tip = lift + tall
        mast = rod((0, 0, tip - 0.03), (0, 0, tip + 0.12), 0.012)
        assembly.add("nose", metal(dice, "chrome", "brass"), mast)
        ball = ellipsoid(0.03, 0.03, 0.03, 12, 8).move(z=tip + 0.13)
        assembly.add("nose", paint(scheme.accent), ball)
    portholes(dice, assembly, scheme, skin, lift + 0.3 * tall, cut - 0.14)
    color = paint(dice.pick((scheme.accent, scheme.main, scheme.dark)))
    standing_fins(dice, assembly, color, skin, lift, lift + dice.between(0.32, 0.46) * tall)
    nozzle(dice, assembly, float(profile[0, 0]), lift)


def _hull_and_nose(
    dice: Dice, assembly: Assembly, scheme: Scheme, patterned: bool, skin: Skin, cut: float
) -> None:
    """The hull up to z = `cut`, and the nose over it, a little wider."""
    z, low, r = skin.profile[:, 1], float(skin.profile[0, 1]), skin.radius(cut)
    lower = lathe([*skin.profile[z < cut - 0.01], (r, cut)], 32).tile(2, 1).upright_v(low, cut)
    assembly.add("body", hull_finish(dice, scheme, patterned), lower)
    rim = [(0.9 * r, cut - 0.012), (1.015 * r, cut - 0.006)]
    nose = lathe([*rim, *skin.profile[z > cut + 0.01] * (1.01, 1.0)], 32)
    material = paint(dice.pick((scheme.accent, scheme.main)))
    assembly.add("nose", material if dice.chance(0.8) else metal(dice, "chrome", "steel"), nose)


def launcher(dice: Dice, assembly: Assembly, scheme: Scheme, patterned: bool) -> None:
    """One to three stages on top of each other, boosters or fins at the sides, bells below."""
    r, base, tall = dice.between(0.13, 0.18), 0.13, dice.between(1.1, 1.5)
    finish = hull_finish(dice, scheme, patterned)
    second = paint(dice.pick((scheme.light, scheme.main)))
    z, radius = base, r
    for i in range(dice.whole(1, 3)):
        long = tall * (0.56, 0.3, 0.2)[i]
        stage = cylinder(radius, long, 32, 0.008).upright_v(0.0, long)
        assembly.add("body", finish if i == 0 or dice.chance(0.5) else second, stage.move(z=z))
        z, narrow = z + long - 0.012, radius * dice.pick((1.0, 0.82, 0.7))
        joint = frustum(1.012 * radius, 1.012 * narrow, 0.06, 32, 0.006)
        assembly.add("body", paint(scheme.dark), joint.move(z=z))
        z, radius = z + 0.05, narrow
    wide, blunt = radius * dice.pick((1.0, 1.0, 1.25)), dice.pick((0.55, 1.0, 1.0, 1.6))
    knots = [(0.9 * wide, 0.0), (wide, 0.12), (0.82 * wide, 0.26), (0.5 * wide, 0.4), (0.0, 0.55)]
    nose = lathe(spline(knots, per=4) * (1.0, blunt), 32)
    assembly.add("nose", paint(dice.pick((scheme.accent, scheme.main))), nose.move(z=z))
    if dice.chance(0.3):
        top = z + 0.5 * blunt
        assembly.add("nose", metal(dice, "steel"), rod((0, 0, top), (0, 0, top + 0.25), 0.014))
    _boosters(dice, assembly, scheme, r, base, tall)
    steel, one = metal(dice, "steel", "black steel", "copper"), bell(0.36 * r)
    several = around(one.move(x=0.54 * r), dice.pick((3, 4)), 45)
    assembly.add("engine", steel, dice.pick((several, [one.scale(1.9, 1.9, 1.0)])))
    if dice.chance(0.4):
        hatch = ellipsoid(0.045, 0.02, 0.06, 14, 8).move(y=-r)
        for level in np.linspace(base + 0.3 * tall, base + 0.5 * tall, dice.whole(1, 3)).tolist():
            assembly.add("window", PANE, hatch.move(z=level))


def _boosters(
    dice: Dice, assembly: Assembly, scheme: Scheme, r: float, base: float, tall: float
) -> None:
    """Two to four side rockets, small fins, or both."""
    count = dice.pick((2, 3, 4))
    with_boosters = dice.chance(0.6)
    if with_boosters:
        b, high = r * dice.between(0.45, 0.7), tall * dice.between(0.32, 0.52)
        x, color = r + 0.92 * b, paint(dice.pick((scheme.light, scheme.main, scheme.accent)))
        shell = cylinder(b, high, 18, 0.006).move(x, z=base)
        cone = spline([(1.02 * b, 0), (0.86 * b, 0.1), (0.4 * b, 0.22), (0, 0.3)], per=2)
        tip = lathe(cone, 18).move(x, z=base + high - 0.01)
        assembly.add("body", color, around(shell, count))
        assembly.add("nose", paint(scheme.accent), around(tip, count))
        assembly.add("engine", metal(dice, "steel"), around(bell(0.75 * b).move(x), count))
    if not with_boosters or dice.chance(0.5):
        outline = np.array([(0.9, 0.12), (1.9, 0.06), (1.9, 0.2), (0.9, 0.45)]) * (r, 1.0)
        color = paint(dice.pick((scheme.accent, scheme.dark)))
        assembly.add("fin", color, around(upright_plate(outline, 0.03), count, 180.0 / count))


def starship(dice: Dice, assembly: Assembly, scheme: Scheme, patterned: bool) -> None:
    """A stout cylinder that runs into an ogive, with flaps fore and aft, on short legs."""
    r, tall = dice.between(0.19, 0.24), dice.between(1.3, 1.6)
    knots = [(0.98 * r, 0.14), (r, 0.4), (r, 0.62 * tall), (0.86 * r, 0.8 * tall)]
    profile = spline([*knots, (0.5 * r, 0.94 * tall), (0.0, tall)], per=5)
    skin = Skin(profile)
    _hull_and_nose(dice, assembly, scheme, patterned, skin, 0.72 * tall)
    flap = paint(dice.pick((scheme.dark, scheme.main)))
    aft = np.array([(0.9 * r, 0.16), (2.0 * r, 0.16), (2.0 * r, 0.34), (0.9 * r, 0.62)])
    fore = np.array([(0.6 * r, 0.66), (1.6 * r, 0.68), (1.4 * r, 0.78), (0.4 * r, 0.86)])
    for outline in (aft, fore * (1.0, tall)):
        assembly.add("fin", flap, around(upright_plate(outline, 0.035), 2))
    portholes(dice, assembly, scheme, skin, 0.4 * tall, 0.62 * tall)
    steel = metal(dice, "steel", "black steel")
    assembly.add("engine", steel, around(bell(0.34 * r).move(x=0.5 * r), 3, 30))
    leg, foot = rod((0.8 * r, 0, 0.2), (1.05 * r, 0, 0.01), 0.02), cylinder(0.05, 0.02, 12)
    assembly.add("engine", steel, around(leg, 4, 45), around(foot.move(x=1.06 * r), 4, 45))


def firework(dice: Dice, assembly: Assembly, scheme: Scheme, patterned: bool) -> None:
    """A paper tube with a cone on a stick, which counts as its fin."""
    r, tall, stick = dice.between(0.12, 0.18), dice.between(0.5, 0.8), dice.between(0.7, 1.0)
    paper = paint(scheme.main, "paper")
    if patterned:
        paper = printed(paintwork(dice, scheme), "paper")
    body = cylinder(r, tall, 32).tile(2, 1).upright_v(0.0, tall)
    assembly.add("body", paper, body.move(z=stick))
    ribbon = cylinder(1.02 * r, 0.05, 32, 0.004)
    for z in (0.035, tall - 0.085):
        assembly.add("body", paint(scheme.accent, "ribbon"), ribbon.move(z=stick + z))
    cone = frustum(1.2 * r, 0.0, dice.between(1.6, 2.6) * r, 32).move(z=stick + tall - 0.006)
    assembly.add("nose", paint(dice.pick((scheme.accent, scheme.dark)), "paper"), cone)
    lath = rod((0.0, r + 0.012, 0.0), (0.0, r + 0.012, stick + 0.7 * tall), 0.02)
    assembly.add("fin", Material("stick", WOODS["oak"][0]), lath)
    fuse = [(0, 0, stick + 0.02), (0.02, -0.02, stick - 0.08), (0.09, -0.04, stick - 0.14)]
    assembly.add("engine", Material("fuse", INK), tube(spline(fuse, per=4), 0.012, 6))
    clay = frustum(0.6 * r, 0.4 * r, 0.06, 20).move(z=stick - 0.04)
    assembly.add("engine", metal(dice, "copper", "steel"), clay)
    if dice.chance(0.5):
        star = _star(0.5 * r).turn("x", 90).move(y=-0.97 * r)
        for z in (0.35, 0.62):
            assembly.add("window", paint(scheme.light, "star"), star.move(z=stick + z * tall))


def _star(radius: float) -> Solid:
    angle = np.pi * (np.arange(10) / 5 + 0.5)
    size = radius * np.where(np.arange(10) % 2, 0.45, 1.0)
    return extrude(np.stack([size * np.cos(angle), size * np.sin(angle)], axis=1), 0.04, 0.008)


def probe(dice: Dice, assembly: Assembly, scheme: Scheme, patterned: bool) -> None:
    """A capsule on a stage with landing legs: as much a bottle as a rocket."""
    r, lift, tall = dice.between(0.2, 0.27), dice.between(0.26, 0.36), dice.between(0.5, 0.85)
    body = cylinder(r, tall, 32, 0.012).tile(2, 1).upright_v(0.0, tall)
    assembly.add("body", hull_finish(dice, scheme, patterned), body.move(z=lift))
    cone = [(1.03 * r, 0.0), (1.03 * r, 0.04), (0.42 * r, 0.34), (0.36 * r, 0.42), (0.2 * r, 0.46)]
    capsule = lathe(rounded([*cone, (0.0, 0.47)], 0.03, 2, closed=False), 32)
    color = paint(dice.pick((scheme.light, scheme.accent)))
    assembly.add("nose", color, capsule.move(z=lift + tall - 0.008))
    skin = Skin(np.array([(r, lift), (r, lift + tall + 0.1)]))
    portholes(dice, assembly, scheme, skin, lift + 0.14, lift + 0.76 * tall)
    count, far = dice.pick((3, 4)), r + dice.between(0.2, 0.32)
    leg = rod((0.9 * r, 0, lift + 0.4 * tall), (far, 0, 0.015), 0.022)
    brace = rod((0.8 * r, 0, lift + 0.03), (0.5 * (r + far), 0, 0.45 * lift), 0.016)
    pad, start = cylinder(0.07, 0.025, 16, 0.005).move(x=far), 180.0 / count - 90.0
    for solid in (leg, brace, pad):
        assembly.add("fin", paint(scheme.accent), around(solid, count, start))
    nozzle(dice, assembly, 0.6 * r, lift)
    if dice.chance(0.4):
        rim = [(0.0, 0.0), (0.07, 0.02), (0.11, 0.06), (0.095, 0.06), (0.0, 0.015)]
        dish, z = lathe(rim, 20).turn("y", 60), lift + 0.8 * tall
        assembly.add("window", paint(scheme.light), dish.move(r + 0.03, 0, z))
        mast = rod((0.9 * r, 0, z), (r + 0.06, 0, z + 0.02), 0.012)
        assembly.add("window", metal(dice, "steel", "brass"), mast)
