"""One point per voxel, and the voxels nearest to one of them, in linear time."""

import numpy as np
from numpy.typing import NDArray

from pointcmt.compiled import compiled

AXIS_BITS = 21  # of a voxel's place along each axis: 1 km from the origin, at 1 mm
FIRST_SLOTS = 1 << 15  # of the hash table, which doubles once it is half full
EMPTY = -1
INDEX_BITS = 24  # of a point: a row of a store has no room for more (`SceneConfig`)


def voxelize(
    points: NDArray[np.float32], size: float, seed: int | None
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return each point's voxel [n] and each voxel's point [m].

    points: [n,3] meters. size: of a voxel's edge, meters; voxels are multiples of it from the
    origin on, numbered in the order in which the points reach them. seed: chooses a random point of
    each voxel; None takes the first. The choice depends on the seed and the order of the points.
    """
    return _voxelize(points, size, np.uint64(seed or 0), seed is not None)


def voxel_places(points: NDArray[np.float32], size: float) -> NDArray[np.int64]:
    """Return the voxels of points as multiples of `size`, [n,3]."""
    return np.floor(points.astype(np.float64) / size).astype(np.int64)


def nearest_voxels(places: NDArray[np.int64], center: int, count: int) -> NDArray[np.int64]:
    """Return the indices, ascending, of the `count` voxels nearest to one of them.

    places: [m,3], more than `count`. Of voxels at the same distance the first ones are taken.
    """
    away = ((places - places[center]) ** 2).sum(axis=1)
    farthest = np.partition(away, count - 1)[count - 1]
    kept = away < farthest
    ties = np.flatnonzero(away == farthest)
    kept[ties[: count - np.count_nonzero(kept)]] = True
    return np.flatnonzero(kept)


@compiled
def _voxelize(points, size, seed, at_random):  # type: ignore[no-untyped-def]
    count, found = len(points), 0
    voxel, keys = np.empty(count, np.int32), np.empty(count, np.int64)
    # The point of each voxel: the least of a draw, in the high bits, and its index, in the low.
    least = np.empty(count, np.uint64)
    slots = np.full(FIRST_SLOTS, EMPTY, np.int32)  # a hash table of voxels
    for i in range(count):
        key = np.int64(0)
        for axis in range(3):
            place = np.int64(np.floor(np.float64(points[i, axis]) / size))
            key = key << AXIS_BITS | (place + (1 << (AXIS_BITS - 1)))
        candidate = np.uint64(i)
        if at_random:
            candidate |= _mixed(seed ^ _mixed(candidate)) << np.uint64(INDEX_BITS)
        slot = _find(slots, keys, key)
        own = slots[slot]
        if own == EMPTY:
            own = np.int32(found)
            slots[slot], keys[own], least[own] = own, key, candidate
            found += 1
            if 2 * found > len(slots):
                slots = np.full(2 * len(slots), EMPTY, np.int32)
                for old in range(found):
                    slots[_find(slots, keys, keys[old])] = old
        elif candidate < least[own]:
            least[own] = candidate
        voxel[i] = own
    return voxel, (least[:found] & np.uint64((1 << INDEX_BITS) - 1)).astype(np.int32)


@compiled
def _find(slots, keys, key):  # type: ignore[no-untyped-def]
    """Return the slot that holds the voxel with this key, or the empty one where it belongs."""
    mask = np.uint64(len(slots) - 1)
    slot = _mixed(np.uint64(key)) & mask
    while slots[slot] != EMPTY and keys[slots[slot]] != key:
        slot = (slot + np.uint64(1)) & mask
    return slot


@compiled
def _mixed(value):  # type: ignore[no-untyped-def]
    """Return the value with its bits mixed (the finalizer of SplitMix64, Steele et al. 2014)."""
    value += np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ value >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ value >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return value ^ value >> np.uint64(31)
