"""PointMLP (Ma et al., ICLR 2022, arXiv 2202.07123) with a 512-d feature and a linear classifier.

Four stages; each halves the points (farthest first), doubles the width, normalizes the 24 nearest
neighbors of each remaining point (the paper's geometric affine module), and runs residual MLPs over
the neighbors, then over their maxima. The published head is 512-256-C with dropout; here it ends in
512 and one linear layer. The published numbers of points per stage are those for 1,024; here they
scale with the input. σ is computed per cloud, as in the paper's equation 2: the authors' first
code computed one for the whole batch, which made a cloud's result depend on the others.
Sampling starts at point 0: the result depends on which point is first, but not on the order of the
others.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pointcmt.training import ops
from pointcmt.training.networks.backbones.blocks import (
    FEATURE,
    Prediction,
    require_points,
    shared_mlp,
)

K = 24
WIDTHS = (64, 128, 256, 512, 1024)  # after the embedding and after each stage
BLOCKS = 2  # residual blocks before and after the maximum over neighbors
FLOOR = 1e-5  # added to σ
LEAST = K * 2 ** (len(WIDTHS) - 2)  # so that the last stage still has K points to choose from


class PointMLP(nn.Module):
    """An embedding of each point, four stages, a maximum, a feature, a linear layer."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.embed = shared_mlp(3, WIDTHS[0])
        pairs = pairwise(WIDTHS)
        self.stages = nn.ModuleList(Stage(*widths) for widths in pairs)
        self.head = shared_mlp(WIDTHS[-1], FEATURE)
        self.classifier = nn.Linear(FEATURE, classes)

    def forward(self, points: Tensor) -> Prediction:
        """points [B, N, 3] → logits [B, C], feature [B, 512]. UsageError for N < 192."""
        require_points(points, LEAST, "PointMLP")
        B, N, _ = points.shape
        features = self.embed(points.reshape(B * N, 3)).view(B, N, -1)
        for stage in self.stages:
            points, features = stage(points, features)
        pooled = ops.maximum(features.flatten(0, 1), B)  # [B, N/16, 1024] → [B, 1024]
        feature = self.head(pooled.relu())
        return Prediction(self.classifier(feature), feature)


class Stage(nn.Module):
    """Keep half the points; pool each one's neighbor features relative to its own."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(before))
        self.beta = nn.Parameter(torch.zeros(before))
        self.linear = nn.Linear(2 * before, after, bias=False)
        self.norm = nn.BatchNorm1d(after)
        self.neighbors = nn.Sequential(*(Residual(after) for _ in range(BLOCKS)))
        self.centers = nn.Sequential(*(Residual(after) for _ in range(BLOCKS)))

    def forward(self, points: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """points [B, N, 3], features [B, N, D] → [B, N/2, 3], [B, N/2, D']."""
        chosen = ops.farthest_points(points, points.shape[1] // 2)
        centers, anchors = ops.gather(points, chosen), ops.gather(features, chosen)
        index, _ = ops.k_nearest(points, centers, K)
        grouped = self._affine(ops.gather(features, index) - anchors[:, :, None])  # [B, M, K, D]
        # W·[grouped, anchor]: the anchor's part is the same for all of its neighbors.
        relative, absolute = self.linear.weight.split(features.shape[2], dim=1)
        rows = F.linear(grouped, relative).add_(F.linear(anchors, absolute)[:, :, None])
        rows = self.neighbors(ops.norm_relu(rows.flatten(0, 2), self.norm))  # [B·M·K, D']
        B, M, _ = centers.shape
        return centers, self.centers(ops.maximum(rows, B * M)).view(B, M, -1)

    def _affine(self, differences: Tensor) -> Tensor:
        """α · (f_j - f_i) / (σ + 1e-5) + β with one σ for each cloud (equation 2)."""
        sigma = differences.flatten(1).std(dim=1)[:, None, None, None]
        return differences * (self.alpha / (sigma + FLOOR)) + self.beta


class Residual(nn.Module):
    """relu(x + BN(W·relu(BN(V·x)))) for rows [M, D]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = shared_mlp(width, width, width, last_relu=False)

    def forward(self, rows: Tensor) -> Tensor:
        return self.mlp(rows).add_(rows).relu_()
