"""Kernels of `ops` for clouds in space, which skip whole leaves of a k-d tree.

They write the same results as `points_plain`, bit by bit: distances are computed by the same
arithmetic in the same order, and rounding is monotonic, so that the distance to a leaf's bounding
box, computed in the same way, never exceeds the distance to any of its points. Equal distances are
decided by the lowest index, wherever the points are in the tree. They run without the GIL.

Letters: B clouds, N points, M queries, L leaves of at most W points.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pointcmt.compiled import compiled

LEAF = 32  # W of a search for neighbors; queries are grouped in the same number
TWIG = 4  # points that are next to each other within such a leaf
BUCKET = 128  # W of a search for farthest points
LANES = 16  # boxes whose distances are computed side by side
RANKED = 128  # more candidates than these are sorted by insertion
LAST = np.iinfo(np.int32).max  # index of padding

Values = NDArray[Any]
Indices = NDArray[np.int32]


class Tree(NamedTuple):
    """The leaves of a balanced k-d tree, one after the other, and buffers of the same sizes."""

    axes: Values  # [L, 3, W], the points; nan is padding
    names: Indices  # [L, W], index of each point in its cloud
    low: Values  # [3, L], the leaves' bounding boxes
    high: Values  # [3, L]
    gaps: Values  # [L], squared distances of the boxes
    order: Indices  # [N]
    keys: Values  # [N]


@compiled
def make_tree(points, width):  # type: ignore[no-untyped-def]
    """Allocate a tree with leaves of `width` points for clouds [B,N,3]."""
    total = points.shape[1]
    leaves = (total + width - 1) // width
    return Tree(
        np.empty((leaves, 3, width), points.dtype),
        np.empty((leaves, width), np.int32),
        np.empty((3, leaves), points.dtype),
        np.empty((3, leaves), points.dtype),
        np.empty(leaves, points.dtype),
        np.empty(total, np.int32),
        np.empty(total, points.dtype),
    )


@compiled
def grow(tree, points, twig):  # type: ignore[no-untyped-def]
    """Sort points [N,3] into the tree. twig: see `sort_into_leaves`."""
    width = tree.names.shape[1]
    sort_into_leaves(points, tree.order, tree.keys, width, twig)
    for leaf in range(len(tree.names)):
        for slot in range(width):
            place = leaf * width + slot
            inside = place < len(points)
            tree.names[leaf, slot] = tree.order[place] if inside else LAST
            for axis in range(3):
                tree.axes[leaf, axis, slot] = points[tree.order[place], axis] if inside else np.nan
        for axis in range(3):
            low = high = tree.axes[leaf, axis, 0]
            for slot in range(1, min(width, len(points) - leaf * width)):
                value = tree.axes[leaf, axis, slot]
                low = value if value < low else low
                high = value if value > high else high
            tree.low[axis, leaf], tree.high[axis, leaf] = low, high


@compiled
def sort_into_leaves(points, order, keys, width, twig):  # type: ignore[no-untyped-def]
    """Fill order [N] so that each `width` of it are near each other: the leaves of a k-d tree.

    Splits along the longest side of the bounding box, so that whole leaves are on the left. Within
    a leaf, each `twig` are near each other in the same way. keys: a buffer [N].
    """
    for i in range(len(order)):
        order[i] = i
    spans = np.empty((64, 2), np.int64)  # depth first: at most one for each level is waiting
    spans[0, 0], spans[0, 1] = 0, len(order)
    waiting = 1
    while waiting:
        waiting -= 1
        first, last = spans[waiting, 0], spans[waiting, 1]
        size = width if last - first > width else twig
        parts = (last - first + size - 1) // size
        if parts < 2:
            continue
        middle = first + parts // 2 * size
        axis = _longest_side(points, order, first, last)
        for i in range(first, last):
            keys[i] = points[order[i], axis]
        _split(keys, order, first, last, middle)
        spans[waiting, 0], spans[waiting, 1] = middle, last
        spans[waiting + 1, 0], spans[waiting + 1, 1] = first, middle
        waiting += 2


@compiled
def _longest_side(points, order, first, last):  # type: ignore[no-untyped-def]
    longest, side = 0, -1.0
    for axis in range(3):
        low = high = points[order[first], axis]
        for i in range(first + 1, last):
            value = points[order[i], axis]
            low = value if value < low else low
            high = value if value > high else high
        if high - low > side:
            longest, side = axis, high - low
    return longest


@compiled
def _split(keys, order, first, last, middle):  # type: ignore[no-untyped-def]
    """Reorder first … last - 1 so that no key before `middle` is larger than one after (FIND,
    Hoare 1961)."""
    low, high = first, last - 1
    while low < high:
        a, b, c = keys[low], keys[(low + high) // 2], keys[high]
        pivot = max(min(a, b), min(max(a, b), c))
        i, j = low, high
        while i <= j:
            while keys[i] < pivot:
                i += 1
            while keys[j] > pivot:
                j -= 1
            if i <= j:
                keys[i], keys[j] = keys[j], keys[i]
                order[i], order[j] = order[j], order[i]
                i += 1
                j -= 1
        if middle <= j:
            high = j
        elif middle >= i:
            low = i
        else:
            break


@compiled
def k_nearest(points, queries, index, distance):  # type: ignore[no-untyped-def]
    """points [B,N,3], queries [B,M,3] → index [B,M,k] i64, distance [B,M,k] (squared).

    Queries are taken in groups that are near each other. The k points found for one of them bound
    the distances of the next one's, so that few others have to be sorted.
    """
    count, k = queries.shape[1], index.shape[2]
    tree = make_tree(points, LEAF)
    order, keys = np.empty(count, np.int32), np.empty(count, points.dtype)
    near = np.empty(k, np.int32)  # places in the tree of points that are near the next query
    leaves = np.empty(len(tree.gaps), np.int32)  # those that may have neighbors of the group
    low, high = np.empty_like(tree.low), np.empty_like(tree.high)  # their bounding boxes
    box = np.empty((2, 3), points.dtype)  # of the group
    size = tree.names.size + LEAF  # spare, as writing precedes counting, and padding follows
    found, away = np.empty(size, np.int32), np.empty(size, points.dtype)  # candidates
    names, places = np.empty(size, np.int32), np.empty(size, np.int32)
    ranked = np.empty(size + k, np.int32)
    reach = np.empty(LEAF, points.dtype)
    for cloud in range(len(points)):
        grow(tree, points[cloud], TWIG)
        if count == len(tree.order) and np.all(points[cloud] == queries[cloud]):
            order[:] = tree.order
        else:
            sort_into_leaves(queries[cloud], order, keys, LEAF, TWIG)
        for first in range(0, count, LEAF):
            group = order[first : first + LEAF]
            _surround(queries[cloud], group, box)
            some = _find_leaves(tree, box, near, leaves, low, high)
            for m in group:
                x, y, z = queries[cloud, m, 0], queries[cloud, m, 1], queries[cloud, m, 2]
                limit = _farthest_away(tree.axes, near, x, y, z)
                box_gaps(low, high, _padded(some, len(leaves)), x, y, z, tree.gaps)
                many = 0
                for slot in range(some):
                    if tree.gaps[slot] <= limit:
                        many = _keep_near(
                            tree.axes, leaves[slot], x, y, z, limit, reach, found, away, many
                        )
                _rank(found, away, many, k, tree.names, names, places, ranked)
                for slot in range(k):
                    place = found[ranked[slot]]
                    near[slot] = place
                    index[cloud, m, slot] = tree.names[place // LEAF, place % LEAF]
                    distance[cloud, m, slot] = away[ranked[slot]]


@compiled
def _padded(count, most):  # type: ignore[no-untyped-def]
    """Return the next number up to `most` for which vectorized loops leave no remainder."""
    return min((count + LANES - 1) // LANES * LANES, most)


@compiled
def _surround(queries, group, box):  # type: ignore[no-untyped-def]
    """Find the bounding box [2,3] of a group of queries."""
    for axis in range(3):
        low = high = queries[group[0], axis]
        for m in group:
            value = queries[m, axis]
            low = value if value < low else low
            high = value if value > high else high
        box[0, axis], box[1, axis] = low, high


@compiled
def _find_leaves(tree, box, near, leaves, low, high):  # type: ignore[no-untyped-def]
    """Find all leaves that may have one of the k nearest points of a query in the box [2,3].

    Fills near with k points close to the box: none of its queries is farther from its k-th nearest
    point than from the farthest of these. Returns the number of leaves.
    """
    gaps, zero = tree.gaps, box[0, 0] - box[0, 0]
    gaps[:] = zero
    for axis in range(3):
        for leaf in range(len(gaps)):
            d, e = tree.low[axis, leaf] - box[1, axis], box[0, axis] - tree.high[axis, leaf]
            d = d if d > e else e
            d = d if d > zero else zero
            gaps[leaf] += d * d
    start, limit = min(LEAF * gaps.argmin(), len(tree.order) - len(near)), zero
    for slot in range(len(near)):
        place, total = start + slot, zero
        for axis in range(3):
            value = tree.axes[place // LEAF, axis, place % LEAF]
            d, e = value - box[0, axis], box[1, axis] - value
            d = d if d > e else e
            total += d * d
        near[slot] = place
        limit = total if total > limit else limit
    count = 0
    for leaf in range(len(gaps)):
        leaves[count] = leaf
        for axis in range(3):
            low[axis, count], high[axis, count] = tree.low[axis, leaf], tree.high[axis, leaf]
        count += gaps[leaf] <= limit
    return count


@compiled
def _farthest_away(axes, near, x, y, z):  # type: ignore[no-untyped-def]
    """Return the largest squared distance to some points, given by their places."""
    limit = x - x
    for place in near:
        leaf, slot = place // LEAF, place % LEAF
        dx, dy, dz = axes[leaf, 0, slot] - x, axes[leaf, 1, slot] - y, axes[leaf, 2, slot] - z
        away = dx * dx + dy * dy + dz * dz
        limit = away if away > limit else limit
    return limit


@compiled
def _keep_near(axes, leaf, x, y, z, limit, reach, found, away, many):  # type: ignore[no-untyped-def]
    """Append a leaf's points up to the limit to the candidates; return the new number of them."""
    xs, ys, zs = axes[leaf, 0], axes[leaf, 1], axes[leaf, 2]
    for i in range(len(reach)):
        dx, dy, dz = xs[i] - x, ys[i] - y, zs[i] - z
        reach[i] = dx * dx + dy * dy + dz * dz
    first = leaf * LEAF
    for i in range(len(reach)):  # without a branch, which would be mispredicted
        found[many] = first + i
        away[many] = reach[i]
        many += reach[i] <= limit
    return many


