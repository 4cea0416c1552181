"""Chairs and sofas, in meters."""

from dataclasses import dataclass

import numpy as np

from pointcmt.datasets.sources.toy.objects import textures
from pointcmt.datasets.sources.toy.objects.builder import Builder, printed
from pointcmt.datasets.sources.toy.objects.colors import Scheme
from pointcmt.datasets.sources.toy.objects.outlines import (
    rectangle,
    rounded,
    rounded_rectangle,
    spline,
    superellipse,
)
from pointcmt.datasets.sources.toy.objects.parts import foot, leg, runners
from pointcmt.datasets.sources.toy.objects.solids import (
    Solid,
    cushion,
    cylinder,
    extrude,
    four,
    lath,
    pair,
    rod,
    sheet,
    soft_box,
    tube,
)
from pointcmt.shapes import Material, Mesh


def chair(b: Builder) -> Mesh:
    """Make a chair: framed, shell, office or club chair, or a stool."""
    plans = (_framed_chair, _shell_chair, _office_chair, club_chair, stool)
    b.pick(plans, (0.5, 0.16, 0.1, 0.11, 0.13))(b)
    return b.mesh()


def _framed_chair(b: Builder) -> None:
    """Add a seat on four legs with one of many backs, often with arms."""
    frame = b.pick((b.wood(), b.paint("main")), (2, 1))
    second = b.pick((frame, frame, b.paint("accent", "dark")))
    width, depth, height = b.between(0.4, 0.5), b.between(0.38, 0.46), b.between(0.4, 0.48)
    w, d = width / 2, depth / 2
    outlines = (
        rounded_rectangle(width, depth, 0.05),
        rounded([(-w, -d), (w, -d), (0.84 * w, d), (-0.84 * w, d)], 0.06),
        superellipse(w, d, 2.4, 28),
        rounded(rectangle(width, depth), 0.8 * w, 6),
    )
    board = extrude(b.pick(outlines), 0.035, 0.012).project(0.5, "y")
    b.add("seat", frame, board.move(z=height - 0.035))
    thickness, make_back = b.between(0.03, 0.045), b.pick(BACKS)
    bars, filling = make_back(b, width * b.between(0.86, 0.98), b.between(0.38, 0.58), thickness)
    padded, cover = make_back is _pad, b.fabric()
    if padded or b.chance(0.3):
        pad = soft_box(0.88 * width, 0.86 * depth, 0.06, 0.03)
        b.add("seat", cover, pad.move(z=height - 0.012))
    _four_legs(b, second, (0.38 * width, 0.36 * depth, height - 0.02), thickness)
    lean, y = b.between(0.1, 0.24), d - 0.035
    for material, solids in ((second, bars), (cover if padded else frame, filling)):
        b.add("back", material, [s.shear(y=lean).move(y=y, z=height - 0.016) for s in solids])
    if b.chance(0.42):
        _arms(b, second, width, -0.34 * depth, y + 0.2 * lean, height)


def _four_legs(
    b: Builder, material: Material, corner: tuple[float, float, float], thickness: float
) -> None:
    """Add legs that end at a corner and its mirror images, sometimes with stretchers."""
    kind = b.pick(("round", "square", "turned", "block", "hairpin"), (3, 2, 1.5, 1, 0.7))
    dx, dy, (x, y, height) = b.between(0.0, 0.07), b.between(0.01, 0.08), corner
    b.add("leg", material, four(leg(kind, height, thickness, (dx, dy)).move(x, y)))
    if kind == "hairpin":
        return
    if b.chance(0.55):
        share, bar = b.between(0.25, 0.45), 0.28 * thickness
        x, y, z = x + (1 - share) * dx, y + (1 - share) * dy, share * height
        b.add("leg", material, pair(rod((x, -y, z), (x, y, z), bar)))
        b.add("leg", material, rod((-x, 0, z), (x, 0, z), bar))


