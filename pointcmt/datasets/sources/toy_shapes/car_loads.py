"""What cars carry: cases, surfboards, trees and signs; crates, boxes, tanks and logs."""

from collections.abc import Callable

from pointcmt.datasets.sources.toy_shapes.assembly import Assembly
from pointcmt.datasets.sources.toy_shapes.car_plans import HEADLIGHT, METAL, Car
from pointcmt.datasets.sources.toy_shapes.dice import Dice
from pointcmt.datasets.sources.toy_shapes.finishes import paint, printed, wood
from pointcmt.datasets.sources.toy_shapes.hulls import hull
from pointcmt.datasets.sources.toy_shapes.palettes import INK, WOODS, Scheme, rgb
from pointcmt.datasets.sources.toy_shapes.patterns import checker, motif, stripes
from pointcmt.datasets.sources.toy_shapes.solid import pair
from pointcmt.datasets.sources.toy_shapes.solids import (
    box,
    cylinder,
    ellipsoid,
    frustum,
    rod,
)
from pointcmt.datasets.sources.toy_shapes.textures import planks
from pointcmt.shapes import Material

BARK = Material("bark", WOODS["walnut"][1])


def on_the_roof(dice: Dice, assembly: Assembly, car: Car, scheme: Scheme, patterned: bool) -> None:
    """Cases, a surfboard, a fir, a taxi sign or a siren."""
    load = dice.pick((cases, surfboard, tree, taxi_sign, siren))
    load(dice, assembly, car, scheme, patterned)


def _rack(assembly: Assembly, car: Car) -> tuple[float, float]:
    """Two bars over the roof; returns y of their middle and z of their upper side."""
    front, rear = car.roof_span
    y, z, w, reach = (front + rear) / 2, car.roof + 0.015, 0.7 * car.half, 0.4 * (rear - front)
    black = Material("rack", INK)
    for shift in (-reach, reach):
        bar = rod((-w, y + shift, z + 0.035), (w, y + shift, z + 0.035), 0.018)
        post = cylinder(0.015, 0.055, 8).move(0.8 * w, y + shift, z - 0.02)
        assembly.add("load", black, bar, pair(post))
    return y, z + 0.048


def cases(dice: Dice, assembly: Assembly, car: Car, scheme: Scheme, patterned: bool) -> None:
    """Two suitcases with straps."""
    y, z = _rack(assembly, car)
    w, reach = 0.7 * car.half, 0.4 * (car.roof_span[1] - car.roof_span[0])
    for x, color in ((-0.42 * w, scheme.accent), (0.45 * w, scheme.light)):
        long, tall = dice.between(0.9, 1.7) * reach, dice.between(0.1, 0.18)
        case = box(0.8 * w, long, tall, 0.025)
        assembly.add("load", paint(color, "suitcase"), case.move(x, y, z))
        strap = box(0.82 * w, 0.03, tall).move(x, y + 0.1 * reach, z + 0.006)
        assembly.add("load", BARK, strap)


def surfboard(dice: Dice, assembly: Assembly, car: Car, scheme: Scheme, patterned: bool) -> None:
    """A board longer than the roof."""
    y, z = _rack(assembly, car)
    nose, tail = (-0.8, 0.0, 0.03, 0.03), (0.76, 0.0, 0.02, 0.02)
    wide = [(-0.5, 0.12, 0.0, 0.035), (0.1, 0.15, 0.0, 0.035), (0.6, 0.1, 0.0, 0.035)]
    board = hull([nose, *wide, tail], segments=12).project(0.3, "y")
    striped = stripes(scheme.light, (scheme.accent,), 4)
    material = printed(striped, "surfboard") if patterned else paint(scheme.accent, "surfboard")
    assembly.add("load", material, board.move(y=y, z=z - 0.004))


def tree(dice: Dice, assembly: Assembly, car: Car, scheme: Scheme, patterned: bool) -> None:
    """A fir on its way home, its tip to the back."""
    y, z = _rack(assembly, car)
    size = dice.between(0.85, 1.1)
    for i in range(3):
        tier = frustum(0.19 - 0.035 * i, 0.03, 0.36, 12).turn("x", -90)
        place = tier.scale(size, size, size).move(y=y + (0.26 * i - 0.5) * size, z=z + 0.17 * size)
        assembly.add("load", Material("fir", rgb("3d6b4a")), place)
    trunk = cylinder(0.035, 0.2, 8).turn("x", -90).scale(size, size, size)
    assembly.add("load", BARK, trunk.move(y=y - 0.66 * size, z=z + 0.17 * size))


def taxi_sign(dice: Dice, assembly: Assembly, car: Car, scheme: Scheme, patterned: bool) -> None:
    """A lit or a chequered sign across the roof."""
    sign = box(0.3, 0.12, 0.12, 0.015).project(0.15)
    material = HEADLIGHT
    if patterned:
        material = printed(checker(scheme.light, scheme.dark, 2), "sign")
    assembly.add("load", material, sign.move(y=sum(car.roof_span) / 2, z=car.roof + 0.01))


