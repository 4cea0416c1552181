"""Airplanes, nose toward -y, and rockets, upright; about 2 long."""

from dataclasses import dataclass

import numpy as np

from pointcmt.datasets.sources.toy.objects import textures
from pointcmt.datasets.sources.toy.objects.builder import Builder, printed
from pointcmt.datasets.sources.toy.objects.colors import GLASS, GLOW, INK, RUBBER, rgb
from pointcmt.datasets.sources.toy.objects.outlines import Points, at_height, spline
from pointcmt.datasets.sources.toy.objects.parts import fin, propeller, wheel, wings
from pointcmt.datasets.sources.toy.objects.solids import (
    around,
    ball,
    cylinder,
    ellipsoid,
    frustum,
    hull,
    lathe,
    pair,
    plate,
    rod,
    torus,
)
from pointcmt.datasets.sources.toy.objects.textures import edge, grid, layers, line, wave
from pointcmt.shapes import Material, Mesh

PANE, TIRE = Material("glass", GLASS), Material("rubber", RUBBER)
Range = tuple[float, float]


@dataclass(frozen=True)
class Plane:
    """A kind of airplane. Widths and heights of the body are in units of its radius.

    radius: range. body: stations (y, half width, lowest z, highest z), nose to tail. canopy: y, z,
    and half its width, length and height. span, root: of one wing, ranges. tip: the chord at the
    tip relative to the root's. sweep: range. wing: y and z where it joins the body. tail: height of
    the fin. engine: jets, propeller, nozzle or none. wheels: (x, y) of each pair. levels: number of
    wings above each other.
    """

    radius: Range
    body: Points
    canopy: tuple[float, float, float, float, float]
    span: Range
    root: Range
    tip: float
    sweep: Range
    wing: tuple[float, tuple[float, ...]]
    tail: float
    engine: str
    wheels: Points
    levels: int = 1


SMALL = (
    *((-0.8, 0.72, -0.72, 0.72), (-0.66, 0.94, -0.94, 0.94), (-0.2, 1, -1.08, 1.05)),
    *((0.3, 0.66, -0.6, 0.8), (0.88, 0.1, 0.1, 0.5)),
)
LINER = (
    *((-1, 0, -0.2, -0.2), (-0.94, 0.5, -0.62, 0.3), (-0.7, 1, -1, 1), (0.4, 1, -1, 1)),
    *((0.75, 0.66, -0.45, 1), (1, 0.12, 0.5, 0.85)),
)
FIGHTER = (
    *((-1.2, 0, 0, 0), (-0.9, 0.42, -0.4, 0.4), (-0.45, 0.85, -0.7, 0.8), (0.1, 1.1, -0.8, 0.85)),
    (0.85, 0.85, -0.62, 0.7),
)
GLIDER = (
    *((-0.8, 0, 0, 0), (-0.62, 0.72, -0.72, 0.5), (-0.3, 1, -1, 0.9), (0.1, 0.45, -0.2, 0.7)),
    (0.85, 0.18, 0.2, 0.55),
)
PLANES = (  # airliner, small plane, biplane, fighter, glider
    Plane(
        *((0.12, 0.16), LINER, (-0.86, 0.4, 0.66, 0.14, 0.42), (0.85, 1.1), (0.42, 0.52), 0.34),
        *((0.4, 0.62), (-0.3, (-0.6,)), 0.4, "jets", ((0, -0.7), (0.16, 0.1))),
    ),
    Plane(
        *((0.15, 0.2), SMALL, (-0.16, 0.88, 0.6, 0.24, 0.72), (0.8, 1.1), (0.32, 0.42), 0.75),
        *((-0.02, 0.14), (-0.5, (-0.66, 1.15)), 0.3, "propeller", ((0.24, -0.42), (0, 0.75))),
    ),
    Plane(
        *((0.13, 0.17), SMALL, (0.02, 0.86, 0.5, 0.13, 0.3), (0.75, 1.0), (0.26, 0.34), 0.86),
        *((0.0, 0.06), (-0.5, (-0.75,)), 0.27, "propeller", ((0.2, -0.5), (0, 0.7)), 2),
    ),
    Plane(
        *((0.12, 0.16), FIGHTER, (-0.4, 0.75, 0.42, 0.3, 0.5), (0.5, 0.68), (0.6, 1.0), 0.16),
        *((0.4, 0.7), (-0.15, (-0.15,)), 0.37, "nozzle", ((0, -0.55), (0.22, 0.15))),
    ),
    Plane(
        *((0.08, 0.1), GLIDER, (-0.42, 0.45, 0.7, 0.22, 0.8), (1.25, 1.55), (0.18, 0.24), 0.35),
        *((-0.02, 0.1), (-0.26, (0.6,)), 0.24, "none", ((0, -0.25),)),
    ),
)


