"""What closes a bottle whose mouth has radius r and lies at height z."""

from collections.abc import Callable

import numpy as np

from pointcmt.datasets.sources.toy_shapes.assembly import Assembly
from pointcmt.datasets.sources.toy_shapes.dice import Dice
from pointcmt.datasets.sources.toy_shapes.finishes import metal, paint
from pointcmt.datasets.sources.toy_shapes.outlines import rounded, spline, superellipse
from pointcmt.datasets.sources.toy_shapes.palettes import CORK, IVORY, Scheme
from pointcmt.datasets.sources.toy_shapes.solids import (
    box,
    cylinder,
    ellipsoid,
    frustum,
    lathe,
    torus,
    tube,
)
from pointcmt.shapes import Material


def cork(dice: Dice, assembly: Assembly, scheme: Scheme, r: float, z: float) -> None:
    """A cork, at times with a wooden head."""
    stopper = frustum(0.66 * r, 0.78 * r, 0.26, 16, 0.012)
    assembly.add("cap", Material("cork", CORK), stopper.move(z=z - 0.08))
    if dice.chance(0.4):
        head = cylinder(r, 0.09, 18, 0.015)
        assembly.add("cap", paint(scheme.dark, "wood"), head.move(z=z + 0.12))


def foil(dice: Dice, assembly: Assembly, scheme: Scheme, r: float, z: float) -> None:
    """A capsule over the lip and some of the neck."""
    low = z - dice.between(0.1, 0.4)
    sleeve = [(1.12 * r, low), (1.1 * r, z - 0.04), (1.2 * r, z - 0.01), (1.2 * r, z + 0.06)]
    capsule = lathe([*sleeve, (1.1 * r, z + 0.075), (0.0, z + 0.075)])
    colors = paint(scheme.main, "foil"), paint(scheme.accent, "foil"), metal(dice, "brass")
    assembly.add("cap", dice.pick(colors), capsule)


def crown(dice: Dice, assembly: Assembly, scheme: Scheme, r: float, z: float) -> None:
    """A crown cork: its rim is a zigzag."""
    rim = [(1.34 * r, z + 0.005), (1.2 * r, z + 0.06), (0.9 * r, z + 0.09), (0.0, z + 0.095)]
    cap = lathe(rim, 36)
    flared = (cap.vertices[:, 2] < z + 0.02) & (np.arange(len(cap.vertices)) % 2 == 0)
    factor = np.where(flared, 1.1, 1.0)[:, None] * [1.0, 1.0, 0.0] + [0.0, 0.0, 1.0]
    material = dice.pick((paint(scheme.accent, "tin"), metal(dice, "brass", "chrome")))
    assembly.add("cap", material, cap.warp(lambda v: v * factor))


def screw(dice: Dice, assembly: Assembly, scheme: Scheme, r: float, z: float) -> None:
    """A plain screw cap."""
    tall = dice.between(0.12, 0.2)
    cap = cylinder(1.3 * r, tall, 24, 0.012).move(z=z + 0.11 - tall)
    colors = paint(scheme.accent, "plastic"), paint(scheme.dark, "plastic")
    assembly.add("cap", dice.pick((*colors, metal(dice, "chrome"))), cap)


def ball(dice: Dice, assembly: Assembly, scheme: Scheme, r: float, z: float) -> None:
    """A stopper of glass or metal: a ball, an egg or a cut stone."""
    size, tall = dice.between(1.1, 1.9) * r, dice.between(0.9, 1.3)
    colors = paint(scheme.accent, "glass"), paint(scheme.main, "glass")
    material = dice.pick((*colors, metal(dice, "brass", "chrome")))
    facets = (6, 4) if dice.chance(0.3) else (20, 12)
    stopper = ellipsoid(size, size, size * tall, *facets)
    stem = cylinder(0.6 * r, 0.14, 14).move(z=z - 0.05)
    assembly.add("cap", material, stopper.move(z=z + 0.02 + 0.9 * size * tall), stem)


def block(dice: Dice, assembly: Assembly, scheme: Scheme, r: float, z: float) -> None:
    """A heavy cube or drum, as on perfume."""
    material = dice.pick((metal(dice, "brass", "chrome", "black steel"), paint(scheme.accent)))
    size, tall = dice.between(1.7, 2.4) * r, dice.between(0.2, 0.34)
    cap = dice.pick((box(2 * size, 2 * size, tall, 0.015), cylinder(size, tall, 28, 0.02)))
    assembly.add("cap", material, cap.move(z=z - 0.02))


def swing(dice: Dice, assembly: Assembly, scheme: Scheme, r: float, z: float) -> None:
    """A porcelain stopper with its wire."""
    dome = [(0.8 * r, z), (r, z + 0.07), (0.95 * r, z + 0.13), (0.5 * r, z + 0.17), (0.0, z + 0.18)]
    assembly.add("cap", Material("porcelain", IVORY), lathe(dome, 20))
    seal = torus(0.86 * r, 0.03, 20, 8).move(z=z + 0.055)
    assembly.add("cap", paint(scheme.accent, "rubber"), seal)
    x, steel = 1.3 * r, metal(dice, "chrome")
    right = [(0.0, 0.0, z + 0.2), (x, 0.0, z + 0.1), (x, 0.0, z - 0.14)]
    left = [(-x, 0.0, z - 0.14), (-x, 0.0, z + 0.1)]
    assembly.add("cap", steel, tube(rounded([*left, *right], 0.06, 3, closed=False), 0.012, 6))
    assembly.add("cap", steel, torus(1.14 * r, 0.014, 20, 6).move(z=z - 0.14))


