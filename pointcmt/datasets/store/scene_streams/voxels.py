"""The voxels of points, one point of each, and those nearest to one of them, in linear time."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pointcmt.compiled import compiled

DIGIT = 11  # bits that a pass of the radix sort sorts by
MARGIN = 1.2  # more points than a crop should need, so that it is rarely sought again


@dataclass(frozen=True, eq=False)
class Voxels:
    """The voxels that hold points: m voxels, n points.

    places: in multiples of the voxels' size from the origin, sorted. order: the points by voxel, in
    stored order within each. starts: where each voxel's points begin in `order`; n at the end.
    """

    places: NDArray[np.int64]  # [m,3]
    order: NDArray[np.int32]  # [n]
    starts: NDArray[np.int64]  # [m+1]

    @classmethod
    def of(cls, points: NDArray[np.float32], size: float) -> "Voxels":
        """Find the voxels of points [n,3]. size: of a voxel's edge, in the points' unit."""
        low, high = _bounds(points, size)
        bits = np.array([int(extent).bit_length() for extent in high - low])
        keys, order = _sorted(_keys(points, size, low, bits), int(bits.sum()))
        places, starts = _runs(keys, low, bits)
        return cls(places, order, starts)

    def __len__(self) -> int:
        return len(self.places)

    def first_points(self, voxels: NDArray[np.int64]) -> NDArray[np.int32]:
        """Return the first point of each of these voxels."""
        return self.order[self.starts[voxels]]

    def random_points(
        self, voxels: NDArray[np.int64], rng: np.random.Generator
    ) -> NDArray[np.int32]:
        """Return a random point of each of these voxels."""
        begin, end = self.starts[voxels], self.starts[voxels + 1]
        return self.order[rng.integers(begin, end)]

    def of_points(self) -> NDArray[np.int64]:
        """Return the voxel of each point, [n]."""
        voxel = np.empty(len(self.order), np.int64)
        voxel[self.order] = np.repeat(np.arange(len(self)), np.diff(self.starts))
        return voxel

    def nearest(self, place: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        """Return the `count` voxels nearest to a place [3], ascending; of equally far ones the
        first. All of them if there are fewer.
        """
        if count >= len(self):
            return np.arange(len(self))
        away = _squared_distances(self.places, place)
        farthest = np.partition(away, count - 1)[count - 1]
        kept = away < farthest
        ties = np.flatnonzero(away == farthest)
        kept[ties[: count - np.count_nonzero(kept)]] = True
        return np.flatnonzero(kept)


def find_crop(
    points: NDArray[np.float32], size: float, center: int, count: int, guess: float = 1.0
) -> tuple[NDArray[np.int64], Voxels, NDArray[np.int64]]:
    """Find the `count` voxels nearest to that of a point, all of them if there are fewer.

    Returns points [m], ascending, the voxels of these, and which of the voxels are meant. Only the
    points of a ball that holds the crop are sorted, since a scene may have many more. guess: of
    the points per voxel; a good one saves time.
    """
    place = np.floor(points[center].astype(np.float64) / size).astype(np.int64)
    rings = _rings(points, size, place)
    within = np.cumsum(np.bincount(rings))  # points up to each ring
    while True:
        wanted = min(int(count * guess), len(points))
        inside = np.flatnonzero(rings <= np.searchsorted(within, wanted))
        voxels = Voxels.of(np.take(points, inside, axis=0), size)
        if len(voxels) >= count or len(inside) == len(points):
            return inside, voxels, voxels.nearest(place, count)
        guess = max(len(inside) / len(voxels), guess) * MARGIN


@compiled
def _bounds(points, size):  # type: ignore[no-untyped-def]
    """Return the lowest and highest place along each axis, [3] each."""
    low, high = np.zeros(3, np.int64), np.zeros(3, np.int64)
    for i in range(len(points)):
        for axis in range(3):
            place = np.int64(np.floor(np.float64(points[i, axis]) / size))
            low[axis] = place if i == 0 else min(low[axis], place)
            high[axis] = place if i == 0 else max(high[axis], place)
    return low, high


@compiled
def _keys(points, size, low, bits):  # type: ignore[no-untyped-def]
    """Return each point's place as one number that sorts like it, [n] u64."""
    keys = np.empty(len(points), np.uint64)
    for i in range(len(points)):
        key = np.uint64(0)
        for axis in range(3):
            place = np.int64(np.floor(np.float64(points[i, axis]) / size)) - low[axis]
            key = key << np.uint64(bits[axis]) | np.uint64(place)
        keys[i] = key
    return keys


@compiled
def _sorted(keys, bits):  # type: ignore[no-untyped-def]
    """Return keys of so many bits in stable order, and the order, by least significant digits."""
    count, mask = len(keys), np.uint64((1 << DIGIT) - 1)
    order = np.arange(count).astype(np.int32)
    more_keys, more_order = np.empty_like(keys), np.empty_like(order)
    for low in range(0, bits, DIGIT):
        shift = np.uint64(low)
        starts = np.zeros((1 << DIGIT) + 1, np.int64)
        for i in range(count):
            starts[np.int64(keys[i] >> shift & mask) + 1] += 1
        for digit in range(1 << DIGIT):
            starts[digit + 1] += starts[digit]
        for i in range(count):
            own = np.int64(keys[i] >> shift & mask)
            more_keys[starts[own]], more_order[starts[own]] = keys[i], order[i]
            starts[own] += 1
        keys, more_keys = more_keys, keys
        order, more_order = more_order, order
    return keys, order


@compiled
def _runs(keys, low, bits):  # type: ignore[no-untyped-def]
    """Return the places [m,3] of sorted keys, and where each begins, [m+1]."""
    count, found = len(keys), 0
    starts = np.empty(count + 1, np.int64)
    for i in range(count):
        if i == 0 or keys[i] != keys[i - 1]:
            starts[found] = i
            found += 1
    starts[found] = count
    places = np.empty((found, 3), np.int64)
    for voxel in range(found):
        key = keys[starts[voxel]]
        for axis in range(2, -1, -1):
            mask = (np.uint64(1) << np.uint64(bits[axis])) - np.uint64(1)
            places[voxel, axis] = np.int64(key & mask) + low[axis]
            key = key >> np.uint64(bits[axis])
    return places, starts[: found + 1].copy()


@compiled
def _squared_distances(places, center):  # type: ignore[no-untyped-def]
    away = np.zeros(len(places), np.int64)
    for voxel in range(len(places)):
        for axis in range(3):
            away[voxel] += (places[voxel, axis] - center[axis]) ** 2
    return away


@compiled
def _rings(points, size, center):  # type: ignore[no-untyped-def]
    """Return the distance of each point's place from the center's, rounded down, [n]."""
    rings = np.empty(len(points), np.int32)
    for i in range(len(points)):
        away = 0.0  # a whole number
        for axis in range(3):
            place = np.floor(np.float64(points[i, axis]) / size)
            away += (place - center[axis]) ** 2
        rings[i] = np.int32(np.sqrt(away))
    return rings
