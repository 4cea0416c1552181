"""The earth mover's distance between point clouds, exact or by four approximations."""

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from pointcmt import errors
from pointcmt.errors import DependencyError, UsageError
from pointcmt.training.ops.device import has_triton
from pointcmt.training.ops.emd_auction import LANES, Indices, Reals, auction

TOLERANCE = 0.01  # auction: largest proven relative excess over the optimum
MOST_BIDS = 100  # of an auction per point: clouds of all other kinds take 1 to 80
OBLIQUE = (0.267, 0.535, 0.802)  # a direction that hardly any cloud has an axis along
SINKHORN_EPSILON = 0.01  # relative to the mean distance between the clouds
SINKHORN_STEPS = 200  # at that epsilon; 20 at each coarser one
PROJECTIONS = 128  # sliced
FLOOR = 1e-12  # smaller distances are clamped to it, with zero gradient: sqrt has none at 0


def earth_movers_distance(x: Tensor, y: Tensor, solver: str = "auction") -> tuple[Tensor, Tensor]:
    """Compute the EMD of clouds x and y: min over bijections a of mean_i |x_i - y_a(i)|.

    The cost is the plain Euclidean distance, not its square (Rubner et al. 2000; Fan et al. 2017,
    equation 3, divided by N). Distances are in the points' unit.

    x, y: [B, N, 3], both float32 or both float64, on one device; B >= 0, N >= 1, finite.
    Returns distance [B] in their dtype, assignment [B, N] i64: the point of y matched to x_i.

    solver:
    - auction: a bijection proven to cost at most 1 % more than the best (or 1e-9 of the clouds'
      extent, where the best is that near 0). Some clouds, such as a line and the same line moved
      along itself, have so many equally good bijections that bidding would take very long: these
      are matched along a direction, with a proof of its own, or else exactly. On the CPU, clouds
      are spread over torch.get_num_threads() threads, whose number does not affect the result. CUDA
      tensors are matched on their device if Triton can be imported (`emd_triton`); clouds without
      a proof are matched again on the CPU. Without Triton, all are matched on the CPU.
    - exact: the best matching, by scipy's linear_sum_assignment, on the CPU. O(N³).
    - sinkhorn: sum_ij P_ij |x_i - y_j|, at least the exact distance, for the plan P smoothed
      by entropy of weight 0.01 times the mean distance (Cuturi 2013), in the log domain, rounded
      to exact marginals (Altschuler et al. 2017). The assignment is each row's largest entry: not
      a bijection in general. Holds [N, N] per cloud.
    - sliced: the mean over 128 fixed directions of the distance between the clouds' projections
      (Bonneel et al. 2015); at most the exact distance, about half of it. The assignment is the
      bijection of the direction whose matching costs least in 3D.
    - chamfer: mean_i min_j |x_i - y_j| + mean_j min_i |x_i - y_j|, at most twice the exact
      distance. The assignment is x_i's nearest point of y. Holds [N, N] per cloud.

    Gradients flow to x and y through the distances, with the matching or plan held fixed. This is
    the true gradient wherever the best matching is unique (envelope theorem; for sinkhorn without
    the entropy term). Points that coincide get zero gradient.

    Raises UsageError for an unknown solver or clouds other than the above, DependencyError for
    exact without scipy.
    """
    if solver not in SOLVERS:
        raise UsageError(
            f"unknown solver '{solver}'", where="solver", fix=errors.nearest(solver, SOLVERS)
        )
    _check(x, y)
    return SOLVERS[solver](x, y)


