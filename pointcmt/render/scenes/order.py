"""The order of a scene's points: any first n of them are spread evenly over the scene.

Farthest-point order, which shapes have, takes quadratic time. This one takes the time of a sort:
voxels of 0.8 m, then 0.4 m, down to 2.5 cm; at each size, every voxel without a chosen point adds
the point nearest to its middle, in an order that mixes all places; the remaining points follow.
"""

import numpy as np
from numpy.typing import NDArray

from pointcmt.compiled import compiled

FINEST = 0.025  # meters
LEVELS = 6  # of voxels; the coarsest has FINEST · 2^5 = 0.8 m
AXIS_BITS = 20  # of a voxel's place along each axis: 26 km


def voxel_order(points: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return the indices [N] that bring points [N,3] (meters) into voxel order.

    Depends on the points and their order alone. Points must lie within 13 km of the origin.
    """
    places = np.floor(points / FINEST).astype(np.int64) + (1 << (AXIS_BITS - 1))
    code = _morton(np.clip(places, 0, (1 << AXIS_BITS) - 1))
    by_code = np.argsort(code, kind="stable")
    level, voxel = _levels(points[by_code].astype(np.float64), code[by_code])
    own = np.where(level < LEVELS, voxel, by_code.astype(np.uint64))  # distinct within a level
    return by_code[np.lexsort((_mixed(own + level), level))]


def _morton(places: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Interleave the bits of places [N,3]: 3·AXIS_BITS bits, the highest of all axes first."""
    code = np.zeros(len(places), np.uint64)
    for axis in range(3):
        x = places[:, axis].astype(np.uint64)
        for shift, mask in _SPREADS:
            x = (x | x << shift) & mask
        code |= x << np.uint64(axis)
    return code


# Each step doubles the distance between groups of bits (Warren, Hacker's Delight, section 7-2).
_SPREADS = tuple(
    (np.uint64(shift), np.uint64(mask))
    for shift, mask in (
        (32, 0x1F00000000FFFF),
        (16, 0x1F0000FF0000FF),
        (8, 0x100F00F00F00F00F),
        (4, 0x10C30C30C30C30C3),
        (2, 0x1249249249249249),
    )
)


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the values with their bits mixed (the finalizer of SplitMix64, Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        mixed = values + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ mixed >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ mixed >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return mixed ^ mixed >> np.uint64(31)


@compiled
def _levels(points, code):  # type: ignore[no-untyped-def]
    """Return at which level each point is chosen, LEVELS = never, and its voxel's code then.

    points [N,3] and code [N] are sorted by code: the points of a voxel of any size are neighbors.
    """
    count = len(points)
    level, voxel = np.full(count, LEVELS, np.uint8), np.zeros(count, np.uint64)
    for step in range(LEVELS):
        up = np.uint64(3 * (LEVELS - 1 - step))
        size = FINEST * 2.0 ** (LEVELS - 1 - step)
        begin = 0
        while begin < count:
            own, end = code[begin] >> up, begin
            taken, nearest, best = False, begin, np.inf
            while end < count and code[end] >> up == own:
                taken = taken or level[end] < LEVELS
                away = 0.0
                for axis in range(3):
                    place = points[end, axis] / size
                    away += (place - np.floor(place) - 0.5) ** 2
                if away < best:
                    nearest, best = end, away
                end += 1
            if not taken:
                level[nearest], voxel[nearest] = step, own
            begin = end
    return level, voxel
