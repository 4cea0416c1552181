"""Random augmentations, drawn from a generator whose state can be checkpointed."""

import torch
from torch import Tensor

from pointcmt.training import ops

PATCH = 16  # average points per patch, as many as PointViT has per center


def scale_and_shift(
    points: Tensor, scale: tuple[float, float], shift: float, generator: torch.Generator
) -> Tensor:
    """Scale every cloud by U(scale) per axis, then move it by U(-shift, shift) per axis.

    points: [B, N, 3], any device. generator: on the CPU, so that every device sees the same
    numbers. Source: the PointCMT reference code, with (2/3, 3/2) and 0.2.
    """
    factors = torch.empty(len(points), 1, 3).uniform_(*scale, generator=generator)
    offsets = torch.empty(len(points), 1, 3).uniform_(-shift, shift, generator=generator)
    return points * factors.to(points) + offsets.to(points)


def choose(items: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Choose `count` different random items (views or points) of each shape, in random order.

    items: [B, N, ...], N >= count; each of the B gets its own choice. generator: on the CPU.
    Returns [B, count, ...].
    """
    B, N = items.shape[:2]
    index = torch.rand(B, N, generator=generator).argsort(dim=1)[:, :count]  # [B, count]
    return items[torch.arange(B, device=items.device)[:, None], index.to(items.device)]


def keep_patches(points: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Drop a share of each cloud, patch by patch; the remaining points are in random order.

    points: [B, N, 3] → index [B, n] i64, n = N - round(share · N). A patch is the set of points
    nearest to one of N / 16 farthest points. Random patches are kept whole, except the one that is
    cut so that all clouds keep the same number of points. generator: on the CPU.
    """
    B, N, _ = points.shape
    count, patches = N - round(share * N), max(1, N // PATCH)
    shuffle = torch.rand(B, N, generator=generator).to(points.device)
    order = torch.rand(B, patches, generator=generator).to(points.device)
    if share:
        centers = ops.gather(points, ops.farthest_points(points, patches))
        patch = ops.k_nearest(centers, points, 1)[0][..., 0]  # [B, N]
        rank = order.gather(1, patch)  # the same for all of a patch
    else:
        rank = shuffle
    kept = rank.argsort(dim=1, stable=True)[:, :count]
    return kept.gather(1, shuffle.gather(1, kept).argsort(dim=1))
