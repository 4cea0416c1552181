"""Mugs and bottles: profiles turned on a lathe, with handles, caps and labels."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pointcmt.datasets.sources.toy.objects import textures
from pointcmt.datasets.sources.toy.objects.builder import Builder, printed
from pointcmt.datasets.sources.toy.objects.colors import rgb
from pointcmt.datasets.sources.toy.objects.outlines import (
    Curve,
    Points,
    at_height,
    rounded,
    spline,
    superellipse,
)
from pointcmt.datasets.sources.toy.objects.solids import (
    Solid,
    cylinder,
    frustum,
    lathe,
    sheet,
    tube,
)
from pointcmt.datasets.sources.toy.objects.textures import edge, grid, layers, line
from pointcmt.shapes import Material, Mesh

SMOOTH = 32  # segments around; fewer are drawn as facets
CUPS: dict[str, Points] = {  # outsides, (radius, height) in 0..1, from the foot to the rim
    "straight": ((0.94, 0), (1.0, 0.06), (1.0, 0.5), (1.0, 1)),
    "tapered": ((0.7, 0), (0.76, 0.05), (0.88, 0.5), (1.0, 1)),
    "belly": ((0.62, 0), (0.88, 0.14), (1.0, 0.42), (0.93, 0.75), (0.88, 1)),
    "tulip": ((0.5, 0), (0.82, 0.14), (0.88, 0.4), (0.84, 0.68), (1.0, 1)),
    "bowl": ((0.42, 0), (0.5, 0.06), (0.86, 0.4), (0.97, 0.75), (1.0, 1)),
    "barrel": ((0.86, 0), (0.96, 0.25), (1.0, 0.5), (0.96, 0.75), (0.86, 1)),
}
DRINKS = tuple(rgb(code) for code in ("4b2b1a", "b98552", "a9622f", "a3b763", "6f4530"))


def mug(b: Builder) -> Mesh:
    """Make a mug with a rim 1 in diameter and its handle on the right."""
    kind, facets = b.pick(tuple(CUPS)), b.pick((SMOOTH, 8, 10, 12), (4, 1, 1, 1))
    height = 0.5 * (b.between(1.2, 1.8) if kind == "bowl" else b.between(1.4, 2.8))
    points, wall = np.array(CUPS[kind]) * (0.5, height), b.between(0.04, 0.075)
    if facets < SMOOTH or kind in ("straight", "tapered"):
        outside = rounded(points, 0.06 * height, 3, closed=False)
    else:
        outside = spline(points)
    z = np.linspace(1.3 * wall, height, 9)
    hollow = np.stack([np.interp(z, outside[:, 1], outside[:, 0]) - wall, z], axis=1)
    hollow[0, 0] -= 0.3 * wall
    rim = float(outside[-1, 0])
    lip = [(rim - 0.25 * wall, height + 0.25 * wall), (rim - 0.75 * wall, height + 0.25 * wall)]
    cup = lathe([*outside, *lip, *hollow[::-1], (0.0, hollow[0, 1])], facets)
    finish = b.glaze()
    b.add("body", finish, cup.tile(2, 1).span_v(0.0, height))
    behind, before = (hollow[:-1] + np.array([t, -t]) for t in (0.006, -0.008))
    ends = [[(0.0, float(layer[0, 1]))] for layer in (behind, before)]
    liner = lathe([*ends[0], *behind, *before[::-1], *ends[1]], facets)
    b.add("body", b.paint("light", "accent"), liner)
    if b.chance(0.7):
        level = b.between(0.76, 0.9) * height
        drink = cylinder(at_height(hollow, level) + 0.3 * wall, 0.03, facets)
        b.add("drink", Material("drink", b.pick(DRINKS)), drink.move(z=level - 0.03))
    handle = _handle(b, outside, wall)
    grip = b.pick((b.paint("main") if b.patterned else finish, b.paint("accent")))
    count = b.pick((0, 1, 2), (0.1, 0.82, 0.08))
    b.add("handle", grip, [handle, handle.mirror("x")][:count])
    if b.chance(0.22):
        r = b.between(0.85, 1.0)
        under = [(0.0, 0.0), (0.45 * r, 0.0), (0.5 * r, 0.015), (0.78 * r, 0.045), (r + 0.01, 0.15)]
        above = [(r, 0.17), (0.75 * r, 0.085), (0.5 * r, 0.05), (0.0, 0.05)]
        dish = lathe([*under, *above], 36).move(z=-0.045)
        b.add("saucer", b.paint("main", "accent", "light"), dish)
    return b.mesh()


def _handle(b: Builder, outside: Curve, wall: float) -> Solid:
    """Return a handle in the plane y = 0 on the +x side, with its ends inside the wall."""
    height, reach = float(outside[-1, 1]), b.between(0.26, 0.42)
    low, high = b.between(0.12, 0.3) * height, b.between(0.72, 0.88) * height
    start, end = ((at_height(outside, z) - 0.5 * wall, z) for z in (low, high))
    side, tall = max(start[0], end[0]) + reach, high - low
    line = b.pick(
        (
            spline([start, (side - 0.08, low + 0.2 * tall), (side, high - 0.2 * tall), end], 6),
            spline([start, (side - 0.06, low + 0.04), (side - 0.06, high - 0.04), end], 6),
            rounded([start, (side, low), (side, high), end], 0.16, 4, closed=False),
            rounded([start, (side, high), end], 0.3, 6, closed=False),
        )
    )
    path = np.stack([line[:, 0], 0 * line[:, 0], line[:, 1]], axis=1)
    section = superellipse(b.between(1.0, 1.5), 0.72, 2.4, 10)
    return tube(path, b.between(0.055, 0.08), section=section)


@dataclass(frozen=True)
class Form:
    """A kind of bottle; the radius of its body is 1.

    points: the silhouette (radius, z), joined by a curve if smooth. shoulder: z where the neck
    begins. label: range of z. caps: allowed closures, names in CAPS or pump. section: the body from
    above: the power of a superellipse and its ratio of depth to width.
    """

    points: Points
    shoulder: float
    label: tuple[float, float]
    caps: str
    smooth: bool = False
    section: tuple[float, float] = (2.0, 1.0)


def bottle(b: Builder) -> Mesh:
    """Make a bottle with its label in front."""
    form, r = b.pick(FORMS), 0.35
    stretch = r * b.between(0.85, 1.2)
    points = np.array(form.points) * (r, stretch)
    outside = spline(points) if form.smooth else rounded(points, 0.12, 4, closed=False)
    is_round = form.section == (2.0, 1.0)
    facets = b.pick((SMOOTH, 8, 12), (2, 1, 1)) if is_round and not form.smooth else SMOOTH
    shoulder = form.shoulder * stretch

    def squeeze(v: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn circles below the shoulder into superellipses."""
        power, depth = form.section
        angle = np.arctan2(v[:, 1], v[:, 0])
        norm = np.abs(np.cos(angle)) ** power + np.abs(np.sin(angle)) ** power
        share = np.clip((1.04 * shoulder - v[:, 2]) / (0.3 * shoulder), 0, 1)
        wide = 1 + share * (0.93 * norm ** (-1 / power) - 1)
        deep = wide * (1 + share * (depth - 1))
        return v if is_round else v * np.stack([wide, deep, 0 * wide + 1], axis=1)

    glass = Material("glass", rgb(b.pick(GLASSES)), opacity=0.6)
    if form.caps == "pump" or b.chance(0.4):
        glass = b.pick((b.glaze("main", "accent", "light"), b.paint("main", "accent")))
    mouth, top = outside[-1].tolist()
    lip = [(1.14 * mouth, top), (1.14 * mouth, top + 0.05), (0.7 * mouth, top + 0.05)]
    opening = [(0.7 * mouth, top - 0.12), (0.0, top - 0.12)]
    base = [(0.0, 0.03), (0.8 * float(outside[0, 0]), 0.0)]
    vessel = lathe([*base, *outside[:-1], (mouth, top - 0.03), *lip, *opening], facets)
    whole = vessel.tile(2, 1).span_v(0.0, top).warp(squeeze)
    b.add_split(("body", "neck"), lambda c: c[:, 2] > shoulder, glass, whole)
    if b.chance(0.85):
        _add_cap(b, b.pick(form.caps.split()), mouth, top + 0.05)
    if glass.texture is None and b.chance(0.8):
        low, high = form.label
        art = b.paint("light", "main")
        if b.patterned:
            art = printed(_label_art(b), "label")
        b.add("label", art, _label(b, outside, low * stretch, high * stretch, facets).warp(squeeze))
    return b.mesh()


