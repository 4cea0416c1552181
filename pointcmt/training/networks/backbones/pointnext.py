"""PointNeXt-S (Qian et al., NeurIPS 2022, arXiv 2206.04670) with a 512-d feature.

The published configuration for ModelNet40 and ScanObjectNN: a linear stem of width 32; four set
abstractions, each with half the points, twice the width, two layers over at most 32 neighbors in
balls of 0.15 · 1.5^stage, positions divided by the radius, and a residual around them; one MLP over
the remaining points. S has no further blocks (InvResMLP); with a stem of width 64 it is the paper's
"PointNeXt-S (C=64)". The published head is 512-256-C with
dropout; here it ends in 512 and one linear layer. On ScanObjectNN the authors give a point's height
as a fourth input; here the input is the position alone, as on ModelNet40.
Sampling starts at point 0 and balls take the first points by index: both depend on the order.
"""

import torch
from torch import Tensor, nn

from pointcmt.training import ops
from pointcmt.training.networks.backbones.blocks import (
    FEATURE,
    GroupMLP,
    Prediction,
    require_points,
    shared_mlp,
)

WIDTH = 32  # after the stem; doubled by each set abstraction
RADII = (0.15, 0.225, 0.3375, 0.50625)
COUNT = 32
LEAST = 2 ** len(RADII)  # leaves one center


class PointNeXtS(nn.Module):
    """A stem, four residual set abstractions, an MLP and a maximum over the rest, a feature."""

    def __init__(self, classes: int, width: int = WIDTH) -> None:
        super().__init__()
        self.stem = nn.Linear(3, width)
        widths = [width << stage for stage in range(len(RADII) + 1)]
        stages = zip(widths[:-1], widths[1:], RADII, strict=True)
        self.stages = nn.ModuleList(ResidualAbstraction(*stage) for stage in stages)
        last = widths[-1]
        self.all = shared_mlp(3 + last, last, last, last_relu=False)
        self.head = shared_mlp(last, FEATURE)
        self.classifier = nn.Linear(FEATURE, classes)

    def forward(self, points: Tensor) -> Prediction:
        """points [B, N, 3] → logits [B, C], feature [B, 512]. UsageError for N < 16."""
        require_points(points, LEAST, "PointNeXt-S")
        clouds, features = len(points), self.stem(points)  # [B, N, W]
        for stage in self.stages:
            points, features = stage(points, features)  # [B, N/16, 3], [B, N/16, 16·W] at last
        rows = torch.cat([points, features], dim=2).flatten(0, 1)
        feature = self.head(self.all.pool(rows, clouds))  # [B, 512]
        return Prediction(self.classifier(feature), feature)


class ResidualAbstraction(nn.Module):
    """relu(max_j MLP([(x_j - x_i)/r, f_j]) + W·f_i) for every other point i, farthest first."""

    def __init__(self, before: int, after: int, radius: float) -> None:
        super().__init__()
        self.radius = radius
        self.mlp = GroupMLP(3 + before, after // 2, after)
        self.skip = nn.Linear(before, after)

    def forward(self, points: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """points [B, N, 3], features [B, N, D] → [B, N/2, 3], [B, N/2, D']."""
        chosen = ops.farthest_points(points, points.shape[1] // 2)
        centers = ops.gather(points, chosen)
        index = ops.ball_query(points, centers, self.radius, COUNT)
        found = self.mlp(points, features, centers, index, self.radius)
        return centers, (found + self.skip(ops.gather(features, chosen))).relu()
