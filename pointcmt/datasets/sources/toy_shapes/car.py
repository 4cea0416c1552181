"""Cars: saloons, hatchbacks, estates, beetles, vans, pick-ups, roadsters, racers and lorries."""

import numpy as np
from numpy.typing import NDArray

from pointcmt.datasets.sources.toy_shapes.assembly import Assembly
from pointcmt.datasets.sources.toy_shapes.canvas import Texture, edge, grid, layers
from pointcmt.datasets.sources.toy_shapes.car_loads import lorry_load, on_the_roof, truck_bed
from pointcmt.datasets.sources.toy_shapes.car_paint import KINDS, decorated
from pointcmt.datasets.sources.toy_shapes.car_plans import (
    HEADLIGHT,
    LEATHER,
    METAL,
    PLANS,
    TAIL_LIGHT,
    TYRE,
    WEIGHTS,
    WINDOW,
    Car,
)
from pointcmt.datasets.sources.toy_shapes.dice import Dice
from pointcmt.datasets.sources.toy_shapes.finishes import paint, printed, wood
from pointcmt.datasets.sources.toy_shapes.hulls import hull, wheel
from pointcmt.datasets.sources.toy_shapes.loft import loft
from pointcmt.datasets.sources.toy_shapes.outlines import rounded, rounded_rectangle
from pointcmt.datasets.sources.toy_shapes.palettes import INK, Scheme, pick_scheme
from pointcmt.datasets.sources.toy_shapes.solid import pair
from pointcmt.datasets.sources.toy_shapes.solids import (
    box,
    cylinder,
    ellipsoid,
    extrude,
    rod,
    soft_box,
    torus,
    tube,
)
from pointcmt.shapes import Material, Mesh

PARTS = ("body", "cabin", "wheel", "light", "load")


def build(dice: Dice) -> Mesh:
    """One car, about 2 long."""
    assembly = Assembly(PARTS)
    name = dice.pick(tuple(PLANS), WEIGHTS)
    plan, scheme, patterned = PLANS[name], pick_scheme(dice), dice.chance(0.5)
    car = Car(plan, dice.between(0.88, 1.14), dice.between(0.39, 0.46), dice.between(0.94, 1.08))
    color = dice.pick((scheme.main, scheme.main, scheme.accent, scheme.light))
    plain = paint(scheme.main if patterned else color, "lacquer")
    deck = np.array(plan.deck) * (car.stretch, car.half, car.tall, car.tall)
    body, lacquer = hull(deck, plan.power, 24), plain
    if patterned:
        kind = "sprinkled" if name == "van" and dice.chance(0.5) else dice.pick(KINDS)
        lacquer, body = decorated(dice, scheme, body, kind)
    assembly.add("body", lacquer, body)
    if plan.cabin is None:
        _open_cockpit(dice, assembly, car, scheme)
    else:
        _cabin(dice, assembly, car, dice.pick((plain, paint(scheme.light, "lacquer"))))
    _wheels(dice, assembly, car, scheme, plain, name)
    if name != "racer":
        _lights(dice, assembly, car, name)
    _extras(dice, assembly, car, scheme, plain, name, patterned)
    return assembly.mesh()


def _cabin(dice: Dice, assembly: Assembly, car: Car, roof: Material) -> None:
    """Glass that narrows upwards, pillars at its corners and a roof over it."""
    assert car.plan.cabin is not None
    foot, head, tail, rear = (y * car.stretch for y in car.plan.cabin)
    ends = car.plan.cabin[0], car.plan.cabin[3], min(0.0, car.plan.cabin[3])
    low = min(car.deck_at(y) for y in ends) - 0.06
    wide, narrow = 0.93 * car.half, dice.between(0.74, 0.84) * car.half
    if car.plan.power < 3:
        wide, narrow = 0.8 * car.half, 0.66 * car.half
    panes = _ring(wide, foot, rear, low), _ring(narrow, head, tail, car.roof - 0.03)
    assembly.add("cabin", WINDOW, loft(np.stack(panes)))
    outline = rounded_rectangle(2 * narrow + 0.05, tail - head + 0.07, 0.09)
    lid = extrude(outline, 0.07, 0.03, steps=3)
    assembly.add("cabin", roof, lid.project(1.0, "y").move(y=(head + tail) / 2, z=car.roof - 0.05))
    pillars = [(foot, head), (rear, tail)]
    if tail - head > 0.4:
        middle = 0.15 * (foot + rear) + 0.35 * (head + tail)
        pillars.append((middle, middle))
    if tail - head > 0.9:
        pillars.append((tail - 0.35, tail - 0.35))
    section = np.array([(-0.03, -0.022), (0.03, -0.022), (0.03, 0.022), (-0.03, 0.022)])
    for below, above in pillars:
        line = [(wide - 0.01, below, low), (narrow - 0.006, above, car.roof - 0.02)]
        assembly.add("cabin", roof, pair(tube(line, 1.0, section=section)))


