"""Guitars: acoustic and electric ones, lutes and ukuleles.

They are built lying on their backs, z upward from the front of the body, y toward the head, and
are turned upright at the end.
"""

from dataclasses import dataclass

import numpy as np

from pointcmt.datasets.sources.toy.objects import textures
from pointcmt.datasets.sources.toy.objects.builder import Builder, printed
from pointcmt.datasets.sources.toy.objects.colors import CREAM, INK, IVORY, WOODS, mix, rgb
from pointcmt.datasets.sources.toy.objects.outlines import (
    Curve,
    Points,
    inward,
    rounded,
    rounded_rectangle,
    spline,
    symmetric,
)
from pointcmt.datasets.sources.toy.objects.solids import (
    Solid,
    box,
    cylinder,
    ellipsoid,
    extrude,
    frustum,
    loft,
    pair,
    rod,
    torus,
    tube,
)
from pointcmt.datasets.sources.toy.objects.textures import edge, grid, layers
from pointcmt.shapes import Material, Mesh

BONE, HOLE = Material("bone", IVORY), Material("hole", rgb("201a18"))
STRING, FRET = Material("string", rgb("d9d4c6")), Material("fret", rgb("a39a86"))


@dataclass(frozen=True)
class Body:
    """A kind of body, about 1 high, from y = 0 at the strap pin to the neck joint.

    points: (x, y); the right half from bottom to top, or the whole outline counter-clockwise.
    hollow: deep, with a sound hole. neck: y where the neck leaves the body. bridge: its y.
    reach: range of the neck's length beyond the body. sharp: has corners instead of curves.
    """

    points: Points
    hollow: bool
    neck: float = 1.0
    bridge: float = 0.26
    reach: tuple[float, float] = (0.85, 1.05)
    sharp: bool = False


BODIES = (
    Body(  # dreadnought
        (
            *((0, 0), (0.26, 0.012), (0.385, 0.13), (0.395, 0.3), (0.315, 0.5), (0.29, 0.6)),
            *((0.305, 0.76), (0.27, 0.92), (0.13, 0.99), (0, 1.0)),
        ),
        True,
    ),
    Body(  # parlor guitar, ukulele
        (
            *((0, 0), (0.2, 0.01), (0.34, 0.12), (0.36, 0.28), (0.26, 0.47), (0.21, 0.58)),
            *((0.25, 0.76), (0.22, 0.92), (0.1, 0.99), (0, 1.0)),
        ),
        *(True, 1.0, 0.26, (0.65, 1.0)),
    ),
    Body(  # lute
        ((0, 0), (0.2, 0.02), (0.36, 0.16), (0.4, 0.36), (0.29, 0.64), (0.13, 0.9), (0, 1.0)),
        *(True, 1.0, 0.26, (0.55, 0.8)),
    ),
    Body(  # double cut
        (
            *((0.01, 0), (0.22, 0.03), (0.36, 0.16), (0.36, 0.32), (0.27, 0.5), (0.29, 0.64)),
            *((0.34, 0.78), (0.29, 0.86), (0.2, 0.79), (0.12, 0.7), (-0.11, 0.7), (-0.19, 0.84)),
            *((-0.29, 0.98), (-0.37, 0.95), (-0.33, 0.76), (-0.27, 0.6), (-0.29, 0.48)),
            *((-0.39, 0.34), (-0.38, 0.16), (-0.22, 0.03)),
        ),
        *(False, 0.72, 0.26, (0.95, 1.3)),
    ),
    Body(  # single cut
        (
            *((0.01, 0), (0.24, 0.03), (0.38, 0.18), (0.37, 0.34), (0.27, 0.53), (0.3, 0.68)),
            *((0.31, 0.8), (0.22, 0.81), (0.14, 0.72), (0.09, 0.86), (-0.1, 0.92), (-0.24, 0.91)),
            *((-0.31, 0.8), (-0.3, 0.66), (-0.26, 0.54), (-0.36, 0.36), (-0.38, 0.18)),
            (-0.24, 0.03),
        ),
        *(False, 0.84),
    ),
    Body(  # arrow
        ((0, 0.36), (0.3, 0), (0.48, 0.06), (0.14, 0.92), (0.07, 1)),
        *(False, 0.96, 0.52, (0.85, 1.05), True),
    ),
)
WEIGHTS = (1.6, 1.5, 0.9, 1.6, 1.4, 1.0)  # relative frequencies, in this order
HEADS = (  # outlines from the nut up: pegs on both sides, in the last all on the left
    symmetric(((0.055, 0), (0.085, 0.05), (0.09, 0.3), (0.03, 0.33))),
    symmetric(((0.05, 0), (0.09, 0.08), (0.1, 0.25), (0.085, 0.3), (0.03, 0.28))),
    symmetric(((0.05, 0), (0.12, 0.1), (0.0, 0.36))),
    np.array([(0.045, 0), (0.07, 0.33), (0, 0.38), (-0.09, 0.32), (-0.1, 0.1), (-0.045, 0)]),
)


