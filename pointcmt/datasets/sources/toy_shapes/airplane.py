"""Airplanes: airliners, propeller planes, biplanes, seaplanes, twins, fighters and gliders."""

from pointcmt.datasets.sources.toy_shapes.airplane_parts import (
    COCKPIT,
    TYRE,
    Place,
    add_floats,
    add_pods,
    add_propeller,
    add_tail,
    add_tail_wheel,
    add_wheels,
    add_wings,
    skin,
    stubby,
    trim,
)
from pointcmt.datasets.sources.toy_shapes.assembly import Assembly
from pointcmt.datasets.sources.toy_shapes.dice import Dice
from pointcmt.datasets.sources.toy_shapes.finishes import metal, paint
from pointcmt.datasets.sources.toy_shapes.hulls import hull, nacelle, upright, wheel, wing, wings
from pointcmt.datasets.sources.toy_shapes.palettes import INK, Scheme, pick_scheme
from pointcmt.datasets.sources.toy_shapes.solid import pair
from pointcmt.datasets.sources.toy_shapes.solids import ellipsoid, lathe, rod
from pointcmt.shapes import Material, Mesh

PARTS = ("fuselage", "wing", "tail", "engine", "gear")


def build(dice: Dice) -> Mesh:
    """One airplane, its nose to the front; a fuselage about 2 long."""
    plans = (airliner, propeller, biplane, twin, fighter, glider)
    plan = dice.pick(plans, (0.26, 0.27, 0.15, 0.1, 0.14, 0.08))
    assembly = Assembly(PARTS)
    plan(dice, assembly, pick_scheme(dice), dice.chance(0.52))
    return assembly.mesh()


def airliner(dice: Dice, assembly: Assembly, scheme: Scheme, patterned: bool) -> None:
    """Swept wings, jets below them or at the tail."""
    r, nose, back, mid = dice.between(0.12, 0.16), -1.0, dice.between(0.85, 1.15), 0.3
    body = hull(
        [
            (nose, 0.0, mid - 0.2 * r, mid - 0.2 * r),
            (nose + 0.06, 0.5 * r, mid - 0.62 * r, mid + 0.3 * r),
            (nose + 0.3, r, mid - r, mid + r),
            (0.4 * back, r, mid - r, mid + r),
            (0.75 * back, 0.66 * r, mid - 0.45 * r, mid + r),
            (back, 0.12 * r, mid + 0.5 * r, mid + 0.85 * r),
        ],
        segments=22,
    )
    assembly.add("fuselage", skin(dice, scheme, patterned, windows=True), body)
    screen = ellipsoid(0.62 * r, 0.16, 0.32 * r, 14, 8).turn("x", 24)
    assembly.add("fuselage", COCKPIT, screen.move(y=nose + 0.17, z=mid + 0.47 * r))
    span, root, sweep = dice.between(0.85, 1.1), dice.between(0.42, 0.52), dice.between(0.4, 0.62)
    rise, y, z = dice.between(0.04, 0.16), -0.3, mid - 0.6 * r
    color = trim(dice, scheme, False)
    add_wings(assembly, color, wings(span, root, 0.16, sweep, 0.12, rise), y, z)
    if dice.chance(0.3):
        tip = upright(wing(0.13, 0.15, 0.08, 0.06, 0.12))
        assembly.add("wing", color, pair(tip.move(span - 0.012, y + sweep, z + rise)))
    size, lean = dice.between(0.34, 0.44), dice.between(0.5, 0.8)
    add_tail(dice, assembly, color, (0, back - 0.02, mid + 0.5 * r), size, lean)
    shell = paint(dice.pick((scheme.light, scheme.accent)))
    if dice.chance(0.3):
        place = 1.45 * r, 0.42 * back, mid + 0.3 * r
        strut = wing(0.7 * r, 0.16, 0.14, 0.0, 0.2).move(0.7 * r, place[1] + 0.06, place[2])
        assembly.add("engine", shell, pair(strut))
        _jets(dice, assembly, shell, r, [place])
    else:
        places = []
        for share in dice.pick(((0.34,), (0.34, 0.62)), (0.7, 0.3)):
            under = z + rise * share - 0.62 * r
            places.append((share * span, y + sweep * share - 0.12, under))
            pylon = upright(wing(0.66 * r, 0.22, 0.2, 0.08, 0.14))
            at = share * span, y + sweep * share - 0.04, under
            assembly.add("engine", shell, pair(pylon.move(*at)))
        _jets(dice, assembly, shell, r, places)
    if dice.chance(0.5):
        add_wheels(assembly, 0.05, [(0.0, nose + 0.3), (0.16, 0.1)], z)