def _ring(half: float, front: float, back: float, z: float) -> NDArray[np.float64]:
    """A level rounded rectangle [S,3]."""
    flat = rounded_rectangle(2 * half, back - front, 0.05)
    return np.stack([flat[:, 0], flat[:, 1] + (front + back) / 2, np.full(len(flat), z)], axis=1)


def _open_cockpit(dice: Dice, assembly: Assembly, car: Car, scheme: Scheme) -> None:
    """A leather well with seats and a wheel behind a windscreen; a racer has one seat."""
    single, top = car.plan.power < 3, car.deck_at(0.1)
    w = (0.36 if single else 0.74) * car.half
    well = extrude(rounded_rectangle(2 * w, 0.5, 0.12), 0.05, 0.015)
    assembly.add("cabin", LEATHER, well.move(y=0.14, z=top - 0.03))
    places = (0.0,) if single else (-0.5 * w, 0.5 * w)
    rest = soft_box((1.2 if single else 0.7) * w, 0.22, 0.08, 0.035).turn("x", 75)
    for x in places:
        assembly.add("cabin", paint(scheme.accent, "leather"), rest.move(x, 0.3, top + 0.08))
    rim = torus(0.09, 0.014, 18, 6).turn("x", 60)
    assembly.add("cabin", LEATHER, rim.move(places[0], -0.02, top + 0.06))
    corners = [(-w, 0), (w, 0), (0.82 * w, 0.16), (-0.82 * w, 0.16)]
    screen = extrude(rounded(corners, 0.06), 0.016).turn("x", 62)
    assembly.add("cabin", WINDOW, screen.move(y=-0.14, z=top - 0.02))
    if single or dice.chance(0.4):
        helmet, visor = ellipsoid(0.1, 0.11, 0.11, 16, 10), ellipsoid(0.085, 0.05, 0.04, 12, 6)
        x = places[0]
        assembly.add("load", paint(scheme.accent, "helmet"), helmet.move(x, 0.14, top + 0.14))
        assembly.add("load", LEATHER, visor.move(x, 0.065, top + 0.15))


def _wheels(
    dice: Dice, assembly: Assembly, car: Car, scheme: Scheme, fender: Material, name: str
) -> None:
    """Four wheels, or six, in arches; a racer's stand free, a beetle's have fenders."""
    radius, broad = car.plan.wheel * dice.between(0.94, 1.06), dice.between(0.12, 0.17)
    hub = dice.pick((METAL, paint(scheme.light, "hub"), paint(scheme.accent, "hub")))
    axles = list(car.plan.axles)
    if name == "lorry" and dice.chance(0.5):
        axles.append(axles[1] - 2.3 * radius / car.stretch)
    tyre, disc = wheel(radius, broad, 18 if len(axles) == 2 else 16)
    for axle in axles:
        y = axle * car.stretch
        if name == "racer":
            x = 0.86 * car.half
            assembly.add("wheel", METAL, rod((-x, y, radius), (x, y, radius), 0.025))
        elif name == "beetle":
            x = 0.86 * car.half + 0.06
            arch = ellipsoid(0.16, 1.45 * radius, 1.3 * radius, 18, 8)
            assembly.add("body", fender, pair(arch.move(x - 0.09, y, radius + 0.05)))
        else:
            x = car.width_at(axle) + 0.028 - broad / 2
            arch = cylinder(1.17 * radius, 0.06, 24).turn("y", 90)
            place = arch.move(x + broad / 2 - 0.08, y, radius + 0.01)
            assembly.add("body", Material("arch", INK), pair(place))
        assembly.add("wheel", TYRE, pair(tyre.move(x, y, radius)))
        assembly.add("wheel", hub, pair(disc.move(x, y, radius)))


