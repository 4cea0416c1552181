"""The sRGB transfer function (IEC 61966-2-1) and its inverse."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def to_srgb(linear: NDArray[Any]) -> NDArray[Any]:
    """Convert linear 0..1 to sRGB 0..1 (IEC 61966-2-1)."""
    curve = np.where(linear == 1, 1.0, 1.055 * linear ** (1 / 2.4) - 0.055)  # exactly 1 for 1
    return np.where(linear <= 0.0031308, linear * 12.92, curve)


def to_linear(srgb: NDArray[Any]) -> NDArray[Any]:
    """Convert sRGB 0..1 to linear 0..1, the inverse of `to_srgb`."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
