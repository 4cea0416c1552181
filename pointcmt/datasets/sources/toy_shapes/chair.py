"""Chairs: framed ones with many backs, shells, bent tubes, office and club chairs, stools."""

from pointcmt.datasets.sources.toy_shapes import legs
from pointcmt.datasets.sources.toy_shapes.assembly import Assembly
from pointcmt.datasets.sources.toy_shapes.chair_backs import BACKS, UPHOLSTERED
from pointcmt.datasets.sources.toy_shapes.chair_modern import (
    cantilever,
    club_chair,
    office_chair,
    shell_chair,
)
from pointcmt.datasets.sources.toy_shapes.chair_parts import (
    Seat,
    bent_arms,
    four_legs,
    seat_outline,
    straight_arms,
)
from pointcmt.datasets.sources.toy_shapes.dice import Dice
from pointcmt.datasets.sources.toy_shapes.finishes import fabric, metal, paint, printed, wood
from pointcmt.datasets.sources.toy_shapes.outlines import (
    rounded_rectangle,
    superellipse,
)
from pointcmt.datasets.sources.toy_shapes.palettes import WOODS, Scheme, pick_scheme
from pointcmt.datasets.sources.toy_shapes.solid import four
from pointcmt.datasets.sources.toy_shapes.solids import extrude, soft_box, tube
from pointcmt.datasets.sources.toy_shapes.textures import cane
from pointcmt.shapes import Material, Mesh

PARTS = ("seat", "back", "leg", "arm")


def build(dice: Dice) -> Mesh:
    """One chair; metres, more or less."""
    plans = (framed_chair, shell_chair, cantilever, office_chair, club_chair, stool)
    plan = dice.pick(plans, (0.5, 0.15, 0.08, 0.07, 0.08, 0.12))
    assembly = Assembly(PARTS)
    plan(dice, assembly, pick_scheme(dice), dice.chance(0.52))
    return assembly.mesh()


def framed_chair(dice: Dice, assembly: Assembly, scheme: Scheme, patterned: bool) -> None:
    """A seat on four legs with one of many backs, often with arms."""
    frame = wood(dice, patterned) if dice.chance(0.7) else paint(scheme.main)
    second = dice.pick((frame, frame, paint(scheme.accent), paint(scheme.dark)))
    width, depth, height = dice.between(0.4, 0.5), dice.between(0.38, 0.46), dice.between(0.4, 0.48)
    seat = Seat(width, depth, height, 0.035)
    plate = extrude(seat_outline(dice, seat), seat.thickness, 0.012).project(0.5, "y")
    assembly.add("seat", frame, plate.move(z=height - seat.thickness))
    name, soft = dice.pick(tuple(BACKS)), fabric(dice, scheme, patterned)
    if name in UPHOLSTERED or dice.chance(0.3):
        pad = soft_box(0.88 * width, 0.86 * depth, 0.06, 0.03).project(0.4)
        assembly.add("seat", soft, pad.move(z=height - 0.012))
    thickness, rise = dice.between(0.03, 0.045), dice.between(0.38, 0.58)
    four_legs(dice, assembly, second, seat, thickness)
    back = BACKS[name](dice, width * dice.between(0.86, 0.98), rise, thickness)
    filling = soft if name in UPHOLSTERED else dice.pick((frame, frame, second))
    if name == "framed" and patterned:
        filling = printed(cane(WOODS["beech"][0], WOODS["walnut"][1]), "cane")
    lean, y = dice.between(0.1, 0.24), depth / 2 - 0.035
    for material, solids in ((second, back.frame), (filling, back.filling)):
        leaning = [solid.shear(y=lean).move(y=y, z=height - 0.016) for solid in solids]
        assembly.add("back", material, leaning)
    if dice.chance(0.42):
        if dice.chance(0.5):
            straight_arms(assembly, second, seat, y + 0.2 * lean)
        else:
            bent_arms(assembly, second, seat, y + 0.2 * lean, dice.between(0.19, 0.25))


def stool(dice: Dice, assembly: Assembly, scheme: Scheme, patterned: bool) -> None:
    """No back: a low or a bar stool, easily taken for a small table."""
    size, tall = dice.between(0.34, 0.42), dice.chance(0.5)
    height = dice.between(0.62, 0.78) if tall else dice.between(0.4, 0.5)
    seat = Seat(size, size * dice.pick((1.0, 1.0, 0.75)), height, 0.04)
    frame = wood(dice, patterned) if dice.chance(0.7) else paint(scheme.main)
    oval, square = superellipse(size / 2, seat.depth / 2, 2, 28), (size, seat.depth, 0.07)
    outline = dice.pick((oval, rounded_rectangle(*square)))
    plate = extrude(outline, seat.thickness, 0.012).project(0.4, "y")
    assembly.add("seat", frame, plate.move(z=height - seat.thickness))
    if dice.chance(0.5):
        pad = extrude(0.92 * outline, 0.07, 0.03, steps=3).project(0.35)
        assembly.add("seat", fabric(dice, scheme, patterned), pad.move(z=height - 0.012))
    _stool_legs(dice, assembly, dice.pick((frame, metal(dice))), scheme, seat)


def _stool_legs(
    dice: Dice, assembly: Assembly, frame: Material, scheme: Scheme, seat: Seat
) -> None:
    """A disc foot, or four legs with or without a ring for the feet."""
    height = seat.height - 0.02
    if dice.chance(0.25):
        assembly.add("leg", frame, legs.disc_base(height, 0.19, 0.02))
        return
    splay, top = (0.06, 0.06), (0.3 * seat.width, 0.3 * seat.depth)
    kind = dice.pick(("round", "square", "turned", "hairpin"))
    assembly.add("leg", frame, four(legs.leg(kind, height, 0.036, splay).move(*top)))
    if dice.chance(0.6):
        (x, y), z = legs.along(top, splay, 0.35), 0.35 * height
        flat = rounded_rectangle(2 * x, 2 * y, 0.04)
        ring = tube([(px, py, z) for px, py in flat], 0.009, 6, closed=True)
        assembly.add("leg", dice.pick((frame, paint(scheme.accent))), ring)
