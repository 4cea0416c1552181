"""PointNet++ SSG as usually written in PyTorch, a baseline for ours.

It uses images [B, D, K, M] and Conv2d layers with biases, a Python loop for the farthest points,
the whole sorted distance matrix for the balls, and fancy indexing. The head is ours:
1024 → 512 → classes.
"""

from itertools import pairwise

import torch
from baselines.textbook_ops import (
    textbook_ball_query,
    textbook_farthest_points,
    textbook_gather,
)
from torch import Tensor, nn


class TextbookPointNet2(nn.Module):
    """points [B, N, 3] → logits [B, C]."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.near = TextbookAbstraction(512, 0.2, 32, (3, 64, 64, 128))
        self.far = TextbookAbstraction(128, 0.4, 64, (131, 128, 128, 256))
        self.all = conv_mlp(259, 256, 512, 1024)
        self.head = nn.Sequential(nn.Linear(1024, 512), nn.BatchNorm1d(512), nn.ReLU())
        self.classifier = nn.Linear(512, classes)

    def forward(self, points: Tensor) -> Tensor:
        centers, features = self.near(points, None)
        centers, features = self.far(centers, features)
        grouped = torch.cat([centers, features], dim=-1)[:, None]  # [B, 1, 128, 259]
        features = self.all(grouped.permute(0, 3, 2, 1)).max(2)[0]  # [B, 1024, 1]
        return self.classifier(self.head(features[..., 0]))


class TextbookAbstraction(nn.Module):
    """Sample, group, Conv2d layers, maximum."""

    def __init__(self, count: int, radius: float, neighbors: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.count, self.radius, self.neighbors = count, radius, neighbors
        self.mlp = conv_mlp(*widths)

    def forward(self, points: Tensor, features: Tensor | None) -> tuple[Tensor, Tensor]:
        centers = textbook_gather(points, textbook_farthest_points(points, self.count))
        index = textbook_ball_query(points, centers, self.radius, self.neighbors)
        grouped = textbook_gather(points, index) - centers[:, :, None]  # [B, M, K, 3]
        if features is not None:
            grouped = torch.cat([grouped, textbook_gather(features, index)], dim=-1)
        found = self.mlp(grouped.permute(0, 3, 2, 1)).max(2)[0]  # [B, D, K, M] → [B, D, M]
        return centers, found.permute(0, 2, 1)


def conv_mlp(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Conv2d(before, after, 1), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers)
