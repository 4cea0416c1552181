"""Drawing small textures: coordinates, soft-edged masks, tileable noise. Row 0 is the top."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointcmt.datasets.sources.toy_shapes.dice import Dice
from pointcmt.datasets.sources.toy_shapes.palettes import Color

Floats = NDArray[np.floating[Any]]
Texture = NDArray[np.uint8]
SIZE = 128  # pixels across, for most textures
NUDGE = 1e-6  # so that what lies halfway between two bytes is rounded alike on every machine


def grid(size: int = SIZE) -> tuple[Floats, Floats]:
    """u to the right and v upwards at the pixels' centres, [1,size] and [size,1], 0..1."""
    middle = (np.arange(size) + 0.5) / size
    return middle[None, :], middle[::-1, None]


def edge(signed: Floats, softness: float) -> Floats:
    """1 where `signed` is above 0, 0 below, with a ramp of `softness` in between."""
    return np.clip(signed / softness + 0.5, 0.0, 1.0)


def wave(t: Floats) -> Floats:
    """A triangle wave of period 1: 0 at whole t, 1 halfway."""
    return 1 - np.abs(2 * (t - np.floor(t)) - 1)


def cloud(dice: Dice, cells_v: int, cells_u: int, size: int = SIZE) -> Floats:
    """Smooth tileable noise [size,size] in 0..1, with so many cells up and across."""
    rows = _stretch(dice.field(cells_v, cells_u), size)
    return _stretch(rows.T, size).T


def _stretch(knots: Floats, size: int) -> Floats:
    """Rows [n,...] to [size,...], smoothly and around the end."""
    at = np.arange(size) * len(knots) / size
    first = at.astype(np.intp)
    share = at - first
    share = (share * share * (3 - 2 * share))[:, None]
    return knots[first] * (1 - share) + knots[(first + 1) % len(knots)] * share


def layers(ground: Color, *coats: tuple[Color, Floats], size: int = SIZE) -> Texture:
    """A ground colour and, one over the other, colours by masks that broadcast to [size,size]."""
    image: Floats = np.broadcast_to(np.array(ground), (size, size, 3))
    for color, mask in coats:
        image = image + mask[..., None] * (np.array(color) - image)
    return np.rint(np.clip(image, 0, 1) * 255 + NUDGE).astype(np.uint8)
