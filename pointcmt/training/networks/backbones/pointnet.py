"""PointNet (Qi et al., CVPR 2017, arXiv 1612.00593) with a 512-d feature and a linear classifier.

The paper's head is 1024-512-256-C with dropout; here it ends in 512 and one linear layer, as
PointCMT's students all do. The order of the points does not matter.
"""

import torch
from torch import Tensor, nn

from pointcmt.training.networks.backbones.blocks import (
    FEATURE,
    Prediction,
    require_inputs,
    shared_mlp,
)


class PointNet(nn.Module):
    """A shared MLP per point, a maximum over the points, two learned alignments.

    inputs: F, the number of a point's values besides its position, such as 3 of a normal.
    """

    widths: tuple[tuple[int, ...], tuple[int, ...]] = (64, 64), (64, 128, 1024)
    last_relu = True  # before the maximum

    def __init__(self, classes: int, inputs: int = 0) -> None:
        super().__init__()
        local, lift = self.widths
        self.inputs = inputs
        self.align_input = TransformNet(3, inputs)
        self.local = shared_mlp(3 + inputs, *local)
        self.align_feature = TransformNet(64)
        self.lift = shared_mlp(64, *lift, last_relu=False)
        self.head = shared_mlp(1024, FEATURE)
        self.classifier = nn.Linear(FEATURE, classes)

    def forward(self, points: Tensor) -> Prediction:
        """points [B, N, 3 + F] → logits [B, C], feature [B, 512], local [B, N, 64], transform.

        `losses.orthogonality` keeps the transform [B, 64, 64] near a rotation; local holds the
        features that it has aligned, which the paper uses for segmentation.
        """
        require_inputs(points, self.inputs)
        B, N, _ = points.shape
        points = align(points, self.align_input(points))  # [B, N, 3 + F]
        local = self.local(points.flatten(0, 1)).view(B, N, 64)
        transform = self.align_feature(local)  # [B, 64, 64]
        local = local @ transform
        highest = self.lift.maximum(local.view(B * N, 64), B)  # [B, 1024]
        feature = self.head(highest.relu() if self.last_relu else highest)  # [B, 512]
        return Prediction(self.classifier(feature), feature, local, transform)


class PointNetYanx27(PointNet):
    """The PointNet of fxia22/pointnet.pytorch and yanx27/Pointnet_Pointnet2_pytorch.

    It has two layers less than the paper's, and no ReLU before the maximum.
    """

    widths = (64,), (128, 1024)
    last_relu = False


def align(points: Tensor, transform: Tensor) -> Tensor:
    """Multiply the positions of points [B, N, 3 + F] by matrices [B, 3, 3]; the rest stays."""
    positions = points[..., :3] @ transform
    return positions if points.shape[2] == 3 else torch.cat([positions, points[..., 3:]], dim=2)


class TransformNet(nn.Module):
    """Predict a K×K matrix for each cloud, initially the identity.

    inputs: the number of further values of each row, from which the matrix is predicted, too.
    """

    def __init__(self, width: int, inputs: int = 0) -> None:
        super().__init__()
        self.width = width
        self.lift = shared_mlp(width + inputs, 64, 128, 1024, last_relu=False)
        self.head = shared_mlp(1024, 512, 256)
        self.matrix = nn.Linear(256, width * width)
        nn.init.zeros_(self.matrix.weight)
        with torch.no_grad():
            self.matrix.bias.copy_(torch.eye(width).flatten())

    def forward(self, rows: Tensor) -> Tensor:
        """[B, N, K + F] → [B, K, K]."""
        B = len(rows)
        pooled = self.lift.pool(rows.flatten(0, 1), B)  # [B, 1024]
        return self.matrix(self.head(pooled)).view(B, self.width, self.width)
