"""What airplanes are put together from: liveries, tails, propellers, wheels, floats."""

import numpy as np

from pointcmt.datasets.sources.toy_shapes.assembly import Assembly
from pointcmt.datasets.sources.toy_shapes.canvas import Texture, edge, grid, layers, wave
from pointcmt.datasets.sources.toy_shapes.dice import Dice
from pointcmt.datasets.sources.toy_shapes.finishes import metal, paint, printed
from pointcmt.datasets.sources.toy_shapes.hulls import blades, hull, upright, wheel, wing, wings
from pointcmt.datasets.sources.toy_shapes.palettes import GLASS, INK, RUBBER, STEEL, Scheme
from pointcmt.datasets.sources.toy_shapes.patterns import checker, stripes
from pointcmt.datasets.sources.toy_shapes.solid import Solid, pair
from pointcmt.datasets.sources.toy_shapes.solids import frustum, lathe, rod
from pointcmt.shapes import Material

COCKPIT = Material("glass", GLASS)
TYRE, STRUT = Material("rubber", RUBBER), Material("strut", STEEL)
Place = tuple[float, float, float]


def livery(dice: Dice, scheme: Scheme, windows: bool) -> Texture:
    """A painted fuselage: u around from +x over the top, v from nose to tail."""
    u, v = grid()
    height = np.sin(2 * np.pi * u) + 0 * v  # -1 at the belly, 1 at the back
    kind = dice.pick(("belly", "line", "swoosh", "nose", "bands"))
    if kind == "belly":
        first, second = edge(-0.1 - height, 0.1), edge(0.09 - np.abs(height + 0.02), 0.08)
    elif kind == "line":
        first = edge(0.2 - np.abs(height + 0.1), 0.08)
        second = edge(0.06 - np.abs(height - 0.22), 0.06)
    elif kind == "swoosh":
        rise = v + 0.22 * height
        first, second = edge(rise - 0.62, 0.03), edge(0.035 - np.abs(rise - 0.56), 0.02)
    elif kind == "nose":
        first, second = edge(0.22 - v, 0.02), edge(0.03 - np.abs(v - 0.8), 0.015)
    else:
        first, second = edge(wave(3 * v) - 0.6, 0.06), edge(0.05 - np.abs(v - 0.12), 0.02)
    panes = 0.0 * height
    if windows:
        row = edge(0.16 - np.abs(height - 0.38), 0.1) * edge(wave(17 * v) - 0.45, 0.3)
        panes = 0.85 * row * edge(0.34 - np.abs(v - 0.5), 0.01)
    return layers(scheme.light, (scheme.main, first), (scheme.accent, second), (INK, panes))


def skin(dice: Dice, scheme: Scheme, patterned: bool, windows: bool = False) -> Material:
    """What fuselages are covered with."""
    if patterned:
        return printed(livery(dice, scheme, windows), "livery")
    return dice.pick((paint(scheme.main), paint(scheme.light), metal(dice, "chrome")))


def trim(dice: Dice, scheme: Scheme, patterned: bool) -> Material:
    """What wings and tails are covered with; striped or chequered where `patterned`, at times."""
    if patterned and dice.chance(0.35):
        striped = stripes(scheme.main, (scheme.light,), 2)
        return printed(dice.pick((striped, checker(scheme.light, scheme.main, 4))), "cloth")
    return paint(dice.pick((scheme.main, scheme.accent)))


def add_wings(
    assembly: Assembly, material: Material, both: Solid, y: float, z: float, repeat: float = 2.0
) -> None:
    """Wings in one piece, their texture so often per unit."""
    assembly.add("wing", material, both.project(1 / repeat, "y").move(y=y, z=z))


def add_tail(
    dice: Dice, assembly: Assembly, material: Material, end: Place, size: float, sweep: float
) -> None:
    """A fin and two tail planes that end at `end`, in the usual place or on top of the fin."""
    _, y, z = end
    fin = wing(size, 0.95 * size, 0.5 * size, sweep * size, 0.12)
    assembly.add("tail", material, upright(fin).move(y=y - 0.9 * size, z=z))
    plane = wings(0.95 * size, 0.62 * size, 0.36 * size, 0.7 * sweep * size, 0.1)
    if dice.chance(0.25):
        back = y - 0.62 * size + 0.75 * sweep * size
        assembly.add("tail", material, plane.move(y=back, z=z + 0.9 * size))
    else:
        assembly.add("tail", material, plane.move(y=y - 0.62 * size, z=z + 0.02))


