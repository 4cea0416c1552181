"""Cars: sedans, hatchbacks, wagons, beetles, vans, jeeps, roadsters, racers."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pointcmt.datasets.sources.toy.objects import textures
from pointcmt.datasets.sources.toy.objects.builder import Builder, printed
from pointcmt.datasets.sources.toy.objects.colors import CHROME, GLASS, GLOW, INK, RUBBER, rgb
from pointcmt.datasets.sources.toy.objects.outlines import rounded, rounded_rectangle
from pointcmt.datasets.sources.toy.objects.parts import wheel
from pointcmt.datasets.sources.toy.objects.solids import (
    ball,
    box,
    cylinder,
    ellipsoid,
    extrude,
    frustum,
    hull,
    lath,
    loft,
    pair,
    rod,
    soft_box,
    torus,
    tube,
)
from pointcmt.datasets.sources.toy.objects.textures import edge, grid, layers, line, wave
from pointcmt.shapes import Material, Mesh

METAL, WINDOW = Material("chrome", CHROME), Material("glass", GLASS)
TIRE, DARK = Material("rubber", RUBBER), Material("trim", INK)


@dataclass(frozen=True)
class Plan:
    """A kind of car: 2 long, y from -1 at the nose to 1, with its wheels on z = 0.

    ends: widths of nose and tail, relative to the full width. low: z of the floor. hood, belt,
    trunk: z of the body's upper side in front, in the middle, at the back. roof: z. cabin: y of the
    windshield's bottom and top, of the rear window's top and bottom; none for open cars. wheel:
    radius. boxy: the power of the sections. axles: y.
    """

    ends: tuple[float, float]
    low: float
    hood: float
    belt: float
    trunk: float
    roof: float
    cabin: tuple[float, ...] = ()
    wheel: float = 0.19
    boxy: float = 5.0
    axles: tuple[float, float] = (-0.6, 0.6)


PLANS = {
    "sedan": Plan((0.86, 0.86), 0.14, 0.53, 0.57, 0.55, 0.86, (-0.42, -0.18, 0.34, 0.62)),
    "hatch": Plan((0.86, 0.9), 0.14, 0.55, 0.63, 0.62, 0.98, (-0.48, -0.22, 0.66, 0.93), 0.2, 4.5),
    "wagon": Plan((0.88, 0.9), 0.15, 0.57, 0.6, 0.58, 0.9, (-0.4, -0.2, 0.82, 0.95), boxy=6.0),
    "beetle": Plan((0.4, 0.36), 0.15, 0.5, 0.65, 0.5, 0.98, (-0.4, -0.16, 0.26, 0.7), 0.2, 2.8),
    "van": Plan((0.84, 0.9), 0.15, 0.66, 0.68, 0.68, 1.14, (-0.95, -0.82, 0.86, 0.95), 0.2),
    "jeep": Plan((0.86, 0.94), 0.25, 0.64, 0.68, 0.7, 1.1, (-0.4, -0.3, 0.88, 0.95), 0.25, 8.0),
    "coupe": Plan((0.78, 0.84), 0.12, 0.43, 0.52, 0.54, 0.76, (-0.34, 0.02, 0.34, 0.86), boxy=4.0),
    "roadster": Plan((0.6, 0.6), 0.13, 0.47, 0.54, 0.5, 0.8, (), 0.2, 3.4),
    "racer": Plan((0.3, 0.2), 0.14, 0.46, 0.53, 0.44, 0.7, (), 0.25, 2.6, (-0.62, 0.5)),
}
WEIGHTS = (1.4, 1.4, 1.2, 1.2, 1.4, 1.1, 1.2, 1.1, 1.1)  # relative frequencies, in this order


def car(b: Builder) -> Mesh:
    """Make a car, about 2 long, sometimes with a rack, a load or a driver."""
    name = b.pick(tuple(PLANS), WEIGHTS)
    plan, half = PLANS[name], b.between(0.39, 0.46) * (0.56 if name == "racer" else 1.0)
    stretch, tall = b.between(0.88, 1.14), b.between(0.94, 1.08)
    deck, low = _deck(plan) * (stretch, half, tall, tall), plan.low
    body = hull(deck, plan.boxy, 24)
    plain = b.paint("main") if b.patterned else b.paint("main", "accent", "light")
    lacquer = plain
    if b.patterned:
        nose, length = float(deck[0, 0]), 2 * stretch
        body = body.project(1.0, "y").tile(1, 1 / length, 0, -nose / length)
        lacquer = printed(_lacquer(b), "lacquer")
    b.add("body", lacquer, body)
    roof = plan.roof * tall
    if plan.cabin:
        span = _cabin(b, plan, deck, half, roof, b.pick((plain, b.paint("light"))))
    else:
        span = 0.0, 0.4
        _cockpit(b, half, plan.belt * tall, name == "racer")
    radius, broad = plan.wheel * b.between(0.94, 1.06), b.between(0.12, 0.17)
    hub, (tire, disc) = b.pick((METAL, b.paint("light", "accent"))), wheel(radius, broad, 18)
    for y in np.array(plan.axles) * stretch:
        x = float(np.interp(y, deck[:, 0], deck[:, 1])) + 0.028 - broad / 2
        if name in ("racer", "beetle", "roadster"):
            x = half * (1.5 if name == "racer" else 0.92) + 0.02
        if name == "racer":
            b.add("wheel", METAL, rod((-x, y, radius), (x, y, radius), 0.025))
        elif name == "beetle":
            fender = ellipsoid(0.16, 1.45 * radius, 1.3 * radius, 18, 8)
            b.add("body", plain, pair(fender.move(x - 0.09, y, radius + 0.05)))
        else:
            arch = cylinder(1.17 * radius, 0.06, 24).turn("y", 90)
            b.add("body", DARK, pair(arch.move(x + broad / 2 - 0.08, y, radius + 0.01)))
        b.add("wheel", TIRE, pair(tire.move(x, y, radius)))
        b.add("wheel", hub, pair(disc.move(x, y, radius)))
    _lights(b, deck, low * tall)
    if plan.cabin and name != "coupe" and b.chance(0.5):
        _roof_load(b, half, roof, *span)
    return b.mesh()


def _deck(plan: Plan) -> NDArray[np.float64]:
    """Return stations (y, fraction of the half width, lowest z, highest z) below the windows."""
    (nose, tail), low, hood, belt, trunk = plan.ends, plan.low, plan.hood, plan.belt, plan.trunk
    front = [(-1, nose, low + 0.07, hood - 0.08), (-0.9, 0.3 + 0.7 * nose, low, hood - 0.01)]
    back = [(0.92, 0.3 + 0.7 * tail, low + 0.02, trunk), (1, tail, low + 0.08, trunk - 0.07)]
    return np.array([*front, (-0.45, 1, low, belt), (0.6, 1, low, belt), *back])


def _lacquer(b: Builder) -> textures.Texture:
    """Draw stripes, flames or a motif: u across and up, v along; shown once."""
    (u, v), s = grid(), b.scheme
    tongue = 0.17 * wave(5 * u) ** 1.5 + 0.07 * wave(10 * u + 0.5)
    outer, inner = (edge(at + tongue - v, 0.02) for at in (0.14, 0.06))
    flames = layers(s.main, (s.accent, outer), (s.light, inner))
    racing = layers(s.main, (s.light, line(np.minimum(u, 1 - u) - 0.075, 0.05, 0.012)))
    dotted = textures.motif(s.main, s.light, s.accent, shape=b.pick(tuple(textures.MOTIFS)))
    return b.pick((racing, flames, dotted, textures.stripes(s.main, s.light, count=8)))


def _cabin(
    b: Builder, plan: Plan, deck: NDArray[np.float64], half: float, z: float, roof: Material
) -> tuple[float, float]:
    """Add glass that narrows upward, pillars and a roof; return y of the roof's front and rear."""
    foot, head, tail, rear = np.array(plan.cabin) * deck[-1, 0]
    low = float(np.interp((foot, rear), deck[:, 0], deck[:, 3]).min()) - 0.06
    wide, narrow = 0.93 * half, b.between(0.74, 0.84) * half
    if plan.boxy < 3:
        wide, narrow = 0.8 * half, 0.66 * half
    rings = [
        np.insert(rounded_rectangle(2 * reach, back - front, 0.05), 2, up, axis=1)
        + np.array([0, (front + back) / 2, 0])
        for reach, front, back, up in ((wide, foot, rear, low), (narrow, head, tail, z - 0.03))
    ]
    b.add("cabin", WINDOW, loft(np.stack(rings)))
    lid = extrude(rounded_rectangle(2 * narrow + 0.05, tail - head + 0.07, 0.09), 0.07, 0.03, 3)
    b.add("cabin", roof, lid.move(y=(head + tail) / 2, z=z - 0.05))
    middle = 0.15 * (foot + rear) + 0.35 * (head + tail)
    for below, above in ((foot, head), (rear, tail), (middle, middle)):
        path = [(wide - 0.01, below, low), (narrow - 0.006, above, z - 0.02)]
        b.add("cabin", roof, pair(lath(path, 0.06, 0.044)))
    return float(head), float(tail)