def _arms(
    b: Builder, material: Material, width: float, front: float, back: float, height: float
) -> None:
    """Add two bent bars from the back down to the seat, sometimes with flat armrests on top."""
    x, z = width / 2, height + b.between(0.19, 0.25)
    ends = (x - 0.008, back + 0.03, z), (x - 0.023, front + 0.03, height - 0.025)
    line = rounded([ends[0], (x + 0.022, front, z), ends[1]], 0.16, 6, closed=False)
    b.add("arm", material, pair(tube(line, 0.014)))
    if b.chance(0.5):
        rest = lath([(x, back, z + 0.01), (x + 0.012, front + 0.06, z + 0.01)], 0.05, 0.022)
        b.add("arm", material, pair(rest.project(0.4, "y")))


# The frame and the filling of a chair's back, upright in the plane y = 0, on z = 0.
Back = tuple[list[Solid], list[Solid]]


def _board(width: float, low: float, high: float, thickness: float, bow: float) -> Solid:
    """Return a board bent backward by `bow`, with rounded upper corners."""
    z, x = np.linspace(0, 1, 6)[:, None], np.linspace(-1, 1, 11)[None]
    top = low + (high - low) * z * (0.75 + 0.25 * np.sqrt(1 - 0.96 * x**2))
    grid = np.broadcast_arrays(x * width / 2, -bow * x**2, top)
    return sheet(np.stack(grid, axis=-1), thickness).project(0.6, "x")


def _posts(width: float, height: float, t: float) -> list[Solid]:
    return pair(rod((width / 2, 0, 0), (width / 2, 0, height), t / 2, 0.38 * t))


def _panel(b: Builder, width: float, height: float, t: float) -> Back:
    low = b.pick((0.0, b.between(0.35, 0.5))) * height
    board = _board(width, low, height, 0.7 * t, b.between(0, 0.12) * width)
    return (_posts(0.62 * width, 0.5 * (low + height), t) if low else []), [board]


def _ladder(b: Builder, width: float, height: float, t: float) -> Back:
    count, bow = b.whole(2, 4), b.between(0.03, 0.1) * width
    pitch = 0.92 * height / (count + 0.25)
    tops = [0.97 * height - pitch * i for i in range(count)]
    slats = [_board(width, z - 0.5 * pitch, z, 0.4 * t, bow).move(y=bow) for z in tops]
    return _posts(width, height, t), slats


def _spindles(b: Builder, width: float, height: float, t: float) -> Back:
    rail = _board(1.08 * width, 0.82 * height, height, 0.7 * t, 0.05 * width)
    ends = [(x * width, -0.2 * width * x**2) for x in np.linspace(-0.44, 0.44, b.whole(4, 8))]
    return [rod((0.86 * x, 0, 0), (x, y, 0.88 * height), 0.2 * t) for x, y in ends], [rail]


def _hoop(b: Builder, width: float, height: float, t: float) -> Back:
    """Return a bent hoop with spindles, or with a smaller hoop inside, as on bistro chairs."""
    half = np.array([(0.42, 0.0), (0.5, 0.42), (0.47, 0.72), (0.3, 0.94)])
    x, z = spline([*half, (0.0, 1.0), *(half * (-1, 1))[::-1]], 5).T
    outer = np.stack([x * width, 0 * x, z * height], axis=1)
    if b.chance(0.5):
        return [tube(outer, 0.36 * t)], [tube(outer * (0.58, 1, 0.76), 0.28 * t)]
    bars = [rod((x / 2, y, 0), (x, y, z), 0.17 * t) for x, y, z in outer[12:-12:3]]
    return [tube(outer, 0.36 * t), *bars], []


def _pad(b: Builder, width: float, height: float, t: float) -> Back:
    low, deep = b.between(0.12, 0.35) * height, b.between(1.4, 2.2) * t
    pad = soft_box(width, height - low, deep, 0.4 * deep).turn("x", 90)
    return _posts(0.7 * width, 0.6 * height, t), [pad.move(y=0.5 * deep, z=(height + low) / 2)]


