"""PointNet++ SSG as it is usually written in PyTorch, to measure ours against.

Images [B, D, K, M] and Conv2d layers with biases, a Python loop for the farthest points, the whole
distance matrix sorted for the balls, fancy indexing. The head is ours: 1024 → 512 → classes.
"""

from itertools import pairwise

import torch
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

    def __init__(self, count: int, radius: float, neighbours: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.count, self.radius, self.neighbours = count, radius, neighbours
        self.mlp = conv_mlp(*widths)

    def forward(self, points: Tensor, features: Tensor | None) -> tuple[Tensor, Tensor]:
        centers = textbook_gather(points, textbook_farthest_points(points, self.count))
        index = textbook_ball_query(points, centers, self.radius, self.neighbours)
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


def textbook_farthest_points(points: Tensor, count: int) -> Tensor:
    clouds, total, _ = points.shape
    index = torch.zeros(clouds, count, dtype=torch.long)
    distance = torch.full((clouds, total), 1e10)
    farthest = torch.zeros(clouds, dtype=torch.long)
    rows = torch.arange(clouds)
    for step in range(count):
        index[:, step] = farthest
        center = points[rows, farthest].view(clouds, 1, 3)
        new = ((points - center) ** 2).sum(-1)
        nearer = new < distance
        distance[nearer] = new[nearer]
        farthest = distance.max(-1)[1]
    return index


def textbook_ball_query(points: Tensor, centers: Tensor, radius: float, count: int) -> Tensor:
    clouds, total, _ = points.shape
    index = torch.arange(total).view(1, 1, total).repeat(clouds, centers.shape[1], 1)
    index[textbook_distances(centers, points) > radius**2] = total
    index = index.sort(dim=-1)[0][:, :, :count]
    first = index[:, :, :1].repeat(1, 1, count)
    empty = index == total
    index[empty] = first[empty]
    return index


def textbook_distances(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances [B,M,N] of a [B,M,D] and b [B,N,D]."""
    product = -2 * a @ b.transpose(1, 2)
    return product + (a**2).sum(-1)[:, :, None] + (b**2).sum(-1)[:, None, :]


def textbook_gather(features: Tensor, index: Tensor) -> Tensor:
    """Rows of each cloud: features [B,N,D], index [B,...] → [B,...,D]."""
    clouds = torch.arange(len(index)).view(-1, *[1] * (index.dim() - 1)).expand_as(index)
    return features[clouds, index]
