"""Kernels of `ops` for CPUs, which write their results into arrays from the caller.

They run without the GIL, so that threads can share the clouds of a batch. Each does the same
arithmetic in the same order as its counterpart in `points_plain`, in the points' own dtype: the
results are bitwise equal. Coordinates are stored axis by axis, and minima and masks are computed
for many points before they are examined: the compiler can turn that into SIMD without reordering
sums. (`geometry.farthest_points` is for one large cloud in float64: it skips whole buckets of
points, which must be sorted in space.)
"""

import numpy as np

from pointcmt.compiled import compiled

LANES = 64  # points compared side by side in the farthest-point search
CHUNK = 256  # points whose distances are computed before any is examined
WORD = 8  # flags that are skipped with one comparison


@compiled
def farthest_points(points, start, index):  # type: ignore[no-untyped-def]
    """points [B,N,3], start [B] → index [B,count] i64."""
    total = points.shape[1]
    rows = (total + LANES - 1) // LANES
    axes = np.zeros((3, rows, LANES), points.dtype)
    distance = np.empty((rows, LANES), points.dtype)  # squared, to the nearest chosen point
    top, row_of_top = np.empty(LANES, points.dtype), np.empty(LANES, np.int32)
    for cloud in range(len(points)):
        _fill_rows(points[cloud], axes, distance)
        chosen = start[cloud]
        for step in range(index.shape[1]):
            index[cloud, step] = chosen
            x, y, z = points[cloud, chosen]
            _approach(axes, x, y, z, distance, top, row_of_top)
            chosen = _first_of_top(top, row_of_top)


@compiled
def _fill_rows(points, axes, distance):  # type: ignore[no-untyped-def]
    """Lay points [N,3] out as axes [3,rows,LANES], with infinite distance to the chosen points."""
    distance[:] = -1.0  # less than any distance: padding of the last row is never chosen
    for i in range(len(points)):
        row, lane = i // LANES, i % LANES
        distance[row, lane] = np.inf
        for axis in range(3):
            axes[axis, row, lane] = points[i, axis]


@compiled
def _approach(axes, x, y, z, distance, top, row_of_top):  # type: ignore[no-untyped-def]
    """Update distances for a chosen point x, y, z; record each lane's largest and its row."""
    top[:] = -1.0
    row_of_top[:] = 0
    for row in range(len(distance)):
        for lane in range(LANES):
            dx = axes[0, row, lane] - x
            dy = axes[1, row, lane] - y
            dz = axes[2, row, lane] - z
            new = dx * dx + dy * dy + dz * dz
            old = distance[row, lane]
            near = new if new < old else old
            distance[row, lane] = near
            higher = near > top[lane]  # strict: the first row wins ties
            top[lane] = near if higher else top[lane]
            row_of_top[lane] = row if higher else row_of_top[lane]


@compiled
def _first_of_top(top, row_of_top):  # type: ignore[no-untyped-def]
    """Return the lowest index among the lanes' largest distances."""
    best, best_at = top[0], row_of_top[0] * LANES
    for lane in range(1, LANES):
        at = row_of_top[lane] * LANES + lane
        if top[lane] > best or (top[lane] == best and at < best_at):
            best, best_at = top[lane], at
    return best_at


@compiled
def ball_query(points, centers, index, squared_radius):  # type: ignore[no-untyped-def]
    """points [B,N,3], centers [B,M,3], squared_radius of their dtype → index [B,M,count] i64."""
    total = points.shape[1]
    axes = np.empty((3, _padded(total)), points.dtype)
    inside = np.empty(CHUNK, np.uint8)
    for cloud in range(len(points)):
        _fill_axes(points[cloud], axes)
        for m in range(centers.shape[1]):
            x, y, z = centers[cloud, m]
            slots = index[cloud, m]
            found = 0
            for first in range(0, total, CHUNK):
                _mark_inside(axes, first, x, y, z, squared_radius, inside)
                found = _collect(inside, first, slots, found)
                if found == len(slots):
                    break
            if found == 0:
                slots[0], found = _nearest(axes, total, x, y, z), 1
            slots[found:] = slots[0]


@compiled
def _padded(total):  # type: ignore[no-untyped-def]
    """Return the size for `total` points plus a whole chunk that starts at the last of them."""
    return total + CHUNK


@compiled
def _fill_axes(points, axes):  # type: ignore[no-untyped-def]
    """Lay points [N,D] out as axes [D,N+], padded with nan, which is never near."""
    for axis in range(len(axes)):
        for i in range(len(points)):
            axes[axis, i] = points[i, axis]
        axes[axis, len(points) :] = np.nan


