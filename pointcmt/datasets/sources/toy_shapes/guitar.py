"""Guitars: acoustic and electric ones, basses, ukuleles, lutes, banjos, cigar boxes.

They are built lying on their backs, z upwards from the front of the body, y towards the head, and
set upright at the end (`upright`).
"""

from dataclasses import dataclass

import numpy as np

from pointcmt.datasets.sources.toy_shapes import guitar_fittings as fittings
from pointcmt.datasets.sources.toy_shapes.assembly import Assembly
from pointcmt.datasets.sources.toy_shapes.canvas import Texture, edge, grid, layers
from pointcmt.datasets.sources.toy_shapes.dice import Dice
from pointcmt.datasets.sources.toy_shapes.finishes import metal, paint, printed, wood
from pointcmt.datasets.sources.toy_shapes.guitar_bodies import (
    BODIES,
    HEADS,
    WEIGHTS,
    Body,
    head_outline,
)
from pointcmt.datasets.sources.toy_shapes.loft import loft
from pointcmt.datasets.sources.toy_shapes.outlines import Curve, inward
from pointcmt.datasets.sources.toy_shapes.palettes import (
    CREAM,
    INK,
    IVORY,
    WOODS,
    Color,
    Scheme,
    mix,
    pick_scheme,
    rgb,
)
from pointcmt.datasets.sources.toy_shapes.patterns import checker, motif
from pointcmt.datasets.sources.toy_shapes.solid import Solid
from pointcmt.datasets.sources.toy_shapes.solids import (
    box,
    cylinder,
    ellipsoid,
    extrude,
    lathe,
    rod,
    torus,
)
from pointcmt.shapes import Material, Mesh

PARTS = ("body", "neck", "head", "hardware", "stand")
BONE = Material("bone", IVORY)


@dataclass(frozen=True)
class Neck:
    """Where a neck leaves the body and ends (y), half its width at the end, its strings."""

    start: float
    nut: float
    half: float
    strings: int


def build(dice: Dice) -> Mesh:
    """One guitar, upright, its strings to the front; a body about 1 high."""
    assembly = Assembly(PARTS, place=lambda solid: solid.turn("x", 90))
    name = dice.pick(tuple(BODIES), WEIGHTS)
    body, scheme, patterned = BODIES[name], pick_scheme(dice), dice.chance(0.6)
    outline = body.outline(dice.between(0.92, 1.1))
    strings = dice.pick(body.strings)
    neck = Neck(body.neck, body.neck + dice.between(*body.reach), 0.028 + 0.003 * strings, strings)
    if name == "banjo":
        deep = _banjo_body(dice, assembly, outline, scheme, patterned)
    elif body.hollow:
        deep = _hollow_body(dice, assembly, outline, scheme, patterned)
        fittings.sound_hole(dice, assembly, scheme, body, name)
    else:
        deep = _solid_body(dice, assembly, outline, scheme, patterned)
        fittings.pickups(dice, assembly, scheme, body, neck.strings)
    _neck(dice, assembly, body, neck)
    _head(dice, assembly, scheme, body, neck)
    fittings.bridge(dice, assembly, body, neck.strings)
    if name not in ("arrow", "bolt") and dice.chance(0.4):
        fittings.stand(dice, assembly, scheme, deep)
    fittings.strings(assembly, body.bridge, neck.nut, neck.half, neck.strings)
    return assembly.mesh()


def _print(solid: Solid) -> Solid:
    """The texture once over the front, u = 0.5 in the middle, v along the body."""
    return solid.project(1.0, "y").tile(du=0.5)


