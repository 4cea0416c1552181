"""PointNet++ (Qi et al., NeurIPS 2017, arXiv 1706.02413) with a 512-d feature, of points alone.

Single-scale and multi-scale grouping as in the paper's classification networks, its appendix B.1.
The head is PointCMT's: 1024 → 512 with batch norm and ReLU, then one linear layer, no dropout.
Sampling starts at point 0 and balls take the first points by index, so both depend on the order
of the points; the store's, farthest first, makes the first 512 points the centers.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from pointcmt.training import ops
from pointcmt.training.backbones.blocks import (
    FEATURE,
    GroupMLP,
    Prediction,
    pool,
    require_points,
    shared_mlp,
)


class Scale(NamedTuple):
    """Neighbours of a center, at most so many within the radius, and the widths of their MLP."""

    radius: float
    neighbours: int
    widths: tuple[int, ...]


class PointNet2(nn.Module):
    """Two set abstractions, a maximum over all that is left, a feature, a linear layer."""

    def __init__(self, classes: int, first: tuple[Scale, ...], second: tuple[Scale, ...]) -> None:
        super().__init__()
        self.near = SetAbstraction(512, first, width=0)
        self.far = SetAbstraction(128, second, width=self.near.width)
        self.all = shared_mlp(3 + self.far.width, 256, 512, 1024, last_relu=False)
        self.head = shared_mlp(1024, FEATURE)
        self.classifier = nn.Linear(FEATURE, classes)

    def forward(self, points: Tensor) -> Prediction:
        """points [B, N, 3] → logits [B, C], feature [B, 512]. UsageError for N < 512."""
        require_points(points, self.near.centers, "PointNet++")
        centers, features = self.near(points, None)  # [B, 512, 3], [B, 512, D]
        centers, features = self.far(centers, features)  # [B, 128, 3], [B, 128, D]
        rows = torch.cat([centers, features], dim=2).flatten(0, 1)
        feature = self.head(pool(self.all(rows), len(points)))  # [B·128, 1024] → [B, 512]
        return Prediction(self.classifier(feature), feature)


class PointNet2SSG(PointNet2):
    """Single-scale grouping."""

    def __init__(self, classes: int) -> None:
        near = (Scale(0.2, 32, (64, 64, 128)),)
        super().__init__(classes, near, (Scale(0.4, 64, (128, 128, 256)),))


class PointNet2MSG(PointNet2):
    """Multi-scale grouping, PointCMT's student: every center sees balls of three sizes."""

    def __init__(self, classes: int) -> None:
        near = Scale(0.1, 16, (32, 32, 64)), Scale(0.2, 32, (64, 64, 128))
        far = Scale(0.2, 32, (64, 64, 128)), Scale(0.4, 64, (128, 128, 256))
        super().__init__(
            classes,
            (*near, Scale(0.4, 128, (64, 96, 128))),
            (*far, Scale(0.8, 128, (128, 128, 256))),
        )


class SetAbstraction(nn.Module):
    """Farthest points as centers; of the neighbours at each scale, a shared MLP's maximum."""

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
            index = ops.ball_query(points, centers, scale.radius, scale.neighbours)
            found.append(mlp(points, features, centers, index))
        return centers, torch.cat(found, dim=2).relu()
