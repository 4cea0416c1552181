"""Small textures [128,128,3] u8: wood, stone, cloth, glazes. They tile unless noted otherwise."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointcmt.datasets.sources.toy.objects.colors import Color, Scheme, mix
from pointcmt.datasets.sources.toy.objects.dice import Dice

Floats = NDArray[np.floating[Any]]
Texture = NDArray[np.uint8]
SIZE = 128
NUDGE = 1e-6  # so that all machines round values halfway between two bytes in the same direction


def grid() -> tuple[Floats, Floats]:
    """Return u to the right [1,SIZE] and v upward [SIZE,1] at the pixel centers, 0..1."""
    middle = (np.arange(SIZE) + 0.5) / SIZE
    return middle[None, :], middle[::-1, None]


def edge(signed: Floats, softness: float) -> Floats:
    """Return 1 where `signed` is above 0 and 0 below, with a ramp of `softness` in between."""
    return np.clip(signed / softness + 0.5, 0.0, 1.0)


def line(signed: Floats, width: float, softness: float = 0.02) -> Floats:
    """Return 1 where `signed` is within `width` of 0, and 0 elsewhere."""
    return edge(width - np.abs(signed), softness)


def wave(t: Floats) -> Floats:
    """Return a triangle wave of period 1: 0 at whole t, 1 halfway."""
    return 1 - np.abs(2 * (t - np.floor(t)) - 1)


def cloud(dice: Dice, cells_v: int, cells_u: int) -> Floats:
    """Return smooth tileable noise [SIZE,SIZE] in 0..1 with the given number of cells."""
    return _stretch(_stretch(dice.field(cells_v, cells_u)).T).T


def _stretch(knots: Floats) -> Floats:
    """Interpolate rows [n,...] to [SIZE,...], smoothly and periodically."""
    at = np.arange(SIZE) * len(knots) / SIZE
    first = at.astype(np.intp)
    share = at - first
    share = (share * share * (3 - 2 * share))[:, None]
    return knots[first] * (1 - share) + knots[(first + 1) % len(knots)] * share


def layers(ground: Color, *coats: tuple[Color, Floats]) -> Texture:
    """Paint colors over a ground color, each through its mask."""
    image = np.empty((SIZE, SIZE, 3))
    image[:] = ground
    for color, mask in coats:
        change = np.array(color) - image
        change *= np.asarray(mask)[..., None]
        image += change
    np.clip(image, 0, 1, out=image)
    image *= 255
    image += NUDGE
    return np.rint(image, out=image).astype(np.uint8)


def wood(dice: Dice, light: Color, dark: Color) -> Texture:
    """Draw grain along v: wavy growth rings with fine streaks."""
    rings = wave(dice.whole(3, 5) * grid()[0] + 0.9 * cloud(dice, 2, 4)) ** 2
    return layers(light, (dark, 0.6 * rings), (dark, 0.45 * cloud(dice, 4, 40)))


def marble(dice: Dice, ground: Color, vein: Color) -> Texture:
    """Draw sharp and faint veins where noise crosses the middle of its range."""
    first = cloud(dice, 4, 4) + 0.5 * cloud(dice, 9, 9) + 0.2 * cloud(dice, 21, 21)
    second = cloud(dice, 3, 5) + 0.4 * cloud(dice, 12, 8)
    sharp = np.clip(1 - np.abs(first - 0.85) / 0.06, 0, 1)
    faint = np.clip(1 - np.abs(second - 0.7) / 0.2, 0, 1)
    return layers(ground, (vein, 0.3 * faint), (vein, 0.75 * sharp))


def spots(dice: Dice, ground: Color, *inks: Color) -> Texture:
    """Draw irregular spots of each ink: terrazzo, spotted enamel, lava."""
    return layers(ground, *((ink, edge(cloud(dice, 11, 12) - 0.72, 0.05)) for ink in inks))


def stripes(ground: Color, *inks: Color, count: int = 4, level: bool = False) -> Texture:
    """Draw `count` stripes of alternating inks with equal gaps; level: horizontal stripes."""
    u, v = grid()
    t = count * (v if level else u)
    stripe, number = edge(wave(t) - 0.5, 0.02 * count), np.floor(t).astype(np.intp) % len(inks)
    return layers(ground, *((ink, stripe * (number == i)) for i, ink in enumerate(inks)))


def checker(a: Color, b: Color, count: int = 4) -> Texture:
    """Draw a checkerboard of `count` × `count` squares; even counts tile."""
    u, v = grid()
    return layers(a, (b, (np.floor(count * u) + np.floor(count * v)) % 2))


def chevron(a: Color, b: Color, count: int = 4) -> Texture:
    """Draw zigzags above each other."""
    u, v = grid()
    return layers(a, (b, edge(wave(count * v + 0.6 * wave(count * u)) - 0.5, 0.1)))


def scales(ground: Color, ink: Color, count: int = 4) -> Texture:
    """Draw seigaiha: overlapping rows of concentric arcs."""
    u, v = grid()
    image = np.zeros((SIZE, SIZE))
    for row in range(2 * count + 2, -1, -1):  # from the top down: lower rows lie in front
        du = count * u + 0.5 * (row % 2)
        far = np.sqrt((du - np.floor(du) - 0.5) ** 2 + (count * v - 0.5 * row + 0.5) ** 2)
        image = np.where(far < 0.5, edge(wave(far * 4) - 0.45, 0.15), image)
    return layers(ground, (ink, image))


def _heart(x: Floats, y: Floats) -> Floats:
    x, y = np.abs(x) / 0.24, (y + 0.02) / 0.22
    return 0.2 * (1 - np.sqrt(x**2 + (y - 0.75 * np.sqrt(x)) ** 2))


MOTIFS: dict[str, Callable[[Floats, Floats], Floats]] = {  # positive inside
    "dots": lambda x, y: 0.2 - np.sqrt(x**2 + y**2),
    "hearts": _heart,
    "stars": lambda x, y: (
        0.23 - 0.12 * wave(np.arctan2(x, y) * 5 / (2 * np.pi)) - np.sqrt(x**2 + y**2)
    ),
    "plus": lambda x, y: np.minimum(
        0.2 - np.maximum(np.abs(x), np.abs(y)), 0.065 - np.minimum(np.abs(x), np.abs(y))
    ),
}


def motif(ground: Color, *inks: Color, shape: str = "dots", count: int = 4) -> Texture:
    """Draw rows of dots, hearts, stars or plus signs, every other row shifted by half.

    It tiles if `count` is a multiple of the number of inks.
    """
    u, v = grid()
    row = np.floor(2 * count * v).astype(np.intp)
    x = count * u + 0.5 * (row % 2)
    column = np.floor(x).astype(np.intp)
    mask = edge(MOTIFS[shape](x - column - 0.5, (2 * count * v - row - 0.5) / 2), 0.012 * count)
    number = (column + row) % len(inks)
    return layers(ground, *((ink, mask * (number == i)) for i, ink in enumerate(inks)))


def drip(dice: Dice, ground: Color, glaze: Color, dark: Color) -> Texture:
    """Draw glaze that has run down from the top (v = 1). Tiles in u only."""
    u, v = grid()
    phase, depth = dice.field(2)
    tongues = 0.06 * np.sin(2 * np.pi * (dice.whole(4, 7) * u + phase)) ** 2
    below = v - 0.52 - 0.1 * depth + tongues + 0.07 * np.sin(2 * np.pi * (2 * u + depth))
    return layers(
        ground, (glaze, edge(below, 0.02)), (mix(glaze, dark, 0.6), 0.7 * line(below - 0.02, 0.015))
    )


def ombre(low: Color, high: Color) -> Texture:
    """Draw a gradient from one color at the bottom to another at the top. Tiles in u only."""
    return layers(low, (high, np.clip(1.6 * grid()[1] - 0.3, 0, 1)))


def cloth(dice: Dice, scheme: Scheme) -> Texture:
    """Draw a fabric in the colors of a scheme."""
    ground, ink, second = scheme.main, scheme.light, scheme.accent
    if dice.chance(0.4):
        ground, ink = ink, ground
    draw: Callable[[], Texture] = dice.pick(
        (
            lambda: stripes(ground, *dice.pick(((ink,), (ink, second))), count=dice.pick((2, 4))),
            lambda: checker(scheme.light, mix(scheme.main, scheme.light, 0.4), 6),
            lambda: chevron(ground, ink, dice.pick((2, 3))),
            lambda: motif(ground, ink, ink, second, shape=dice.pick(tuple(MOTIFS)), count=3),
        )
    )
    return draw()


def glaze(dice: Dice, scheme: Scheme) -> Texture:
    """Draw a decorated glaze or lacquer in the colors of a scheme, u around and v up."""
    ground, ink, second = scheme.light, scheme.main, scheme.accent
    if dice.chance(0.35):
        ground, ink = ink, ground
    draw: Callable[[], Texture] = dice.pick(
        (
            lambda: drip(dice, ground, ink, scheme.dark),
            lambda: ombre(second, ground),
            lambda: motif(ground, ink, second, shape=dice.pick(tuple(MOTIFS))),
            lambda: scales(scheme.light, scheme.main),
            lambda: spots(dice, scheme.light, scheme.main, second, scheme.dark),
            lambda: checker(ground, ink, dice.pick((4, 6))),
            lambda: chevron(ground, ink),
            lambda: stripes(ground, ink, second, count=8, level=dice.chance(0.5)),
        )
    )
    return draw()
