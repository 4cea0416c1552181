"""What is screwed and glued to the front of a guitar (z = 0): holes, bridges, pickups, strings."""

import numpy as np

from pointcmt.datasets.sources.toy_shapes.assembly import Assembly
from pointcmt.datasets.sources.toy_shapes.dice import Dice
from pointcmt.datasets.sources.toy_shapes.finishes import metal, paint
from pointcmt.datasets.sources.toy_shapes.guitar_bodies import Body
from pointcmt.datasets.sources.toy_shapes.outlines import circle, rounded, rounded_rectangle, spline
from pointcmt.datasets.sources.toy_shapes.palettes import (
    CREAM,
    INK,
    IVORY,
    RUBBER,
    WHITE,
    WOODS,
    Scheme,
    rgb,
)
from pointcmt.datasets.sources.toy_shapes.solid import pair
from pointcmt.datasets.sources.toy_shapes.solids import (
    box,
    cylinder,
    extrude,
    frustum,
    lathe,
    rod,
    tube,
)
from pointcmt.shapes import Material

HOLE = Material("hole", rgb("201a18"))
STRING, FRET = Material("string", rgb("d9d4c6")), Material("fret", rgb("a39a86"))
BONE = Material("bone", IVORY)


def sound_hole(dice: Dice, assembly: Assembly, scheme: Scheme, body: Body, name: str) -> None:
    """A round hole with a rosette or two f-holes; perhaps a guard beside it."""
    y = body.neck - (0.27 if name != "lute" else 0.42)
    if name != "box" and dice.chance(0.2):
        line = [(0.02, 0.12), (-0.01, 0.1), (0.0, 0.04), (0.02, -0.04), (0.03, -0.1), (0.0, -0.12)]
        curve = spline([(x, z, 0.0) for x, z in line], per=3)
        slit = tube(curve, 0.013, 8).scale(z=0.5).move(x=0.17, y=body.bridge + 0.1)
        assembly.add("hardware", HOLE, pair(slit))
        return
    r = dice.between(0.085, 0.11)
    ring = lathe([(r, -0.011), (1.36 * r, -0.011), (1.36 * r, 0.0035), (r, 0.0035)], 32, ring=True)
    inlay = paint(dice.pick((scheme.accent, scheme.dark, WOODS["walnut"][1])), "rosette")
    assembly.add("hardware", inlay, ring.move(y=y))
    assembly.add("hardware", HOLE, cylinder(1.03 * r, 0.01, 32).move(y=y, z=-0.009))
    if name not in ("box", "lute") and dice.chance(0.55):
        half = [(0.2, 0.02), (0.3, -0.12), (0.24, -0.24), (0.13, -0.22), (0.13, -0.1)]
        guard = extrude(spline(np.array(half)[::-1], per=4, closed=True), 0.014)
        color = dice.pick((INK, rgb("5b2d1e"), scheme.dark, WHITE))
        assembly.add("hardware", paint(color, "guard"), guard.move(y=y, z=-0.008))


def bridge(dice: Dice, assembly: Assembly, body: Body, count: int) -> None:
    """Acoustic: a dark foot with a bone saddle. Electric: a metal plate with saddles."""
    y, reach = body.bridge, 0.028 + 0.013 * count
    if body.hollow:
        foot = extrude(rounded_rectangle(2.9 * reach, 0.075, 0.03), 0.03, 0.008)
        dark = paint(WOODS[dice.pick(("ebony", "walnut"))][1], "bridge")
        assembly.add("hardware", dark, foot.move(y=y, z=-0.008))
        assembly.add("hardware", BONE, box(1.9 * reach, 0.012, 0.04).move(y=y + 0.012, z=-0.006))
        return
    steel = metal(dice, "chrome", "brass", "black steel")
    plate = extrude(rounded_rectangle(2.2 * reach, 0.1, 0.015), 0.024, 0.006)
    assembly.add("hardware", steel, plate.move(y=y - 0.01, z=-0.006))
    for i in range(count):
        x = (i + 0.5) / count * 1.8 * reach - 0.9 * reach
        assembly.add("hardware", STRING, box(0.018, 0.04, 0.034).move(x, y, -0.004))
    if dice.chance(0.35):
        arm = spline(
            [(reach, y, 0.02), (1.3 * reach, y + 0.03, 0.06), (1.6 * reach, y + 0.22, 0.06)], 4
        )
        assembly.add("hardware", steel, tube(arm, 0.009, 8))