def _jets(dice: Dice, assembly: Assembly, shell: Material, r: float, places: list[Place]) -> None:
    """Jet engines with their intakes at these places, and their mirror images."""
    cowl, core = nacelle(dice.between(0.5, 0.62) * r, 0.3)
    fan = metal(dice, "steel", "black steel")
    for place in places:
        assembly.add("engine", shell, pair(cowl.move(*place)))
        assembly.add("engine", fan, pair(core.move(*place)))


def propeller(dice: Dice, assembly: Assembly, scheme: Scheme, patterned: bool) -> None:
    """A small plane with its wing low or high, on wheels or floats."""
    r, mid, back = dice.between(0.15, 0.2), 0.42, dice.between(0.75, 1.0)
    color = trim(dice, scheme, patterned)
    assembly.add("fuselage", skin(dice, scheme, patterned), stubby(dice, r, mid, back))
    cowl = [(0.5 * r, 0), (0.86 * r, 0), (0.92 * r, 0.1), (0.8 * r, 0.14), (0.5 * r, 0.14)]
    ring = lathe(cowl, 20, ring=True).turn("x", -90)
    assembly.add("engine", paint(scheme.accent), ring.move(y=-0.87, z=mid))
    add_propeller(dice, assembly, scheme, (0, -0.88, mid), dice.between(0.3, 0.4))
    span, root = dice.between(0.8, 1.1), dice.between(0.32, 0.42)
    tip, sweep = dice.between(0.5, 0.95) * root, dice.between(-0.02, 0.14)
    both = wings(span, root, tip, sweep, 0.13, dice.between(0.0, 0.12))
    if dice.chance(0.45):
        z = mid + 1.02 * r + 0.1
        add_wings(assembly, color, both, -0.5, z)
        cabin = hull(
            [
                (-0.5, 0.5 * r, mid, mid + 0.7 * r),
                (-0.36, 0.74 * r, mid, z + 0.02),
                (-0.12, 0.74 * r, mid, z + 0.02),
                (0.16, 0.5 * r, mid, mid + 0.72 * r),
            ],
            power=4.0,
        )
        assembly.add("fuselage", COCKPIT, cabin)
        brace = rod((0.5 * r, -0.34, mid - 0.4 * r), (0.45 * span, -0.32, z + 0.01), 0.014)
        assembly.add("wing", color, pair(brace))
    else:
        add_wings(assembly, color, both, -0.5, mid - 0.66 * r)
        bubble = ellipsoid(0.6 * r, 0.24, 0.72 * r, 18, 10)
        assembly.add("fuselage", COCKPIT, bubble.move(y=-0.16, z=mid + 0.88 * r))
    size, lean = dice.between(0.26, 0.34), dice.between(0.3, 0.6)
    add_tail(dice, assembly, color, (0, back, mid + 0.24 * r), size, lean)
    if dice.chance(0.3):
        add_floats(assembly, paint(dice.pick((scheme.accent, scheme.light))), mid - 0.8 * r)
    else:
        add_wheels(assembly, dice.between(0.07, 0.1), [(0.24, -0.42)], mid - 0.6 * r)
        add_tail_wheel(assembly, 0.85 * back, mid)


def biplane(dice: Dice, assembly: Assembly, scheme: Scheme, patterned: bool) -> None:
    """Two or three wings over each other, struts between, a pilot in the open cockpit."""
    r, mid, back = dice.between(0.13, 0.17), 0.42, dice.between(0.7, 0.85)
    color = trim(dice, scheme, patterned)
    assembly.add("fuselage", skin(dice, scheme, patterned), stubby(dice, r, mid, back))
    cowl = [(0.4 * r, 0), (0.95 * r, 0.0), (1.08 * r, 0.06), (r, 0.2), (0.4 * r, 0.2)]
    ring = lathe(cowl, 20, ring=True).turn("x", -90)
    assembly.add("engine", paint(scheme.dark), ring.move(y=-0.9, z=mid))
    add_propeller(dice, assembly, scheme, (0, -0.9, mid), dice.between(0.3, 0.38))
    span, chord, gap = dice.between(0.75, 1.0), dice.between(0.26, 0.34), dice.between(0.36, 0.46)
    stagger, bow, low = dice.between(0.0, 0.12), dice.between(0.0, 0.06), mid - 0.75 * r
    levels = 3 if dice.chance(0.15) else 2
    for i in range(levels):
        both = wings(span * (0.92 if i == 0 else 1.0), chord, 0.86 * chord, 0.03, 0.1, bow)
        add_wings(assembly, color, both, -0.5 - stagger * i, low + gap * i / (levels - 1))
    timber = paint(dice.pick((scheme.dark, scheme.accent)))
    for share in (0.14, 0.72):
        for y in (-0.44, -0.3):
            start = share * span, y, low + 0.6 * bow * share
            end = share * span, y - stagger * (levels - 1), low + gap + bow * share
            assembly.add("wing", timber, pair(rod(start, end, 0.01)))
    rim = ellipsoid(0.5 * r, 0.13, 0.25 * r, 16, 8).move(y=0.02, z=mid + 0.86 * r)
    assembly.add("fuselage", Material("leather", INK), rim)
    pilot = ellipsoid(0.3 * r, 0.3 * r, 0.36 * r, 12, 8).move(y=0.03, z=mid + 1.28 * r)
    assembly.add("fuselage", paint(scheme.accent, "pilot"), pilot)
    add_tail(dice, assembly, color, (0, back, mid + 0.24 * r), dice.between(0.24, 0.3), 0.3)
    add_wheels(assembly, 0.1, [(0.2, -0.5)], mid - 0.6 * r, paint(scheme.main))
    add_tail_wheel(assembly, 0.85 * back, mid)