def _label(b: Builder, outside: Curve, low: float, high: float, facets: int) -> Solid:
    """Return a label just outside the body; it shows the texture once."""
    reach = b.pick((55.0, 65.0, 150.0))
    turn = np.radians(np.linspace(-reach, reach, 25))
    if facets < SMOOTH:  # the paper folds at the bottle's edges
        turn = np.radians(360 / facets * (np.arange(4) - 1.5))
    z = np.linspace(low, high, 8)[:, None]
    radius = np.interp(z, outside[:, 1], outside[:, 0]) + 0.003
    rows = np.broadcast_arrays(radius * np.sin(turn), -radius * np.cos(turn), z)
    paper = sheet(np.stack(rows, axis=-1), 0.012)
    x, y, up = np.moveaxis(paper.vertices[paper.faces], -1, 0)
    uv = [0.5 + 0.5 * np.arctan2(x, -y) / turn[-1], (up - low) / (high - low)]
    return replace(paper, uv=np.stack(uv, axis=-1))


def _label_art(b: Builder) -> textures.Texture:
    """Draw a border, a motif on a disc, and lines that suggest text."""
    (u, v), s = grid(), b.scheme
    x, y = 2 * u - 1, 2 * v - 1
    ground, ink = b.pick(((s.main, s.light), (s.light, s.main)))
    far, motif = np.sqrt(x**2 + (y - 0.25) ** 2), b.pick(tuple(textures.MOTIFS.values()))
    frame = line(np.maximum(np.abs(x), np.abs(y)) - 0.88, 0.035, 0.03)
    words = line(np.abs(y + 0.56) - 0.08, 0.04, 0.03) * edge(0.5 - np.abs(x), 0.03)
    coats = [(s.accent, frame), (ink, edge(0.5 - far, 0.03)), (ink, words)]
    return layers(ground, *coats, (ground, edge(motif(x / 1.5, (y - 0.25) / 1.5), 0.02)))


