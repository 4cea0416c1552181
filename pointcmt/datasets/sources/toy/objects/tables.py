"""Tables: dining, coffee and side tables on legs, pedestals and trestles."""

import numpy as np

from pointcmt.datasets.sources.toy.objects import textures
from pointcmt.datasets.sources.toy.objects.builder import Builder, printed
from pointcmt.datasets.sources.toy.objects.colors import rgb
from pointcmt.datasets.sources.toy.objects.outlines import Curve, rounded_rectangle, superellipse
from pointcmt.datasets.sources.toy.objects.parts import foot, leg
from pointcmt.datasets.sources.toy.objects.solids import (
    ball,
    box,
    cylinder,
    extrude,
    four,
    lath,
    loft,
    pair,
)
from pointcmt.shapes import Material, Mesh

SIZES = (  # ranges of width, depth and height
    ((1.3, 1.9), (0.75, 0.95), (0.72, 0.76)),  # dining
    ((0.9, 1.3), (0.5, 0.7), (0.34, 0.44)),  # coffee
    ((0.4, 0.55), (0.4, 0.5), (0.42, 0.6)),  # side: as large as a stool
    ((0.9, 1.3), (0.3, 0.42), (0.74, 0.86)),  # console
)
SUNK = 0.008  # how far legs reach into a top


def table(b: Builder) -> Mesh:
    """Make a table on legs, a foot or trestles, or under a cloth."""
    plans = (_four_legged, _pedestal_table, _trestle_table, _draped)
    b.pick(plans, (0.5, 0.25, 0.17, 0.08))(b)
    return b.mesh()


def _surface(b: Builder) -> Material:
    if not b.patterned:
        glass = Material("glass", rgb("b9d3cf"))
        return b.pick((b.wood(), b.paint("main", "light"), glass), (2, 2, 1))
    return b.pick((b.stone(), b.wood()), (1, 3))


def _frame(b: Builder) -> Material:
    return b.pick((b.wood(), b.paint("main", "dark"), b.metal()), (1, 2, 1))


def _add_top(b: Builder, material: Material, outline: Curve, height: float) -> float:
    """Add the top at `height` and return the z of its lower side."""
    thickness = b.pick((0.022, 0.035, 0.055))
    board = extrude(outline, thickness, b.pick((0.006, 0.3 * thickness)), steps=2)
    b.add("top", material, board.project(0.6, "x").move(z=height - thickness))
    return height - thickness


def _four_legged(b: Builder) -> None:
    """Add a top on four legs, with or without an apron, a shelf or drawers."""
    width, depth, height = (b.between(*span) for span in b.pick(SIZES))
    outline, inset = b.pick(
        (
            (rounded_rectangle(width, depth, 0.02, 2), 1.0),
            (rounded_rectangle(width, depth, 0.3 * depth, 5), 1.0),
            (superellipse(width / 2, depth / 2, 3.5, 36), 1.0),
            (superellipse(width / 2, depth / 2, 2.0, 36), 0.8),
        )
    )
    low, frame = _add_top(b, _surface(b), outline, height), _frame(b)
    kind = b.pick(("round", "square", "block", "turned", "hairpin"))
    thickness = b.between(0.045, 0.07) * min(1.0, 0.4 + height)
    out = b.between(0.0, 0.14) * height if kind in ("round", "square", "hairpin") else 0.0
    x, y = 0.37 * inset * width - 0.4 * out, 0.34 * inset * depth - 0.3 * out
    b.add("leg", frame, four(leg(kind, low + SUNK, thickness, (out, 0.7 * out)).move(x, y)))
    if kind == "hairpin":
        return
    if b.chance(0.6):
        drop, t = b.between(0.06, 0.1) * min(1.0, 0.3 + low), 0.35 * thickness
        side = box(2 * x, t, drop + 0.5 * SUNK).project(0.5, "x").move(y=y, z=low - drop)
        end = box(t, 2 * y, drop + 0.4 * SUNK).project(0.5, "y").move(x=x, z=low - drop + 0.001)
        b.add("apron", frame, side, side.mirror("y"), pair(end))
        if b.chance(0.4):
            at = np.array([(i + 0.5) / 3 * 1.5 * x - 0.75 * x for i in range(b.whole(1, 3))])
            board, knob = box(0.45 * x, 0.06, 0.8 * drop, 0.006), ball(0.014, 8, 6)
            z = low - 0.8 * drop - 0.006
            b.add("storage", b.paint("accent"), [board.move(dx, -y, z) for dx in at])
            b.add("storage", b.metal(), [knob.move(dx, -y - 0.04, low - 0.4 * drop) for dx in at])
    if b.chance(0.4):
        share = b.between(0.2, 0.4)
        wide, deep = 2 * (x + (1 - share) * out) + 0.02, 2 * (y + 0.7 * (1 - share) * out) + 0.02
        shelf = box(wide, deep, 0.02, 0.005).project(0.5, "x").move(z=share * low)
        b.add("storage", b.pick((frame, b.paint("accent"))), shelf)