def twin(dice: Dice, assembly: Assembly, scheme: Scheme, patterned: bool) -> None:
    """One or two propellers on each wing."""
    r, mid, back = dice.between(0.13, 0.16), 0.36, dice.between(0.8, 0.95)
    body = hull(
        [
            (-0.95, 0.0, mid - 0.1 * r, mid - 0.1 * r),
            (-0.85, 0.55 * r, mid - 0.6 * r, mid + 0.5 * r),
            (-0.5, r, mid - r, mid + r),
            (0.2, 0.92 * r, mid - 0.9 * r, mid + r),
            (back, 0.12 * r, mid + 0.2 * r, mid + 0.6 * r),
        ],
        segments=22,
    )
    assembly.add("fuselage", skin(dice, scheme, patterned, windows=True), body)
    glass = ellipsoid(0.66 * r, 0.18, 0.5 * r, 16, 8).turn("x", 20)
    assembly.add("fuselage", COCKPIT, glass.move(y=-0.62, z=mid + 0.62 * r))
    color = trim(dice, scheme, patterned)
    span, root = dice.between(0.9, 1.1), dice.between(0.32, 0.4)
    z, rise = mid + dice.pick((-0.5, 0.75)) * r, dice.between(0.02, 0.08)
    add_wings(assembly, color, wings(span, root, 0.55 * root, 0.1, 0.13, rise), -0.42, z)
    shell = paint(dice.pick((scheme.accent, scheme.main)))
    for share in dice.pick(((0.36,), (0.3, 0.58))):
        add_pods(assembly, scheme, shell, (share * span, -0.36, z + rise * share))
    add_tail(dice, assembly, color, (0, back, mid + 0.3 * r), dice.between(0.3, 0.38), 0.45)
    add_wheels(assembly, 0.06, [(0.0, -0.7), (0.2, -0.15)], mid - 0.5 * r)