def siren(dice: Dice, assembly: Assembly, car: Car, scheme: Scheme, patterned: bool) -> None:
    """A bar with two lamps."""
    y, z = sum(car.roof_span) / 2, car.roof + 0.01
    assembly.add("load", METAL, box(0.4, 0.12, 0.04, 0.01).move(y=y, z=z))
    lamp = ellipsoid(0.07, 0.06, 0.07, 14, 8)
    for x, color in ((0.12, scheme.accent), (-0.12, scheme.main)):
        assembly.add("load", paint(color, "lamp"), lamp.move(x, y, z + 0.055))


def truck_bed(
    dice: Dice, assembly: Assembly, car: Car, scheme: Scheme, plain: Material, patterned: bool
) -> None:
    """Walls around the loading bed of a pick-up, with crates and barrels in it."""
    front, back = 0.28 * car.stretch, 0.99 * car.stretch
    low, high = 0.36 * car.tall, 0.63 * car.tall
    wall = plain
    if patterned and dice.chance(0.6):
        wall = printed(planks(dice, *WOODS["oak"]), "planks")
    side = box(0.045, back - front, high - low, 0.008).project(0.4, "y")
    assembly.add("body", wall, pair(side.move(0.94 * car.half, (front + back) / 2, low)))
    end = box(1.84 * car.half, 0.045, high - low - 0.006, 0.008).project(0.4, "x")
    assembly.add("body", wall, end.move(y=back - 0.03, z=low + 0.003))
    for i in range(dice.pick((0, 1, 2, 3))):
        size, x, turn = dice.between(0.16, 0.26), dice.between(-0.5, 0.5), dice.between(-20, 20)
        crate = box(size, size, size, 0.012).project(0.3)
        if dice.chance(0.3):
            crate = cylinder(0.45 * size, 1.2 * size, 16, 0.015)
        y = dice.between(front + 0.18, back - 0.2)
        color = dice.pick((scheme.accent, scheme.light, scheme.main, WOODS["ash"][1]))
        sunk = 0.43 * car.tall - 0.007 * i  # crates that overlap must not share a floor
        stowed = crate.turn("z", turn).move(x * car.half, y, sunk)
        assembly.add("load", paint(color, "crate"), stowed)


def lorry_load(dice: Dice, assembly: Assembly, car: Car, scheme: Scheme, patterned: bool) -> None:
    """A box, a tank or logs behind the cab of a lorry."""
    front, back = -0.32 * car.stretch, 0.99 * car.stretch
    load: Callable[..., None] = dice.pick((_van_body, _van_body, _tank, _logs))
    load(dice, assembly, car, scheme, patterned, (front + back) / 2, back - front)


def _van_body(
    dice: Dice,
    assembly: Assembly,
    car: Car,
    scheme: Scheme,
    patterned: bool,
    y: float,
    length: float,
) -> None:
    body = box(2.04 * car.half, length, dice.between(0.6, 0.9), 0.03).project(0.5, "y")
    material = paint(scheme.light, "van body")
    if patterned and dice.chance(0.5):
        material = printed(stripes(scheme.light, (scheme.accent, scheme.main), 2), "van body")
    elif patterned:
        inks = scheme.accent, scheme.main
        material = printed(motif(scheme.light, inks, "dots", 2), "van body")
    assembly.add("load", material, body.move(y=y, z=0.31 * car.tall))


def _tank(
    dice: Dice,
    assembly: Assembly,
    car: Car,
    scheme: Scheme,
    patterned: bool,
    y: float,
    length: float,
) -> None:
    r, low = 0.92 * car.half, 0.31 * car.tall
    drum = cylinder(r, length, 28, 0.06).turn("x", 90).tile(2, 1)
    material = METAL
    if patterned:
        rings = stripes(scheme.light, (scheme.accent,), 2, upright=False)
        material = printed(rings, "tank")
    assembly.add("load", material, drum.move(y=y + length / 2, z=low + r - 0.02))
    assembly.add("load", METAL, cylinder(0.12, 0.08, 18).move(y=y, z=low + 2 * r - 0.05))


def _logs(
    dice: Dice,
    assembly: Assembly,
    car: Car,
    scheme: Scheme,
    patterned: bool,
    y: float,
    length: float,
) -> None:
    r, low = 0.3 * car.half, 0.31 * car.tall
    bark = wood(dice, patterned, "oak", "walnut", "cherry")
    for x, z in ((-2, 0), (0, 0), (2, 0), (-1, 1.75), (1, 1.75), (0, 3.5)):
        long = length * dice.between(0.9, 0.98)
        log = cylinder(r, long, 14).turn("x", 90).tile(2, 3)
        assembly.add("load", bark, log.move(1.02 * r * x, y + 0.5 * long, low + r * (0.97 + z)))