# Closures of bottles: profiles (radius, z) revolved about the axis, in units of the mouth's radius
# and from the mouth up, with their colors.
CAPS: dict[str, tuple[str, Points]] = {
    "cork": ("cork", ((0.66, -0.6), (0.66, 0), (0.78, 1.2), (0.7, 1.3), (0, 1.3))),
    "foil": ("main accent", ((1.2, -2.5), (1.16, -0.3), (1.26, 0), (1.26, 0.5), (0, 0.6))),
    "screw": ("accent dark", ((1.3, -0.5), (1.3, 0.9), (1.2, 1), (0, 1))),
    "spout": ("light accent", ((1.2, -0.1), (1.2, 0.5), (0.34, 1.1), (0.16, 2.5), (0, 2.6))),
    "egg": ("accent metal", ((0.6, -0.4), (0.6, 0.6), (1.6, 2.1), (1.3, 3.2), (0.7, 3.8))),
}
CORK = rgb("c99b6a")


def _add_cap(b: Builder, name: str, r: float, z: float) -> None:
    """Add a cap to a mouth of radius r at height z."""
    if name == "pump":
        _pump(b, r, z)
        return
    colors, profile = CAPS[name]
    tall, color = b.between(0.8, 1.2) * min(r, 0.16), b.pick(colors.split())
    if color == "metal":
        material = b.metal()
    else:
        material = Material("cork", CORK) if color == "cork" else b.paint(color)
    cap = lathe(np.array(profile) * (r, tall), b.pick((24, 8)) if name == "egg" else 24)
    b.add("cap", material, cap.move(z=z + 0.004))


def _pump(b: Builder, r: float, z: float) -> None:
    body, rise = b.pick((b.metal(), b.paint("light", "accent"))), b.between(0.3, 0.4)
    b.add("cap", body, frustum(1.28 * r, 1.05 * r, 0.14, 22, 0.012).move(z=z - 0.03))
    b.add("cap", body, cylinder(0.035, rise, 12).move(z=z))
    knots = np.array([(0.06, 0), (-0.06, 0.01), (-0.24, 0), (-0.3, -0.08)])
    beak = spline([(0, y, z + rise + up) for y, up in knots])
    b.add("cap", body, tube(beak, np.linspace(0.055, 0.026, len(beak))))


FORMS = (  # Bordeaux, Burgundy, beer, milk, soda, gin, carafe, sauce, soap, perfume
    Form(
        ((0.92, 0), (1, 0.08), (1, 3.7), (0.36, 4.6), (0.34, 6.2)),
        *(4.0, (1, 3), "foil cork"),
    ),
    Form(
        ((0.92, 0), (1, 0.1), (1, 2.4), (0.8, 3.4), (0.36, 4.7), (0.32, 6.0)),
        *(3.6, (0.7, 2.2), "foil cork", True),
    ),
    Form(((0.94, 0), (1, 0.1), (1, 2.9), (0.42, 4.1), (0.36, 5)), 3.2, (0.7, 2.4), "screw"),
    Form(((0.9, 0), (1, 0.12), (1, 2.3), (0.55, 3.2), (0.52, 3.7)), 2.6, (0.5, 1.9), "foil screw"),
    Form(
        ((0.9, 0), (1, 0.2), (0.84, 1.2), (1, 2.2), (0.86, 2.9), (0.42, 4.0), (0.38, 4.8)),
        *(3.0, (1.4, 2.4), "screw", True),
    ),
    Form(
        ((0.96, 0), (1, 0.06), (1, 2.5), (0.4, 2.75), (0.36, 3.5)),
        *(2.6, (0.5, 2.0), "cork egg screw", False, (4.5, 0.97)),
    ),
    Form(
        ((0.5, 0), (0.9, 0.25), (1, 0.9), (0.8, 1.5), (0.34, 2.0), (0.3, 3.0)),
        *(1.85, (0.5, 1.3), "cork egg", True),
    ),
    Form(
        ((0.9, 0), (1, 0.1), (0.96, 1.4), (1, 2.3), (0.8, 2.8), (0.55, 3.0)),
        *(2.75, (0.5, 2.0), "spout screw"),
    ),
    Form(
        ((0.94, 0), (1, 0.08), (1, 1.8), (0.86, 2.1), (0.4, 2.25), (0.4, 2.5)),
        *(2.15, (0.4, 1.5), "pump"),
    ),
    Form(
        ((0.92, 0), (1, 0.08), (1, 1.3), (0.32, 1.45), (0.3, 1.75)),
        *(1.38, (0.25, 1.05), "egg", False, (4.5, 0.97)),
    ),
)
GLASSES = ["3f6b45", "6b4423", "a9cfc6", "8a4b2a", "49698f", "2f4f4a", "c8dcd2", "b8506a"]
