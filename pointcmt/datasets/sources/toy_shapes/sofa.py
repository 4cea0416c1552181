"""Sofas: armchairs and settees, chesterfields, corner sofas, day beds, benches."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pointcmt.datasets.sources.toy_shapes import legs
from pointcmt.datasets.sources.toy_shapes.assembly import Assembly
from pointcmt.datasets.sources.toy_shapes.dice import Dice
from pointcmt.datasets.sources.toy_shapes.finishes import metal, paint, printed, upholstery, wood
from pointcmt.datasets.sources.toy_shapes.loft import loft
from pointcmt.datasets.sources.toy_shapes.outlines import superellipse
from pointcmt.datasets.sources.toy_shapes.palettes import Scheme, pick_scheme
from pointcmt.datasets.sources.toy_shapes.patterns import cloth
from pointcmt.datasets.sources.toy_shapes.solid import Solid, four, pair
from pointcmt.datasets.sources.toy_shapes.solids import (
    box,
    cushion,
    cylinder,
    ellipsoid,
    rod,
    soft_box,
)
from pointcmt.shapes import Material, Mesh

PARTS = ("seat", "back", "arm", "leg", "cushion")


def build(dice: Dice) -> Mesh:
    """One sofa; metres, more or less."""
    plans = (settee, chesterfield, timber_sofa, curved_sofa, day_bed)
    plan = dice.pick(plans, (0.46, 0.14, 0.16, 0.12, 0.12))
    assembly = Assembly(PARTS)
    plan(dice, assembly, pick_scheme(dice), dice.chance(0.5))
    return assembly.mesh()


@dataclass(frozen=True)
class Size:
    """Places to sit, the width of the seat over all of them, its depth, and its height."""

    places: int
    width: float
    depth: float
    height: float


def _size(dice: Dice) -> Size:
    places = dice.pick((1, 2, 3, 4), (0.25, 0.36, 0.31, 0.08))
    each = dice.between(0.54, 0.68) - 0.02 * places
    return Size(places, each * places, dice.between(0.58, 0.7), dice.between(0.38, 0.46))


def _feet(
    dice: Dice, assembly: Assembly, width: float, depth: float, height: float, y: float = 0.0
) -> None:
    """Short legs under a base whose lower side is at `height`."""
    kind = dice.pick(("round", "square", "block", "turned", "runner", "bun"))
    material = dice.pick((wood(dice, False), metal(dice, "brass", "black steel", "chrome")))
    x, back = width / 2 - 0.08, depth / 2 - 0.08
    if kind == "bun":
        bun = ellipsoid(0.05, 0.05, height / 2 + 0.02, 14, 8).move(x, back, height / 2 + 0.02)
        solids = four(bun)
    elif kind == "runner":
        solids = legs.wire_loop(2 * x, 2 * back, height + 0.02, 0.028)
    else:
        splay = (0.05, 0.03) if kind == "round" else (0.0, 0.0)
        solids = four(legs.leg(kind, height + 0.02, 0.055, splay).move(x, back))
    assembly.add("leg", material, [solid.move(y=y) for solid in solids])


def _padded(width: float, depth: float, height: float, softness: float) -> Solid:
    """An upholstered block on z = 0, its cloth to scale."""
    return soft_box(width, depth, height, softness).project(0.45)


def _per_place(size: Size, one: Solid) -> list[Solid]:
    """One copy per place, side by side."""
    each = size.width / size.places
    return [one.move(x=(i + 0.5) * each - size.width / 2) for i in range(size.places)]


def _throw_pillows(
    dice: Dice, assembly: Assembly, scheme: Scheme, patterned: bool, size: Size, y: float
) -> None:
    """Up to three pillows that lean on the back (at this y), some of them printed."""
    count = min(size.places, dice.pick((0, 1, 2, 3), (0.25, 0.25, 0.3, 0.2)))
    plain = paint(dice.pick((scheme.accent, scheme.light)), "felt")
    material = plain
    if patterned:
        swapped = Scheme(scheme.accent, scheme.main, scheme.light, scheme.dark)
        material = printed(cloth(dice, swapped), "cloth")
    for i, x in enumerate(dice.deal((-0.4, -0.28, 0.12, 0.3, 0.41), count)):
        side = dice.between(0.3, 0.38)
        pillow = cushion(side, side, 0.15, dice.pick((4.0, 4.0, 2.0))).project(0.3)
        leaning = pillow.turn("x", 68).turn("z", -35 * x).turn("y", dice.between(-8, 8))
        at = x * (size.width - 0.3) / 0.82, y - 0.1 - 0.02 * i, size.height + 0.47 * side
        assembly.add("cushion", plain if i == 1 else material, leaning.move(*at))


def settee(dice: Dice, assembly: Assembly, scheme: Scheme, patterned: bool) -> None:
    """The usual sofa: base, seat cushions, back, arms; sometimes with a corner to lie on."""
    size, soft = _size(dice), upholstery(dice, scheme, patterned and dice.chance(0.7))
    second = dice.pick((soft, soft, paint(scheme.main, "felt")))
    foot, rise, thick = dice.between(0.06, 0.17), dice.between(0.36, 0.5), dice.between(0.14, 0.2)
    base = _padded(size.width + 0.01, size.depth + 0.1, size.height - foot - 0.11, 0.03)
    assembly.add("seat", soft, base.move(y=0.05, z=foot))
    each = size.width / size.places
    pad = _padded(each - 0.012, size.depth, 0.13, 0.05).move(y=-0.01, z=size.height - 0.13)
    assembly.add("seat", second, _per_place(size, pad))
    back = _padded(size.width + 0.02, thick, size.height + rise - foot - 0.06, 0.05)
    assembly.add("back", soft, back.move(y=size.depth / 2 + 0.06, z=foot + 0.012))
    if dice.chance(0.65):
        rest = _padded(each - 0.016, 0.15, rise - 0.02, 0.06).shear(y=0.2)
        place = rest.move(y=size.depth / 2 - 0.09, z=size.height - 0.025)
        assembly.add("back", second, _per_place(size, place))
    if dice.chance(0.86):
        _arms(dice, assembly, soft, size, dice.pick((0.08, 0.14, 0.2)), foot)
    if size.places > 1 and dice.chance(0.22):
        _chaise(dice, assembly, soft, second, size, foot)
    _feet(dice, assembly, size.width, size.depth + 0.1, foot, 0.03)
    _throw_pillows(dice, assembly, scheme, patterned, size, size.depth / 2 - 0.1)


def _arms(
    dice: Dice, assembly: Assembly, soft: Material, size: Size, arm: float, foot: float
) -> None:
    """Boxes, sloping boxes or rolls."""
    tall, x = size.height + dice.between(0.12, 0.24) - foot, size.width / 2 + arm / 2 - 0.01
    kind = dice.pick(("box", "slope", "roll"))
    side = _padded(arm, size.depth + 0.09, tall, 0.045)
    if kind == "slope":
        drop = dice.between(0.15, 0.35) / size.depth
        side = side.warp(lambda v: _sloped(v, drop, size.depth / 2))
    assembly.add("arm", soft, pair(side.move(x, 0.035, foot + 0.006)))
    if kind == "roll":
        r = max(0.085, 0.62 * arm)
        roll = cylinder(r, size.depth + 0.12, 20, 0.025).turn("x", 90).tile(2, 2)
        assembly.add("arm", soft, pair(roll.move(x, size.depth / 2 + 0.09, foot + tall - 0.3 * r)))


def _sloped(v: NDArray[np.float64], drop: float, back: float) -> NDArray[np.float64]:
    """Heights shrink towards the front, by `drop` per unit in front of y = `back`."""
    return np.stack([v[:, 0], v[:, 1], v[:, 2] * (1 - drop * (back - v[:, 1]))], axis=1)


def _chaise(
    dice: Dice, assembly: Assembly, soft: Material, second: Material, size: Size, foot: float
) -> None:
    """The last place reaches forwards, to the left or the right."""
    each, reach, side = size.width / size.places, dice.between(0.4, 0.6), dice.pick((-1, 1))
    x, y = side * (size.width - each) / 2, -size.depth / 2 - reach / 2 + 0.02
    base = _padded(each - 0.006, reach + 0.1, size.height - foot - 0.116, 0.03)
    assembly.add("seat", soft, base.move(x, y + 0.03, foot + 0.003))
    pad = _padded(each - 0.026, reach + 0.12, 0.134, 0.05)
    assembly.add("seat", second, pad.move(x, y + 0.05, size.height - 0.137))
    leg, wide = legs.leg("round", foot + 0.02, 0.05), each / 2 - 0.08
    two = [leg.move(x + dx, y - reach / 2 + 0.07) for dx in (-wide, wide)]
    assembly.add("leg", wood(dice, False, "beech", "walnut"), two)


def chesterfield(dice: Dice, assembly: Assembly, scheme: Scheme, patterned: bool) -> None:
    """Rolled arms as high as the back, with buttons."""
    size, soft = _size(dice), upholstery(dice, scheme, patterned)
    foot, rise, r = dice.between(0.06, 0.12), dice.between(0.24, 0.34), dice.between(0.09, 0.12)
    top, x, y = size.height + rise, size.width / 2 + 0.045, size.depth / 2 + 0.04
    base = _padded(size.width + 0.02, size.depth + 0.04, size.height - foot - 0.1, 0.025)
    assembly.add("seat", soft, base.move(z=foot))
    pad = _padded(size.width / size.places - 0.012, size.depth, 0.12, 0.05)
    assembly.add("seat", soft, _per_place(size, pad.move(y=-0.012, z=size.height - 0.12)))
    wall = box(size.width + 0.04, 0.12, top - foot, 0.02).project(0.45)
    assembly.add("back", soft, wall.move(y=y, z=foot + 0.01))
    crown = cylinder(r, size.width + 0.1, 20, 0.02).turn("y", 90).tile(2, 2 * size.places)
    assembly.add("back", soft, crown.move(-size.width / 2 - 0.05, y + 0.03, top))
    side = box(0.12, size.depth + 0.06, top - foot, 0.02).project(0.45)
    assembly.add("arm", soft, pair(side.move(x, z=foot + 0.005)))
    roll = cylinder(r, size.depth + 0.16, 20, 0.02).turn("x", 90).tile(2, 2)
    assembly.add("arm", soft, pair(roll.move(x + 0.03, y + 0.07, top - 0.005)))
    button, pitch = ellipsoid(0.017, 0.012, 0.017, 8, 6), size.width / (3 * size.places)
    for row in range(2):
        z = size.height + (0.3 + 0.4 * row) * rise
        for i in range(3 * size.places - row):
            at = (i + 0.5 + 0.5 * row) * pitch - size.width / 2
            assembly.add("back", paint(scheme.dark, "button"), button.move(at, y - 0.062, z))
    _feet(dice, assembly, size.width, size.depth, foot)
    _throw_pillows(dice, assembly, scheme, patterned, size, size.depth / 2 - 0.02)


def timber_sofa(dice: Dice, assembly: Assembly, scheme: Scheme, patterned: bool) -> None:
    """A wooden frame with loose cushions, arms of wood, open at the sides."""
    size, soft = _size(dice), upholstery(dice, scheme, patterned)
    frame = wood(dice, patterned) if dice.chance(0.75) else metal(dice, "black steel", "brass")
    low, rise, lean = size.height - 0.14, dice.between(0.34, 0.46), dice.between(0.15, 0.3)
    rail = box(size.width + 0.06, size.depth, 0.05, 0.01).project(0.4, "x")
    assembly.add("seat", frame, rail.move(z=low - 0.045))
    each, y = size.width / size.places, size.depth / 2 - 0.06
    pad = _padded(each - 0.012, size.depth, 0.14, 0.05).move(y=-0.02, z=low)
    assembly.add("seat", soft, _per_place(size, pad))
    rest = _padded(each - 0.014, 0.13, rise, 0.055).shear(y=lean)
    assembly.add("back", soft, _per_place(size, rest.move(y=y, z=size.height - 0.03)))
    behind, high = y + 0.085 + lean * rise, size.height + rise
    for x in np.linspace(-0.5, 0.5, 4 * size.places + 1) * size.width:
        bar = rod((x, y + 0.085, low - 0.02), (x, behind, high - 0.02), 0.013)
        assembly.add("back", frame, bar)
    top = box(size.width + 0.06, 0.04, 0.05, 0.012).project(0.4, "x")
    assembly.add("back", frame, top.move(y=behind, z=high - 0.04))
    x, deep = size.width / 2 + 0.025, size.depth / 2 - 0.05
    kind = dice.pick(("round", "square", "block"))
    front = legs.leg(kind, size.height + 0.16, 0.055, (0.03, -0.02)).move(x, -deep)
    rear = legs.leg(kind, size.height + 0.155, 0.055, (0.03, 0.05)).move(x, deep)
    assembly.add("leg", frame, pair(front), pair(rear))
    rest = box(0.08, size.depth + 0.06, 0.03, 0.01).project(0.4, "y")
    assembly.add("arm", frame, pair(rest.move(x, 0.02, size.height + 0.145)))
    _throw_pillows(dice, assembly, scheme, patterned, size, y - 0.02)


def curved_sofa(dice: Dice, assembly: Assembly, scheme: Scheme, patterned: bool) -> None:
    """A shell that runs around the back and falls away to the front, over an oval seat."""
    size, soft = _size(dice), upholstery(dice, scheme, patterned)
    foot, rise = dice.between(0.05, 0.16), dice.between(0.3, 0.46)
    rx, ry = size.width / 2 + 0.12, size.depth / 2 + 0.08
    power = 2.2 if size.places == 1 else 3.2
    base = superellipse(rx - 0.03, ry - 0.03, power, 40)
    levels = [(0.94, foot), (1.0, foot + 0.04), (1.0, size.height - 0.04), (0.95, size.height)]
    rings = [np.concatenate([s * base, np.full((40, 1), z)], axis=1) for s, z in levels]
    assembly.add("seat", soft, loft(np.stack(rings)).project(0.45))
    turn = np.radians(np.linspace(-28, 208, 33))  # from the right front around the back
    fall = np.clip(np.abs(np.degrees(turn) - 90) / 118, 0, 1) ** 2
    top = size.height + rise * (1 - dice.between(0.2, 0.9) * fall)
    around = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    reach = (np.abs(around) ** power).sum(axis=1, keepdims=True) ** (-1 / power)
    path = around * reach * (rx, ry)
    section = superellipse(0.5, 0.5, 4.0, 12)
    across = path / np.sqrt((path**2).sum(axis=1, keepdims=True))
    walls = np.empty((len(turn), len(section), 3))
    thick = dice.between(0.1, 0.15) * section[None, :, :1]
    walls[..., :2] = path[:, None] + thick * across[:, None]
    tall, middle = top - foot - 0.02, (top + foot) / 2
    walls[..., 2] = middle[:, None] + tall[:, None] * section[:, 1]
    shell = loft(walls).tile(1, 2 + size.places)
    assembly.add_split("back", "arm", lambda c: c[:, 1] < 0.3 * ry, soft, shell)
    _feet(dice, assembly, 1.5 * rx, 1.5 * ry, foot)
    _throw_pillows(dice, assembly, scheme, patterned, size, size.depth / 2 - 0.06)


def day_bed(dice: Dice, assembly: Assembly, scheme: Scheme, patterned: bool) -> None:
    """A long seat with one raised end and a low back along some of it, or none."""
    width, depth, height = (
        dice.between(1.5, 1.9),
        dice.between(0.66, 0.78),
        dice.between(0.38, 0.46),
    )
    size, soft = Size(2, width, depth, height), upholstery(dice, scheme, patterned)
    side, foot = dice.pick((-1.0, 1.0)), dice.between(0.14, 0.24)
    plinth = box(width + 0.02, depth, 0.06, 0.012).project(0.4, "x")
    assembly.add("seat", wood(dice, patterned), plinth.move(z=foot))
    bed = _padded(width, depth - 0.02, height - foot - 0.04, 0.05)
    assembly.add("seat", soft, bed.move(z=foot + 0.045))
    head = _padded(0.14, depth - 0.01, dice.between(0.38, 0.52), 0.06).shear(x=side * 0.3)
    assembly.add("arm", soft, head.move(side * (width / 2 - 0.07), z=height - 0.07))
    if dice.chance(0.3):
        low = _padded(0.12, depth - 0.014, 0.24, 0.05)
        assembly.add("arm", soft, low.move(-side * (width / 2 - 0.06), z=height - 0.066))
    if dice.chance(0.75):
        share = dice.between(0.55, 0.95)
        rest = _padded(share * width, 0.14, dice.between(0.32, 0.44), 0.06)
        at = side * (1 - share) * width / 2, depth / 2 - 0.07, height - 0.06
        assembly.add("back", soft, rest.move(*at))
    if dice.chance(0.6):
        roll = cylinder(0.1, depth - 0.12, 20, 0.02).turn("x", 90).tile(2, 2)
        bolster = paint(scheme.accent, "felt")
        if patterned:
            bolster = printed(cloth(dice, scheme), "cloth")
        at = side * (width / 2 - 0.26), depth / 2 - 0.06, height + 0.085
        assembly.add("cushion", bolster, roll.move(*at))
    _feet(dice, assembly, width, depth, foot)
    _throw_pillows(dice, assembly, scheme, patterned, size, depth / 2 - 0.1)