def airplane(b: Builder) -> Mesh:
    """Make an airliner, a propeller plane, a biplane, a fighter or a glider."""
    plane, s = b.pick(PLANES, (0.3, 0.3, 0.17, 0.15, 0.08)), b.scheme
    r, stretch = b.between(*plane.radius), b.between(0.9, 1.1)
    body = np.array(plane.body) * (stretch, r, r, r)
    skin, trim = b.paint("main", "light"), b.paint("main", "accent")
    if b.patterned:
        skin = printed(_livery(b, plane.engine == "jets"), "livery")
        striped = textures.stripes(s.main, s.light, count=2)
        cloth = b.pick((striped, textures.checker(s.light, s.main)))
        trim = b.pick((printed(cloth, "cloth"), trim), (1, 2))
    b.add("fuselage", skin, hull(body, b.pick((2.0, 2.0, 3.0)), 22))
    y, z, rx, ry, rz = plane.canopy
    b.add("fuselage", PANE, ellipsoid(rx * r, ry, rz * r).move(y=y * stretch, z=z * r))
    span, root, sweep = b.between(*plane.span), b.between(*plane.root), b.between(*plane.sweep)
    rise, y, z = b.between(0.02, 0.14) * span, plane.wing[0], b.pick(plane.wing[1]) * r
    rise, gap = rise if plane.levels == 1 else 0.0, b.between(0.36, 0.46)
    both = wings(span, root, plane.tip * root, sweep, 0.11, rise).project(0.5, "y")
    b.add("wing", trim, [both.move(y=y, z=z + gap * level) for level in range(plane.levels)])
    if plane.levels > 1:
        for x, at in ((0.14, y + 0.06), (0.14, y + 0.18), (0.72, y + 0.08), (0.72, y + 0.18)):
            b.add("wing", b.paint("dark"), pair(rod((x, at, z), (x, at, z + gap), 0.01)))
    elif abs(z) > r:  # a high wing needs a cabin below it
        b.add("fuselage", PANE, ellipsoid(0.6 * r, 0.3, 0.9 * r).move(y=y + 0.2, z=0.75 * r))
    end, up, size = float(body[-1, 0]), float(body[-1, 2:].mean()), plane.tail * b.between(0.9, 1.1)
    lean = b.between(0.3, 0.65)
    b.add("tail", trim, fin(size, size, 0.5 * size, lean * size).move(y=end - 0.9 * size, z=up))
    tail = wings(0.95 * size, 0.62 * size, 0.36 * size, 0.7 * lean * size, 0.1)
    back, high = b.pick(((0.0, 0.02), (0.75 * lean * size, 0.93 * size)), (3, 1))
    b.add("tail", trim, tail.move(y=end - 0.62 * size + back, z=up + high))
    if plane.engine == "jets":
        for share in b.pick(((0.34,), (0.34, 0.62))):
            _jets(b, r, (share * span, y + sweep * share - 0.12, z + rise * share - 0.62 * r))
    elif plane.engine == "propeller":
        _propeller(b, r, float(body[0, 0]))
    elif plane.engine == "nozzle":
        ring = np.array([(0.3, 0), (0.62, 0), (0.46, 0.14), (0.34, 0.14)]) * (r, 1)
        nozzle = lathe(ring, 16, ring=True).turn("x", -90).move(y=end - 0.05)
        b.add("engine", b.metal(), nozzle)
        intake = np.array([(-0.4, 0.3, -0.8, 0.1), (0, 0.42, -0.8, 0.4), (0.5, 0.1, -0.4, 0.2)])
        side = hull(intake * (1, r, r, r), 3.5, 14).move(x=0.85 * r)
        b.add("engine", b.paint("accent"), pair(side))
    if b.chance(0.7):
        _gear(b, plane.wheels, r)
    return b.mesh()


