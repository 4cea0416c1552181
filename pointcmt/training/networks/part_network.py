"""Networks for part segmentation: logits of every part for every point.

A published network (`part_seg`), or a dense backbone with a segmentation head. That head is that of
the published segmentation networks: the point's own feature, the global feature and the given
object category go through a shared MLP with dropout (DGCNN, Wang et al. 2019; PointNet++, Qi et al.
2017; the widths are ours).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pointcmt.training.networks.backbones import build_dense, require_normals
from pointcmt.training.networks.backbones.blocks import FEATURE, SharedMLP, shared_mlp
from pointcmt.training.networks.part_seg import PART_NETWORKS, WholeNetwork

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
        self.rest = SharedMLP(
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


def build_part_network(
    name: str, classes: int, parts: int, dropout: float, inputs: int = 0
) -> WholeNetwork | PartNetwork:
    """Build a network of PART_NETWORKS, or of DENSE or from outside with a head.

    classes: object categories. parts: number over all of them. inputs: 3 for points [B, N, 6] with
    normals. Raises UsageError like `build_dense`, and for a network that takes no normals.
    """
    if inputs:
        require_normals(name, PART_NETWORKS)
    if name in PART_NETWORKS:
        return WholeNetwork(PART_NETWORKS[name](classes, parts, dropout, inputs))
    network = build_dense(name, classes)
    width: int = network.local_width  # type: ignore[assignment]
    return PartNetwork(network, width, classes, parts, dropout)
