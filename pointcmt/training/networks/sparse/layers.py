"""Layers on the rows [n, C] of a voxel grid.

Convolutions have no bias, which the batch norm after each would cancel. A 1×1×1 convolution is a
linear layer.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pointcmt.training import ops
from pointcmt.training.ops.sparse import KernelMap, sparse_convolution

PRESENT = 0.5  # share of a kernel's neighbors that are occupied on surfaces, roughly


@dataclass(frozen=True)
class Norm:
    """Options of batch norms, by default torch's.

    PointContrast fine-tunes with momentum 0.02; Pointcept's SpUNet has 0.01 and eps 1e-3.
    """

    momentum: float = 0.1  # weight of a batch in the running statistics
    eps: float = 1e-5

    def build(self, width: int) -> nn.BatchNorm1d:
        """Return a batch norm over the rows of all voxels of a batch."""
        return nn.BatchNorm1d(width, momentum=self.momentum, eps=self.eps)


class SparseConv(nn.Module):
    """A convolution along a kernel map, [sources, C] → [targets, C'].

    widths: C, C'. offsets: K, of the map. summed: products per output, on average, from which the
    initial weights are scaled (He et al. 2015, fan-in).
    """

    def __init__(self, widths: tuple[int, int], offsets: int, summed: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(offsets, *widths))
        nn.init.normal_(self.weight, std=math.sqrt(2 / (widths[0] * summed)))

    def forward(self, rows: Tensor, kernel_map: KernelMap) -> Tensor:
        return sparse_convolution(rows, self.weight, kernel_map)

    def extra_repr(self) -> str:
        """Return the shape of the weight."""
        return "offsets={}, {} → {}".format(*self.weight.shape)


def submanifold_conv(before: int, after: int, size: int = 3) -> SparseConv:
    """Return a convolution size³ whose outputs are the input's voxels."""
    return SparseConv((before, after), size**3, PRESENT * size**3)


class ConvNorm(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, convolution: SparseConv, norm: Norm) -> None:
        super().__init__()
        self.convolution = convolution
        self.norm = norm.build(convolution.weight.shape[2])

    def forward(self, rows: Tensor, kernel_map: KernelMap) -> Tensor:
        """[sources, C] → [targets, C']."""
        return ops.norm_relu(self.convolution(rows, kernel_map), self.norm)


def down_conv(before: int, after: int, norm: Norm) -> ConvNorm:
    """Return a 2³ convolution of stride 2, along `VoxelGrid.coarser`'s map."""
    return ConvNorm(SparseConv((before, after), 8, PRESENT * 8), norm)


def up_conv(before: int, after: int, norm: Norm) -> ConvNorm:
    """Return the transposed 2³ convolution, along the same map swapped: one product per output."""
    return ConvNorm(SparseConv((before, after), 8, 1), norm)


class BasicBlock(nn.Module):
    """ResNet's block (He et al. 2016) with 3³ submanifold convolutions.

    The shortcut is a linear layer with a batch norm where the width changes, else the identity.
    """

    def __init__(self, before: int, after: int, norm: Norm) -> None:
        super().__init__()
        self.first = ConvNorm(submanifold_conv(before, after), norm)
        self.second = submanifold_conv(after, after)
        self.norm = norm.build(after)
        self.shortcut = nn.Sequential()
        if before != after:
            linear = nn.Linear(before, after, bias=False)
            nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
            self.shortcut = nn.Sequential(linear, norm.build(after))

    def forward(self, rows: Tensor, neighbors: KernelMap) -> Tensor:
        """[n, C] → [n, C']."""
        found = self.norm(self.second(self.first(rows, neighbors), neighbors))
        return F.relu(found + self.shortcut(rows), inplace=True)