def _jets(b: Builder, r: float, at: tuple[float, float, float]) -> None:
    """Add a jet engine with its intake at `at`, below a pylon, and its mirror image."""
    cowl = [(0.8, 0.06), (0.88, 0), (1, 0.12), (1, 0.45), (0.72, 1), (0.6, 1), (0.6, 0.3)]
    core = [(0, 0.08), (0.25, 0.2), (0.84, 0.22), (0.64, 0.9), (0.3, 1), (0, 1.15)]
    shell, size = b.paint("light", "accent"), (0.55 * r, 0.3)
    jet = lathe(np.array(cowl) * size, 18, ring=True).turn("x", -90)
    fan = lathe(np.array(core) * size, 18).turn("x", -90)
    pylon = fin(0.66 * r, 0.22, 0.2, 0.08).move(y=0.08)
    b.add("engine", shell, pair(jet.move(*at)), pair(pylon.move(*at)))
    b.add("engine", b.metal(), pair(fan.move(*at)))


def _propeller(b: Builder, r: float, nose: float) -> None:
    """Add a cowling, two to four blades and a spinner to a nose at y = `nose`."""
    ring = np.array([(0.4, 0), (0.86, 0), (0.94, 0.1), (0.8, 0.16), (0.4, 0.16)]) * (r, 1)
    cowling = lathe(ring, 20, ring=True).turn("x", -90).move(y=nose - 0.07)
    b.add("engine", b.paint("light", "accent"), cowling)
    length = b.between(0.3, 0.4)
    blades = propeller(b.whole(2, 4), length, 0.28 * length)
    b.add("engine", b.paint("dark", "accent"), [blade.move(y=nose - 0.09) for blade in blades])
    cone = np.array([(0.22, -0.12), (0.2, 0.1), (0.1, 0.26), (0.0, 0.32)]) * length
    b.add("engine", b.paint("accent"), lathe(cone, 14).turn("x", 90).move(y=nose - 0.09))


def _gear(b: Builder, places: Points, r: float) -> None:
    """Add wheels on struts below the wings, and small ones below the tail."""
    for x, y in places:
        size, z, top = (0.45 * r, -1.7 * r, -0.4 * r) if y < 0.5 else (0.04, -0.6 * r, 0.3 * r)
        tire, hub = wheel(size, 0.8 * size, 14)
        strut = rod((x, y, z), (0.5 * x, y - 0.03, top), 0.2 * size)
        pieces = (TIRE, tire.move(x, y, z)), (b.paint("light"), hub.move(x, y, z))
        for material, solid in (*pieces, (b.paint("dark"), strut)):
            b.add("gear", material, pair(solid) if x else solid)


def _livery(b: Builder, windows: bool) -> textures.Texture:
    """Draw the paint of a fuselage: u around from +x over the top, v from nose to tail."""
    u, v = grid()
    height = np.sin(2 * np.pi * u) + 0 * v  # -1 at the belly, 1 at the back
    swoosh = v + 0.22 * height
    first, second = b.pick(
        (
            (edge(-0.1 - height, 0.1), line(height + 0.02, 0.09, 0.08)),
            (line(height + 0.1, 0.2, 0.08), line(height - 0.22, 0.06, 0.06)),
            (edge(swoosh - 0.62, 0.03), line(swoosh - 0.56, 0.035)),
            (edge(0.22 - v, 0.02), line(v - 0.8, 0.03)),
            (edge(wave(3 * v) - 0.6, 0.06), line(v - 0.12, 0.05)),
        )
    )
    panes = line(height - 0.38, 0.16, 0.1) * edge(wave(17 * v) - 0.45, 0.3) * line(v - 0.5, 0.34)
    coats = [(b.scheme.main, first), (b.scheme.accent, second), (INK, 0.85 * windows * panes)]
    return layers(b.scheme.light, *coats)


