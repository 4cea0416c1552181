"""Sparse U-Nets as backbones: points in meters, voxels inside, features of points again.

The encoder of a `SparseUNet`, the maximum over its coarsest voxels, a feature of 512 and a linear
layer; for a feature per point, its decoder. Points of a voxel share their feature. A voxel's input
is the average over its points of 1, the height z, and the points' own features, if there are any.
The order of the points does not matter, except for rounding.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from pointcmt.training.networks.backbones.blocks import (
    FEATURE,
    Prediction,
    require_features,
    shared_mlp,
)
from pointcmt.training.networks.sparse.unet import (
    STAGES,
    Decoder,
    Encoder,
    Pyramid,
    SparseUNetConfig,
    build_pyramid,
)
from pointcmt.training.ops.eager import eager
from pointcmt.training.ops.sparse import Voxels, voxelize

VOXEL = 0.05  # meters


class Prepared(NamedTuple):
    """Points as the U-Net takes them: voxels, their rows [n, 2 + F], and kernel maps.

    coarsest [m] i64: the cloud of each of the coarsest voxels.
    """

    voxels: Voxels
    rows: Tensor
    pyramid: Pyramid
    coarsest: Tensor


class SparseUNetEncoder(nn.Module):
    """A U-Net's encoder, with a classification of whole clouds.

    voxel: size in the points' unit. inputs: F, the number of a point's own features.
    """

    def __init__(
        self, classes: int, config: SparseUNetConfig, voxel: float = VOXEL, inputs: int = 0
    ) -> None:
        super().__init__()
        self.config, self.voxel, self.inputs = config, voxel, inputs
        width = config.widths[STAGES - 1]
        self.encoder = Encoder(2 + inputs, config)
        self.head = shared_mlp(width, FEATURE)
        self.classifier = nn.Linear(FEATURE, classes)

    def forward(self, points: Tensor, *, features: Tensor | None = None) -> Prediction:
        """points [B, N, 3], features [B, N, F] → logits [B, C], feature [B, 512].

        Without features if F = 0. Raises UsageError like `prepare` and `Encoder`.
        """
        prepared = self.prepare(*pack_clouds(points, features, self.inputs))
        levels = self.encoder(prepared.rows, prepared.pyramid)
        return self.classify(levels[-1], prepared.coarsest, len(points))

    # The number of voxels depends on the data, so that this would not compile into one graph.
    @eager
    def prepare(self, points: Tensor, clouds: Tensor, features: Tensor | None) -> Prepared:
        """Voxelize points [n, 3] of clouds [n] with features [n, F], and compute all kernel maps.

        Raises UsageError for features that are missing or of another shape, and like `voxelize`.
        """
        require_features(points, features, self.inputs)
        voxels = voxelize(points, clouds, self.voxel)
        columns = [torch.ones_like(points[:, :1]), points[:, 2:]]
        if features is not None:
            columns.append(features)
        pyramid, coarsest = build_pyramid(voxels.grid, self.config.stem)
        rows = voxels.average(torch.cat(columns, dim=1))
        return Prepared(voxels, rows, pyramid, coarsest.coords[:, 0])

    def classify(self, rows: Tensor, clouds: Tensor, count: int) -> Prediction:
        """Coarsest rows [m, D], which are never negative, of clouds [m] → logits, feature."""
        index = clouds[:, None].expand_as(rows)
        highest = rows.new_zeros(count, rows.shape[1]).scatter_reduce(0, index, rows, "amax")
        feature = self.head(highest)  # [B, 512]
        return Prediction(self.classifier(feature), feature)


class DenseSparseUNet(SparseUNetEncoder):
    """A whole U-Net, with a feature per point on request."""

    least = 1  # minimum number of points

    def __init__(
        self, classes: int, config: SparseUNetConfig, voxel: float = VOXEL, inputs: int = 0
    ) -> None:
        super().__init__(classes, config, voxel, inputs)
        self.decoder = Decoder(config)
        self.local_width = config.widths[-1]

    def forward(
        self, points: Tensor, local: bool = False, *, features: Tensor | None = None
    ) -> Prediction:
        """points [B, N, 3], features [B, N, F] → logits [B, C], feature [B, 512], local [B, N, D].

        local: whether to compute it. Without features if F = 0. Raises UsageError like `prepare`
        and `Encoder`.
        """
        prepared = self.prepare(*pack_clouds(points, features, self.inputs))
        levels = self.encoder(prepared.rows, prepared.pyramid)
        found = self.classify(levels[-1], prepared.coarsest, len(points))
        if not local:
            return found
        rows = prepared.voxels.to_points(self.decoder(levels, prepared.pyramid))
        return found._replace(local=rows.view(*points.shape[:2], -1))

    def forward_packed(self, points: Tensor, clouds: Tensor, features: Tensor | None) -> Tensor:
        """Points [n, 3] of clouds [n] of different sizes, features [n, F] → local [n, D].

        Raises UsageError like `prepare` and `Encoder`.
        """
        prepared = self.prepare(points, clouds, features)
        levels = self.encoder(prepared.rows, prepared.pyramid)
        return prepared.voxels.to_points(self.decoder(levels, prepared.pyramid))


def pack_clouds(
    points: Tensor, features: Tensor | None, inputs: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Points [B, N, 3], features [B, N, F] → [B·N, 3], the cloud of each [B·N], [B·N, F].

    Raises UsageError unless F is `inputs`, see `require_features`.
    """
    require_features(points, features, inputs)
    clouds = torch.arange(len(points), device=points.device).repeat_interleave(points.shape[1])
    return points.flatten(0, 1), clouds, None if features is None else features.flatten(0, 1)
