"""A dense backbone with a segmentation head: logits of every part for every point.

The head is that of the published segmentation networks: the point's own feature, the global
feature and the given object category go through a shared MLP with dropout (DGCNN, Wang et al. 2019;
PointNet++, Qi et al. 2017; the widths are ours).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pointcmt.training.networks.backbones.blocks import FEATURE, shared_mlp

CATEGORY, HIDDEN, LAST = 64, 256, 128  # widths: of the category, and of the MLP's layers


class PartNetwork(nn.Module):
    """backbone: one of DENSE; its classifier is removed. parts: number over all classes."""

    def __init__(
        self, backbone: nn.Module, width: int, classes: int, parts: int, dropout: float
    ) -> None:
        super().__init__()
        self.classes = classes
        self.backbone = backbone
        self.backbone.classifier = nn.Identity()
        self.category = shared_mlp(classes, CATEGORY)
        self.widths = width, FEATURE + CATEGORY
        self.first = nn.Linear(sum(self.widths), HIDDEN, bias=False)
        self.rest = nn.Sequential(
            nn.BatchNorm1d(HIDDEN), nn.ReLU(inplace=True), nn.Dropout(dropout),
            *shared_mlp(HIDDEN, LAST), nn.Linear(LAST, parts),
        )  # fmt: skip

    def forward(self, points: Tensor, labels: Tensor) -> Tensor:
        """points [B, N, 3], labels [B] i64, the category of each → logits [B, N, P].

        The first layer is linear, so the global feature's part is computed once per cloud.
        """
        found = self.backbone(points, local=True)
        category = self.category(F.one_hot(labels, self.classes).to(found.feature))
        own, whole = self.first.weight.split(self.widths, dim=1)
        rows = F.linear(found.local, own)  # [B, N, 256]
        rows = rows + F.linear(torch.cat([found.feature, category], dim=1), whole)[:, None]
        B, N, _ = rows.shape
        return self.rest(rows.view(B * N, -1)).view(B, N, -1)