@compiled
def _mark_inside(axes, first, x, y, z, squared_radius, inside):  # type: ignore[no-untyped-def]
    xs, ys, zs = axes[0, first:], axes[1, first:], axes[2, first:]
    for i in range(CHUNK):
        dx, dy, dz = xs[i] - x, ys[i] - y, zs[i] - z
        inside[i] = dx * dx + dy * dy + dz * dz <= squared_radius


@compiled
def _collect(flags, first, slots, found):  # type: ignore[no-untyped-def]
    """Write the indices of set flags into slots from `found` on; return the new number found."""
    words = flags.view(np.uint64)
    for word in range(len(words)):
        if words[word]:
            for i in range(word * WORD, (word + 1) * WORD):
                if flags[i]:
                    slots[found] = first + i
                    found += 1
                    if found == len(slots):
                        return found
    return found


@compiled
def _nearest(axes, total, x, y, z):  # type: ignore[no-untyped-def]
    best, best_at = np.inf, 0
    for i in range(total):
        dx, dy, dz = axes[0, i] - x, axes[1, i] - y, axes[2, i] - z
        distance = dx * dx + dy * dy + dz * dz
        if distance < best:
            best, best_at = distance, i
    return best_at


@compiled
def k_nearest(points, queries, index, distance):  # type: ignore[no-untyped-def]
    """points [B,N,D], queries [B,M,D] → index [B,M,k] i64, distance [B,M,k] (squared)."""
    total, k = points.shape[1], index.shape[2]
    axes = np.empty((points.shape[2], _padded(total)), points.dtype)
    reach, nearer = np.empty(CHUNK, points.dtype), np.empty(CHUNK, np.uint8)
    for cloud in range(len(points)):
        _fill_axes(points[cloud], axes)
        for m in range(queries.shape[1]):
            query, at, near = queries[cloud, m], index[cloud, m], distance[cloud, m]
            found = 0
            for first in range(0, total, CHUNK):
                _reach(axes, first, query, reach)
                skip = 0
                while found < k and skip < CHUNK:
                    _insert(at, near, found, first + skip, reach[skip])
                    found, skip = found + 1, skip + 1
                if found == k:
                    _take_nearer(reach, nearer, first, skip, at, near)


@compiled
def _reach(axes, first, query, reach):  # type: ignore[no-untyped-def]
    """Compute squared distances of a chunk to the query, summed from the first axis on."""
    reach[:] = 0.0
    dims = len(query)
    for axis in range(0, dims - dims % 4, 4):
        a, b = axes[axis, first:], axes[axis + 1, first:]
        c, d = axes[axis + 2, first:], axes[axis + 3, first:]
        qa, qb, qc, qd = query[axis], query[axis + 1], query[axis + 2], query[axis + 3]
        for i in range(CHUNK):
            da, db, dc, dd = a[i] - qa, b[i] - qb, c[i] - qc, d[i] - qd
            reach[i] = reach[i] + da * da + db * db + dc * dc + dd * dd
    for axis in range(dims - dims % 4, dims):
        a, qa = axes[axis, first:], query[axis]
        for i in range(CHUNK):
            reach[i] += (a[i] - qa) * (a[i] - qa)


@compiled
def _take_nearer(reach, nearer, first, skip, at, near):  # type: ignore[no-untyped-def]
    """Insert points that are nearer than the farthest of the k kept so far."""
    last = len(near) - 1
    worst = near[last]
    for i in range(CHUNK):
        nearer[i] = reach[i] < worst
    words = nearer.view(np.uint64)
    for word in range(len(words)):
        if words[word]:
            for i in range(max(skip, word * WORD), (word + 1) * WORD):
                if reach[i] < near[last]:  # check again: `worst` may have decreased
                    _insert(at, near, last, first + i, reach[i])


@compiled
def _insert(at, near, slot, index, distance):  # type: ignore[no-untyped-def]
    """Insert into the ascending lists, from slot downward; earlier entries win ties."""
    while slot > 0 and near[slot - 1] > distance:
        near[slot], at[slot] = near[slot - 1], at[slot - 1]
        slot -= 1
    near[slot], at[slot] = distance, index


@compiled
def sum_rows(rows, index, sums):  # type: ignore[no-untyped-def]
    """Add rows [B,L,D] to sums [B,N,D] at index [B,L], in the order of L."""
    for cloud in range(len(rows)):
        for i in range(index.shape[1]):
            at = index[cloud, i]
            for axis in range(rows.shape[2]):
                sums[cloud, at, axis] += rows[cloud, i, axis]
