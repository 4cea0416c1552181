"""PointNet (Qi et al., CVPR 2017, arXiv 1612.00593) with a 512-d feature and a linear classifier.

The paper's head is 1024-512-256-C with dropout; here it ends in 512 and one linear layer, as
PointCMT's students all do. The order of the points does not matter.
"""

import torch
from torch import Tensor, nn

from pointcmt.training.networks.backbones.blocks import FEATURE, Prediction, pool, shared_mlp


class PointNet(nn.Module):
    """A shared MLP per point, a maximum over the points, two learned alignments."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.align_input = TransformNet(3)
        self.local = shared_mlp(3, 64, 64)
        self.align_feature = TransformNet(64)
        self.lift = shared_mlp(64, 64, 128, 1024, last_relu=False)
        self.head = shared_mlp(1024, FEATURE)
        self.classifier = nn.Linear(FEATURE, classes)

    def forward(self, points: Tensor) -> Prediction:
        """points [B, N, 3] → logits [B, C], feature [B, 512], local [B, N, 64], transform.

        `losses.orthogonality` keeps the transform [B, 64, 64] near a rotation; local holds the
        features that it has aligned, which the paper uses for segmentation.
        """
        B, N, _ = points.shape
        points = points @ self.align_input(points)  # [B, N, 3]
        local = self.local(points.reshape(B * N, 3)).view(B, N, 64)
        transform = self.align_feature(local)  # [B, 64, 64]
        local = local @ transform
        lifted = self.lift(local.view(B * N, 64))  # [B·N, 1024]
        feature = self.head(pool(lifted, B))  # [B, 1024] → [B, 512]
        return Prediction(self.classifier(feature), feature, local, transform)


class TransformNet(nn.Module):
    """Predict a K×K matrix for each cloud, initially the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.lift = shared_mlp(width, 64, 128, 1024, last_relu=False)
        self.head = shared_mlp(1024, 512, 256)
        self.matrix = nn.Linear(256, width * width)
        nn.init.zeros_(self.matrix.weight)
        with torch.no_grad():
            self.matrix.bias.copy_(torch.eye(width).flatten())

    def forward(self, rows: Tensor) -> Tensor:
        """[B, N, K] → [B, K, K]."""
        B, N, K = rows.shape
        pooled = pool(self.lift(rows.reshape(B * N, K)), B)  # [B, 1024]
        return self.matrix(self.head(pooled)).view(B, K, K)
