"""Printed patterns for cloth, ceramics and paper. All of them tile."""

from collections.abc import Callable

import numpy as np

from pointcmt.datasets.sources.toy_shapes.canvas import Floats, Texture, edge, grid, layers, wave
from pointcmt.datasets.sources.toy_shapes.dice import Dice
from pointcmt.datasets.sources.toy_shapes.palettes import Color, Scheme, mix
from pointcmt.datasets.sources.toy_shapes.textures import speckle, terrazzo, weave


def stripes(ground: Color, inks: tuple[Color, ...], count: int, upright: bool = True) -> Texture:
    """`count` stripes of the inks in turn, with as much ground in between."""
    u, v = grid()
    t = (u + 0 * v if upright else v + 0 * u) * count
    number = np.floor(t).astype(np.intp) % len(inks)
    line = edge(wave(t) - 0.5, 0.02 * count)
    return layers(ground, *((ink, line * (number == i)) for i, ink in enumerate(inks)))


def bands(ground: Color, ink: Color, second: Color) -> Texture:
    """One broad level band between two narrow ones, as on a Breton shirt's mug."""
    _, v = grid()
    broad = edge(0.13 - np.abs(v - 0.5), 0.015)
    narrow = edge(0.025 - np.abs(np.abs(v - 0.5) - 0.2), 0.015)
    return layers(ground, (ink, broad), (second, narrow))


def checker(a: Color, b: Color, count: int = 4) -> Texture:
    """A chess board of `count` × `count` fields; even counts tile."""
    u, v = grid()
    return layers(a, (b, (np.floor(count * u) + np.floor(count * v)) % 2))


def gingham(ground: Color, ink: Color, count: int = 4) -> Texture:
    """Translucent stripes both ways."""
    u, v = grid()
    up, across = edge(wave(count * u) - 0.5, 0.1), edge(wave(count * v) - 0.5, 0.1)
    return layers(ground, (ink, 0.5 * up), (ink, 0.5 * across))


def tartan(ground: Color, ink: Color, second: Color) -> Texture:
    """Broad and narrow stripes both ways."""
    u, v = grid()
    coats = []
    for t in (u, v):
        coats.append((ink, 0.55 * edge(wave(2 * t) - 0.55, 0.04)))
        coats.append((second, 0.8 * edge(0.07 - np.abs(wave(2 * t) - 0.25), 0.03)))
    return layers(ground, *coats)


def chevron(a: Color, b: Color, count: int = 4) -> Texture:
    """Zigzags one above the other."""
    u, v = grid()
    return layers(a, (b, edge(wave(count * v + 0.6 * wave(count * u)) - 0.5, 0.1)))


def harlequin(a: Color, b: Color, line: Color, count: int = 3) -> Texture:
    """Lozenges with a fine line across."""
    u, v = grid()
    reach = wave(count * u) - wave(count * v)
    fine = edge(0.05 - np.abs(wave(count * (u - v)) - 0.5), 0.03)
    return layers(a, (b, edge(reach, 0.05)), (line, 0.7 * fine))


def scales(ground: Color, ink: Color, count: int = 4) -> Texture:
    """Seigaiha: overlapping rows of concentric arcs."""
    u, v = grid()
    image = np.zeros((u.size, v.size))
    for row in range(2 * count + 2, -1, -1):  # from the top down, the lower rows lie in front
        du = count * u + 0.5 * (row % 2)
        du = du - np.floor(du) - 0.5
        far = np.sqrt(du**2 + (count * v - 0.5 * row + 0.5) ** 2)
        rings = edge(wave(far * 4) - 0.45, 0.15)
        image = np.where(far < 0.5, rings, image)
    return layers(ground, (ink, image))


def motif(ground: Color, inks: tuple[Color, ...], shape: str, count: int = 3) -> Texture:
    """Rows of dots, hearts, stars, drops or plus signs, every other row shifted by half.

    It tiles where `count` is a multiple of the number of inks.
    """
    u, v = grid()
    row = np.floor(2 * count * v).astype(np.intp)
    x = count * u + 0.5 * (row % 2)
    column = np.floor(x).astype(np.intp)
    x, y = x - column - 0.5, (2 * count * v - row - 0.5) / 2
    mask = edge(MOTIFS[shape](x, y), 0.012 * count)
    number = (column + row) % len(inks)
    return layers(ground, *((ink, mask * (number == i)) for i, ink in enumerate(inks)))