BACKS = (_panel, _ladder, _spindles, _hoop, _pad)


def _shell_chair(b: Builder) -> None:
    """Add a molded shell on dowels, runners, a star or a tulip foot."""
    width, depth, height = b.between(0.46, 0.54), b.between(0.42, 0.48), b.between(0.42, 0.47)
    rise, sides = b.between(0.3, 0.52), b.between(0.02, 0.12)
    line = np.array([(-0.5, -0.02), (-0.42, 0.02), (-0.1, -0.01), (0.26, 0.0), (0.42, 0.12)])
    back = (0.5 * depth + 0.06, rise - 0.1), (0.5 * depth + 0.12, rise)
    middle = spline([*(line * (depth, 1)), *back], 3)
    t, x = np.linspace(0, 1, len(middle))[:, None], np.linspace(-1, 1, 11)[None]
    lift = sides * np.abs(x) ** 3 * np.sin(np.pi * np.clip(1.15 * t, 0, 1))
    grid = (
        0.5 * width * x * (1 - 0.18 * np.abs(2 * t - 1.1) ** 3 - b.between(0.0, 0.2) * t),
        middle[:, :1] - lift * t,
        height + middle[:, 1:] + lift * (1 - t) - 0.1 * rise * x**4 * t**4,
    )
    shell = sheet(np.stack(grid, axis=-1), 0.016).tile(2, 2)
    body = b.pick((b.fabric(), b.wood()), (2, 1))
    b.add_split(("seat", "back"), lambda c: c[:, 2] > height + 0.09, body, shell)
    kind, steel = b.pick(("dowel", "runner", "star", "tulip")), b.metal()
    if kind == "dowel":
        one = leg("round", height - 0.03, 0.034, (0.1, 0.09)).move(0.1, 0.1)
        b.add("leg", b.wood("beech", "oak", "walnut"), four(one))
    elif kind == "runner":
        b.add("leg", steel, runners(0.36, 0.42, height - 0.03, 0.022))
    else:
        b.add("leg", b.pick((steel, b.paint("light"))), foot(kind, height - 0.02, 0.27, 0.024))
    if b.chance(0.25):
        _arms(b, steel, 0.97 * width, -0.34 * depth, 0.44 * depth, height + 0.03)


def _office_chair(b: Builder) -> None:
    """Add a padded seat and back on a column with a star of casters."""
    soft, hard = b.fabric(), b.metal()
    width, depth, height = b.between(0.46, 0.52), b.between(0.44, 0.5), b.between(0.44, 0.52)
    tall, lean, y = b.between(0.38, 0.66), b.between(0.08, 0.16), depth / 2 + 0.05
    b.add("seat", soft, soft_box(width, depth, 0.09, 0.04).move(z=height - 0.09))
    rest = soft_box(b.between(0.8, 0.98) * width, tall, 0.07, 0.034).turn("x", 90)
    hollow = rest.warp(lambda v: v - np.array([0, 0.5, 0]) * v[:, :1] ** 2).shear(y=lean)
    b.add("back", soft, hollow.move(y=y + 0.05, z=height + 0.1 + tall / 2))
    below, above = (0, 0.1 * depth, height - 0.1), (0, y + 0.05, height + 0.3)
    spine = rounded([below, (0, y + 0.03, height - 0.08), above], 0.08, 4, closed=False)
    b.add("back", hard, tube(spine, 0.02))
    b.add("leg", hard, foot("casters", height - 0.07, 0.3, 0.024, 5))
    if b.chance(0.7):
        _arms(b, hard, width + 0.02, -0.2 * depth, depth / 2, height - 0.02)