def _lights(dice: Dice, assembly: Assembly, car: Car, name: str) -> None:
    """Lamps in front and at the back, bumpers and a grille."""
    front, back = -car.stretch, car.stretch
    low, high = (z * car.tall for z in car.plan.deck[0][2:])
    x, z, size = 0.74 * car.width_at(-1.0), 0.35 * low + 0.65 * high, dice.between(0.05, 0.075)
    if name == "beetle":
        x, z, front = 0.72 * car.half, 0.5 * car.tall, front + 0.1
    if name == "beetle" or dice.chance(0.65):
        lamp, rim = ellipsoid(size, 0.05, size, 14, 8), torus(size, 0.014, 16, 6).turn("x", 90)
        assembly.add("light", METAL, pair(rim.move(x, front, z)))
    else:
        lamp = box(2.2 * size, 0.06, 1.2 * size, 0.012).move(z=-0.6 * size)
    assembly.add("light", HEADLIGHT, pair(lamp.move(x, front, z)))
    _, _, under, over = car.plan.deck[-1]
    red = box(0.07, 0.05, 0.09, 0.012)
    rear = 0.78 * car.width_at(1.0), back - 0.006, (0.4 * under + 0.6 * over) * car.tall - 0.045
    assembly.add("light", TAIL_LIGHT, pair(red.move(*rear)))
    if dice.chance(0.75):
        for end, inner in ((-1.0, 0.12), (1.0, -0.12)):
            w, y, up = 0.98 * car.width_at(end), 1.03 * end * car.stretch, 0.24 * car.tall
            corners = [
                (-w - 0.02, y + inner, up),
                (-w, y, up),
                (w, y, up),
                (w + 0.02, y + inner, up),
            ]
            bumper = tube(rounded(corners, 0.06, 3, closed=False), 0.028, 8)
            assembly.add("body", METAL, bumper)
    if name != "beetle" and dice.chance(0.6):
        grille = box(x, 0.05, 0.5 * (high - low), 0.01)
        place = grille.move(y=front - 0.004, z=low + 0.12 * (high - low))
        assembly.add("body", Material("grille", INK), place)


def _extras(
    dice: Dice,
    assembly: Assembly,
    car: Car,
    scheme: Scheme,
    plain: Material,
    name: str,
    patterned: bool,
) -> None:
    """What makes a car somebody's: loads, wood on the sides, spoilers, numbers."""
    if name == "pickup":
        truck_bed(dice, assembly, car, scheme, plain, patterned)
    elif name == "lorry":
        lorry_load(dice, assembly, car, scheme, patterned)
    elif name == "racer":
        _number(assembly, car, scheme, patterned)
    elif car.plan.cabin is not None and name != "coupe" and dice.chance(0.5):
        on_the_roof(dice, assembly, car, scheme, patterned)
    if name == "estate" and patterned:
        panel = box(0.05, 1.5 * car.stretch, 0.2 * car.tall, 0.008).project(0.4, "y")
        place = panel.move(0.985 * car.half, 0.1, 0.32 * car.tall)
        assembly.add("body", wood(dice, True, "oak", "teak"), pair(place))
    if name in ("coupe", "hatch") and dice.chance(0.4):
        w, y, z = 0.85 * car.half, 0.9 * car.stretch, car.deck_at(0.9)
        blade, post = box(2 * w, 0.16, 0.025, 0.008).turn("x", -8), box(0.03, 0.08, 0.16)
        assembly.add(
            "body", plain, blade.move(y=y, z=z + 0.1), pair(post.move(0.7 * w, y, z - 0.04))
        )


def _number(assembly: Assembly, car: Car, scheme: Scheme, patterned: bool) -> None:
    """A racer's roundels, and its exhaust along one side."""
    material = printed(_roundel(scheme), "number") if patterned else paint(scheme.light, "number")
    for side in (1, -1):
        badge = cylinder(0.14, 0.05, 24).turn("y", 90 * side)
        assembly.add("body", material, badge.move(0.535 * side * car.half, 0.42, 0.33))
    bend = [(0.5 * car.half, -0.5, 0.3), (0.66 * car.half, -0.4, 0.3), (0.6 * car.half, 0.9, 0.3)]
    assembly.add("body", METAL, tube(rounded(bend, 0.1, 3, closed=False), 0.028, 8))


def _roundel(scheme: Scheme) -> Texture:
    """A ring with a 1 in it."""
    u, v = grid(64)
    x, y = 2 * u - 1, 2 * v - 1
    stem = np.minimum(0.14 - np.abs(x), 0.55 - np.abs(y))
    flag = np.minimum(0.14 - np.abs(y - 0.38 + 0.8 * np.abs(x + 0.16)), 0.22 - np.abs(x + 0.16))
    ring = 0.09 - np.abs(np.sqrt(x**2 + y**2) - 0.86)
    ink = edge(np.maximum(np.maximum(stem, flag), ring), 0.05)
    return layers(scheme.light, (scheme.dark, ink), size=64)
