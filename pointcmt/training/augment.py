"""Random changes to training data, each drawn from a generator that a checkpoint can hold."""

import torch
from torch import Tensor


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


def choose_views(images: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` different random views of every shape, another choice for each.

    images: [B, V, ...]; generator: on the CPU. Returns [B, count, ...].
    """
    B, V = images.shape[:2]
    views = torch.rand(B, V, generator=generator).argsort(dim=1)[:, :count]  # [B, count]
    return images[torch.arange(B)[:, None], views.to(images.device)]


def choose_points(points: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` different random points of every cloud, another choice for each.

    points: [B, N, 3], N >= count; generator: on the CPU. Returns [B, count, 3].
    """
    B, N, _ = points.shape
    index = torch.rand(B, N, generator=generator).argsort(dim=1)[:, :count]  # [B, count]
    return points[torch.arange(B)[:, None], index.to(points.device)]
