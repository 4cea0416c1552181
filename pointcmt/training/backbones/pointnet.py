"""PointNet (Qi et al., CVPR 2017, arXiv 1612.00593) with a 512-d feature and a linear classifier.

The paper's head is 1024-512-256-C with dropout; here it ends in 512 and one linear layer, the form
PointCMT gives every student. All layers work on rows [B·N, D]: the fastest layout on a CPU.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from pointcmt.training.backbones.blocks import FEATURE, Prediction


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
        """points [B, N, 3] → logits [B, C], feature [B, 512], and if asked the feature transform.

        The transform [B, 64, 64] is what `losses.orthogonality` keeps near a rotation.
        """
        B, N, _ = points.shape
        points = points @ self.align_input(points)  # [B, N, 3]
        local = self.local(points.reshape(B * N, 3)).view(B, N, 64)
        transform = self.align_feature(local)  # [B, 64, 64]
        local = (local @ transform).view(B * N, 64)
        feature = self.head(pool(self.lift(local), B))  # [B·N, 1024] → [B, 1024] → [B, 512]
        logits = self.classifier(feature)  # [B, C]
        return Prediction(logits, feature, None, transform)


class TransformNet(nn.Module):
    """Predicts a K×K matrix for each cloud; begins as the identity."""

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


def shared_mlp(*widths: int, last_relu: bool = True) -> nn.Sequential:
    """Linear, batch norm and ReLU from width to width, the same for every row [M, D]."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after, bias=False), nn.BatchNorm1d(after)]
        layers += [nn.ReLU(inplace=True)]
    return nn.Sequential(*layers if last_relu else layers[:-1])


def pool(rows: Tensor, clouds: int) -> Tensor:
    """[B·N, D] → the maximum over each cloud's points, through a ReLU, [B, D].

    The ReLU comes after the maximum: the same values, and a layer less on the largest tensor.
    """
    return rows.view(clouds, -1, rows.shape[1]).max(dim=1).values.relu()