def guitar(b: Builder) -> Mesh:
    """Make an upright guitar with its strings in front and a body about 1 high."""
    body, strings = b.pick(BODIES, WEIGHTS), b.pick((6, 6, 4))
    points = np.array(body.points) * (b.between(0.92, 1.1), 1.0)
    corners = symmetric(points) if points[0, 0] == 0 else points
    outline = rounded(corners, 0.05, 4) if body.sharp else spline(corners, 3, closed=True)
    outline -= np.array([0.0, outline[:, 1].min()])
    nut, half = body.neck + b.between(*body.reach), 0.028 + 0.003 * strings
    deep = b.between(0.17, 0.26) if body.hollow else b.between(0.09, 0.13)
    if body.hollow:
        sides = b.pick((b.paint("main"), b.wood("walnut", "cherry", "teak")), (1, 2))
        b.add("body", sides, extrude(outline, deep, 0.012).project(0.5).move(z=-deep - 0.0135))
        front = extrude(outline + 0.016 * inward(outline), 0.02).move(z=-0.02)
        _sound_hole(b, body.neck - b.between(0.27, 0.36))
    else:
        front = extrude(outline, deep, 0.016, steps=2).move(z=-deep)
        _pickups(b, body, 0.05 + 0.016 * strings)
    # the front shows the texture once, u = 0.5 in the middle
    b.add("body", _lacquer(b, outline), front.project(1.0, "y").tile(du=0.5))
    _neck(b, body.neck - (0.05 if body.hollow else 0.1), body.hollow, nut, half)
    _head(b, nut, half, strings, inline=not body.hollow and b.chance(0.5))
    reach = 0.028 + 0.013 * strings
    base = Material("bridge", WOODS["ebony"][1]) if body.hollow else b.metal()
    foot = extrude(rounded_rectangle(2.6 * reach, 0.085, 0.03), 0.028, 0.007)
    b.add("hardware", base, foot.move(y=body.bridge, z=-0.008))
    saddle = box(1.9 * reach, 0.014, 0.04).move(y=body.bridge + 0.012, z=-0.006)
    b.add("hardware", BONE, saddle)
    for share in (np.arange(strings) + 0.5) / strings * 2 - 1:
        ends = (0.9 * share * reach, body.bridge + 0.005, 0.028), (0.85 * share * half, nut, 0.031)
        b.add("hardware", STRING, tube(ends, 0.0032, 4))
    if b.chance(0.45):
        _stand(b, -deep - 0.05)
    return b.mesh("x", 90)


def _lacquer(b: Builder, outline: Curve) -> Material:
    """Return a plain lacquer or wood, or a sunburst, a grain or a motif."""
    s = b.scheme
    if not b.patterned:
        return b.pick((b.paint("main", "accent", "light"), b.wood("ash", "beech", "oak")))
    amber, tinted = (rgb("e9b44c"), rgb("a8431f")), (mix(s.main, CREAM, 0.5), s.main)
    inner, outer = b.pick((amber, tinted))
    u, v = grid()
    nearest = np.full((textures.SIZE, textures.SIZE), np.inf)
    for x, y in outline:
        nearest = np.minimum(nearest, (u - 0.5 - x) ** 2 + (v - y) ** 2)
    depth = np.sqrt(nearest)
    burst = layers(inner, (outer, edge(0.13 - depth, 0.16)), (INK, edge(0.055 - depth, 0.07)))
    motif = textures.motif(s.main, s.light, shape=b.pick(tuple(textures.MOTIFS)))
    return b.pick((printed(burst), b.wood(), printed(motif)), (3, 2, 1))


def _sound_hole(b: Builder, y: float) -> None:
    """Add a hole with a rosette."""
    r = b.between(0.085, 0.11)
    rosette = torus(1.18 * r, 0.18 * r, 32).scale(z=0.3).move(y=y)
    b.add("hardware", b.paint("accent", "dark"), rosette)
    b.add("hardware", HOLE, cylinder(1.03 * r, 0.01, 32).move(y=y, z=-0.009))


