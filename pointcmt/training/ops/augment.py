"""Random augmentations, drawn from a generator whose state can be checkpointed.

Clouds are [B, N, 3], or [B, N, 6]: a point's position, then its unit normal. Normals keep their
direction under shifts and jitter; scaling and turning change them as they change the surface.
"""

import math

import torch
from torch import Tensor

from pointcmt.training import ops

PATCH = 16  # average points per patch, as many as PointViT has per center


def scale_and_shift(
    points: Tensor, scale: tuple[float, float], shift: float, generator: torch.Generator
) -> Tensor:
    """Scale every cloud by U(scale) per axis, then move it by U(-shift, shift) per axis.

    points: [B, N, 3] or [B, N, 6], any device. generator: on the CPU, so that every device sees the
    same numbers; the same holds for all functions here. Source: the PointCMT reference code, with
    (2/3, 3/2) and 0.2.
    """
    return move(rescale(points, scale, False, generator), shift, generator)


def rescale(
    points: Tensor, scale: tuple[float, float], isotropic: bool, generator: torch.Generator
) -> Tensor:
    """Scale every cloud [B, N, 3 or 6] by U(scale), per axis or the same for all axes.

    A plane's normal n becomes n / factors, of unit length again.
    """
    axes = 1 if isotropic else 3
    factors = torch.empty(len(points), 1, axes).uniform_(*scale, generator=generator)
    factors = factors.to(points)
    if points.shape[2] == 3:
        return points * factors
    positions, normals = points.split(3, dim=2)
    if not isotropic:
        normals = torch.nn.functional.normalize(normals / factors, dim=2)
    return torch.cat([positions * factors, normals], dim=2)


def move(points: Tensor, shift: float, generator: torch.Generator) -> Tensor:
    """Move every cloud [B, N, 3 or 6] by U(-shift, shift) per axis."""
    offsets = torch.empty(len(points), 1, 3).uniform_(-shift, shift, generator=generator)
    return _moved(points, offsets)


def turn(points: Tensor, axis: int, degrees: float, generator: torch.Generator) -> Tensor:
    """Turn every cloud [B, N, 3 or 6] by U(-degrees, degrees) about a coordinate axis, 0 … 2."""
    angle = torch.empty(len(points), 1).uniform_(-1, 1, generator=generator)
    angle = (angle * math.radians(degrees)).to(points)
    cos, sin = angle.cos(), angle.sin()
    turned = points.clone()
    for first in range(0, points.shape[2], 3):  # of positions, and of normals
        one, two = first + (axis + 1) % 3, first + (axis + 2) % 3
        # no matrix product: autocast would round it
        turned[..., one] = cos * points[..., one] - sin * points[..., two]
        turned[..., two] = sin * points[..., one] + cos * points[..., two]
    return turned


def normalize(points: Tensor) -> Tensor:
    """Center every cloud [B, N, 3 or 6] at the mean of its points, the farthest at radius 1."""
    positions = points[..., :3]
    centered = positions - positions.mean(dim=1, keepdim=True)
    radius = centered.norm(dim=2).amax(dim=1)[:, None, None]
    centered = centered / radius.clamp(min=torch.finfo(points.dtype).tiny)
    return torch.cat([centered, points[..., 3:]], dim=2)


def jitter(points: Tensor, spread: float, most: float, generator: torch.Generator) -> Tensor:
    """Move every point [B, N, 3 or 6] by N(0, spread²) per axis, at most by `most`."""
    offsets = torch.randn(*points.shape[:2], 3, generator=generator) * spread
    return _moved(points, offsets.clamp(-most, most))


def _moved(points: Tensor, offsets: Tensor) -> Tensor:
    """Add offsets [..., 3] to the positions of clouds [B, N, 3 or 6]."""
    if points.shape[2] == 3:
        return points + offsets.to(points)
    return torch.cat([points[..., :3] + offsets.to(points), points[..., 3:]], dim=2)


def drop_points(points: Tensor, most: float, generator: torch.Generator) -> Tensor:
    """Drop a share U(0, most) of every cloud [B, N, D]: dropped points become copies of the first.

    Each point is dropped with this probability, as in PointNet++'s code, whose `most` is 0.875.
    """
    share = torch.rand(len(points), 1, generator=generator) * most
    dropped = torch.rand(points.shape[:2], generator=generator) <= share
    return torch.where(dropped[..., None].to(points.device), points[:, :1], points)


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
