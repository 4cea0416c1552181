"""Random augmentations of packed scenes, drawn from a generator whose state can be checkpointed.

Those of Pointcept's recipes for S3DIS and ScanNet. What is drawn once for a sample is applied with
a probability, independently for each sample. The generator is on the CPU, so that every device
sees the same numbers. No matrix products: autocast would round coordinates to bfloat16.

Letters: B samples, N points of all samples, one sample after the other. batch [N] i64 is the sample
of each point.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

MOST_SIGMAS = 4  # of a point's jitter
BLURS = 2  # of the noise of an elastic distortion


def random_turns(
    samples: int, axis: int, angle: float, probability: float, generator: torch.Generator
) -> Tensor:
    """Draw a rotation of each sample about a coordinate axis, [B, 3, 3], or the identity.

    axis: 0 … 2. angle: the largest one, in radians, in both directions. A row vector is moved by
    `point @ matrix`.
    """
    happens = torch.rand(samples, generator=generator) < probability
    drawn = torch.empty(samples).uniform_(-angle, angle, generator=generator)
    turned = torch.where(happens, drawn, 0.0)
    cos, sin = turned.cos(), turned.sin()
    one, two = [other for other in range(3) if other != axis]
    matrices = torch.eye(3).repeat(samples, 1, 1)
    matrices[:, one, one] = matrices[:, two, two] = cos
    matrices[:, one, two], matrices[:, two, one] = sin, -sin
    return matrices


def random_sizes(
    samples: int, flip: float, scale: tuple[float, float], generator: torch.Generator
) -> Tensor:
    """Draw a diagonal matrix of each sample, [B, 3, 3]: flips of x and y, and a scale.

    flip: the probability of each of the two. scale: the smallest and the largest factor.
    """
    flips = torch.rand(samples, 2, generator=generator) < flip
    factor = torch.empty(samples, 1).uniform_(*scale, generator=generator)
    signs = torch.where(flips, -1.0, 1.0)
    return torch.diag_embed(F.pad(signs, (0, 1), value=1.0) * factor)


def move(points: Tensor, batch: Tensor, matrices: Tensor) -> Tensor:
    """Move points [N, 3] by the matrix [B, 3, 3] of their sample."""
    return (points[:, :, None] * matrices.to(points)[batch]).sum(dim=1)


def choose_points(
    batch: Tensor, samples: int, dropout: float, probability: float, generator: torch.Generator
) -> Tensor:
    """Draw which points remain, [N] bool: all of a sample, or all but the share `dropout` of it.

    At least one point of each sample remains.
    """
    happens = torch.rand(samples, generator=generator) < probability
    kept = torch.ones(len(batch), dtype=torch.bool)
    for own, drops in zip(_rows(batch, samples), happens.tolist(), strict=True):
        if drops:
            count = own.stop - own.start
            order = torch.randperm(count, generator=generator)
            kept[own.start + order[max(int(count * (1 - dropout)), 1) :]] = False
    return kept.to(batch.device)


def jitter(points: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    """Add Gaussian noise to points [N, 3], cut off at four standard deviations."""
    noise = torch.randn(points.shape, generator=generator).clamp(-MOST_SIGMAS, MOST_SIGMAS)
    return points + sigma * noise.to(points)


def distort(
    points: Tensor,
    batch: Tensor,
    samples: int,
    waves: Sequence[tuple[float, float]],
    probability: float,
    generator: torch.Generator,
) -> Tensor:
    """Displace the points [N, 3] of some samples elastically, by one smooth noise after another.

    waves: for each noise the size of its cells and its factor, in the points' unit. The noise is
    normal with variance 1, drawn for each corner of a cell, twice averaged over 3³ corners (which
    leaves a standard deviation of 0.11), and interpolated (MinkowskiEngine's and Pointcept's
    elastic distortion, after Simard et al. 2003).
    """
    happens = torch.rand(samples, generator=generator) < probability
    parts = []
    for own, bends in zip(_rows(batch, samples), happens.tolist(), strict=True):
        part = points[own]
        for cell, factor in waves if bends and len(part) else ():
            part = part + factor * _smooth_noise(part, cell, generator)
        parts.append(part)
    return torch.cat(parts)


def _smooth_noise(points: Tensor, cell: float, generator: torch.Generator) -> Tensor:
    """Return smooth noise at points [n, 3], as `distort` describes it, [n, 3]."""
    low = points.amin(dim=0)
    places = (points - low) / cell  # in cells; a corner more on each side than they need
    corners = [int(most) + 3 for most in places.amax(dim=0).tolist()]
    noise = torch.randn(1, 3, *corners, generator=generator).to(points)
    for _ in range(BLURS):
        noise = F.avg_pool3d(noise, 3, stride=1, padding=1)
    last = torch.tensor(corners, dtype=points.dtype, device=points.device) - 1
    grid = (2 * (places + 1) / last - 1).flip(1)  # grid_sample: -1 … 1, the last axis first
    found = F.grid_sample(noise, grid.view(1, 1, 1, -1, 3), align_corners=True)
    return found.view(3, -1).T


def stretch_contrast(
    color: Tensor, batch: Tensor, samples: int, probability: float, generator: torch.Generator
) -> Tensor:
    """Stretch the colors [N, 3] of some samples to the whole range, to a random extent.

    Colors are in -0.5 … 0.5. Each channel is blended with the one whose lowest and highest values
    are the range's (Pointcept's ChromaticAutoContrast). A channel with one value stays as it is.
    """
    happens = torch.rand(samples, generator=generator) < probability
    blend = torch.rand(samples, generator=generator) * happens
    index = batch[:, None].expand_as(color)
    low, high = (
        color.new_zeros(samples, 3).scatter_reduce(0, index, color, kind, include_self=False)
        for kind in ("amin", "amax")
    )
    span = (high - low)[batch]
    stretched = torch.where(span > 0, (color - low[batch]) / span - 0.5, color)
    return torch.lerp(color, stretched, blend.to(color)[batch, None])


def shift_color(
    color: Tensor,
    batch: Tensor,
    samples: int,
    shift: float,
    probability: float,
    generator: torch.Generator,
) -> Tensor:
    """Shift the channels of some samples' colors [N, 3]; stay in -0.5 … 0.5.

    shift: the largest one, as a share of the range.
    """
    happens = torch.rand(samples, 1, generator=generator) < probability
    shifts = torch.empty(samples, 3).uniform_(-shift, shift, generator=generator) * happens
    return (color + shifts.to(color)[batch]).clamp(-0.5, 0.5)


def add_color_noise(
    color: Tensor,
    batch: Tensor,
    samples: int,
    noise: float,
    probability: float,
    generator: torch.Generator,
) -> Tensor:
    """Add Gaussian noise to each point's color [N, 3] in some samples; stay in -0.5 … 0.5.

    noise: its standard deviation, as a share of the range.
    """
    happens = torch.rand(samples, 1, generator=generator) < probability
    sigma = (noise * happens).to(color)[batch]
    return (color + sigma * torch.randn(color.shape, generator=generator).to(color)).clamp(
        -0.5, 0.5
    )


def mix_samples(batch: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Join each two consecutive samples into one, or none of them: the new sample of each point.

    With an odd number of samples the last one stays alone. Both are centered, so that they overlap
    (Mix3D, Nekrasov et al., 3DV 2021, arXiv 2110.02210; one draw for all samples, as in Pointcept).
    """
    mixes = torch.rand((), generator=generator) < probability
    return batch // 2 if mixes else batch


def _rows(batch: Tensor, samples: int) -> list[slice]:
    """Return the rows of each sample."""
    ends = batch.bincount(minlength=samples).cumsum(0).tolist()
    return [slice(first, end) for first, end in zip([0, *ends], ends, strict=False)]