def _pickups(b: Builder, body: Body, wide: float) -> None:
    """Add one to three pickups and two or three knobs."""
    low, high = body.bridge + 0.09, body.neck - 0.16
    shell = b.pick((Material("pickup", INK), Material("pickup", CREAM), b.metal("chrome")))
    number, broad = b.whole(1, 3), b.pick((0.045, 0.075))
    coil = extrude(rounded_rectangle(2 * wide, broad, 0.02), 0.028, 0.005)
    for i in range(number):
        b.add("hardware", shell, coil.move(y=low + (high - low) * (i + 0.5) / number, z=-0.006))
    for i in range(b.whole(2, 3)):
        knob = frustum(0.026, 0.02, 0.045, 14, 0.005)
        b.add("hardware", shell, knob.move(0.16 + 0.035 * i, body.bridge + 0.03 - 0.08 * i, -0.006))


def _neck(b: Builder, heel: float, hollow: bool, nut: float, half: float) -> None:
    """Add a neck with a round back, and a fingerboard with frets and dots."""
    x = np.array([-1, 1, 0.92, 0.6, -0.6, -0.92])
    z = np.array([0.01, 0.01, -0.03, -0.052, -0.052, -0.03])
    rings = [np.stack([w * x, 0 * x + y, z], axis=1) for w, y in ((1.2 * half, heel), (half, nut))]
    timber = Material("neck", mix(*WOODS[b.pick(("beech", "oak", "walnut", "cherry"))], 0.4))
    b.add("neck", timber, loft(np.stack(rings)))
    first, end = heel + (-0.14 if hollow else 0.02), nut - 0.002
    board = [(-1.22 * half, first), (1.22 * half, first), (half, end), (-half, end)]
    dark = Material("fingerboard", WOODS[b.pick(("ebony", "walnut", "beech"))][1])
    b.add("neck", dark, extrude(np.array(board), 0.03).move(z=-0.006))
    count, length, dot = b.whole(9, 14), nut - first, cylinder(0.012, 0.02, 8)
    for i in range(1, count):
        y = nut - length * (1 - 0.5 ** (i / 7.5)) / (1 - 0.5 ** (count / 7.5))
        wide = half * (1.02 + 0.22 * (nut - y) / length)
        b.add("neck", FRET, box(2 * wide, 0.007, 0.026).move(y=y, z=0.002))
        if i in (3, 5, 7, 9, 12):
            b.add("neck", BONE, dot.move(y=y + 0.026, z=0.0057))


def _head(b: Builder, nut: float, half: float, strings: int, inline: bool) -> None:
    """Add the head with pegs on both sides, or all on the left."""
    scale, tilt = 0.75 + 0.06 * strings, -b.between(0, 14)
    outline = rounded(scale * (HEADS[-1] if inline else b.pick(HEADS[:-1])), 0.025)
    walnut, steel = Material("head", mix(*WOODS["walnut"], 0.4)), b.metal()
    board = extrude(outline, 0.04, 0.008).move(z=-0.03)
    pieces: list[tuple[Material, Solid]] = [(b.pick((b.paint("dark", "main"), walnut)), board)]
    knob, rows = ellipsoid(0.024, 0.018, 0.012, 10, 6), (strings + (not inline)) // (2 - inline)
    for i in range(strings):
        side, row = (-1, i) if inline else ((1, -1)[i % 2], i // 2)
        x, y = side * scale * 0.075, scale * (0.08 + 0.16 * (1 + 0.4 * inline) * row / (rows - 1))
        out = x + 0.05 * side
        pieces.append((steel, rod((0.6 * x, y, -0.01), (out, y, -0.01), 0.009)))
        pieces.append((steel, cylinder(0.011, 0.031, 8).move(0.6 * x, y)))
        pieces.append((steel, knob.move(out + 0.012 * side, y, -0.01)))
    for material, solid in pieces:
        b.add("head", material, solid.turn("x", tilt).move(y=nut - 0.012))
    b.add("head", BONE, box(2 * half, 0.018, 0.036).move(y=nut, z=-0.004))


def _stand(b: Builder, back: float) -> None:
    """Add a stand of legs, an upright and a cradle for a guitar whose back is at z = `back`."""
    frame, floor = b.pick((b.metal(), b.paint("accent"))), -b.between(0.1, 0.16)
    b.add("stand", frame, rod((0, -0.03, back), (0, 0.5, back), 0.018))
    b.add("stand", frame, pair(rod((0, -0.01, back), (b.between(0.24, 0.34), floor, 0.24), 0.016)))
    b.add("stand", frame, rod((0, 0.34, back), (0, floor, back - b.between(0.28, 0.4)), 0.016))
    hook = rounded([(0.13, -0.022, back), (0.13, -0.022, 0.05), (0.13, 0.06, 0.06)], 0.05, 3, False)
    b.add("stand", frame, rod((-0.13, -0.022, back), (0.13, -0.022, back), 0.016))
    b.add("stand", frame, pair(tube(hook, 0.015)))
