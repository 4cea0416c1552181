"""Headings as bins and residuals (VoteNet, Qi et al., ICCV 2019, section 4.3 and its code).

The circle is divided into NH bins of 2π/NH, the first one around yaw 0. A heading is the bin that
it falls into and the residual from the bin's middle, in half bins: from -1 to 1.
"""

import math

import torch
from torch import Tensor


def to_bins(yaw: Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """Return the bin of each yaw, i64, and its residual in half bins; shapes as given.

    A single bin stands for no heading: the residual is 0, whatever the yaw is.
    """
    if bins == 1:
        return torch.zeros_like(yaw, dtype=torch.int64), torch.zeros_like(yaw)
    half = math.pi / bins
    shifted = (yaw + half) % (2 * math.pi)
    found = (shifted / (2 * half)).floor().clamp(max=bins - 1)  # rounding may give 2π itself
    return found.long(), shifted / half - (2 * found + 1)


def from_bins(found: Tensor, residual: Tensor, bins: int) -> Tensor:
    """Return the yaw of bins and residuals in half bins; 0 for a single bin."""
    if bins == 1:
        return torch.zeros_like(residual)
    return (2 * found + residual) * (math.pi / bins)
