"""Residual U-Nets of sparse convolutions: the family of MinkUNet (Choy et al., CVPR 2019, arXiv
1904.08755), also called Res16UNet and, in PointContrast (Xie et al., ECCV 2020), SR-UNet.

A stem; four stages, each halving the resolution before its blocks; four stages back up, each
with the encoder's features of that resolution beside its own. The layers are those of
SpatioTemporalSegmentation's Res16UNet. Initial weights are not: its library's default is
replaced by He et al.'s, with half of a kernel's neighbors present.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pointcmt.errors import UsageError
from pointcmt.training.networks.sparse.layers import (
    BasicBlock,
    ConvNorm,
    Norm,
    down_conv,
    submanifold_conv,
    up_conv,
)
from pointcmt.training.ops.sparse import KernelMap, VoxelGrid

STAGES = 4


@dataclass(frozen=True)
class SparseUNetConfig:
    """The sizes of a U-Net.

    widths: of the four stages down, then of the four up. blocks: their number in each stage.
    base, stem: width and kernel size of the stem.
    """

    widths: tuple[int, ...]
    blocks: tuple[int, ...]
    base: int = 32
    stem: int = 5
    norm: Norm = field(default_factory=Norm)

    @property
    def skips(self) -> tuple[int, ...]:
        """Widths of the encoder's features, finest first."""
        return (self.base, *self.widths[:STAGES])


WIDTHS_A = (32, 64, 128, 256, 128, 128, 96, 96)
WIDTHS_C = (32, 64, 128, 256, 256, 128, 96, 96)
MINKUNET_34C = SparseUNetConfig(WIDTHS_C, (2, 3, 4, 6, 2, 2, 2, 2))  # = SR-UNet
MINKUNET_14A = SparseUNetConfig(WIDTHS_A, (1,) * 8)
TINY = SparseUNetConfig((32, 48, 64, 96, 96, 64, 48, 48), (1,) * 8, base=24, stem=3)  # ours


class Pyramid(NamedTuple):
    """The kernel maps of a U-Net on one batch.

    stem: at the finest level. neighbors: 3³, of all five levels, finest first. down: from each
    level to the next.
    """

    stem: KernelMap
    neighbors: tuple[KernelMap, ...]
    down: tuple[KernelMap, ...]


def build_pyramid(grid: VoxelGrid, stem: int) -> tuple[Pyramid, VoxelGrid]:
    """Return the maps for a stem of size stem³, and the grid of the coarsest level."""
    first, neighbors, steps = grid.neighbors(stem), [grid.neighbors(3)], []
    for _ in range(STAGES):
        grid, step = grid.coarser
        steps.append(step)
        neighbors.append(grid.neighbors(3))
    return Pyramid(first, tuple(neighbors), tuple(steps)), grid


class Stage(nn.Module):
    """Residual blocks at one resolution."""

    def __init__(self, before: int, after: int, blocks: int, norm: Norm) -> None:
        super().__init__()
        widths = [before, *[after] * blocks]
        self.blocks = nn.ModuleList(BasicBlock(*pair, norm) for pair in pairwise(widths))

    def forward(self, rows: Tensor, neighbors: KernelMap) -> Tensor:
        """[n, C] → [n, C']."""
        for block in self.blocks:
            rows = block(rows, neighbors)
        return rows


class Encoder(nn.Module):
    """The way down."""

    def __init__(self, inputs: int, config: SparseUNetConfig) -> None:
        super().__init__()
        norm, widths = config.norm, config.skips
        self.stem = ConvNorm(submanifold_conv(inputs, config.base, config.stem), norm)
        self.downs = nn.ModuleList(down_conv(width, width, norm) for width in widths[:-1])
        self.stages = nn.ModuleList(
            Stage(*pair, blocks, norm)
            for pair, blocks in zip(pairwise(widths), config.blocks[:STAGES], strict=True)
        )

    def forward(self, rows: Tensor, pyramid: Pyramid) -> list[Tensor]:
        """rows [n, inputs] → features of all five levels, finest first.

        Raises UsageError in training if the coarsest level is a single voxel, which has no
        statistics for a batch norm.
        """
        if self.training and pyramid.down[-1].targets < 2:
            raise UsageError(
                f"the batch fills a single voxel of {2**STAGES} times the voxel size, too few to "
                "train on",
                where="sparse U-Net",
                fix="use smaller voxels, larger clouds or more of them per batch",
            )
        levels = [self.stem(rows, pyramid.stem)]
        parts = zip(self.downs, self.stages, pyramid.down, pyramid.neighbors[1:], strict=True)
        for step, stage, step_map, neighbors in parts:
            levels.append(stage(step(levels[-1], step_map), neighbors))
        return levels


class Decoder(nn.Module):
    """The way up."""

    def __init__(self, config: SparseUNetConfig) -> None:
        super().__init__()
        norm, widths = config.norm, config.widths[STAGES - 1 :]
        skips = config.skips[-2::-1]  # coarsest first
        self.ups = nn.ModuleList(up_conv(*pair, norm) for pair in pairwise(widths))
        self.stages = nn.ModuleList(
            Stage(width + skip, width, blocks, norm)
            for width, skip, blocks in zip(widths[1:], skips, config.blocks[STAGES:], strict=True)
        )

    def forward(self, levels: Sequence[Tensor], pyramid: Pyramid) -> Tensor:
        """The encoder's features → rows [n, widths[-1]] of the finest level."""
        rows = levels[-1]
        for up, stage, skip, step_map, neighbors in zip(
            self.ups,
            self.stages,
            levels[-2::-1],
            pyramid.down[::-1],
            pyramid.neighbors[-2::-1],
            strict=True,
        ):
            rows = torch.cat([up(rows, step_map.swapped()), skip], dim=1)
            rows = stage(rows, neighbors)
        return rows


class SparseUNet(nn.Module):
    """Voxels with features → a prediction for each voxel.

    inputs, outputs: channels of both. The last layer is linear, with a bias.
    """

    def __init__(self, inputs: int, outputs: int, config: SparseUNetConfig = MINKUNET_34C) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(inputs, config)
        self.decoder = Decoder(config)
        self.output = nn.Linear(config.widths[-1], outputs)

    def forward(self, rows: Tensor, grid: VoxelGrid) -> Tensor:
        """rows [n, inputs] of the grid → [n, outputs]. For points, see `Voxels.to_points`.

        Raises UsageError like the encoder.
        """
        pyramid, _ = build_pyramid(grid, self.config.stem)
        return self.predict(rows, pyramid)

    def predict(self, rows: Tensor, pyramid: Pyramid) -> Tensor:
        """The same with maps that are computed already: one graph under torch.compile."""
        return self.output(self.decoder(self.encoder(rows, pyramid), pyramid))