def add_wheels(
    assembly: Assembly,
    radius: float,
    places: list[tuple[float, float]],
    top: float,
    hub: Material = STRUT,
) -> None:
    """Wheels at (x, y) on the floor, with their mirror images, on struts up to `top`."""
    tyre, disc = wheel(radius, 0.8 * radius, 14)
    for x, y in places:
        foot = 1.15 * x
        strut = rod((foot, y, radius), (0.55 * x, y, top), 0.2 * radius)
        for material, solid in (
            (TYRE, tyre.move(foot, y, radius)),
            (hub, disc.move(foot, y, radius)),
            (hub, strut),
        ):
            assembly.add("gear", material, solid if x == 0 else pair(solid))


def add_tail_wheel(assembly: Assembly, y: float, axis: float) -> None:
    """A small wheel under the end of a fuselage whose axis is at this z: planes stand level."""
    tyre, disc = wheel(0.04, 0.03, 12)
    z = axis - 0.16
    assembly.add("gear", TYRE, tyre.move(y=y, z=z))
    assembly.add("gear", STRUT, disc.move(y=y, z=z), rod((0, y, z), (0, y - 0.06, axis), 0.012))


def add_floats(assembly: Assembly, material: Material, top: float) -> None:
    """Two boats under the plane."""
    bow, stern = (-0.85, 0.0, 0.1, 0.1), (0.5, 0.0, 0.11, 0.11)
    boat = hull([bow, (-0.68, 0.06, 0.03, 0.13), (-0.1, 0.075, 0.0, 0.13), stern], 3.0, 12)
    assembly.add("gear", material, pair(boat.move(x=0.28)))
    for y in (-0.5, -0.08):
        assembly.add("gear", material, pair(rod((0.28, y, 0.09), (0.1, y, top), 0.014)))


def add_propeller(dice: Dice, assembly: Assembly, scheme: Scheme, at: Place, length: float) -> None:
    """A propeller of two to four blades with its spinner, which points to -y."""
    count = dice.whole(2, 4)
    shine = metal(dice, "chrome", "brass")
    material = dice.pick((paint(scheme.dark), shine, paint(scheme.accent)))
    assembly.add("engine", material, [b.move(*at) for b in blades(count, length, 0.28 * length)])
    profile = np.array([(0.22, -0.12), (0.2, 0.1), (0.1, 0.26), (0.0, 0.32)]) * length
    assembly.add("engine", paint(scheme.accent), lathe(profile, 14).turn("x", 90).move(*at))


def add_pods(assembly: Assembly, scheme: Scheme, shell: Material, at: Place) -> None:
    """An engine with a small propeller in the wing at `at`, and its mirror image."""
    nose, tip = (-0.26, 0.055, -0.055, 0.055), (0.4, 0.0, 0.02, 0.02)
    pod = hull([nose, (-0.1, 0.08, -0.08, 0.08), (0.14, 0.07, -0.07, 0.07), tip], segments=14)
    assembly.add("engine", shell, pair(pod.move(*at)))
    cone = frustum(0.045, 0.01, 0.09, 12).move(z=-0.02).turn("x", 90)
    for side in (1, -1):
        front = side * at[0], at[1] - 0.26, at[2]
        assembly.add("engine", paint(scheme.dark), [b.move(*front) for b in blades(3, 0.2, 0.055)])
        assembly.add("engine", paint(scheme.light), cone.move(*front))


def stubby(dice: Dice, r: float, mid: float, back: float) -> Solid:
    """The fuselage of a small propeller plane, from y = -0.8 to `back`, its axis at z = `mid`."""
    return hull(
        [
            (-0.8, 0.72 * r, mid - 0.72 * r, mid + 0.72 * r),
            (-0.66, 0.94 * r, mid - 0.94 * r, mid + 0.94 * r),
            (-0.2, r, mid - 1.08 * r, mid + 1.05 * r),
            (0.35 * back, 0.66 * r, mid - 0.6 * r, mid + 0.8 * r),
            (back, 0.1 * r, mid + 0.1 * r, mid + 0.5 * r),
        ],
        dice.pick((2.0, 2.0, 3.0)),
    )
