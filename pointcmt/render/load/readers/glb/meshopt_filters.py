"""The filters of meshopt compression: what decompressed attributes go through before use.

All but the exponential one are exact to one unit of the integers that they return.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Filter(NamedTuple):
    """strides: bytes per element that it can be used with; empty if any multiple of 4."""

    apply: Callable[[NDArray[np.uint8]], NDArray[np.generic]]
    strides: tuple[int, ...] = ()


def _octahedral(rows: NDArray[np.uint8]) -> NDArray[np.generic]:
    """Decode unit vectors: x, y in octahedral coordinates, 1.0 of the precision, any value."""
    stored = rows.view(f"<i{rows.shape[1] // 4}")
    with np.errstate(all="ignore"):
        x, y = (stored[:, k].astype(np.float64) / stored[:, 2] for k in (0, 1))
        z = 1 - np.abs(x) - np.abs(y)
        folded = np.minimum(z, 0)
        xyz = np.stack([x - np.copysign(folded, x), y - np.copysign(folded, y), z], axis=1)
        xyz /= np.linalg.norm(xyz, axis=1, keepdims=True)
    out = stored.copy()
    out[:, :3] = _rounded(xyz * np.iinfo(stored.dtype).max)
    return out


def _quaternion(rows: NDArray[np.uint8]) -> NDArray[np.generic]:
    """Decode unit quaternions of three components; the largest one, positive, follows from them."""
    stored = rows.view("<i2")
    one = (stored[:, 3] | 3).astype(np.float64)
    with np.errstate(all="ignore"):
        xyz = stored[:, :3] / one[:, None] / np.sqrt(2)
        w = np.sqrt(np.maximum(0, 1 - (xyz**2).sum(axis=1)))
    largest = (stored[:, 3] & 3).astype(np.int64)
    out, items = np.empty_like(stored), np.arange(len(stored))
    for k, values in enumerate((w, *xyz.T)):
        out[items, (largest + k) % 4] = _rounded(values * 32767)
    return out


def _exponential(rows: NDArray[np.uint8]) -> NDArray[np.generic]:
    """Decode floats: 8 bits of exponent and 24 of mantissa, both signed."""
    stored = rows.view("<i4")
    with np.errstate(all="ignore"):
        return np.ldexp((stored << 8 >> 8).astype(np.float32), stored >> 24).astype("<f4")


def _color(rows: NDArray[np.uint8]) -> NDArray[np.generic]:
    """Decode colors from YCoCg; the highest bit of alpha tells the precision."""
    width = rows.shape[1] // 4
    signed = rows.view(f"<i{width}").astype(np.int64)
    alpha = rows.view(f"<u{width}")[:, 3].astype(np.int64)
    y = rows.view(f"<u{width}")[:, 0].astype(np.int64)
    full = (1 << np.frexp(np.maximum(alpha, 1).astype(np.float64))[1].astype(np.int64)) - 1
    co, cg = signed[:, 1], signed[:, 2]
    a = alpha & (full >> 1)
    rgba = np.stack([y + co - cg, y + cg, y - co - cg, (a << 1) | (a & 1)], axis=1)
    most = 256**width - 1
    return np.clip(_rounded(rgba * (most / full[:, None])), 0, most).astype(f"<u{width}")


def _rounded(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round half away from zero; what is not finite (unspecified data) becomes 0."""
    return np.nan_to_num(np.trunc(values + np.copysign(0.5, values)), posinf=0, neginf=0)


FILTERS = {
    "OCTAHEDRAL": Filter(_octahedral, (4, 8)),
    "QUATERNION": Filter(_quaternion, (8,)),
    "EXPONENTIAL": Filter(_exponential),
    "COLOR": Filter(_color, (4, 8)),
}
