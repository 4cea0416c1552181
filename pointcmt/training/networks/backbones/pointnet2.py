"""PointNet++ (Qi et al., NeurIPS 2017, arXiv 1706.02413) with a 512-d feature.

Single-scale and multi-scale grouping as in the paper's classification networks (appendix B.1), and,
for a feature per point, feature propagation as in its part segmentation network.
The head is PointCMT's: 1024 → 512 with batch norm and ReLU, then one linear layer, no dropout.
Sampling starts at point 0 and balls take the first points by index, so both depend on the order
of the points; with the store's farthest-first order the first 512 points are the centers.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from pointcmt.training import ops
from pointcmt.training.networks.backbones.blocks import (
    FEATURE,
    FeaturePropagation,
    GroupMLP,
    Prediction,
    require_inputs,
    require_points,
    shared_mlp,
)


class Scale(NamedTuple):
    """One grouping scale: the radius, the most neighbors within it, and the widths of the MLP."""

    radius: float
    neighbors: int
    widths: tuple[int, ...]


SSG_NEAR = (Scale(0.2, 32, (64, 64, 128)),)
SSG_FAR = (Scale(0.4, 64, (128, 128, 256)),)


class PointNet2(nn.Module):
    """Two set abstractions, a maximum over the remaining points, a feature, a linear layer.

    inputs: F, the number of a point's values besides its position, such as 3 of a normal.
    """

    def __init__(
        self,
        classes: int,
        first: tuple[Scale, ...],
        second: tuple[Scale, ...],
        inputs: int = 0,
    ) -> None:
        super().__init__()
        self.inputs = inputs
        self.near = SetAbstraction(512, first, width=inputs)
        self.far = SetAbstraction(128, second, width=self.near.width)
        self.all = shared_mlp(3 + self.far.width, 256, 512, 1024, last_relu=False)
        self.head = shared_mlp(1024, FEATURE)
        self.classifier = nn.Linear(FEATURE, classes)

    def forward(self, points: Tensor) -> Prediction:
        """points [B, N, 3 + F] → logits [B, C], feature [B, 512]. UsageError for N < 512."""
        return self.classify(self.encode(points))

    def encode(self, points: Tensor) -> "Encoding":
        """points [B, N, 3 + F] → features of near and far neighborhoods, and of the whole cloud."""
        require_points(points, self.near.centers, "PointNet++")
        require_inputs(points, self.inputs)
        own = points[..., 3:] if self.inputs else None
        near = self.near(points[..., :3], own)  # [B, 512, 3], [B, 512, D]
        far = self.far(*near)  # [B, 128, 3], [B, 128, D]
        rows = torch.cat(far, dim=2).flatten(0, 1)
        return Encoding(near, far, self.all.pool(rows, len(points)))  # [B·128, 1024] → [B, 1024]

    def classify(self, encoding: "Encoding") -> Prediction:
        """Global feature [B, 1024] → logits [B, C], feature [B, 512]."""
        feature = self.head(encoding.whole)
        return Prediction(self.classifier(feature), feature)


class Encoding(NamedTuple):
    """near, far: centers [B, M, 3], their features [B, M, D]. whole: global feature [B, 1024]."""

    near: tuple[Tensor, Tensor]
    far: tuple[Tensor, Tensor]
    whole: Tensor


class PointNet2SSG(PointNet2):
    """Single-scale grouping."""

    def __init__(self, classes: int, inputs: int = 0) -> None:
        super().__init__(classes, SSG_NEAR, SSG_FAR, inputs)


class PointNet2MSG(PointNet2):
    """Multi-scale grouping with balls of three sizes, PointCMT's student."""

    def __init__(self, classes: int, inputs: int = 0) -> None:
        near = Scale(0.1, 16, (32, 32, 64)), Scale(0.2, 32, (64, 64, 128))
        far = Scale(0.2, 32, (64, 64, 128)), Scale(0.4, 64, (128, 128, 256))
        super().__init__(
            classes,
            (*near, Scale(0.4, 128, (64, 96, 128))),
            (*far, Scale(0.8, 128, (128, 128, 256))),
            inputs,
        )


class DensePointNet2(PointNet2SSG):
    """Single-scale grouping, with a feature per point on request."""

    local_width = 128
    least = 512  # minimum number of points

    def __init__(self, classes: int) -> None:
        super().__init__(classes)
        self.decoder = Decoder(self.near.width, self.far.width, self.local_width)

    def forward(self, points: Tensor, local: bool = False) -> Prediction:
        """points [B, N, 3] → logits [B, C], feature [B, 512] and, if local, local [B, N, 128]."""
        encoding = self.encode(points)
        found = self.classify(encoding)
        return found._replace(local=self.decoder(points, encoding)) if local else found


class Decoder(nn.Module):
    """Propagate the global feature to 128 centers, 512 centers, all points; published widths."""

    def __init__(self, near: int, far: int, width: int) -> None:
        super().__init__()
        self.to_far = FeaturePropagation(1024, far, 256, 256)
        self.to_near = FeaturePropagation(256, near, 256, 128)
        self.to_points = FeaturePropagation(128, 3, 128, 128, width)

    def forward(self, points: Tensor, encoding: Encoding) -> Tensor:
        """points [B, N, 3] → [B, N, width]; a point's own feature is its position."""
        (near, near_features), (far, far_features), whole = encoding
        features = self.to_far(points[:, :1], whole[:, None], far, far_features)  # [B, 128, 256]
        features = self.to_near(far, features, near, near_features)  # [B, 512, 128]
        return self.to_points(near, features, points, points)


class SetAbstraction(nn.Module):
    """Sample farthest points as centers; pool a shared MLP over their neighbors at each scale."""

    def __init__(self, centers: int, scales: tuple[Scale, ...], width: int) -> None:
        super().__init__()
        self.centers, self.scales = centers, scales
        self.mlps = nn.ModuleList(GroupMLP(3 + width, *scale.widths) for scale in scales)
        self.width = sum(scale.widths[-1] for scale in scales)

    def forward(self, points: Tensor, features: Tensor | None) -> tuple[Tensor, Tensor]:
        """points [B, N, 3], features [B, N, D] → centers [B, M, 3], features [B, M, width]."""
        centers = ops.gather(points, ops.farthest_points(points, self.centers))
        found = []
        for scale, mlp in zip(self.scales, self.mlps, strict=True):
            index = ops.ball_query(points, centers, scale.radius, scale.neighbors)
            found.append(mlp(points, features, centers, index))
        return centers, torch.cat(found, dim=2).relu()