def _pedestal_table(b: Builder) -> None:
    """Add a top on one foot, as of bistro tables and tulip tables."""
    small = b.chance(0.4)
    height = b.between(0.45, 0.58) if small else b.pick((0.72, 0.74, 1.02))
    r = b.between(0.2, 0.3) if small else b.between(0.34, 0.62)
    ovals = superellipse(r, r, 2.0, 36), superellipse(1.25 * r, 0.85 * r, 2.0, 36)
    outlines = (*ovals, superellipse(r, r, 2.0, 8), rounded_rectangle(1.7 * r, 1.7 * r, 0.06))
    low = _add_top(b, _surface(b), b.pick(outlines, (2, 1, 1, 1)), height)
    frame, kind = _frame(b), b.pick(("tulip", "disc", "star", "tripod"))
    reach, neck = (0.85 * r, 0.05) if kind == "tripod" else (0.66 * r, 0.03 + 0.03 * r)
    b.add("leg", frame, foot(kind, low + SUNK, reach, neck, b.whole(3, 4)))
    if b.chance(0.4):
        collar = cylinder((0.3 if kind == "tripod" else 0.5) * r, 0.026, 24)
        b.add("apron", frame, collar.move(z=low - 0.022))


def _trestle_table(b: Builder) -> None:
    """Add a long top on two trestles, A- or X-shaped, joined by a beam."""
    width, depth, height = b.between(1.2, 1.9), b.between(0.65, 0.9), b.between(0.7, 0.76)
    outline = rounded_rectangle(width, depth, b.pick((0.012, 0.06)), 4)
    low, frame, crossed = _add_top(b, _surface(b), outline, height), _frame(b), b.chance(0.5)
    x, y, t = 0.34 * width, 0.36 * depth, b.between(0.05, 0.08)
    line = [(x, y, -0.1), (x, -0.9 * y if crossed else 0.35 * y, low + 0.1)]
    post = lath(line, t, 0.7 * t).tile(1, 2).clip(high=low + SUNK)
    b.add("leg", frame, pair(post), pair(post.mirror("y").move(x=0.4 * t if crossed else 0.0)))
    rise = (0.48 if crossed else b.between(0.25, 0.4)) * low
    b.add("apron", frame, box(2 * x + 0.5 * t, 0.5 * t, 1.2 * t, 0.006).project(0.5).move(z=rise))
    if not crossed:
        tie = box(t, 1.7 * y, 0.6 * t).project(0.5, "y").move(x=x, z=rise + 0.3 * t)
        b.add("leg", frame, pair(tie))
    if b.chance(0.35):
        shelf = box(2 * x, 0.5 * depth, 0.022, 0.005).project(0.5, "x").move(z=0.21 * low)
        b.add("storage", b.pick((frame, b.paint("accent"))), shelf)


def _draped(b: Builder) -> None:
    """Add a round table under a cloth that falls in folds."""
    r, height, hem = b.between(0.4, 0.55), b.between(0.7, 0.76), b.between(0.2, 0.55)
    cloth = printed(textures.cloth(b, b.scheme), "cloth") if b.patterned else b.paint("light")
    folds, angle = b.whole(6, 9), 2 * np.pi * np.arange(54) / 54
    below = [(0.0, 0.0, -0.012), (0.985, 0.0, -0.012), (1.0, 1.0, -hem), (1.02, 1.0, -hem)]
    above = [(1.02, 0.45, -0.5 * hem), (1.012, 0.06, -0.025), (0.995, 0.0, 0.0), (0.0, 0.0, 0.0)]
    radius, fold, z = np.array([*below, *above]).T[..., None]
    reach = r * (radius + fold * (0.09 + 0.07 * np.cos(folds * angle)))
    rings = np.broadcast_arrays(reach * np.cos(angle), reach * np.sin(angle), height + z)
    b.add("top", cloth, loft(np.stack(rings, axis=-1)).project(0.4))
    if b.chance(0.5):
        one = leg("turned", height - 0.006, 0.06).move(0.55 * r, 0.55 * r)
        b.add("leg", b.wood(plain=True), four(one))
    else:
        b.add("leg", b.wood(plain=True), foot("tulip", height - 0.006, 0.6 * r, 0.05))