def drip(dice: Dice, ground: Color, glaze: Color, dark: Color) -> Texture:
    """Glaze that has run down from the rim (v = 1), darker where it ends. Tiles in u only."""
    u, v = grid()
    count = dice.whole(4, 7)
    phase, depth = dice.field(2)
    tongues = 0.06 * np.sin(2 * np.pi * (count * u + phase)) ** 2
    tongues = tongues + 0.07 * np.sin(2 * np.pi * (2 * u + depth))
    below = v - (0.52 + 0.1 * depth - tongues)
    return layers(
        ground,
        (glaze, edge(below, 0.02)),
        (mix(glaze, dark, 0.6), 0.7 * edge(below, 0.02) * edge(0.035 - below, 0.02)),
    )


def ombre(low: Color, high: Color) -> Texture:
    """From one colour at the bottom to another at the top. Tiles in u only."""
    u, v = grid()
    return layers(low, (high, np.clip(1.6 * v - 0.3, 0, 1) + 0 * u))


def _dot(x: Floats, y: Floats) -> Floats:
    return 0.2 - np.sqrt(x**2 + y**2)


def _heart(x: Floats, y: Floats) -> Floats:
    x, y = np.abs(x) / 0.24, (y + 0.02) / 0.22
    return 0.2 * (1 - np.sqrt(x**2 + (y - 0.75 * np.sqrt(x)) ** 2))


def _star(x: Floats, y: Floats) -> Floats:
    angle, radius = np.arctan2(x, y), np.sqrt(x**2 + y**2)
    return 0.23 - 0.12 * wave(angle * 5 / (2 * np.pi)) - radius


def _plus(x: Floats, y: Floats) -> Floats:
    x, y = np.abs(x), np.abs(y)
    return np.minimum(0.2 - np.maximum(x, y), 0.065 - np.minimum(x, y))


def _drop(x: Floats, y: Floats) -> Floats:
    belly = 0.14 - np.sqrt(x**2 + (y + 0.06) ** 2)
    point = np.minimum(0.13 * (0.25 - y) / 0.3 - np.abs(x), y + 0.06)
    return np.maximum(belly, point)


MOTIFS: dict[str, Callable[[Floats, Floats], Floats]] = {
    "dots": _dot,
    "hearts": _heart,
    "stars": _star,
    "plus": _plus,
    "drops": _drop,
}


GLAZES = (
    *("drip", "drip", "bands", "ombre", "motif", "motif", "scales", "terrazzo", "speckle"),
    *("checker", "chevron", "stripes"),
)


def cloth(dice: Dice, scheme: Scheme) -> Texture:
    """A fabric in the colours of a scheme."""
    ground, ink, second = scheme.main, scheme.light, scheme.accent
    if dice.chance(0.4):
        ground, ink = ink, ground
    kind = dice.pick(("stripes", "gingham", "tartan", "chevron", "motif", "weave", "harlequin"))
    if kind == "stripes":
        return stripes(ground, dice.pick(((ink,), (ink, second))), dice.pick((2, 4)))
    if kind == "gingham":
        return gingham(scheme.light, scheme.main, dice.pick((3, 4)))
    if kind == "tartan":
        return tartan(ground, scheme.dark, ink)
    if kind == "chevron":
        return chevron(ground, ink, dice.pick((2, 3)))
    if kind == "motif":
        return motif(ground, (ink, ink, second), dice.pick(("dots", "plus", "drops", "stars")), 3)
    if kind == "weave":
        return weave(dice, scheme.main, scheme.light)
    return harlequin(ground, mix(ground, ink, 0.35), second, 2)


def glaze(dice: Dice, scheme: Scheme) -> Texture:
    """A decorated ceramic in the colours of a scheme, u around and v up."""
    ground, ink, second = scheme.light, scheme.main, scheme.accent
    if dice.chance(0.35):
        ground, ink = ink, ground
    kind = dice.pick(GLAZES)
    if kind == "drip":
        return drip(dice, ground, ink, scheme.dark)
    if kind == "bands":
        return bands(ground, ink, second)
    if kind == "ombre":
        return ombre(second, ground)
    if kind == "motif":
        return motif(ground, (ink, second), dice.pick(("dots", "hearts", "stars", "drops")), 4)
    if kind == "scales":
        return scales(scheme.light, scheme.main, 4)
    if kind == "terrazzo":
        return terrazzo(dice, scheme.light, (scheme.main, scheme.accent, scheme.dark))
    if kind == "speckle":
        return speckle(dice, ground, scheme.dark)
    if kind == "checker":
        return checker(ground, ink, 6)
    if kind == "chevron":
        return chevron(ground, ink, 4)
    return stripes(ground, (ink, second), 8, upright=dice.chance(0.5))
