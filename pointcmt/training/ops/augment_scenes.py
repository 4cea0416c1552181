"""Random augmentations of packed scenes, drawn from a generator whose state can be checkpointed.

Those of Pointcept's recipes for S3DIS and ScanNet, without dropout, tilt and elastic distortion;
each is applied always. The generator is on the CPU, so that every device sees the same numbers.
"""

import math

import torch
from torch import Tensor

MOST_SIGMAS = 4  # of a point's jitter


def random_motion(
    samples: int, flip: float, scale: tuple[float, float], generator: torch.Generator
) -> Tensor:
    """Draw the matrix of each sample, [B, 3, 3]: any yaw, flips of x and y, and a scale.

    flip: the probability of each of the two. A row vector is moved by `point @ matrix`.
    """
    yaw = torch.rand(samples, generator=generator) * (2 * math.pi)
    flips = torch.rand(samples, 2, generator=generator) < flip
    factor = torch.empty(samples).uniform_(*scale, generator=generator)
    signs = torch.where(flips, -1.0, 1.0)
    cos, sin, zero = yaw.cos(), yaw.sin(), torch.zeros(samples)
    turned = torch.stack(
        [
            torch.stack([cos * signs[:, 0], sin * signs[:, 1], zero], dim=1),
            torch.stack([-sin * signs[:, 0], cos * signs[:, 1], zero], dim=1),
            torch.stack([zero, zero, torch.ones(samples)], dim=1),
        ],
        dim=1,
    )
    return turned * factor[:, None, None]


def move(points: Tensor, batch: Tensor, matrices: Tensor) -> Tensor:
    """Move points [N, 3] by the matrix [B, 3, 3] of their sample batch [N]."""
    return torch.einsum("ni,nij->nj", points, matrices.to(points)[batch])


def jitter(points: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    """Add Gaussian noise to points [N, 3], cut off at four standard deviations."""
    noise = torch.randn(points.shape, generator=generator).clamp(-MOST_SIGMAS, MOST_SIGMAS)
    return points + sigma * noise.to(points)


def vary_color(
    color: Tensor,
    batch: Tensor,
    samples: int,
    shift: float,
    noise: float,
    generator: torch.Generator,
) -> Tensor:
    """Shift the channels of each sample, and add noise to each point; stay in -0.5 … 0.5.

    color: [N, 3], in -0.5 … 0.5. batch: [N], the sample of each point; samples: their number.
    shift, noise: as shares of the range, the largest shift and the standard deviation of the noise.
    """
    shifts = torch.empty(samples, 3).uniform_(-shift, shift, generator=generator)
    noises = noise * torch.randn(color.shape, generator=generator)
    return (color + shifts.to(color)[batch] + noises.to(color)).clamp(-0.5, 0.5)
