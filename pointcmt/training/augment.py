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


def choose(items: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` different random items of every shape (its views or its points), in random order.

    items: [B, N, ...], N >= count, another choice for each of the B; generator: on the CPU.
    Returns [B, count, ...].
    """
    B, N = items.shape[:2]
    index = torch.rand(B, N, generator=generator).argsort(dim=1)[:, :count]  # [B, count]
    return items[torch.arange(B)[:, None], index.to(items.device)]