def sunburst(outline: Curve, inner: Color, outer: Color, rim: Color) -> Texture:
    """Light in the middle, dark towards the edge of an outline (x, y)."""
    u, v = grid(64)
    nearest = np.full((64, 64), np.inf)
    for x, y in outline[:: max(1, len(outline) // 36)]:
        nearest = np.minimum(nearest, (u - 0.5 - x) ** 2 + (v - y) ** 2)
    depth = np.sqrt(nearest)
    brown, black = edge(0.13 - depth, 0.16), edge(0.055 - depth, 0.07)
    return layers(inner, (outer, brown), (rim, black), size=64)


def _hollow_body(
    dice: Dice, assembly: Assembly, outline: Curve, scheme: Scheme, patterned: bool
) -> float:
    """Sides and back of one wood, and a top of another; returns how deep it is, as all of these."""
    painted, deep = dice.chance(0.3), dice.between(0.17, 0.26)
    light, dark = WOODS[dice.pick(("ash", "beech", "oak"))]
    if painted:
        sides: Material = paint(scheme.main, "lacquer")
    else:
        sides = wood(dice, patterned, "walnut", "cherry", "teak")
    if patterned and dice.chance(0.4):
        burst = sunburst(outline, rgb("e9b44c"), rgb("a8431f"), rgb("33190f"))
        top = printed(burst, "sunburst")
    elif patterned and painted:
        shape = dice.pick(("stars", "hearts", "dots", "drops"))
        inks = scheme.main, scheme.accent
        top = printed(motif(scheme.light, inks, shape, 4), "painted top")
    elif painted:
        top = paint(scheme.light, "lacquer")
    elif patterned:
        top = wood(dice, True, "ash", "beech", "oak")
    else:
        top = paint(mix(light, dark, 0.3), "spruce")
    shell = extrude(outline, deep, 0.012).project(0.5, "y")
    assembly.add("body", sides, shell.move(z=-deep - 0.0135))
    plate = extrude(outline + 0.016 * inward(outline), 0.02)
    assembly.add("body", top, _print(plate.move(z=-0.02)))
    return deep


def _solid_body(
    dice: Dice, assembly: Assembly, outline: Curve, scheme: Scheme, patterned: bool
) -> float:
    """A slab with rounded edges: lacquered, sunburst, grained or sprayed."""
    deep = dice.between(0.09, 0.13)
    if not patterned:
        finish = paint(dice.pick((scheme.main, scheme.accent)), "lacquer")
    elif dice.chance(0.45):
        inner = dice.pick((rgb("e9b44c"), mix(scheme.main, CREAM, 0.5)))
        burst = sunburst(outline, inner, mix(scheme.main, scheme.dark, 0.2), INK)
        finish = printed(burst, "sunburst")
    elif dice.chance(0.6):
        finish = wood(dice, True, "ash", "oak", "walnut", "cherry", "teak")
    elif dice.chance(0.5):
        finish = printed(checker(scheme.light, scheme.dark, 8), "airbrush")
    else:
        finish = printed(motif(scheme.main, (scheme.light,), "stars", 4), "airbrush")
    slab = extrude(outline, deep, 0.016, steps=2)
    assembly.add("body", finish, _print(slab.move(z=-deep)))
    return deep


def _banjo_body(
    dice: Dice, assembly: Assembly, outline: Curve, scheme: Scheme, patterned: bool
) -> float:
    """A hoop with a skin over it and hooks around."""
    middle, deep = float(outline[:, 1].mean()), dice.between(0.1, 0.16)
    radius = float(outline[:, 1].max()) - middle
    profile = [(0.9 * radius, -deep), (radius, 0.02 - deep), (radius, -0.01), (0.9 * radius, 0.0)]
    rim = wood(dice, patterned) if dice.chance(0.6) else paint(scheme.main)
    assembly.add("body", rim, lathe(profile, 40).tile(6, 1).move(y=middle))
    skin = cylinder(0.87 * radius, 0.03, 36).move(y=middle, z=-0.024)
    drum = printed(_skin_art(scheme), "skin") if patterned else paint(IVORY, "skin")
    assembly.add("body", drum, skin)
    steel = metal(dice, "brass", "chrome")
    assembly.add("hardware", steel, torus(0.9 * radius, 0.02, 40, 8).move(y=middle))
    hook = rod((0, 0, 0.006 - deep), (0, 0, 0.004), 0.012)
    for i in range(16):
        turn = 2 * np.pi * (i + 0.5) / 16
        x, y = 1.012 * radius * np.cos(turn), 1.012 * radius * np.sin(turn)
        assembly.add("hardware", steel, hook.move(x, middle + y))
    return deep


def _skin_art(scheme: Scheme) -> Texture:
    """A drum skin with a ring, darker where it is played."""
    u, v = grid(96)
    far = np.sqrt((u - 0.5) ** 2 + (v - 0.5) ** 2)
    ring, worn = edge(0.014 - np.abs(far - 0.42), 0.012), edge(far - 0.34, 0.3)
    return layers(IVORY, (mix(IVORY, scheme.main, 0.4), 0.5 * worn), (scheme.main, ring), size=96)


def _neck(dice: Dice, assembly: Assembly, body: Body, neck: Neck) -> None:
    """A neck with a round back, a fingerboard with frets and dots."""
    heel = neck.start - (0.05 if body.hollow else 0.1)
    section = np.array(
        [(-1, 0.01), (1, 0.01), (0.92, -0.03), (0.6, -0.052), (-0.6, -0.052), (-0.92, -0.03)]
    )
    rings = np.empty((2, len(section), 3))
    rings[..., 0] = np.outer((1.2 * neck.half, neck.half), section[:, 0])
    rings[..., 1] = np.array([[heel], [neck.nut]])
    rings[..., 2] = section[:, 1]
    timber = mix(*WOODS[dice.pick(("beech", "oak", "walnut", "cherry"))], 0.4)
    assembly.add("neck", paint(timber, "neck"), loft(rings))
    first, end, w = heel - 0.14 if body.hollow else heel + 0.02, neck.nut - 0.002, neck.half
    board = np.array([(-1.22 * w, first), (1.22 * w, first), (w, end), (-w, end)])
    dark = WOODS[dice.pick(("ebony", "walnut", "ebony", "beech"))][1]
    assembly.add("neck", paint(dark, "fingerboard"), extrude(board, 0.03).move(z=-0.006))
    count, length = dice.whole(9, 14), neck.nut - first
    fret, dot = box(2.0, 0.007, 0.026), cylinder(0.012, 0.02, 8)
    for i in range(1, count):
        y = neck.nut - length * (1 - 0.5 ** (i / 7.5)) / (1 - 0.5 ** (count / 7.5))
        half = w * (1.02 + 0.22 * (neck.nut - y) / length)
        assembly.add("neck", fittings.FRET, fret.scale(x=half).move(y=y, z=0.002))
        if i in (3, 5, 7, 9, 12):
            assembly.add("neck", BONE, dot.move(y=y + 0.026, z=0.0057))


def _head(dice: Dice, assembly: Assembly, scheme: Scheme, body: Body, neck: Neck) -> None:
    """The head with its pegs on both sides, or all on the left."""
    inline = not body.hollow and dice.chance(0.5)
    scale = 0.75 + 0.06 * neck.strings
    outline = scale * head_outline("left" if inline else dice.pick(tuple(HEADS)))
    walnut, oak = mix(*WOODS["walnut"], 0.4), mix(*WOODS["oak"], 0.3)
    finish = paint(dice.pick((scheme.dark, scheme.main, walnut, oak)), "head")
    steel = metal(dice, "chrome", "brass", "black steel")
    knob, tilt = dice.pick((steel, Material("pearl", IVORY))), -dice.between(0, 14)

    def place(solid: Solid) -> Solid:
        return solid.turn("x", tilt).move(y=neck.nut - 0.012)

    assembly.add("head", finish, place(extrude(outline, 0.04, 0.008).move(z=-0.03)))
    button, post = ellipsoid(0.024, 0.018, 0.012, 10, 6), cylinder(0.011, 0.031, 8)
    axle = rod((0, 0, -0.01), (1, 0, -0.01), 0.009)
    rows = neck.strings if inline else (neck.strings + 1) // 2
    for i in range(neck.strings):
        side = -1 if inline or i % 2 == 0 else 1
        share = (i if inline else i // 2) / max(1, rows - 1)
        y = scale * (0.08 + (0.22 if inline else 0.16) * share)
        x = side * _half_width(outline, side, y)
        out = x + 0.03 * side
        peg = axle.scale(x=out - 0.75 * x).move(0.75 * x, y)
        assembly.add("head", steel, place(peg), place(post.move(0.6 * x, y)))
        assembly.add("head", knob, place(button.move(out + 0.012 * side, y, -0.01)))
    assembly.add("head", BONE, box(2 * neck.half, 0.018, 0.036).move(y=neck.nut, z=-0.004))


def _half_width(outline: Curve, side: int, y: float) -> float:
    """How far an outline reaches to the right (1) or left (-1) of x = 0 at this y."""
    rim = outline[outline[:, 0] * side > 0]
    rim = rim[np.argsort(rim[:, 1], kind="stable")]
    return max(0.04, abs(float(np.interp(y, rim[:, 1], rim[:, 0]))))
