"""Point operations of point-cloud networks: sampling, neighbors, interpolation, gathering.

On a CPU they run as compiled kernels (`points_compiled`), with the clouds of a batch spread over
`torch.get_num_threads()` threads; results do not depend on their number. On CUDA devices they run
as Triton kernels (`points_triton`) if Triton can be imported; otherwise the plain version
(`points_plain`) runs. All give the same results.

Letters: B clouds, N points, M queries, D axes. Indices are i64 and count within a cloud.
Distances are squared, in the points' units, summed in the points' dtype (float32 or float64;
half-precision input is converted to float32 first). Nothing but `gather` has a gradient: indices,
distances and weights are computed from detached data, as in PointNet++'s own operations.

torch.compile treats sampling and neighbor search as one opaque node each, without a graph break.

Invalid arguments (shapes that do not fit, different dtypes or devices, coordinates that are nan or
infinite, a count out of range) raise UsageError.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pointcmt.errors import UsageError
from pointcmt.training.ops import points_compiled, points_plain, points_three, points_tree
from pointcmt.training.ops.device import has_triton

WEIGHT_FLOOR = 1e-8  # added to squared distances before they are inverted, as in PointNet++'s code
SHARES = 4  # shares of a batch per thread
FEW = 16  # queries of a cloud for which no tree is built
MANY = 2048  # queries of a cloud per thread for which it is worth building another tree
LARGE = 4096  # points of a cloud from which on samples are found with a tree


def farthest_points(points: Tensor, count: int, start: int | Tensor = 0) -> Tensor:
    """Sample farthest points iteratively (Eldar et al. 1997): points [B,N,3] → index [B,count].

    Starts with the point `start` (an integer, or one per cloud [B]); each next point is the
    farthest from all chosen so far, ties to the lowest index. The first n of a longer result are
    the result for n. Once every distinct position is chosen, the lowest index repeats.
    Raises UsageError for count > N and for invalid arguments.
    """
    if torch.compiler.is_compiling():
        return _traced_farthest_points(points.detach(), count, torch.as_tensor(start))
    points = _points("points", points, width=3)
    clouds, total, _ = points.shape
    _within("count", count, 1, total)
    begin = _starts(start, clouds, total, points.device)
    if not _is_compiled(points):
        return _kernels(points).farthest_points(points, count, begin)
    index = torch.empty(clouds, count, dtype=torch.int64)
    arrays = (points.numpy(), begin.numpy(), index.numpy())
    if total < LARGE:
        over_clouds(points_compiled.farthest_points, *arrays)
    else:
        bits = np.empty((clouds, 0), np.int32 if points.dtype == torch.float32 else np.int64)
        over_clouds(points_tree.farthest_points, *arrays, bits)
    return index


def ball_query(points: Tensor, centers: Tensor, radius: float, count: int) -> Tensor:
    """Find neighbors within a ball (Qi et al. 2017, PointNet++): → index [B,M,count].

    points [B,N,3], centers [B,M,3], radius in their units. The first `count` points by index whose
    squared distance is ≤ radius² (the sphere itself belongs to the ball; radius is rounded to the
    points' dtype, then squared in it). Remaining slots repeat the first one found. A center whose
    ball is empty gets the nearest point in all slots, ties to the lowest index.
    Raises UsageError for a radius that is negative or not finite and for invalid arguments.
    """
    if torch.compiler.is_compiling():
        return _traced_ball_query(points.detach(), centers.detach(), radius, count)
    points, centers = _pair(points, "centers", centers, width=3)
    _within("count", count, 1)
    if not 0 <= radius < float("inf"):
        raise UsageError(
            f"invalid radius {radius}", where="radius", fix="use a finite radius of 0 or more"
        )
    squared = torch.tensor(radius, dtype=points.dtype).square()
    if not _is_compiled(points):
        squared = points.new_full((), squared.item())  # created on the device: a copy would sync
        return _kernels(points).ball_query(points, centers, squared, count)
    index = torch.empty(*centers.shape[:2], count, dtype=torch.int64)
    arrays = (points.numpy(), centers.numpy(), index.numpy())
    over_clouds(points_compiled.ball_query, *arrays, setting=squared.numpy().reshape(1)[0])
    return index


def k_nearest(points: Tensor, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Find the k points nearest to each query → index [B,M,k], squared distance [B,M,k], ascending.

    points [B,N,D], queries [B,M,D], of any D, as DGCNN needs in feature space (Wang et al. 2019).
    Ties go to the lowest index. A query that is one of the points finds itself, at distance 0.
    Raises UsageError for k > N and for invalid arguments.
    """
    if torch.compiler.is_compiling():
        return _traced_k_nearest(points.detach(), queries.detach(), k)
    points, queries = _pair(points, "queries", queries)
    _within("k", k, 1, points.shape[1])
    if not _is_compiled(points):
        return _kernels(points).k_nearest(points, queries, k)
    index = torch.empty(*queries.shape[:2], k, dtype=torch.int64)
    distance = torch.empty(index.shape, dtype=points.dtype)
    arrays = (points.numpy(), queries.numpy(), index.numpy(), distance.numpy())
    if points.shape[2] != 3 or queries.shape[1] < FEW:
        over_clouds(points_compiled.k_nearest, *arrays)
    elif k <= points_three.MOST and points.shape[1] <= points_three.POINTS:
        over_queries(points_three.three_nearest, *arrays)
    else:
        over_queries(points_tree.k_nearest, *arrays)
    return index, distance


def three_nearest_weights(points: Tensor, queries: Tensor, power: int = 2) -> tuple[Tensor, Tensor]:
    """Compute interpolation weights for each query: → index [B,M,3], weight [B,M,3].

    points [B,N,3], queries [B,M,3]. weight = 1 / (d^p + 1e-8), normalized to sum 1 (Qi et al. 2017,
    PointNet++, equation 2 with k = 3, p = 2). power: p, 1 or 2; PyTorch versions of PointNet++
    such as VoteNet's have p = 1. With N < 3 the nearest point fills the remaining slots, with
    weight 0. Raises UsageError for invalid arguments.
    """
    if not torch.compiler.is_compiling():
        points, queries = _pair(points, "queries", queries, width=3)
    k = min(3, points.shape[1])
    index, distance = k_nearest(points, queries, k)
    distance = distance.sqrt() if power == 1 else distance
    if torch.compiler.is_exporting():  # ONNX's exporter drops an addition of 1e-8, taking it for 0
        inverse = 1 / (distance / WEIGHT_FLOOR + 1)  # in proportion to the same
    else:
        inverse = 1 / (distance + WEIGHT_FLOOR)
    weight = inverse / inverse.sum(dim=-1, keepdim=True)
    if k == 3:
        return index, weight
    weight = F.pad(weight, (0, 3 - k))
    return torch.cat([index, index[..., :1].expand(-1, -1, 3 - k)], dim=-1), weight


def gather(features: Tensor, index: Tensor) -> Tensor:
    """Gather rows of each cloud: features [B,N,D], index [B,...] → [B,...,D], differentiable.

    The gradient is summed in the order of the index: the same on every run, with any threads.
    Raises UsageError for shapes that do not fit, or an index outside 0 ... N-1. The latter is
    not checked inside torch.compile, where it would break the graph.
    """
    if features.dim() != 3 or index.dim() < 1 or len(index) != len(features):
        raise UsageError(
            f"features {list(features.shape)} and index {list(index.shape)} have incompatible "
            "shapes",
            where="gather",
            fix="pass features [B, N, D] and an index [B, ...]",
        )
    if index.dtype != torch.int64:
        raise UsageError(
            f"the index must be int64, not {index.dtype}",
            where="gather",
            fix="convert with .long()",
        )
    if torch.compiler.is_compiling():
        return points_plain.gather(features, index)
    if index.numel():
        for value in torch.stack(torch.aminmax(index)).tolist():  # one synchronization
            _within("index", value, 0, features.shape[1] - 1)
    if _is_compiled(features):
        return _Gather.apply(features, index, _sum_rows)
    kernels = _kernels(features)
    if kernels is points_plain:
        return points_plain.gather(features, index)
    return _Gather.apply(features, index, kernels.sum_rows)


def interpolate(features: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """Σ_k weight_k f_k of three neighbors: features [B,N,D], index, weight [B,M,3] → [B,M,D].

    Index and weight are those of `three_nearest_weights`. Differentiable in the features. Raises
    the same errors as `gather`.
    """
    neighbors = zip(index.unbind(-1), weight.to(features.dtype).unbind(-1), strict=True)
    one, two, three = (gather(features, i) * w[..., None] for i, w in neighbors)
    return one + two + three  # not all at once: that would take three times the memory


SumRows = Callable[[Tensor, Tensor, int], Tensor]  # rows [B,L,D], index [B,L], N → sums [B,N,D]


class _Gather(torch.autograd.Function):
    """`gather` with a gradient that is faster than torch's (benchmarks/point_ops.py)."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, index: Tensor, sum_rows: SumRows) -> Tensor:
        ctx.save_for_backward(index)
        ctx.total, ctx.sum_rows = features.shape[1], sum_rows
        return points_plain.gather(features, index)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _SumRows.apply(grad, *ctx.saved_tensors, ctx.total, ctx.sum_rows), None, None


class _SumRows(torch.autograd.Function):
    """The transpose of `gather`: rows [B,...,D] and index [B,...] → sums [B,total,D]."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, index: Tensor, total: int, sum_rows: SumRows) -> Tensor:
        ctx.save_for_backward(index)
        ctx.sum_rows = sum_rows
        flat = rows.reshape(len(rows), index[0].numel() if len(index) else 0, rows.shape[-1])
        return sum_rows(flat.contiguous(), index.reshape(flat.shape[:2]).contiguous(), total)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        return _Gather.apply(grad, *ctx.saved_tensors, ctx.sum_rows), None, None, None


def _sum_rows(rows: Tensor, index: Tensor, total: int) -> Tensor:
    sums = rows.new_zeros(len(rows), total, rows.shape[-1])
    over_clouds(points_compiled.sum_rows, rows.numpy(), index.numpy(), sums.numpy())
    return sums


def _is_compiled(tensor: Tensor) -> bool:
    """Return whether `points_compiled` supports the tensor."""
    return tensor.device.type == "cpu" and tensor.dtype in (torch.float32, torch.float64)


def _kernels(tensor: Tensor) -> ModuleType:
    """Return the module for all other tensors: `points_triton` or `points_plain`."""
    if tensor.device.type != "cuda" or tensor.dtype not in (torch.float32, torch.float64):
        return points_plain
    if not has_triton():
        return points_plain
    from pointcmt.training.ops import points_triton  # slow to import

    return points_triton


def over_queries(kernel: Callable[..., None], points: NDArray[Any], *arrays: NDArray[Any]) -> None:
    """Run a kernel on points [B,N,3] and arrays [B,M,...], whose rows do not depend on each other.

    The rows of a single cloud are shared by the threads, each share with a tree of its own.
    """
    threads = torch.get_num_threads()
    if threads < 2 or len(points) != 1 or arrays[0].shape[1] < MANY * threads:
        return over_clouds(kernel, points, *arrays)
    shares = np.array_split(np.arange(arrays[0].shape[1]), threads)
    with ThreadPoolExecutor(threads - 1) as pool:
        rows = [slice(share[0], share[-1] + 1) for share in shares]
        parts = [(points, *(array[:, row] for array in arrays)) for row in rows]
        running = [pool.submit(kernel, *part) for part in parts[1:]]
        kernel(*parts[0])
    for part in running:
        part.result()


def over_clouds(
    kernel: Callable[..., None], *arrays: NDArray[Any], setting: np.floating[Any] | None = None
) -> None:
    """Run a compiled kernel on arrays [B,...]; threads take turns at small shares of the clouds.

    The shares are small because torch's own threads spin for a while after their work and may hold
    a core. The threads live only during the call: a forked worker would lack a lasting pool.
    """
    clouds, extra = len(arrays[0]), () if setting is None else (setting,)
    threads = min(torch.get_num_threads(), clouds)
    share = -(-clouds // (threads * SHARES)) if threads > 1 else clouds
    parts = (slice(first, first + share) for first in range(0, clouds, share or 1))
    todo = iter([[array[part] for array in arrays] for part in parts])  # thread-safe

    def work() -> None:
        for part in todo:
            kernel(*part, *extra)

    if threads < 2:
        return work()
    with ThreadPoolExecutor(threads - 1) as pool:
        running = [pool.submit(work) for _ in range(threads - 1)]
        work()
    for part in running:
        part.result()


def _points(name: str, points: Tensor, width: int | None = None) -> Tensor:
    """Return `name`, [B,N,width], detached and contiguous for the kernels, or raise UsageError."""
    wanted = f"[B, {'N' if name == 'points' else 'M'}, {width or 'D'}]"
    if points.dim() != 3 or points.shape[2] != (width or points.shape[2]) or not points.shape[2]:
        raise UsageError(
            f"{name} has the shape {list(points.shape)}", where=name, fix=f"pass {name} as {wanted}"
        )
    if not points.is_floating_point():
        raise UsageError(f"{name} is {points.dtype}", where=name, fix="convert with .float()")
    if name == "points" and not points.shape[1]:
        raise UsageError("the clouds have no points", where=name, fix="pass at least one point")
    points = points.detach().to(torch.promote_types(points.dtype, torch.float32)).contiguous()
    # numpy's check, since torch's would wake threads that then spin on the kernels' cores.
    if not (np.isfinite(points.numpy()) if _is_compiled(points) else points.isfinite()).all():
        raise UsageError(
            "a coordinate is NaN or infinite", where=name, fix=f"check where {name} come from"
        )
    return points


def _pair(
    points: Tensor, name: str, queries: Tensor, width: int | None = None
) -> tuple[Tensor, Tensor]:
    """Check points and queries, which must share B, D, dtype and device, or raise UsageError."""
    found = (points.dtype, points.device), (queries.dtype, queries.device)
    if found[0] != found[1]:
        raise UsageError(
            "points are {} on {}, ".format(*found[0]) + "{} {} on {}".format(name, *found[1]),
            where=name,
            fix=f"convert with {name}.to(points)",
        )
    points, queries = _points("points", points, width), _points(name, queries, width)
    if len(points) != len(queries) or points.shape[2] != queries.shape[2]:
        raise UsageError(
            f"points {list(points.shape)} and {name} {list(queries.shape)} have incompatible "
            "shapes",
            where=name,
            fix="pass the same number of clouds and axes in both",
        )
    return points, queries


def _starts(start: int | Tensor, clouds: int, total: int, device: torch.device) -> Tensor:
    """Return the start of each cloud [B] i64, or raise UsageError."""
    if isinstance(start, int):  # created on the device: a copy would synchronize
        _within("start", start, 0, total - 1)
        return torch.full((clouds,), start, device=device)
    begin = torch.as_tensor(start)
    if begin.dtype != torch.int64 or begin.shape not in ((), (clouds,)):
        raise UsageError(
            f"invalid start: {begin.dtype} {list(begin.shape)}",
            where="start",
            fix=f"pass an integer, or an int64 tensor with one for each of the {clouds} clouds",
        )
    for value in begin.flatten().tolist():
        _within("start", value, 0, total - 1)
    return begin.expand(clouds).contiguous().to(device)


def _within(name: str, value: int, low: int, high: int | None = None) -> None:
    if value < low or (high is not None and value > high):
        allowed = f"within {low} ... {high}" if high is not None else f"of at least {low}"
        raise UsageError(f"{name} is {value}", where=name, fix=f"use a value {allowed}")


@torch.library.custom_op("pointcmt::farthest_points", mutates_args=())
def _traced_farthest_points(points: Tensor, count: int, start: Tensor) -> Tensor:
    return farthest_points(points, count, start)


@_traced_farthest_points.register_fake
def _(points: Tensor, count: int, start: Tensor) -> Tensor:
    return points.new_empty(points.shape[0], count, dtype=torch.int64)


@torch.library.custom_op("pointcmt::ball_query", mutates_args=())
def _traced_ball_query(points: Tensor, centers: Tensor, radius: float, count: int) -> Tensor:
    return ball_query(points, centers, radius, count)


@_traced_ball_query.register_fake
def _(points: Tensor, centers: Tensor, radius: float, count: int) -> Tensor:
    return points.new_empty(*centers.shape[:2], count, dtype=torch.int64)


@torch.library.custom_op("pointcmt::k_nearest", mutates_args=())
def _traced_k_nearest(points: Tensor, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
    index, distance = k_nearest(points, queries, k)
    return index.contiguous(), distance.contiguous()


@_traced_k_nearest.register_fake
def _(points: Tensor, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
    shape = *queries.shape[:2], k
    dtype = torch.promote_types(points.dtype, torch.float32)
    return points.new_empty(shape, dtype=torch.int64), points.new_empty(shape, dtype=dtype)
