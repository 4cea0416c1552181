"""DGCNN and PointMLP as usually written in PyTorch, baselines for ours.

Images [B, D, M, K] and Conv2d layers over all neighbors, the whole distance matrix, topk and fancy
indexing. The heads are ours: one layer to 512, then the classes.
"""

import torch
import torch.nn.functional as F
from baselines.textbook_ops import (
    textbook_farthest_points,
    textbook_gather,
    textbook_k_nearest,
)
from torch import Tensor, nn


class TextbookDGCNN(nn.Module):
    """points [B, N, 3] → logits [B, C]."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        widths = (6, 64), (128, 64), (128, 128), (256, 256)
        self.edges = nn.ModuleList(conv_norm(*pair) for pair in widths)
        self.embed = conv_norm(512, 1024)
        self.head = nn.Sequential(nn.Linear(2048, 512, bias=False), nn.BatchNorm1d(512), nn.ReLU())
        self.classifier = nn.Linear(512, classes)

    def forward(self, points: Tensor) -> Tensor:
        features, layers = points, []
        for edge in self.edges:
            there = textbook_gather(features, textbook_k_nearest(features, features, 20))
            here = features[:, :, None].expand_as(there)
            images = torch.cat([there - here, here], dim=-1).permute(0, 3, 1, 2)  # [B, 2D, N, K]
            features = F.leaky_relu(edge(images), 0.2).max(-1)[0].transpose(1, 2)
            layers.append(features)
        images = torch.cat(layers, dim=-1).transpose(1, 2)[..., None]  # [B, 512, N, 1]
        images = F.leaky_relu(self.embed(images), 0.2)[..., 0]
        pooled = torch.cat([images.max(-1)[0], images.mean(-1)], dim=1)
        return self.classifier(self.head(pooled))


class TextbookPointMLP(nn.Module):
    """points [B, N, 3] → logits [B, C]."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.embed = nn.Sequential(conv_norm(3, 64), nn.ReLU())
        self.stages = nn.ModuleList(TextbookStage(width) for width in (64, 128, 256, 512))
        self.head = nn.Sequential(nn.Linear(1024, 512, bias=False), nn.BatchNorm1d(512), nn.ReLU())
        self.classifier = nn.Linear(512, classes)

    def forward(self, points: Tensor) -> Tensor:
        features = self.embed(points.transpose(1, 2)[..., None])[..., 0].transpose(1, 2)
        for stage in self.stages:
            points, features = stage(points, features)
        return self.classifier(self.head(features.max(1)[0]))


class TextbookStage(nn.Module):
    """Half of the points, 24 neighbors, normalized; residual layers, maximum, residual layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(width))
        self.beta = nn.Parameter(torch.zeros(width))
        self.transfer = nn.Sequential(conv_norm(2 * width, 2 * width), nn.ReLU())
        self.before = nn.Sequential(*(TextbookResidual(2 * width) for _ in range(2)))
        self.after = nn.Sequential(*(TextbookResidual(2 * width) for _ in range(2)))

    def forward(self, points: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        chosen = textbook_farthest_points(points, points.shape[1] // 2)
        centers, anchors = textbook_gather(points, chosen), textbook_gather(features, chosen)
        index = textbook_k_nearest(points, centers, 24)
        grouped = textbook_gather(features, index) - anchors[:, :, None]  # [B, M, K, D]
        sigma = grouped.flatten(1).std(dim=1)[:, None, None, None]
        grouped = self.alpha * grouped / (sigma + 1e-5) + self.beta
        grouped = torch.cat([grouped, anchors[:, :, None].expand_as(grouped)], dim=-1)
        images = self.before(self.transfer(grouped.permute(0, 3, 1, 2)))  # [B, 2D, M, K]
        found = self.after(images.max(-1, keepdim=True)[0])[..., 0]
        return centers, found.transpose(1, 2)


class TextbookResidual(nn.Module):
    """relu(x + BN(conv(relu(BN(conv(x))))))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(conv_norm(width, width), nn.ReLU(), conv_norm(width, width))

    def forward(self, images: Tensor) -> Tensor:
        return F.relu(images + self.layers(images))


def conv_norm(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after))