# Silhouettes (radius, z) of comic-book rockets, from the nozzle up; tips at z = 1.
HULLS = (
    ((0.1, 0), (0.15, 0.12), (0.19, 0.36), (0.17, 0.64), (0.09, 0.88), (0.0, 1.0)),  # cigar
    ((0.14, 0), (0.25, 0.16), (0.31, 0.4), (0.26, 0.66), (0.13, 0.9), (0.0, 1.0)),  # egg
    ((0.08, 0), (0.12, 0.1), (0.2, 0.42), (0.18, 0.62), (0.08, 0.88), (0.0, 1.0)),  # moon
    ((0.12, 0), (0.15, 0.05), (0.14, 0.5), (0.1, 0.78), (0.04, 0.94), (0.0, 1.0)),  # dart
    ((0.2, 0), (0.27, 0.12), (0.27, 0.3), (0.18, 0.6), (0.1, 0.85), (0.0, 1.0)),  # pear
)


def rocket(b: Builder) -> Mesh:
    """Make a comic-book rocket or a staged launcher."""
    b.pick((_comic_rocket, _launcher), (3, 2))(b)
    return b.mesh()


def _comic_rocket(b: Builder) -> None:
    """Add a bulging hull with portholes on three to five fins, a nozzle and sometimes fire."""
    tall, lift = b.between(1.1, 1.7), b.between(0.16, 0.34)
    girth = b.between(0.85, 1.15) * (1.25 if tall < 1.3 else 1.0)
    profile = spline(np.array(b.pick(HULLS)) * (girth, tall) + np.array([0.0, lift]), 5)
    z, cut, base = profile[:, 1], lift + tall * b.between(0.66, 0.78), float(profile[0, 0])
    r = at_height(profile, cut)
    lower = lathe([*profile[z < cut - 0.01], (r, cut)], 32).tile(2, 1).span_v(lift, cut)
    b.add("body", b.glaze("main", "light", "accent"), lower)
    rim = [(0.9 * r, cut - 0.012), (1.015 * r, cut - 0.006)]
    nose = lathe([*rim, *profile[z > cut + 0.01] * (1.01, 1.0)], 32)
    b.add("nose", b.pick((b.paint("accent", "main"), b.metal())), nose)
    if b.chance(0.45):
        tip = rod((0, 0, lift + tall - 0.03), (0, 0, lift + tall + 0.12), 0.012)
        b.add("nose", b.paint("dark"), tip, ball(0.03, 12, 8).move(z=lift + tall + 0.13))
    ring, pane = b.paint("accent", "dark"), b.pick((PANE, Material("lit pane", GLOW)))
    for i in range(b.whole(1, 3)):
        at = cut - 0.14 - 0.25 * i * girth
        size, slope = 0.4 * r, at_height(profile, at - 0.03) - at_height(profile, at + 0.03)
        turn, y = 90 - float(np.degrees(np.arctan2(slope, 0.06))), 0.012 - at_height(profile, at)
        frame, glass = torus(size, 0.2 * size), ellipsoid(size, size, 0.02)
        b.add("window", ring, frame.turn("x", turn).move(y=y, z=at))
        b.add("window", pane, glass.turn("x", turn).move(y=y, z=at))
    top, inner = lift + b.between(0.32, 0.46) * tall, at_height(profile, lift + 0.04) - 0.05
    upper, count = at_height(profile, top) - 0.03, b.pick((3, 4, 5))
    far = max(upper, inner) + b.between(0.2, 0.34)
    curve = spline([(upper, top), (far - 0.06, 0.5 * top), (far, 0.1 * top), (far + 0.02, 0)])
    swept = [(far - 0.05, 0.0), (far - 0.1, 0.24 * lift + 0.04), (inner, lift + 0.08)]
    delta = [(upper, top), (far, 0.2), (far, 0), (far - 0.14, 0), (inner, lift + 0.03)]
    outline = np.array(b.pick(([*curve, *swept], delta)))[::-1]
    one = plate(outline, b.between(0.035, 0.06), 0.012)  # no fin directly in front of the portholes
    b.add("fin", b.paint("accent", "main", "dark"), around(one, count, 180.0 / count - 90.0))
    low = lift - min(0.12, 0.7 * lift)
    bell = [(0.7, lift + 0.03), (1.05, low), (0.9, low), (0.55, lift + 0.02)]
    b.add("engine", b.metal(), lathe(np.array(bell) * (base, 1), 24, ring=True))
    if b.chance(0.35):
        plume = [(0.0, 0.012), (0.45 * base, 0.35 * low), (0.86 * base, low + 0.018), (0.0, lift)]
        b.add("engine", Material("fire", rgb("f28c28")), lathe(plume, 20))


