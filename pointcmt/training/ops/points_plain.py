"""The point operations of `ops` in plain torch, as their definitions read: any device, any dtype.

These are the reference for the compiled versions and the fallback without them. Arguments are
those of `ops`, already checked. B clouds, N points, M queries, D axes.
"""

import torch
from torch import Tensor


def farthest_points(points: Tensor, count: int, start: Tensor) -> Tensor:
    """points [B,N,3], start [B] → index [B,count] (Eldar et al. 1997)."""
    clouds, total, _ = points.shape
    index = torch.empty(clouds, count, dtype=torch.int64, device=points.device)
    distance = points.new_full((clouds, total), torch.inf)  # to the nearest chosen point
    chosen = start
    for step in range(count):
        index[:, step] = chosen
        place = points.gather(1, chosen[:, None, None].expand(-1, 1, points.shape[2]))  # [B,1,3]
        distance = torch.minimum(distance, squared_distances(points, place)[:, 0])  # [B,N]
        chosen = distance.argmax(dim=1)  # the first of equals
    return index


def ball_query(points: Tensor, centers: Tensor, squared_radius: Tensor, count: int) -> Tensor:
    """points [B,N,3], centers [B,M,3], squared_radius [] → index [B,M,count] (Qi et al. 2017)."""
    total = points.shape[1]
    distance = squared_distances(points, centers)  # [B,M,N]
    inside = distance <= squared_radius
    every = torch.arange(total, device=points.device)
    inside_first = torch.where(inside, every, total).sort(dim=-1).values  # the others read N
    index = inside_first[..., :count]
    index = torch.nn.functional.pad(index, (0, count - index.shape[-1]), value=total)
    nearest = distance.argmin(dim=-1, keepdim=True)  # [B,M,1], the first of equals
    first = torch.where(inside.any(dim=-1, keepdim=True), inside_first[..., :1], nearest)
    return torch.where(index == total, first, index)


def k_nearest(points: Tensor, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """points [B,N,D], queries [B,M,D] → index [B,M,k], squared distance [B,M,k], ascending."""
    distance = squared_distances(points, queries)  # [B,M,N]
    ascending, index = distance.sort(dim=-1, stable=True)  # stable: the lowest index first
    return index[..., :k], ascending[..., :k]


def squared_distances(points: Tensor, queries: Tensor) -> Tensor:
    """points [B,N,D], queries [B,M,D] → [B,M,N].

    Squares of differences, summed from the first axis on: |a|² - 2ab + |b|² would be faster but
    lose the digits that decide which of two close points is nearer.
    """
    total = points.new_zeros(len(points), queries.shape[1], points.shape[1])
    for axis in range(points.shape[2]):
        difference = points[:, None, :, axis] - queries[:, :, None, axis]
        total += difference * difference
    return total


def gather(features: Tensor, index: Tensor) -> Tensor:
    """features [B,N,D], index [B,...] → [B,...,D], by an embedding lookup in all clouds' rows.

    Its gradient is summed in the order of the index: the same on every run, with any threads.
    """
    clouds, total, width = features.shape
    first = torch.arange(clouds, device=index.device) * total  # row of each cloud's first point
    rows = index + first.view(-1, *[1] * (index.dim() - 1))
    return torch.nn.functional.embedding(rows, features.reshape(clouds * total, width))
