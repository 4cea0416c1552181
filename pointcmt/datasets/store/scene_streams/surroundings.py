"""Which points lie near those that a frame sees, for all frames of a scene at once."""

import numpy as np
from numpy.typing import NDArray

from pointcmt.compiled import compiled

AXIS_BITS = 21  # of a cell's place along each axis
ROOM = 1.000001  # of cells over the radius: rounding must not put neighbors two cells apart


def near_visible(
    points: NDArray[np.float32], visible: NDArray[np.uint8], radius: float
) -> NDArray[np.uint8]:
    """Return which points are within `radius` of a point that a frame sees, packed [v, ⌈n/8⌉].

    points: [n,3]. visible: which of them each frame sees, packed. A point that is seen is near. The
    neighbors of a point are found once for all frames, so the time hardly depends on their number.
    What is near one of two frames is the union of both rows.
    """
    exact = points.astype(np.float64)
    cells = np.floor(exact / (radius * ROOM)).astype(np.int64)
    cells -= cells.min(axis=0, initial=0) - 1
    keys = (cells[:, 0] << 2 * AXIS_BITS) + (cells[:, 1] << AXIS_BITS) + cells[:, 2]
    order = np.argsort(keys, kind="stable")
    seen = _by_point(visible, order)
    near = _spread(exact[order], keys[order], seen, radius * radius)
    return _by_frame(near, order, len(visible))


@compiled
def _by_point(rows, order):  # type: ignore[no-untyped-def]
    """Return the frames that see each point as bits [n, ⌈v/64⌉] u64, points in the given order."""
    frames, count = len(rows), len(order)
    seen = np.zeros((count, (frames + 63) // 64), np.uint64)
    for frame in range(frames):
        word, bit = frame >> 6, np.uint64(frame & 63)
        for i in range(count):
            point = order[i]
            value = rows[frame, point >> 3] >> (7 - (point & 7)) & 1
            seen[i, word] |= np.uint64(value) << bit
    return seen


@compiled
def _by_frame(near, order, frames):  # type: ignore[no-untyped-def]
    """Return the opposite of `_by_point`: packed rows [v, ⌈n/8⌉]."""
    count = len(order)
    rows = np.zeros((frames, (count + 7) // 8), np.uint8)
    for frame in range(frames):
        word, bit = frame >> 6, np.uint64(frame & 63)
        for i in range(count):
            point = order[i]
            value = np.uint8(near[i, word] >> bit & np.uint64(1))
            rows[frame, point >> 3] |= np.uint8(value << (7 - (point & 7)))
    return rows


@compiled
def _spread(points, keys, seen, squared):  # type: ignore[no-untyped-def]
    """Return the bits `seen` [n, words] of each point and its neighbors, joined by "or".

    Points are sorted by the keys of their cells, so the cells below and above a cell, and itself,
    are one run. For each of the nine columns around a cell, that run only moves forward.
    """
    count, words = seen.shape
    near = seen.copy()
    for column in range(9):
        offset = ((column // 3 - 1) << 2 * AXIS_BITS) + ((column % 3 - 1) << AXIS_BITS)
        begin, low, high = 0, 0, 0
        while begin < count:
            key, end = keys[begin], begin
            while end < count and keys[end] == key:
                end += 1
            while low < count and keys[low] < key + offset - 1:
                low += 1
            high = max(high, low)
            while high < count and keys[high] <= key + offset + 1:
                high += 1
            for word in range(words):
                _spread_run(
                    points, (begin, end), (low, high), seen[:, word], near[:, word], squared
                )
            begin = end
    return near


@compiled
def _spread_run(points, own, others, seen, near, squared):  # type: ignore[no-untyped-def]
    """Add to `near` of a cell's own points what their neighbors among others have in `seen`.

    Neighbors mostly have the same bits, so a distance is only computed if it could add one.
    """
    low, high = others
    union = np.uint64(0)
    for j in range(low, high):
        union |= seen[j]
    for i in range(own[0], own[1]):
        missing = union & ~near[i]
        if missing == 0:
            continue
        for j in range(low, high):
            if seen[j] & missing == 0:
                continue
            away = 0.0
            for axis in range(3):
                away += (points[i, axis] - points[j, axis]) ** 2
            if away <= squared:
                near[i] |= seen[j]
                missing &= ~seen[j]
                if missing == 0:
                    break