def _launcher(b: Builder) -> None:
    """Add one to three stacked stages, boosters or fins at the sides, and nozzles below."""
    r, base, tall = b.between(0.13, 0.18), 0.13, b.between(1.1, 1.5)
    finish, second, z, radius = b.glaze("main", "light"), b.paint("light", "main"), base, r
    for i in range(b.whole(1, 3)):
        long, narrow = tall * (0.56, 0.3, 0.2)[i], radius * b.pick((1.0, 0.82, 0.7))
        stage = cylinder(radius, long, 28, 0.008).tile(2, 1).span_v(0.0, long).move(z=z)
        b.add("body", b.pick((finish, second)) if i else finish, stage)
        joint = frustum(1.012 * radius, 1.012 * narrow, 0.06, 28, 0.006)
        b.add("body", b.paint("dark"), joint.move(z=z + long - 0.012))
        z, radius = z + long + 0.038, narrow
    knots = np.array([(0.9, 0.0), (1, 0.12), (0.82, 0.26), (0.5, 0.4), (0.0, 0.55)])
    nose = lathe(spline(knots * (radius, b.pick((0.55, 1.0, 1.6)))), 32)
    b.add("nose", b.paint("accent", "main"), nose.move(z=z))
    ring = np.array([(1, 0), (0.75, 0.06), (0.45, 0.15), (0.3, 0.15), (0.6, 0.05), (0.9, 0)])
    bell, count, steel = lathe(ring, 14, ring=True), b.pick((2, 3, 4)), b.metal()
    b.add("engine", steel, bell.scale(0.7 * r, 0.7 * r))
    boosters = b.chance(0.6)
    if boosters:
        small, high = r * b.between(0.45, 0.7), tall * b.between(0.32, 0.52)
        x, color = r + 0.92 * small, b.paint("light", "main", "accent")
        tip = lathe(spline(knots * (1.02 * small, 0.55), 2), 16).move(x, z=base + high - 0.01)
        b.add("body", color, around(cylinder(small, high, 16, 0.006).move(x, z=base), count))
        b.add("nose", b.paint("accent"), around(tip, count))
        b.add("engine", steel, around(bell.scale(0.75 * small, 0.75 * small).move(x), count))
    if not boosters or b.chance(0.5):
        outline = np.array([(0.9, 0.12), (1.9, 0.06), (1.9, 0.2), (0.9, 0.45)]) * (r, 1.0)
        one = plate(outline, 0.03, 0.01)
        b.add("fin", b.paint("accent", "dark"), around(one, count, 180 / count))
    if b.chance(0.4):
        hatch = ellipsoid(0.045, 0.02, 0.06, 14, 8).move(y=-r)
        b.add("window", PANE, [hatch.move(z=base + share * tall) for share in (0.32, 0.45)])