def _cockpit(b: Builder, half: float, top: float, single: bool) -> None:
    """Add a well with seats, a steering wheel, a windshield and sometimes a driver."""
    w = (0.64 if single else 0.74) * half
    well = extrude(rounded_rectangle(2 * w, 0.5, 0.12), 0.05, 0.015)
    b.add("cabin", DARK, well.move(y=0.14, z=top - 0.03))
    places, seat = (0.0,) if single else (-0.5 * w, 0.5 * w), b.paint("accent")
    rest = soft_box((1.2 if single else 0.7) * w, 0.22, 0.08, 0.035).turn("x", 75)
    b.add("cabin", seat, [rest.move(x, 0.3, top + 0.08) for x in places])
    b.add("cabin", DARK, torus(0.09, 0.014, 18, 6).turn("x", 60).move(places[0], -0.02, top + 0.06))
    corners = [(-w, 0), (w, 0), (0.82 * w, 0.16), (-0.82 * w, 0.16)]
    shield = extrude(rounded(corners, 0.06), 0.016).turn("x", 62)
    b.add("cabin", WINDOW, shield.move(y=-0.14, z=top - 0.02))
    if single or b.chance(0.5):
        b.add("load", seat, ball(0.11).move(places[0], 0.14, top + 0.14))
        visor = ellipsoid(0.085, 0.05, 0.04, 12, 6)
        b.add("load", DARK, visor.move(places[0], 0.065, top + 0.15))