def club_chair(b: Builder) -> None:
    """Add an upholstered armchair, like a sofa for one, but lighter and on taller legs."""
    soft, width, depth = b.fabric(), b.between(0.48, 0.56), b.between(0.48, 0.54)
    height, rise, lean = b.between(0.4, 0.44), b.between(0.36, 0.52), b.between(0.1, 0.22)
    b.add("seat", soft, soft_box(width, depth, 0.16, 0.04).move(z=height - 0.16))
    rest = soft_box(width + 0.02, rise + 0.1, b.between(0.09, 0.12), 0.042).turn("x", 90)
    place = rest.shear(y=lean).move(y=depth / 2 + 0.03, z=height + rise / 2 - 0.06)
    b.add("back", soft, place)
    if b.chance(0.75):
        side = soft_box(0.08, 0.96 * depth, b.between(0.28, 0.34), 0.035)
        b.add("arm", soft, pair(side.move(width / 2 + 0.02, 0.015, height - 0.12)))
    else:
        _arms(b, b.wood(), width, -0.34 * depth, depth / 2, height)
    one = leg(b.pick(("round", "square", "turned")), height - 0.13, 0.045, (0.03, 0.03))
    b.add("leg", b.wood(), four(one.move(0.4 * width, 0.4 * depth)))


def stool(b: Builder) -> None:
    """Add a low stool or a bar stool, which resembles a small table."""
    frame, width = b.pick((b.wood(), b.paint("main")), (2, 1)), b.between(0.34, 0.42)
    depth, height = width * b.pick((1.0, 0.75)), b.pick((0.4, 0.6)) + b.between(0.0, 0.16)
    oval, square = superellipse(width / 2, depth / 2), rounded_rectangle(width, depth, 0.07)
    outline = b.pick((oval, square))
    b.add("seat", frame, extrude(outline, 0.04, 0.012).project(0.4, "y").move(z=height - 0.04))
    if b.chance(0.5):
        pad = extrude(0.92 * outline, 0.07, 0.03, steps=3).project(0.35)
        b.add("seat", b.fabric(), pad.move(z=height - 0.012))
    second = b.pick((frame, b.metal()))
    if b.chance(0.25):
        b.add("leg", second, foot("disc", height - 0.02, 0.19, 0.02))
    else:
        _four_legs(b, second, (0.3 * width, 0.3 * depth, height - 0.02), 0.036)


def sofa(b: Builder) -> Mesh:
    """Make a settee or a chesterfield."""
    places = b.pick((1, 2, 3, 4), (0.25, 0.36, 0.31, 0.08))
    size = Size(places, b.between(0.5, 0.64), b.between(0.58, 0.7), b.between(0.38, 0.46))
    b.pick((_settee, _chesterfield), (3, 1))(b, size)
    return b.mesh()


@dataclass(frozen=True)
class Size:
    """The number of seats, the width of each, their depth and height."""

    places: int
    each: float
    depth: float
    height: float

    @property
    def width(self) -> float:
        """The width of all seats together."""
        return self.places * self.each

    def per_place(self, solid: Solid) -> list[Solid]:
        """Return one copy of the solid per seat, side by side."""
        middle = (self.places - 1) / 2
        return [solid.move(x=(i - middle) * self.each) for i in range(self.places)]


def _settee(b: Builder, size: Size) -> None:
    """Add the usual sofa: base, seat cushions, back, arms."""
    width, depth, height, soft = size.width, size.depth, size.height, b.fabric(quiet=True)
    floor, rise, each = b.between(0.06, 0.17), b.between(0.36, 0.5), size.each
    second = b.pick((soft, b.paint("main")))
    base = soft_box(width + 0.01, depth + 0.1, height - floor - 0.11, 0.03)
    b.add("seat", soft, base.move(y=0.05, z=floor))
    pad = soft_box(each - 0.012, depth, 0.13, 0.05).move(y=-0.01, z=height - 0.13)
    b.add("seat", second, size.per_place(pad))
    back = soft_box(width + 0.02, b.between(0.14, 0.2), height + rise - floor - 0.06, 0.05)
    b.add("back", soft, back.move(y=depth / 2 + 0.06, z=floor + 0.012))
    if b.chance(0.65):
        rest = soft_box(each - 0.016, 0.15, rise - 0.02, 0.06).shear(y=0.2)
        b.add("back", second, size.per_place(rest.move(y=depth / 2 - 0.09, z=height - 0.025)))
    if b.chance(0.86):
        arm, tall = b.pick((0.08, 0.14, 0.2)), height + b.between(0.12, 0.24) - floor
        x, side = width / 2 + arm / 2 - 0.01, soft_box(arm, depth + 0.09, tall, 0.045)
        b.add("arm", soft, pair(side.move(x, 0.035, floor + 0.006)))
        if b.chance(0.4):
            roll = _roll(max(0.085, 0.62 * arm), depth + 0.12)
            b.add("arm", soft, pair(roll.move(x, 0.03, floor + tall - 0.03)))
    _feet(b, width, depth + 0.1, floor, 0.03)
    _pillows(b, size, depth / 2 - 0.1)


