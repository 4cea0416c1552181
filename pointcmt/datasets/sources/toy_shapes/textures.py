"""Textures of materials: wood, marble, terrazzo, woven cloth. All of them tile."""

import numpy as np

from pointcmt.datasets.sources.toy_shapes.canvas import (
    SIZE,
    Texture,
    cloud,
    edge,
    grid,
    layers,
    wave,
)
from pointcmt.datasets.sources.toy_shapes.dice import Dice
from pointcmt.datasets.sources.toy_shapes.palettes import Color, mix


def wood(dice: Dice, light: Color, dark: Color) -> Texture:
    """Grain along v: year rings that wander, with fine streaks over them."""
    u, _ = grid()
    wander = cloud(dice, 2, 4)
    rings = wave(dice.whole(3, 5) * u + 0.9 * wander) ** 2
    streaks = cloud(dice, 4, 40)
    return layers(light, (dark, 0.6 * rings), (dark, 0.45 * streaks))


def planks(dice: Dice, light: Color, dark: Color) -> Texture:
    """Four boards side by side along v, each a little different, with dark joints."""
    u, _ = grid()
    board = np.floor(4 * u).astype(np.intp)
    tone = dice.field(4)[board]
    grain = cloud(dice, 3, 36)
    joint = 1 - edge(wave(4 * u) - 0.05, 0.06)
    return layers(light, (dark, 0.55 * tone + 0.35 * grain), (mix(dark, (0, 0, 0), 0.5), joint))


def parquet(dice: Dice, light: Color, dark: Color) -> Texture:
    """Squares of grain that runs up and across in turn."""
    u, v = grid()
    across = (np.floor(2 * u) + np.floor(2 * v)) % 2
    fibre = cloud(dice, 2, 32)
    grain = across * fibre + (1 - across) * fibre.T
    joint = 1 - edge(np.minimum(wave(2 * u), wave(2 * v)) - 0.04, 0.05)
    return layers(light, (dark, 0.25 * across + 0.45 * grain), (mix(dark, (0, 0, 0), 0.4), joint))


def marble(dice: Dice, ground: Color, vein: Color) -> Texture:
    """Veins where a wandering field passes the middle, some of them broad and faint."""
    first = cloud(dice, 4, 4) + 0.5 * cloud(dice, 9, 9) + 0.2 * cloud(dice, 21, 21)
    second = cloud(dice, 3, 5) + 0.4 * cloud(dice, 12, 8)
    sharp = np.clip(1 - np.abs(first - 0.85) / 0.06, 0, 1)
    faint = np.clip(1 - np.abs(second - 0.7) / 0.2, 0, 1)
    return layers(ground, (vein, 0.3 * faint), (vein, 0.75 * sharp))


def terrazzo(dice: Dice, ground: Color, chips: tuple[Color, ...]) -> Texture:
    """Chips of stone: each pixel belongs to the nearest of many points, and some are chips."""
    u, v = grid()
    image = np.zeros((SIZE, SIZE))
    for chip in dice.field(44, 5):
        du, dv = (np.abs(u - chip[0]), np.abs(v - chip[1]))
        du, dv = np.minimum(du, 1 - du), np.minimum(dv, 1 - dv)
        size = 0.02 + 0.05 * chip[2]
        inside = (du * (0.7 + 0.6 * chip[3]) + 0.35 * dv < size) & (dv * 1.2 + 0.4 * du < size)
        image[inside] = 1 + int(chip[4] * len(chips))
    coats = [(color, 1.0 * (image == number)) for number, color in enumerate(chips, 1)]
    return layers(ground, *coats)


def speckle(dice: Dice, ground: Color, speck: Color) -> Texture:
    """Stoneware: a mottled glaze with dark specks."""
    mottle = cloud(dice, 6, 6)
    specks = edge(cloud(dice, 48, 48) - 0.84, 0.08)
    return layers(ground, (speck, 0.16 * mottle), (speck, 0.8 * specks))


def weave(dice: Dice, ground: Color, thread: Color) -> Texture:
    """Coarse cloth: threads over and under each other, some thicker than others."""
    u, v = grid()
    over = (np.floor(12 * u) + np.floor(12 * v)) % 2
    thick = 0.5 * cloud(dice, 2, 24) + 0.5 * cloud(dice, 24, 2)
    thread_edge = over * wave(12 * u) + (1 - over) * wave(12 * v)
    return layers(ground, (thread, (0.25 + 0.5 * over) * thread_edge * (0.4 + 0.8 * thick)))


def cane(ground: Color, gap: Color) -> Texture:
    """Woven cane: holes on a diagonal lattice between the strands."""
    u, v = grid()
    hole = np.minimum(wave(6 * (u + v)), wave(6 * (u - v)))
    strand = np.maximum(wave(12 * u), wave(12 * v)) > 0.86
    return layers(
        ground, (gap, 0.85 * edge(hole - 0.45, 0.2)), (mix(ground, gap, 0.3), 1.0 * strand)
    )