def spout(dice: Dice, assembly: Assembly, scheme: Scheme, r: float, z: float) -> None:
    """A pointed nozzle, as ketchup has."""
    collar = [(1.16 * r, z - 0.02), (1.16 * r, z + 0.09), (0.9 * r, z + 0.14)]
    nozzle = [(0.34 * r, z + 0.2), (0.16 * r, z + 0.46), (0.0, z + 0.47)]
    color = dice.pick((scheme.light, scheme.accent))
    assembly.add("cap", paint(color, "plastic"), lathe([*collar, *nozzle], 22))


def pump(dice: Dice, assembly: Assembly, scheme: Scheme, r: float, z: float) -> None:
    """A collar, a stem and a beak to the front."""
    steel = metal(dice, "brass", "chrome", "black steel")
    body, rise = dice.pick((steel, paint(scheme.light, "plastic"))), dice.between(0.3, 0.4)
    assembly.add("cap", body, frustum(1.28 * r, 1.05 * r, 0.14, 22, 0.012).move(z=z - 0.03))
    assembly.add("cap", body, cylinder(0.035, rise, 12).move(z=z))
    knots = [(0.06, rise), (-0.06, rise + 0.01), (-0.24, rise), (-0.3, rise - 0.08)]
    beak = spline([(0.0, y, z + up) for y, up in knots], per=4)
    thick = np.linspace(0.055, 0.026, len(beak))
    assembly.add("cap", body, tube(beak, thick, section=superellipse(1.0, 0.7, 3.0, 10)))


def trigger(dice: Dice, assembly: Assembly, scheme: Scheme, r: float, z: float) -> None:
    """A spray head with its lever, aimed to the front."""
    body, lever = paint(scheme.accent, "plastic"), paint(scheme.dark, "plastic")
    assembly.add("cap", body, cylinder(1.28 * r, 0.13, 22, 0.012).move(z=z - 0.03))
    assembly.add("cap", body, frustum(0.8 * r, 0.07, 0.3, 12).move(z=z + 0.06))
    line = [(0, 0.2, z + 0.3), (0, 0.1, z + 0.36), (0, -0.2, z + 0.36), (0, -0.24, z + 0.36)]
    head = tube(line, [0.06, 0.1, 0.09, 0.06], section=superellipse(0.8, 1.0, 3.5, 12))
    assembly.add("cap", body, head)
    tip = frustum(0.04, 0.032, 0.07, 10).turn("x", 90)
    assembly.add("cap", lever, tip.move(y=-0.22, z=z + 0.36))
    pull = spline([(0, -0.1, 0.33), (0, -0.17, 0.22), (0, -0.15, 0.1), (0, -0.2, 0.03)], per=3)
    assembly.add("cap", lever, tube(pull, 0.025, 8).move(z=z))


def sport(dice: Dice, assembly: Assembly, scheme: Scheme, r: float, z: float) -> None:
    """A lid with a valve to drink from."""
    lid = [(1.3 * r, z - 0.05), (1.3 * r, z + 0.08), (0.8 * r, z + 0.17), (0.5 * r, z + 0.2)]
    color = dice.pick((scheme.accent, scheme.dark))
    profile = [*lid, (0.5 * r, z + 0.32), (0.0, z + 0.33)]
    assembly.add("cap", paint(color, "plastic"), lathe(profile, 22))


def cup(dice: Dice, assembly: Assembly, scheme: Scheme, r: float, z: float) -> None:
    """The cup that closes a vacuum flask, with or without an ear."""
    profile = [(1.16 * r, z - 0.03), (1.2 * r, z + 0.02), (1.12 * r, z + 0.36), (1.04 * r, z + 0.4)]
    color = paint(dice.pick((scheme.accent, scheme.light)), "enamel")
    assembly.add("cap", color, lathe(profile))
    if dice.chance(0.6):
        knots = [(1.05, 0.32), (1.9, 0.3), (1.8, 0.1), (1.05, 0.08)]
        ear = spline([(x * r, 0.0, z + up) for x, up in knots], per=4)
        assembly.add("cap", color, tube(ear, 0.03, 8))


def loop(dice: Dice, assembly: Assembly, scheme: Scheme, r: float, z: float) -> None:
    """A lid with a ring to carry it by."""
    color = paint(dice.pick((scheme.accent, scheme.dark)), "plastic")
    ring = torus(0.62 * r, 0.04, 20, 8).turn("x", 90).move(z=z + 0.1 + 0.5 * r)
    assembly.add("cap", color, cylinder(1.2 * r, 0.16, 26, 0.015).move(z=z - 0.02), ring)


CAPS: dict[str, Callable[[Dice, Assembly, Scheme, float, float], None]] = {
    "cork": cork,
    "foil": foil,
    "crown": crown,
    "screw": screw,
    "ball": ball,
    "block": block,
    "swing": swing,
    "spout": spout,
    "pump": pump,
    "trigger": trigger,
    "sport": sport,
    "cup": cup,
    "loop": loop,
}
