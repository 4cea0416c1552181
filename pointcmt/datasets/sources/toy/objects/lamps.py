"""Lamps: table, floor and desk lamps, mushrooms and lava lamps; in meters."""

import math
from itertools import pairwise

import numpy as np

from pointcmt.datasets.sources.toy.objects import textures
from pointcmt.datasets.sources.toy.objects.builder import Builder, printed
from pointcmt.datasets.sources.toy.objects.colors import GLOW, mix
from pointcmt.datasets.sources.toy.objects.outlines import spline
from pointcmt.datasets.sources.toy.objects.parts import TURNED, foot
from pointcmt.datasets.sources.toy.objects.solids import (
    Point,
    around,
    ball,
    box,
    cylinder,
    ellipsoid,
    frustum,
    lathe,
    rod,
)
from pointcmt.shapes import Material, Mesh

LIT = Material("bulb", GLOW)
VASES = (  # silhouettes of ceramic bases, (radius, height) in 0..1
    ((0.55, 0), (0.85, 0.1), (1.0, 0.35), (0.8, 0.65), (0.35, 0.88), (0.3, 1)),  # jar
    ((0.6, 0), (0.95, 0.15), (0.85, 0.4), (0.42, 0.58), (0.6, 0.78), (0.3, 1)),  # gourd
    ((0.75, 0), (0.72, 0.05), (0.9, 0.5), (1.0, 0.85), (0.7, 0.97), (0.25, 1)),  # shoulder
    ((0.4, 0), (0.8, 0.18), (1.0, 0.5), (0.8, 0.82), (0.4, 0.97), (0.25, 1)),  # ball
    ((1.0, 0), (0.9, 0.06), (0.5, 0.35), (0.35, 0.65), (0.32, 0.9), (0.25, 1)),  # cone
)
SHADES = {"straight": 36, "bell": 36, "square": 4, "octagonal": 8}  # segments


def lamp(b: Builder) -> Mesh:
    """Make a lamp; desk lamps lean to the right, the left or the front."""
    plans = (_table_lamp, floor_lamp, _desk_lamp, _mushroom, _lava_lamp)
    plan = b.pick(plans, (0.36, 0.24, 0.2, 0.12, 0.08))
    plan(b)
    return b.mesh("z", b.pick((0.0, 180.0, -90.0)) if plan is _desk_lamp else 0.0)


def _table_lamp(b: Builder) -> None:
    """Add a vase, turned column, block or disc under a shade."""
    height, r = b.between(0.3, 0.5), b.between(0.12, 0.19)
    kind = b.pick(("vase", "turned", "block", "disc"), (2, 1, 1, 1))
    if kind == "vase":
        profile = spline(b.pick(VASES)) * (r, height - 0.012) + (0, 0.012)
        vase = lathe([(0.9 * profile[0, 0], 0), *profile, (0, height)])
        b.add("base", b.glaze(), vase.tile(2, 1).span_v(0, height))
    elif kind == "turned":
        column = np.array(TURNED) * (0.4 * r, height - 0.01) + (0, 0.01)
        b.add("base", b.wood(), lathe(column, 20), cylinder(0.75 * r, 0.04, 24, 0.01))
    elif kind == "block":
        b.add("base", b.glaze(), box(1.3 * r, 1.3 * r, height, 0.012).project(0.3))
    else:
        b.add("base", b.metal(), foot("disc", height, r, 0.018))
    b.add("pole", b.metal(), cylinder(0.014, 0.1, 10).move(z=height - 0.02))
    _shade(b, b.between(1.15, 1.7) * max(r, 0.13), height + b.between(0.01, 0.05))


def floor_lamp(b: Builder) -> None:
    """Add a tall pole or a tripod under a shade."""
    height, r = b.between(1.0, 1.35), b.between(0.2, 0.28)
    frame = b.pick((b.metal(), b.wood(), b.paint("main")))
    if b.chance(0.4):
        b.add("base", frame, foot("tripod", height, b.between(0.28, 0.4), 0.045, 3))
        b.add("base", frame, cylinder(0.045, 0.05, 16).move(z=height - 0.03))
    else:
        b.add("base", frame, cylinder(b.between(0.13, 0.18), 0.03, 28, 0.008))
        b.add("pole", frame, cylinder(0.016, height, 10).move(z=0.01))
    _shade(b, r, height + 0.01)


def _shade(b: Builder, r: float, z: float) -> None:
    """Add a shade with its rim at z, its bulb and the wires that hold it."""
    kind, height = b.pick(tuple(SHADES), (2, 1, 1, 1)), r * b.between(1.0, 1.5)
    top = r * b.pick((b.between(0.9, 1.0), b.between(0.4, 0.7)))
    share = np.linspace(0, 1, 7 if kind == "bell" else 2)
    radius = r + (top - r) * (share**0.45 if kind == "bell" else share)
    outside = np.stack([radius, share * height], axis=1)
    shell = np.concatenate([outside, outside[::-1] - (0.025 * r, 0.0)])
    cover, repeats = b.paint("light", "main", "accent"), 1
    if b.patterned:
        glow = textures.ombre(mix(b.scheme.main, GLOW, 0.6), b.scheme.main)
        choices = (textures.cloth(b, b.scheme), 4), (glow, 1)
        texture, repeats = b.pick(choices, (3, 1))
        cover = printed(texture, "shade")
    solid = lathe(shell, SHADES[kind], ring=True).tile(repeats, 2)
    if kind == "square":
        solid = solid.scale(1.2, 1.2)
    b.add("shade", cover, solid.move(z=z))
    wire, reach = b.metal("brass", "black steel"), 0.88 * top + 0.1 * r - 0.1 * top
    spokes = around(rod((0, 0, 0), (reach, 0, 0), 0.012 * r), 3, 90)
    b.add("pole", wire, [spoke.move(z=z + 0.88 * height) for spoke in spokes])
    b.add("pole", wire, ball(0.06 * r, 10, 6).move(z=z + 0.95 * height))
    b.add("pole", wire, cylinder(0.03 * r, 0.95 * height, 8).move(z=z - 0.02 * height))
    b.add("bulb", LIT, ellipsoid(0.22 * r, 0.22 * r, 0.3 * r, 14, 8).move(z=z + 0.42 * height))