def _roll(radius: float, length: float) -> Solid:
    """Return an upholstered cylinder along y, about the origin."""
    return cylinder(radius, length, 20, 0.02).move(z=-length / 2).turn("x", 90).tile(2, 2)


def _feet(b: Builder, width: float, depth: float, height: float, y: float = 0.0) -> None:
    """Add short legs under a base whose lower side is at `height`."""
    kind = b.pick(("round", "square", "block", "turned", "runner"))
    x, back = width / 2 - 0.08, depth / 2 - 0.08
    if kind == "runner":
        solids = runners(2 * x, 2 * back, height + 0.02, 0.028)
    else:
        solids = four(leg(kind, height + 0.02, 0.055).move(x, back))
    b.add("leg", b.pick((b.wood(), b.metal())), [solid.move(y=y) for solid in solids])


def _pillows(b: Builder, size: Size, y: float) -> None:
    """Add up to three pillows that lean on the back, which is at `y`; some are printed."""
    s, plain = b.scheme, b.paint("accent", "light")
    swapped = Scheme(s.accent, s.main, s.light, s.dark)
    patterned = printed(textures.cloth(b, swapped), "cloth") if b.patterned else plain
    start = b.whole(0, 2)
    for i in range(min(size.places, b.pick((0, 1, 2, 3)))):
        x, side = (-0.4, 0.3, -0.12, 0.41, -0.3)[start + i], b.between(0.3, 0.38)
        pillow = cushion(side, side, 0.15).turn("x", 68).turn("z", -35 * x)
        at = x * (size.width - 0.3) / 0.82, y - 0.1 - 0.02 * i, size.height + 0.47 * side
        leaning = pillow.turn("y", b.between(-8, 8)).move(*at)
        b.add("cushion", plain if i == 1 else patterned, leaning)


def _chesterfield(b: Builder, size: Size) -> None:
    """Add a chesterfield, with rolled arms as high as the back."""
    width, depth, height, soft = size.width, size.depth, size.height, b.fabric(quiet=True)
    floor, rise, r = b.between(0.06, 0.12), b.between(0.24, 0.34), b.between(0.09, 0.12)
    top, x, y = height + rise, width / 2 + 0.045, depth / 2 + 0.04
    base = soft_box(width + 0.02, depth + 0.04, height - floor - 0.1, 0.025)
    b.add("seat", soft, base.move(z=floor))
    pad = soft_box(size.each - 0.012, depth, 0.12, 0.05)
    b.add("seat", soft, size.per_place(pad.move(y=-0.012, z=height - 0.12)))
    wall = soft_box(width + 0.04, 0.12, top - floor, 0.02).move(y=y, z=floor + 0.01)
    b.add("back", soft, wall, _roll(r, width + 0.1).turn("z", 90).move(y=y + 0.03, z=top))
    side = soft_box(0.12, depth + 0.06, top - floor, 0.02).move(x, z=floor + 0.005)
    roll = _roll(r, depth + 0.16).move(x + 0.03, -0.01, top - 0.005)
    b.add("arm", soft, pair(side), pair(roll))
    _feet(b, width, depth, floor)
    _pillows(b, size, depth / 2 - 0.02)