def fighter(dice: Dice, assembly: Assembly, scheme: Scheme, patterned: bool) -> None:
    """A pointed jet with swept or delta wings, one or two fins and intakes at its sides."""
    r, mid, back = dice.between(0.12, 0.16), 0.3, dice.between(0.75, 0.95)
    body = hull(
        [
            (-1.2, 0.0, mid, mid),
            (-0.9, 0.42 * r, mid - 0.4 * r, mid + 0.4 * r),
            (-0.45, 0.85 * r, mid - 0.7 * r, mid + 0.8 * r),
            (0.1, 1.1 * r, mid - 0.8 * r, mid + 0.85 * r),
            (back, 0.85 * r, mid - 0.62 * r, mid + 0.7 * r),
        ],
        power=2.4,
    )
    assembly.add("fuselage", skin(dice, scheme, patterned), body)
    canopy = hull(
        [
            (-0.72, 0.0, mid + 0.35 * r, mid + 0.35 * r),
            (-0.5, 0.42 * r, mid + 0.3 * r, mid + 1.25 * r),
            (-0.05, 0.0, mid + 0.7 * r, mid + 0.7 * r),
        ],
        segments=14,
    )
    assembly.add("fuselage", COCKPIT, canopy)
    color, span = trim(dice, scheme, patterned), dice.between(0.5, 0.68)
    delta = dice.chance(0.5)
    if delta:
        root = dice.between(0.85, 1.05)
        both, y = wings(span, root, 0.12, 0.85 * root, 0.07, 0.02), back - root - 0.08
    else:
        root, sweep = dice.between(0.5, 0.62), dice.between(0.25, 0.45)
        both, y = wings(span, root, 0.2, sweep, 0.07, dice.between(-0.03, 0.04)), -0.12
    add_wings(assembly, color, both, y, mid - 0.15 * r)
    size, cant = dice.between(0.32, 0.42), dice.between(8, 28)
    fin = upright(wing(size, 0.95 * size, 0.4 * size, 0.6 * size, 0.09))
    if dice.chance(0.5):
        leaning = fin.turn("y", cant).move(0.6 * r, back - size, mid + 0.4 * r)
        assembly.add("tail", color, pair(leaning))
    else:
        assembly.add("tail", color, fin.move(y=back - size, z=mid + 0.5 * r))
    if not delta:
        plane = wings(0.62 * size + 0.9 * r, 0.6 * size, 0.3 * size, 0.35 * size, 0.09)
        assembly.add("tail", color, plane.move(y=back - 0.5 * size, z=mid - 0.1 * r))
    _afterburners(dice, assembly, r, (0.0, back - 0.05, mid))
    intake = hull(
        [
            (-0.4, 0.3 * r, mid - 0.8 * r, mid + 0.1 * r),
            (0.0, 0.42 * r, mid - 0.8 * r, mid + 0.4 * r),
            (0.5, 0.1 * r, mid - 0.4 * r, mid + 0.2 * r),
        ],
        power=3.5,
        segments=14,
    )
    assembly.add("engine", paint(scheme.accent), pair(intake.move(x=0.85 * r)))
    if dice.chance(0.4):
        add_wheels(assembly, 0.05, [(0.0, -0.55), (0.22, 0.15)], mid - 0.3 * r)


def _afterburners(dice: Dice, assembly: Assembly, r: float, at: Place) -> None:
    """One large nozzle or two small ones side by side."""
    profile = [(0.3 * r, 0), (0.62 * r, 0), (0.46 * r, 0.14), (0.34 * r, 0.14)]
    nozzle = lathe(profile, 16, ring=True).turn("x", -90)
    steel = metal(dice, "black steel", "steel", "copper")
    if dice.chance(0.5):
        assembly.add("engine", steel, nozzle.move(*at))
    else:
        small = nozzle.scale(0.66, 1.0, 0.66).move(*at)
        assembly.add("engine", steel, pair(small.move(x=0.43 * r)))


def glider(dice: Dice, assembly: Assembly, scheme: Scheme, patterned: bool) -> None:
    """Very long wings and no engine."""
    r, mid, back = 0.09, 0.16, dice.between(0.75, 0.95)
    body = hull(
        [
            (-0.8, 0.0, mid, mid),
            (-0.62, 0.72 * r, mid - 0.72 * r, mid + 0.5 * r),
            (-0.3, r, mid - r, mid + 0.9 * r),
            (0.1, 0.45 * r, mid - 0.2 * r, mid + 0.7 * r),
            (back, 0.18 * r, mid + 0.2 * r, mid + 0.55 * r),
        ],
        segments=18,
        per=4,
    )
    assembly.add("fuselage", skin(dice, scheme, patterned), body)
    glass = ellipsoid(0.7 * r, 0.22, 0.8 * r, 16, 10).turn("x", 8)
    assembly.add("fuselage", COCKPIT, glass.move(y=-0.42, z=mid + 0.45 * r))
    span, root = dice.between(1.25, 1.55), dice.between(0.18, 0.24)
    color, sweep = trim(dice, scheme, patterned), dice.between(-0.02, 0.1)
    both = wings(span, root, 0.35 * root, sweep, 0.14, dice.between(0.05, 0.18))
    add_wings(assembly, color, both, -0.26, mid + 0.6 * r, 3.0)
    size = dice.between(0.2, 0.27)
    fin = upright(wing(size, 0.8 * size, 0.6 * size, 0.3 * size, 0.12))
    assembly.add("tail", color, fin.move(y=back - 0.75 * size, z=mid + 0.2 * r))
    plane = wings(1.2 * size, 0.55 * size, 0.35 * size, 0.12 * size, 0.1)
    high = dice.pick((mid + 0.2 * r + 0.94 * size, mid + 0.3 * r))
    assembly.add("tail", color, plane.move(y=back - 0.42 * size, z=high))
    tyre, disc = wheel(0.05, 0.04, 14)
    assembly.add("gear", TYRE, tyre.move(y=-0.25, z=0.05))
    assembly.add("gear", paint(scheme.accent), disc.move(y=-0.25, z=0.05))
