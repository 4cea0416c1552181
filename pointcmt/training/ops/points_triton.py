"""Kernels of `ops` for GPUs, in Triton: float32 and float64 tensors on one CUDA device.

Arguments and results are those of `points_plain`, already checked. Each kernel does the same
arithmetic in the same order as its counterpart there, in the points' own dtype, and is compiled
without fusing products and sums: a fused multiply-add rounds once instead of twice, and could swap
two points at nearly the same distance. So results are bitwise equal to the plain version's, and do
not depend on the order in which threads run.

Each program keeps its data in registers, and no thread reads what another has written. Coordinates
are stored axis by axis, so that neighboring threads read neighboring numbers. Block sizes were
chosen by counting registers, not by measuring. B clouds, N points, M queries, D axes.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
import torch
import triton
import triton.language as tl
from torch import Tensor

from pointcmt.training.ops import points_plain

MOST_POINTS = 16384  # largest cloud whose farthest points are found in one program's registers
MOST_NEIGHBORS = 128  # largest k kept in registers; for more, sorting all distances is faster
NOWHERE = tl.constexpr(2**31 - 1)  # above every index
ROUNDED_TWICE = {"enable_fp_fusion": False}  # product and sum are rounded separately


def farthest_points(points: Tensor, count: int, start: Tensor) -> Tensor:
    """points [B,N,3], start [B] → index [B,count]. One program per cloud.

    Clouds of more than MOST_POINTS points go to the plain version.
    """
    clouds, total, _ = points.shape
    if total > MOST_POINTS:
        return points_plain.farthest_points(points, count, start)
    index = start.new_empty(clouds, count)
    if index.numel():
        block = triton.next_power_of_2(total)
        warps = min(16, max(1, block // 256))
        with torch.cuda.device_of(points):
            _farthest[(clouds,)](
                _axes(points),
                start,
                index,
                total,
                count,
                BLOCK=block,
                num_warps=warps,
                **ROUNDED_TWICE,
            )
    return index


@triton.jit
def _farthest(points, start, index, total, count, BLOCK: tl.constexpr):
    cloud = tl.program_id(0).to(tl.int64)
    cloud_points = points + cloud * 3 * total  # [3,N]
    at = tl.arange(0, BLOCK)
    real = at < total
    x = tl.load(cloud_points + at, mask=real, other=0.0)
    y = tl.load(cloud_points + total + at, mask=real, other=0.0)
    z = tl.load(cloud_points + 2 * total + at, mask=real, other=0.0)
    # Squared distance to the nearest chosen point; padding has less than any distance.
    distance = tl.where(real, float("inf"), -1.0).to(x.dtype)
    chosen = tl.load(start + cloud).to(tl.int32)
    for step in range(count):
        tl.store(index + cloud * count + step, chosen.to(tl.int64))
        dx = x - tl.load(cloud_points + chosen)
        dy = y - tl.load(cloud_points + total + chosen)
        dz = z - tl.load(cloud_points + 2 * total + chosen)
        distance = tl.minimum(distance, dx * dx + dy * dy + dz * dz)
        top = tl.max(distance, axis=0)
        chosen = tl.min(tl.where(distance == top, at, NOWHERE), axis=0)  # the first of equals


def ball_query(points: Tensor, centers: Tensor, squared_radius: Tensor, count: int) -> Tensor:
    """points [B,N,3], centers [B,M,3], squared_radius [] → index [B,M,count]."""
    (clouds, total, _), queries = points.shape, centers.shape[1]
    index = torch.empty(clouds, queries, count, dtype=torch.int64, device=points.device)
    if index.numel():
        rows, chunk = 8, min(128, triton.next_power_of_2(total))
        with torch.cuda.device_of(points):
            _balls[(clouds * triton.cdiv(queries, rows),)](
                _axes(points),
                centers,
                squared_radius,
                index,
                total,
                queries,
                count,
                ROWS=rows,
                CHUNK=chunk,
                SLOTS=min(64, triton.next_power_of_2(count)),
                num_warps=4,
                **ROUNDED_TWICE,
            )
    return index


@triton.jit
def _balls(
    points,
    centers,
    squared_radius,
    index,
    total,
    queries,
    count,
    ROWS: tl.constexpr,
    CHUNK: tl.constexpr,
    SLOTS: tl.constexpr,
):
    blocks = tl.cdiv(queries, ROWS)
    cloud = (tl.program_id(0) // blocks).to(tl.int64)
    row = (tl.program_id(0) % blocks) * ROWS + tl.arange(0, ROWS)
    real_row = row < queries
    cloud_points = points + cloud * 3 * total  # [3,N]
    center = centers + cloud * 3 * queries + row * 3
    x = tl.load(center, mask=real_row, other=0.0)
    y = tl.load(center + 1, mask=real_row, other=0.0)
    z = tl.load(center + 2, mask=real_row, other=0.0)
    slots = index + cloud * queries * count + row.to(tl.int64) * count
    limit = tl.load(squared_radius)

    found = tl.where(real_row, 0, count)  # filled slots of each row; padding rows count as full
    first = tl.full([ROWS], NOWHERE, tl.int32)  # the first index found
    begin = 0
    fewest = 0
    while (begin < total) & (fewest < count):
        at = begin + tl.arange(0, CHUNK)
        away = _squared_distances(cloud_points, total, at, x, y, z)
        inside = (away <= limit) & (at < total)[None, :] & real_row[:, None]
        slot = found[:, None] + tl.cumsum(inside.to(tl.int32), axis=1) - 1
        tl.store(
            slots[:, None] + slot,
            (at[None, :] + tl.zeros([ROWS, CHUNK], tl.int32)).to(tl.int64),
            mask=inside & (slot < count),
        )
        first = tl.minimum(first, tl.min(tl.where(inside, at[None, :], NOWHERE), axis=1))
        found += tl.sum(inside.to(tl.int32), axis=1)
        fewest = tl.min(found, axis=0)
        begin += CHUNK

    if fewest == 0:  # a row's ball is empty: it takes the nearest point
        nearest = tl.full([ROWS], float("inf"), x.dtype)
        nearest_at = tl.zeros([ROWS], tl.int32)
        for begin_again in range(0, total, CHUNK):
            at = begin_again + tl.arange(0, CHUNK)
            away = _squared_distances(cloud_points, total, at, x, y, z)
            away = tl.where((at < total)[None, :], away, float("inf"))
            least = tl.min(away, axis=1)
            least_at = tl.min(tl.where(away == least[:, None], at[None, :], NOWHERE), axis=1)
            nearest_at = tl.where(least < nearest, least_at, nearest_at)
            nearest = tl.minimum(nearest, least)
        first = tl.where(found == 0, nearest_at, first)

    filler = (first[:, None] + tl.zeros([ROWS, SLOTS], tl.int32)).to(tl.int64)
    for begin_slot in range(0, count, SLOTS):
        slot = begin_slot + tl.arange(0, SLOTS)
        left = (slot[None, :] >= found[:, None]) & (slot < count)[None, :]
        tl.store(slots[:, None] + slot[None, :], filler, mask=left & real_row[:, None])


@triton.jit
def _squared_distances(points, total, at, x, y, z):
    """points [3,N], their indices at [CHUNK], x, y, z [ROWS] → [ROWS,CHUNK]."""
    real = at < total
    dx = tl.load(points + at, mask=real, other=0.0)[None, :] - x[:, None]
    dy = tl.load(points + total + at, mask=real, other=0.0)[None, :] - y[:, None]
    dz = tl.load(points + 2 * total + at, mask=real, other=0.0)[None, :] - z[:, None]
    return dx * dx + dy * dy + dz * dz


def k_nearest(points: Tensor, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """points [B,N,D], queries [B,M,D] → index [B,M,k], squared distance [B,M,k], ascending.

    For more than MOST_NEIGHBORS the plain version runs, which stores all distances [B,M,N].
    """
    if k > MOST_NEIGHBORS:
        return points_plain.k_nearest(points, queries, k)
    clouds, total, axes = points.shape
    shape = (clouds, queries.shape[1], k)
    index = torch.empty(shape, dtype=torch.int64, device=points.device)
    distance = points.new_empty(shape)
    if index.numel():
        rows = 4
        with torch.cuda.device_of(points):
            _nearest[(clouds * triton.cdiv(shape[1], rows),)](
                _axes(points),
                queries,
                index,
                distance,
                total,
                shape[1],
                k,
                axes,
                ROWS=rows,
                CHUNK=min(1024, triton.next_power_of_2(total)),
                SLOTS=triton.next_power_of_2(k),
                num_warps=8,
                **ROUNDED_TWICE,
            )
    return index, distance


@triton.jit
def _nearest(
    points,
    queries,
    index,
    distance,
    total,
    rows,
    k,
    axes,
    ROWS: tl.constexpr,
    CHUNK: tl.constexpr,
    SLOTS: tl.constexpr,
):
    """Keep the k nearest so far, unordered; a nearer point replaces the farthest of them.

    Of two points at the same distance, the one with the lower index counts as nearer.
    """
    blocks = tl.cdiv(rows, ROWS)
    cloud = (tl.program_id(0) // blocks).to(tl.int64)
    row = (tl.program_id(0) % blocks) * ROWS + tl.arange(0, ROWS)
    real_row = row < rows
    cloud_points = points + cloud * axes * total  # [D,N]
    query = queries + cloud * rows * axes + row.to(tl.int64) * axes
    slot = tl.arange(0, SLOTS)
    # Empty slots are farther than any point, all different; unused slots are never the farthest.
    empty = (slot < k)[None, :] & real_row[:, None]  # [ROWS,SLOTS]
    near = tl.where(empty, float("inf"), float("-inf")).to(points.dtype.element_ty)
    near_at = tl.where(empty, NOWHERE - slot[None, :], -1)

    for begin in range(0, total, CHUNK):
        at = begin + tl.arange(0, CHUNK)
        real = at < total
        away = tl.zeros([ROWS, CHUNK], points.dtype.element_ty)
        for axis in range(axes):
            value = tl.load(cloud_points + axis * total + at, mask=real, other=0.0)
            difference = value[None, :] - tl.load(query + axis, mask=real_row, other=0.0)[:, None]
            away += difference * difference
        away = tl.where(real[None, :], away, float("inf"))
        away_at = tl.where((real[None, :]) & real_row[:, None], at[None, :], NOWHERE)

        changes = 1
        while changes > 0:
            least = tl.min(away, axis=1)
            least_at = tl.min(tl.where(away == least[:, None], away_at, NOWHERE), axis=1)
            most = tl.max(near, axis=1)
            most_at = tl.max(tl.where(near == most[:, None], near_at, -1), axis=1)
            nearer = (least < most) | ((least == most) & (least_at < most_at))
            leaves = nearer[:, None] & (near == most[:, None]) & (near_at == most_at[:, None])
            near = tl.where(leaves, least[:, None], near)
            near_at = tl.where(leaves, least_at[:, None], near_at)
            enters = nearer[:, None] & (away_at == least_at[:, None])
            away = tl.where(enters, float("inf"), away)
            away_at = tl.where(enters, NOWHERE, away_at)
            changes = tl.max(nearer.to(tl.int32), axis=0)

    near = tl.where(empty, near, float("inf"))
    near_at = tl.where(empty, near_at, NOWHERE)
    place = cloud * rows * k + row.to(tl.int64) * k
    for rank in range(k):
        least = tl.min(near, axis=1)
        least_at = tl.min(tl.where(near == least[:, None], near_at, NOWHERE), axis=1)
        tl.store(distance + place + rank, least, mask=real_row)
        tl.store(index + place + rank, least_at.to(tl.int64), mask=real_row)
        written = near_at == least_at[:, None]
        near = tl.where(written, float("inf"), near)
        near_at = tl.where(written, NOWHERE, near_at)


def sum_rows(rows: Tensor, index: Tensor, total: int) -> Tensor:
    """Add each row to the sum of its index: rows [B,L,D], index [B,L] → sums [B,total,D].

    Rows are added in the order of L, without atomics, after a stable sort by index.
    """
    clouds, length, width = rows.shape
    sums = rows.new_empty(clouds, total, width)
    if not sums.numel():
        return sums
    ordered, order = index.to(torch.int32).sort(dim=1, stable=True)
    every = torch.arange(total + 1, dtype=torch.int32, device=rows.device)
    ends = torch.searchsorted(ordered, every.expand(clouds, -1).contiguous())  # [B,total+1]
    columns = min(128, triton.next_power_of_2(width))
    targets = 1024 // columns
    with torch.cuda.device_of(rows):
        _sums[(clouds * triton.cdiv(total, targets), triton.cdiv(width, columns))](
            rows,
            order,
            ends,
            sums,
            length,
            total,
            width,
            TARGETS=targets,
            COLUMNS=columns,
            num_warps=4,
            **ROUNDED_TWICE,
        )
    return sums


@triton.jit
def _sums(
    rows, order, ends, sums, length, total, width, TARGETS: tl.constexpr, COLUMNS: tl.constexpr
):
    """order [B,L]: rows sorted by index. ends [B,N+1]: where each index starts in it."""
    blocks = tl.cdiv(total, TARGETS)
    cloud = (tl.program_id(0) // blocks).to(tl.int64)
    target = (tl.program_id(0) % blocks) * TARGETS + tl.arange(0, TARGETS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    real, real_column = target < total, column < width
    place = ends + cloud * (total + 1) + target
    begin = tl.load(place, mask=real, other=0)
    end = tl.load(place + 1, mask=real, other=0)
    total_sum = tl.zeros([TARGETS, COLUMNS], rows.dtype.element_ty)
    for step in range(tl.max(end - begin, axis=0)):
        left = begin + step < end
        row = cloud * length + tl.load(order + cloud * length + begin + step, mask=left, other=0)
        total_sum += tl.load(
            rows + row[:, None] * width + column[None, :],
            mask=left[:, None] & real_column[None, :],
            other=0.0,
        )
    tl.store(
        sums + (cloud * total + target)[:, None] * width + column[None, :],
        total_sum,
        mask=real[:, None] & real_column[None, :],
    )


def _axes(points: Tensor) -> Tensor:
    """[B,N,D] → [B,D,N]."""
    return points.mT.contiguous()
