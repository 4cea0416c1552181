"""The kernel of `ops` for up to three nearest neighbors among few points, as interpolation needs.

`points_tree.k_nearest` sorts the queries into groups, which pays off for many neighbors of many
points. Here, each query begins with the leaf that is nearest to it, and keeps its best three in
registers. Results are the same, bit by bit, for the reasons given in `points_tree`.
"""

import numpy as np

from pointcmt.compiled import compiled
from pointcmt.training.ops.points_tree import LAST, LEAF, box_gaps, grow, make_tree

MOST = 3  # neighbors
POINTS = 16_384  # of a cloud, at most: in larger ones, groups of queries look at fewer leaves


@compiled
def three_nearest(points, queries, index, distance):  # type: ignore[no-untyped-def]
    """points [B,N,3], queries [B,M,3] → index [B,M,k] i64, distance [B,M,k] (squared), k ≤ 3."""
    tree = make_tree(points, LEAF)
    leaves = len(tree.gaps)
    best, names = np.empty(MOST, points.dtype), np.empty(MOST, np.int32)
    reach = np.empty(LEAF, points.dtype)
    for cloud in range(len(points)):
        grow(tree, points[cloud], LEAF)
        for m in range(queries.shape[1]):
            x, y, z = queries[cloud, m, 0], queries[cloud, m, 1], queries[cloud, m, 2]
            box_gaps(tree.low, tree.high, leaves, x, y, z, tree.gaps)
            first, least = 0, tree.gaps[0]
            for leaf in range(leaves):
                less = tree.gaps[leaf] < least  # without a branch, which would be mispredicted
                first, least = leaf if less else first, tree.gaps[leaf] if less else least
            best[:], names[:] = np.inf, LAST
            _keep_three(tree.axes[first], tree.names[first], x, y, z, reach, best, names)
            tree.gaps[first] = np.nan  # is not visited again
            for leaf in range(leaves):
                if tree.gaps[leaf] <= best[2]:
                    _keep_three(tree.axes[leaf], tree.names[leaf], x, y, z, reach, best, names)
            for slot in range(index.shape[2]):
                index[cloud, m, slot], distance[cloud, m, slot] = names[slot], best[slot]


@compiled
def _keep_three(axes, own, x, y, z, reach, best, names):  # type: ignore[no-untyped-def]
    """Update the three smallest distances and their points' names with those of a leaf.

    axes [3, W], own [W]: the leaf's points and names. Of equal distances, the lowest name comes
    first. Padding is nan, and never smaller.
    """
    xs, ys, zs = axes[0], axes[1], axes[2]
    a, b, c = best[0], best[1], best[2]
    for i in range(LEAF):
        dx, dy, dz = xs[i] - x, ys[i] - y, zs[i] - z
        reach[i] = dx * dx + dy * dy + dz * dz
    hits = 0
    for i in range(LEAF):
        hits += reach[i] <= c
    if hits == 0:  # as of most leaves
        return
    one, two, three = names[0], names[1], names[2]
    for i in range(LEAF):
        away = reach[i]
        if away <= c:
            name = own[i]
            if away < b or (away == b and name < two):
                c, three = b, two
                if away < a or (away == a and name < one):
                    b, two, a, one = a, one, away, name
                else:
                    b, two = away, name
            elif away < c or name < three:
                c, three = away, name
    best[0], best[1], best[2] = a, b, c
    names[0], names[1], names[2] = one, two, three
