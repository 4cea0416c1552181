"""Backs of chairs. Each stands upright in the plane y = 0 on z = 0, `width` × `height`."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pointcmt.datasets.sources.toy_shapes.dice import Dice
from pointcmt.datasets.sources.toy_shapes.outlines import rounded, spline
from pointcmt.datasets.sources.toy_shapes.solid import Solid, pair
from pointcmt.datasets.sources.toy_shapes.solids import (
    cushion,
    extrude,
    frustum,
    rod,
    sheet,
    soft_box,
    tube,
)


@dataclass(frozen=True)
class Back:
    """The frame and what fills it, which may be of another material."""

    frame: list[Solid]
    filling: list[Solid]


def curved_board(
    width: float, low: float, high: float, thickness: float, bow: float, rounding: float = 0.3
) -> Solid:
    """A board bent backwards by `bow`, its upper corners rounded by this share of its height."""
    rows, columns = 6, 11
    z = np.linspace(0, 1, rows)[:, None]
    x = np.linspace(-1, 1, columns)[None]
    drop = rounding * (1 - np.sqrt(1 - 0.96 * x**2))  # the top edge falls towards the sides
    grid = np.empty((rows, columns, 3))
    grid[..., 0] = x * width / 2
    grid[..., 1] = -bow * x**2
    grid[..., 2] = low + (high - low) * z * (1 - drop)
    return sheet(grid, thickness).project(0.6, along="x")


def posts(width: float, height: float, thickness: float) -> list[Solid]:
    """Two uprights."""
    post = frustum(0.5 * thickness, 0.38 * thickness, height, 10)
    return pair(post.tile(1, 2).move(x=width / 2))


def panel(dice: Dice, width: float, height: float, thickness: float) -> Back:
    low = dice.pick((0.0, dice.between(0.35, 0.5))) * height
    bow, rounding = dice.between(0.0, 0.12), dice.between(0.05, 0.6)
    board = curved_board(width, low, height, 0.7 * thickness, bow * width, rounding)
    if low:
        return Back(posts(0.62 * width, 0.5 * (low + height), thickness), [board])
    return Back([], [board])


def ladder(dice: Dice, width: float, height: float, thickness: float) -> Back:
    count = dice.whole(2, 4)
    bow, rounding = dice.between(0.03, 0.1) * width, dice.between(0.0, 0.4)
    pitch = 0.92 * height / (count + 0.25)
    slats = [
        curved_board(width, top - 0.5 * pitch, top, 0.4 * thickness, bow, rounding)
        for top in (height * 0.97 - pitch * i for i in range(count))
    ]
    return Back(posts(width, height, thickness), [slat.move(y=bow) for slat in slats])


def spindles(dice: Dice, width: float, height: float, thickness: float) -> Back:
    count = dice.whole(4, 8)
    rail = curved_board(1.08 * width, 0.82 * height, height, 0.7 * thickness, 0.05 * width, 0.25)
    where = np.linspace(-0.44, 0.44, count) * width
    bars = [
        rod((0.86 * x, 0, 0), (x, -0.05 * width * (2 * x / width) ** 2, 0.88 * height), w)
        for x, w in ((x, 0.2 * thickness) for x in where)
    ]
    return Back(bars, [rail])


def bow_back(dice: Dice, width: float, height: float, thickness: float) -> Back:
    """A bent hoop with spindles, or with a smaller hoop inside, as in a coffee house."""
    outer = _hoop(width, height)
    frame = [tube(outer, 0.36 * thickness, 8)]
    if dice.chance(0.5):
        return Back(frame, [tube(_hoop(0.58 * width, 0.76 * height), 0.28 * thickness, 8)])
    upper = outer[outer[:, 2] > 0.45 * height]
    ends = [upper[round(share * (len(upper) - 1))] for share in np.linspace(0.14, 0.86, 6)]
    bars = [rod((0.55 * end[0], 0, 0), end, 0.17 * thickness) for end in ends]
    return Back(frame, bars)


def _hoop(width: float, height: float) -> NDArray[np.float64]:
    half = [(0.42, 0.0), (0.5, 0.42), (0.47, 0.72), (0.3, 0.94)]
    line = [*half, (0.0, 1.0), *((-x, z) for x, z in half[::-1])]
    return spline([(x * width, 0.0, z * height) for x, z in line], per=5)


def cross(dice: Dice, width: float, height: float, thickness: float) -> Back:
    """Two crossed laths between uprights, under a top rail."""
    rail = curved_board(width, 0.78 * height, height, 0.6 * thickness, 0.0, dice.between(0.0, 0.3))
    w, bend = 0.46 * width, 0.25 * thickness
    strip = 0.5 * thickness * np.array([(-0.6, -0.3), (0.6, -0.3), (0.6, 0.3), (-0.6, 0.3)])
    line = [(-w, bend, 0.05 * height), (0, bend, 0.42 * height), (w, bend, 0.84 * height)]
    lath = tube(line, 1.0, section=strip)
    return Back(posts(width, 0.9 * height, thickness), [lath, lath.scale(x=-1, y=-1), rail])


def pad(dice: Dice, width: float, height: float, thickness: float) -> Back:
    """An upholstered pad between or in front of two uprights."""
    low = dice.between(0.12, 0.35) * height
    deep = dice.between(1.4, 2.2) * thickness
    filled = soft_box(width, height - low, deep, dice.between(0.3, 0.5) * deep)
    upright = filled.turn("x", 90).move(y=0.5 * deep, z=(height + low) / 2).project(0.5)
    return Back(posts(0.7 * width, 0.6 * height, thickness), [upright])


def round_pad(dice: Dice, width: float, height: float, thickness: float) -> Back:
    """A round or oval upholstered medallion on a stem."""
    size = min(0.98 * width, 0.78 * height)
    disc = cushion(dice.between(1.0, 1.15) * size, size, 2.6 * thickness, 2.0).turn("x", 90)
    stem = posts(0.3 * size, height - 0.7 * size, thickness)
    return Back(stem, [disc.move(z=height - size / 2).project(0.5)])


def splat(dice: Dice, width: float, height: float, thickness: float) -> Back:
    """A vase-shaped board in the middle, under a crest rail."""
    w = dice.between(0.14, 0.22) * width
    half = spline([(w, 0.0), (0.5 * w, 0.2), (1.1 * w, 0.55), (0.7 * w, 0.75), (w, 0.93)], per=4)
    half = half * (1.0, height)
    outline = np.concatenate([half, (half * (-1, 1))[::-1]])
    board = extrude(outline, 0.4 * thickness).turn("x", 90).move(y=0.2 * thickness)
    rail = curved_board(1.1 * width, 0.84 * height, height, 0.7 * thickness, 0.0, 0.35)
    return Back(posts(width, 0.9 * height, thickness), [board, rail])


def framed(dice: Dice, width: float, height: float, thickness: float) -> Back:
    """A rounded frame with a thin sheet in it: cane, or wood."""
    low, w = dice.between(0.1, 0.3) * height, 0.5 * width
    corners = [(-w, 0, low), (w, 0, low), (w, 0, height), (-w, 0, height)]
    bar = tube(
        rounded(corners, dice.between(0.1, 0.35) * width, 4), 0.4 * thickness, 8, closed=True
    )
    thin = curved_board(width - 0.2 * thickness, low, height, 0.2 * thickness, 0.0, 0.1)
    return Back([*posts(0.7 * width, low + thickness / 3, thickness), bar], [thin.project(0.25)])


BACKS: dict[str, Callable[[Dice, float, float, float], Back]] = {
    "panel": panel,
    "ladder": ladder,
    "spindles": spindles,
    "bow": bow_back,
    "cross": cross,
    "pad": pad,
    "medallion": round_pad,
    "splat": splat,
    "framed": framed,
}
UPHOLSTERED = ("pad", "medallion")