def _dome(b: Builder, r: float, at: Point, tilt: float) -> None:
    """Add a hemisphere or a cone, open below and tilted about y, with its bulb."""
    turn = np.radians(90 * np.arange(8) / 7)
    half = r * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    cone = spline([(1.0, 0.0), (0.55, 0.55), (0.38, 0.8), (0.3, 1.1), (0.0, 1.15)], 3) * r
    outer = b.pick((half, cone))
    outer[-1, 0] = 0.0
    inner = outer[::-1] * (0.94, 0.96)
    cover = b.paint("main", "light")
    if b.patterned:
        cover = printed(textures.ombre(GLOW, b.scheme.main), "enamel")
    for part, material, solid in (
        ("shade", cover, lathe(np.concatenate([inner, outer])).span_v(0, r)),
        ("bulb", LIT, ball(0.4 * r, 14, 8).move(z=0.12 * r)),
    ):
        b.add(part, material, solid.turn("y", tilt).move(*at))


def _desk_lamp(b: Builder) -> None:
    """Add two arms with joints and a tilted reflector, leaning to the right."""
    steel = b.metal("chrome", "black steel", "brass")
    plate = b.pick((cylinder(0.13, 0.035, 28, 0.01), box(0.2, 0.2, 0.045, 0.012))).project(0.25)
    b.add("base", b.wood() if b.patterned else b.paint("main"), plate)
    lean, fold = math.radians(b.between(5, 40)), math.radians(b.between(35, 75))
    lower, upper = b.between(0.26, 0.36), b.between(0.24, 0.34)
    elbow = -lower * math.sin(lean), 0.0, 0.04 + lower * math.cos(lean)
    head = elbow[0] + upper * math.sin(fold), 0.0, elbow[2] + upper * math.cos(fold)
    joints, shifts = ((0.0, 0.0, 0.04), elbow, head), b.pick(((0.0,), (0.02, -0.02)))
    for start, end in pairwise(joints):
        b.add("pole", steel, [rod(start, end, 0.011).move(y=shift) for shift in shifts])
    pin = cylinder(0.022, 0.07, 12).turn("x", 90).move(y=0.035)
    b.add("pole", b.paint("main", "accent"), [pin.move(*joint) for joint in joints])
    tilt, r = b.between(15, 60), b.between(0.1, 0.14)
    turn, back = math.radians(tilt), 0.95 * r
    _dome(b, r, (head[0] - back * math.sin(turn), 0.0, head[2] - back * math.cos(turn)), tilt)


def _mushroom(b: Builder) -> None:
    """Add a stem that flares out to a foot, under a smooth or spotted cap."""
    r, height = b.between(0.2, 0.28), b.between(0.26, 0.4)
    base, neck = b.between(0.45, 0.8) * r, b.between(0.1, 0.3) * r
    stem = spline([(base, 0), (0.7 * base, 0.04), (neck, 0.4 * height), (neck, height)])
    b.add("base", b.paint("light", "main"), lathe(stem))
    rise, lip = b.between(0.55, 1.0) * r, b.between(0.0, 0.12) * r
    rim = [(0.97 * r, -lip), (r, 0.02 - lip), (0.93 * r, 0.36 * rise)]
    dome = [(0.7 * r, 0.72 * rise), (0.36 * r, 0.94 * rise), (0.0, rise)]
    cap = lathe([(0.0, -0.01), (0.8 * r, -0.01), *spline([*rim, *dome], 3)], 32)
    cover = b.paint("main")
    if b.patterned:
        cover = printed(textures.spots(b, b.scheme.main, b.scheme.light), "enamel")
    b.add("shade", cover, cap.tile(2, 1).move(z=height))
    b.add("bulb", LIT, ellipsoid(0.3 * r, 0.3 * r, 0.1 * r, 16, 6).move(z=height - 0.02))


def _lava_lamp(b: Builder) -> None:
    """Add a cone, a glass with rising blobs and a cap, shaped like a rocket."""
    steel, r = b.metal("chrome", "brass", "copper"), b.between(0.1, 0.13)
    low, tall, s = b.between(0.14, 0.2), b.between(0.3, 0.42), b.scheme
    b.add("base", steel, lathe([(r, 0), (0.55 * r, 0.55 * low), (0.85 * r, low)]))
    liquid = mix(s.main, s.dark, 0.25)
    glass = Material("lava", liquid)
    if b.patterned:
        glass = printed(textures.spots(b, liquid, s.accent), "lava")
    body = lathe(spline([(0.84 * r, 0), (0.92 * r, 0.25 * tall), (0.45 * r, tall)]))
    b.add("shade", glass, body.move(z=low - 0.004))
    b.add("pole", steel, frustum(0.47 * r, 0.3 * r, 0.08, 24, 0.008).move(z=low + tall - 0.014))