def _auction(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    if x.device.type != "cuda" or not has_triton():
        return _matched(x, y, _auction_one, threads=torch.get_num_threads())
    from pointcmt.training.ops import emd_triton  # slow to import

    assignment, proven = emd_triton.auction(x.detach(), y.detach(), TOLERANCE)
    left = (~proven).nonzero()[:, 0]  # synchronizes with the device
    if len(left):
        threads = torch.get_num_threads()
        assignment[left] = _matchings(x[left], y[left], _auction_one, threads)
    return _distances(x, _gather(y, assignment)).mean(dim=1), assignment


def _auction_one(x: Reals, y: Reals) -> Indices:
    # In the unit cube squares neither overflow nor underflow, whatever the clouds' unit.
    middle = (x.max(axis=0) + x.min(axis=0)) / 2
    scale = max(np.abs(x - middle).max(), np.abs(y - middle).max()) or 1.0
    padded = np.zeros((3, -(-len(y) // LANES) * LANES))
    padded[:, : len(y)] = ((y - middle) / scale).T
    bidders = np.ascontiguousarray(((x - middle) / scale).T)
    matching, total, *_ = auction(bidders, padded, TOLERANCE, MOST_BIDS * len(x))
    if np.isfinite(total):
        return matching
    by_order = match_by_projection((x - middle) / scale, (y - middle) / scale, TOLERANCE)
    if by_order is not None:
        return by_order
    try:
        return _exact_one(x, y)
    except ImportError:
        return auction(bidders, padded, TOLERANCE, sys.maxsize)[0]


def match_by_projection(x: Reals, y: Reals, tolerance: float) -> Indices | None:
    """Match the points of x and y [N, 3] by their order along a direction, if that is proven good.

    Tries the direction from mean to mean, that in which the points vary most, and an oblique one.
    The total of the best of these exceeds a lower bound by at most the tolerance, or None is
    returned. No matching is shorter than N times the distance of the means (the triangle
    inequality), or than the sum of the differences of sorted projections in any direction. So
    matchings of points on a line, and of a cloud with itself moved, are found and proven.
    """
    shift = y.mean(axis=0) - x.mean(axis=0)
    middle = (x.mean(axis=0) + y.mean(axis=0)) / 2
    longest = np.linalg.svd(np.concatenate([x, y]) - middle, full_matrices=False)[2][0]
    bound, least, best = len(x) * float(np.linalg.norm(shift)), np.inf, np.arange(len(x))
    for direction in (shift, longest, np.array(OBLIQUE)):
        length = np.linalg.norm(direction)
        if length == 0:
            continue
        shadows = x @ direction / length, y @ direction / length
        order = [shadow.argsort(kind="stable") for shadow in shadows]
        bound = max(bound, float(np.abs(shadows[0][order[0]] - shadows[1][order[1]]).sum()))
        total = float(np.linalg.norm(x[order[0]] - y[order[1]], axis=1).sum())
        if total < least:
            least, best = total, np.empty(len(x), np.int64)
            best[order[0]] = order[1]
    return best if least <= (1 + tolerance) * bound else None


def _exact(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    try:
        return _matched(x, y, _exact_one, threads=1)
    except ImportError as error:
        raise DependencyError(
            "solver 'exact' needs scipy, which is not installed",
            where="solver",
            fix="run `pip install scipy`, or use solver 'auction', at most 1 % above the optimum",
        ) from error


def _exact_one(x: Reals, y: Reals) -> Indices:
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    return linear_sum_assignment(cdist(x, y))[1]


def _matched(
    x: Tensor, y: Tensor, solve: Callable[[Reals, Reals], Indices], threads: int
) -> tuple[Tensor, Tensor]:
    """Match each pair of clouds ([N, 3] each → [N]), and compute the mean distance."""
    assignment = _matchings(x, y, solve, threads)
    return _distances(x, _gather(y, assignment)).mean(dim=1), assignment


def _matchings(
    x: Tensor, y: Tensor, solve: Callable[[Reals, Reals], Indices], threads: int
) -> Tensor:
    """Match each pair of clouds on the CPU → [B, N] on their device."""
    clouds = [tensor.detach().cpu().double().numpy() for tensor in (x, y)]
    assignment = torch.empty(x.shape[:2], dtype=torch.int64)
    if threads == 1 or len(x) <= 1:
        matchings = list(map(solve, *clouds))
    else:
        with ThreadPoolExecutor(min(threads, len(x))) as pool:
            matchings = list(pool.map(solve, *clouds))
    for row, matching in zip(assignment, matchings, strict=True):
        row.copy_(torch.from_numpy(matching))
    return assignment.to(x.device)


def _sinkhorn(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    distances, assignment = [x.new_zeros(0)], _no_assignment(x)
    for b in range(len(x)):
        cost = _all_distances(x[b], y[b])  # [N, N]
        plan = _plan(cost.detach())
        distances.append((plan * cost).sum()[None])
        assignment[b] = plan.argmax(dim=1)
    return torch.cat(distances), assignment


def _plan(cost: Tensor) -> Tensor:
    """Compute the transport plan [N, N] with marginals 1/N, by Sinkhorn with annealed epsilon."""
    n = len(cost)
    last = SINKHORN_EPSILON * float(cost.mean())
    if last == 0:  # all points coincide
        return torch.full_like(cost, 1 / n**2)
    f, g = cost.new_zeros(n, 1), cost.new_zeros(1, n)
    log_n = float(np.log(n))
    for coarser, steps in ((64, 20), (16, 20), (4, 20), (1, SINKHORN_STEPS)):
        epsilon = coarser * last
        for _ in range(steps):
            f = -epsilon * (torch.logsumexp((g - cost) / epsilon, dim=1, keepdim=True) - log_n)
            g = -epsilon * (torch.logsumexp((f - cost) / epsilon, dim=0, keepdim=True) - log_n)
    return _rounded(((f + g - cost) / last).exp() / n**2)


def _rounded(plan: Tensor) -> Tensor:
    """Round the plan to marginals of exactly 1/N (Altschuler et al. 2017, algorithm 2)."""
    share = 1 / len(plan)
    plan = plan * (share / plan.sum(dim=1, keepdim=True)).clamp(max=1)
    plan = plan * (share / plan.sum(dim=0, keepdim=True)).clamp(max=1)
    rows = share - plan.sum(dim=1, keepdim=True)  # [N, 1], what is missing
    columns = share - plan.sum(dim=0, keepdim=True)  # [1, N]
    missing = rows.sum()
    return plan + rows * columns / missing if missing > 0 else plan


def _sliced(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    directions = _directions().to(x)  # [3, L]
    shadows_x, order_x = (x @ directions).sort(dim=1)  # [B, N, L]
    shadows_y, order_y = (y @ directions).sort(dim=1)
    distance = (shadows_x - shadows_y).abs().mean(dim=(1, 2))
    assignment = _no_assignment(x)
    least = torch.full_like(distance.detach(), torch.inf)
    for k in range(PROJECTIONS):
        matching = torch.empty_like(assignment).scatter_(1, order_x[..., k], order_y[..., k])
        cost = _distances(x.detach(), _gather(y.detach(), matching)).mean(dim=1)
        better = cost < least
        least = torch.where(better, cost, least)
        assignment = torch.where(better[:, None], matching, assignment)
    return distance, assignment


def _directions() -> Tensor:
    """Return fixed unit vectors, uniform on the sphere: [3, PROJECTIONS]."""
    normal = np.random.default_rng(0).normal(size=(3, PROJECTIONS))
    return torch.from_numpy(normal / np.linalg.norm(normal, axis=0))


def _chamfer(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    forward, backward = _no_assignment(x), _no_assignment(x)
    for b in range(len(x)):
        cost = _all_distances(x[b].detach(), y[b].detach())
        forward[b], backward[b] = cost.argmin(dim=1), cost.argmin(dim=0)
    there = _distances(x, _gather(y, forward)).mean(dim=1)
    back = _distances(y, _gather(x, backward)).mean(dim=1)
    return there + back, forward


def _distances(x: Tensor, y: Tensor) -> Tensor:
    """Return |x - y| of corresponding points: [..., 3] → [...]."""
    return (x - y).square().sum(dim=-1).clamp(min=FLOOR**2).sqrt()


def _all_distances(x: Tensor, y: Tensor) -> Tensor:
    """Return all distances, [N, 3], [M, 3] → [N, M], without products, which lose precision."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


def _gather(points: Tensor, index: Tensor) -> Tensor:
    """Return points[b, index[b, i]]: [B, N, 3], [B, N] → [B, N, 3]."""
    return points.gather(1, index[..., None].expand(-1, -1, 3))


def _no_assignment(x: Tensor) -> Tensor:
    return torch.zeros(x.shape[:2], dtype=torch.int64, device=x.device)


def _check(x: Tensor, y: Tensor) -> None:
    """Raise UsageError unless x and y are clouds that can be matched."""
    for name, cloud in (("x", x), ("y", y)):
        if cloud.ndim != 3 or cloud.shape[2] != 3:
            raise UsageError(
                f"{name} must have the shape [B, N, 3], not {list(cloud.shape)}",
                where=name,
                fix="pass a single cloud as points[None], without normals",
            )
        if cloud.dtype not in (torch.float32, torch.float64):
            raise UsageError(
                f"{name} must be float32 or float64, not {cloud.dtype}",
                where=name,
                fix=f"{name}.float()",
            )
    if x.dtype != y.dtype or x.device != y.device:
        raise UsageError(
            f"x is {x.dtype} on {x.device}, but y is {y.dtype} on {y.device}",
            where="x, y",
            fix="y.to(x)",
        )
    if x.shape != y.shape:
        raise UsageError(
            f"x is {list(x.shape)}, but y is {list(y.shape)}",
            where="x, y",
            fix="pass the same number of clouds with the same number of points; subsample the "
            "larger ones",
        )
    if x.shape[1] == 0:
        raise UsageError(
            "the clouds have no points", where="x, y", fix="pass clouds of at least one point"
        )
    for name, cloud in (("x", x), ("y", y)):
        if not bool(torch.isfinite(cloud).all()):
            raise UsageError(
                f"{name} holds NaN or infinite coordinates", where=name, fix="remove these points"
            )


SOLVERS: dict[str, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "auction": _auction,
    "exact": _exact,
    "sinkhorn": _sinkhorn,
    "sliced": _sliced,
    "chamfer": _chamfer,
}