def _lights(b: Builder, deck: NDArray[np.float64], low: float) -> None:
    """Add lamps in front and at the back, bumpers and a grille."""
    (front, width, under, over), size = deck[0], b.between(0.05, 0.075)
    x, z = max(0.72 * width, 1.3 * size), 0.35 * under + 0.65 * over
    lamp, rim = ellipsoid(size, 0.05, size, 14, 8), torus(size, 0.014, 16, 6).turn("x", 90)
    b.add("light", METAL, pair(rim.move(x, front, z)))
    b.add("light", Material("headlight", GLOW), pair(lamp.move(x, front, z)))
    back, wide, under, over = deck[-1]
    red = box(0.07, 0.05, 0.09, 0.012).move(
        max(0.72 * wide, 0.05), back - 0.006, (under + over) / 2
    )
    b.add("light", Material("tail light", rgb("c8362b")), pair(red))
    if b.chance(0.7):
        for y, w, inner in ((1.03 * front, width, 0.12), (1.03 * back, wide, -0.12)):
            half = [(-w - 0.02, y + inner, low + 0.09), (-w, y, low + 0.09)]
            path = rounded([*half, *((-x, y, z) for x, y, z in half[::-1])], 0.06, 3, closed=False)
            b.add("body", METAL, tube(path, 0.028))
    if b.chance(0.6):
        grille = box(1.0 * x, 0.05, 0.1, 0.01).move(y=front - 0.004, z=low + 0.12)
        b.add("body", DARK, grille)


def _roof_load(b: Builder, half: float, roof: float, front: float, rear: float) -> None:
    """Add suitcases, a surfboard or a fir tree on a rack, or a taxi sign."""
    kind, y, z = b.pick(("cases", "board", "fir", "taxi")), (front + rear) / 2, roof + 0.06
    w, reach = 0.7 * half, 0.4 * (rear - front)
    if kind == "taxi":
        sign = Material("sign", GLOW)
        if b.patterned:
            sign = printed(textures.checker(b.scheme.light, b.scheme.dark, 2), "sign")
        b.add("load", sign, box(0.3, 0.12, 0.12, 0.015).project(0.15).move(y=y, z=roof + 0.01))
        return
    for shift in (-reach, reach):
        post = cylinder(0.015, 0.06, 8).move(0.8 * w, y + shift, roof - 0.01)
        b.add("load", DARK, rod((-w, y + shift, z), (w, y + shift, z), 0.018), pair(post))
    z += 0.012
    if kind == "cases":
        for x, name in ((-0.42 * w, "accent"), (0.45 * w, "light")):
            case = box(0.8 * w, b.between(0.9, 1.7) * reach, b.between(0.1, 0.18), 0.025)
            b.add("load", b.paint(name), case.move(x, y, z))
    elif kind == "board":
        wide = [(-0.5, 0.12, 0, 0.035), (0.1, 0.15, 0, 0.035), (0.6, 0.1, 0, 0.035)]
        board = hull([(-0.8, 0, 0.03, 0.03), *wide, (0.76, 0, 0.02, 0.02)], segments=12)
        b.add("load", b.paint("accent"), board.move(y=y, z=z))
    else:
        fir = Material("fir", rgb("3d6b4a"))
        for i in range(3):
            tier = frustum(0.19 - 0.035 * i, 0.03, 0.36, 12).turn("x", -90)
            b.add("load", fir, tier.move(y=y + 0.26 * i - 0.5, z=z + 0.16))