def pickups(dice: Dice, assembly: Assembly, scheme: Scheme, body: Body, count: int) -> None:
    """Two or three pickups, knobs and perhaps a guard under them."""
    low, high, wide = body.bridge + 0.09, body.neck - 0.16, 0.05 + 0.016 * count
    shell = paint(dice.pick((INK, CREAM, WHITE, scheme.accent)), "pickup")
    steel = metal(dice, "chrome", "brass")
    if not body.sharp and dice.chance(0.6):
        shape = [
            (0.14, high + 0.04),
            (-0.14, high + 0.06),
            (-0.16, 0.5 * (low + high)),
            (-0.13, low),
        ]
        shape += [
            (0.08, low - 0.06),
            (0.19, low - 0.1),
            (0.22, low + 0.06),
            (0.16, 0.5 * (low + high)),
        ]
        plate = extrude(spline(shape, per=3, closed=True), 0.014, 0.004)
        color = dice.pick((WHITE, CREAM, INK, scheme.light, scheme.accent))
        assembly.add("hardware", paint(color, "guard"), plate.move(z=-0.007))
    number, broad = dice.whole(1, 3), dice.pick((0.045, 0.075))
    for i in range(number):
        y = low + (high - low) * (i + 0.5) / number
        coil = extrude(rounded_rectangle(2 * wide, broad, 0.02), 0.028, 0.005)
        slanted = coil.turn("z", -9 if i == 0 and broad < 0.05 else 0)
        assembly.add("hardware", dice.pick((shell, shell, steel)), slanted.move(y=y, z=-0.006))
    for i in range(dice.whole(2, 3)):
        knob = frustum(0.026, 0.02, 0.045, 14, 0.005)
        at = 0.2 + 0.03 * i, body.bridge - 0.02 - 0.075 * i
        if body.sharp:
            at = 0.15 + 0.035 * i, body.bridge + 0.05 - 0.085 * i
        assembly.add("hardware", dice.pick((steel, shell)), knob.move(*at, -0.006))


def strings(assembly: Assembly, low: float, high: float, half: float, count: int) -> None:
    """From the bridge over the nut, a little apart from the fingerboard."""
    for i in range(count):
        share = (i + 0.5) / count * 2 - 1
        start = 0.9 * share * (0.028 + 0.013 * count), low + 0.005, 0.028
        end = 0.85 * share * half, high + 0.004, 0.031
        line = tube([start, end], 0.0032, section=circle(1.0, 4))
        assembly.add("hardware", STRING, line)


def stand(dice: Dice, assembly: Assembly, scheme: Scheme, deep: float) -> None:
    """What a guitar with a body this deep stands in: three legs, an upright and a cradle."""
    frame = dice.pick((metal(dice, "black steel", "chrome", "brass"), paint(scheme.accent)))
    back, floor = -deep - 0.05, -dice.between(0.1, 0.16)
    upright = rod((0, -0.03, back), (0, 0.5, back), 0.018)
    leg = rod((0, -0.01, back), (dice.between(0.24, 0.34), floor, 0.24), 0.016)
    rear = rod((0, 0.34, back), (0, floor, back - dice.between(0.28, 0.4)), 0.016)
    assembly.add("stand", frame, upright, rear, pair(leg))
    path = [(0.006, -0.022, back), (0.13, -0.022, back), (0.13, -0.022, 0.05), (0.13, 0.06, 0.06)]
    hook = tube(rounded(path, 0.05, 3, closed=False), 0.016, 8)
    assembly.add("stand", frame, pair(hook))
    pad = cylinder(0.04, 0.05, 12).move(y=0.47, z=back + 0.005)
    assembly.add("stand", Material("rubber", RUBBER), pad)