@compiled
def box_gaps(low, high, count, x, y, z, gaps):  # type: ignore[no-untyped-def]
    """Compute the squared distances of a point to the first `count` boxes."""
    zero = x - x  # of the same dtype
    for box in range(count):
        dx, ex = low[0, box] - x, x - high[0, box]
        dy, ey = low[1, box] - y, y - high[1, box]
        dz, ez = low[2, box] - z, z - high[2, box]
        dx, dy, dz = dx if dx > ex else ex, dy if dy > ey else ey, dz if dz > ez else ez
        dx, dy, dz = dx if dx > zero else zero, dy if dy > zero else zero, dz if dz > zero else zero
        gaps[box] = dx * dx + dy * dy + dz * dz


@compiled
def _rank(found, away, many, k, indices, names, places, ranked):  # type: ignore[no-untyped-def]
    """Sort candidates by distance, equal ones by index: at least the first k, into ranked."""
    if many <= RANKED and _rank_distinct(away, many, places, ranked):
        return
    for i in range(many):
        names[i] = indices[found[i] // LEAF, found[i] % LEAF]
    for i in range(many):  # insertion
        slot = min(i, k)
        while slot > 0:
            other = ranked[slot - 1]
            if away[other] < away[i] or (away[other] == away[i] and names[other] < names[i]):
                break
            ranked[slot] = other
            slot -= 1
        ranked[slot] = i


@compiled
def _rank_distinct(away, many, places, ranked):  # type: ignore[no-untyped-def]
    """Sort candidates by counting for each the smaller ones, many at a time and without branches.

    Returns False, with ranked undefined, if there are equal distances. places: a buffer.
    """
    size = (many + LANES - 1) // LANES * LANES
    away[many:size] = np.inf
    places[:size] = 0
    for j in range(0, many, 4):
        a, b, c, d = away[j], away[j + 1], away[j + 2], away[j + 3]
        for i in range(size):
            one = away[i]
            places[i] += (
                np.int32(one > a) + np.int32(one > b) + np.int32(one > c) + np.int32(one > d)
            )
    total = 0
    for i in range(many):
        total += places[i]
        ranked[places[i]] = i
    return total == many * (many - 1) // 2  # 0 + 1 + … + many - 1: all are different


@compiled
def farthest_points(points, start, index, bits):  # type: ignore[no-untyped-def]
    """points [B,N,3], start [B] → index [B,count] i64.

    Only leaves that a new sample can be nearer to than all before are visited (Han et al. 2023,
    QuickFPS). bits: an array of integers as wide as the points' dtype. Distances are compared as
    integers, whose order is the same, since they are never negative: the compiler vectorizes that.
    """
    tree = make_tree(points, BUCKET)
    leaves = len(tree.gaps)
    level = np.empty(tree.names.shape, bits.dtype)  # squared distances to the nearest sample
    top = np.empty(leaves, bits.dtype)  # the largest of each leaf
    near, highest = level.view(points.dtype), top.view(points.dtype)  # the same as numbers
    name = np.empty(leaves, np.int32)  # lowest index of the points that are so far away
    for cloud in range(len(points)):
        grow(tree, points[cloud], BUCKET)
        near[:], highest[:] = np.inf, np.inf
        near[-1, BUCKET - (tree.names.size - len(tree.order)) :] = 0  # padding, whose index is LAST
        for leaf in range(leaves):
            name[leaf] = tree.names[leaf].min()
        chosen = start[cloud]
        for step in range(index.shape[1]):
            index[cloud, step] = chosen
            x, y, z = points[cloud, chosen, 0], points[cloud, chosen, 1], points[cloud, chosen, 2]
            box_gaps(tree.low, tree.high, leaves, x, y, z, tree.gaps)
            for leaf in range(leaves):
                if tree.gaps[leaf] < highest[leaf]:
                    _approach(tree.axes[leaf], x, y, z, near[leaf])
                    top[leaf], name[leaf] = _first_of_top(level[leaf], tree.names[leaf])
            chosen = _first_of_top(top, name)[1]


@compiled
def _approach(leaf, x, y, z, near):  # type: ignore[no-untyped-def]
    """Update the distances of a leaf's points [3, W] to the nearest sample."""
    for i in range(len(near)):
        dx, dy, dz = leaf[0, i] - x, leaf[1, i] - y, leaf[2, i] - z
        new = dx * dx + dy * dy + dz * dz
        near[i] = new if new < near[i] else near[i]  # never for padding, whose coordinates are nan


@compiled
def _first_of_top(level, names):  # type: ignore[no-untyped-def]
    """Return the largest of some levels, and the lowest name of those that have it."""
    top, lowest, beyond = level[0], np.int32(LAST), np.int32(LAST)
    for i in range(len(level)):
        top = level[i] if level[i] > top else top
    for i in range(len(level)):
        name = names[i] if level[i] == top else beyond
        lowest = name if name < lowest else lowest
    return top, lowest
