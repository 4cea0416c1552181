"""CMPG, PointCMT's cross-modal point generator, and the boxes in which clouds are compared.

Yan et al., NeurIPS 2022 (arXiv 2210.04208), section 3.2, and its reference code.
"""

import torch
from torch import Tensor, nn

from pointcmt.training.networks.backbones.blocks import FEATURE
from pointcmt.training.ops.emd import earth_movers_distance

SMALLEST = 1e-6  # minimum box side, for clouds whose points coincide


class PointGenerator(nn.Module):
    """A feature of either modality → a cloud: dropout and one linear layer without bias."""

    def __init__(self, points: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.points = points
        self.dropout = nn.Dropout(dropout)
        self.decode = nn.Linear(FEATURE, 3 * points, bias=False)

    def forward(self, feature: Tensor) -> Tensor:
        """feature [B, 512] → points [B, N, 3]."""
        return self.decode(self.dropout(feature)).view(-1, self.points, 3)


def scale(points: Tensor, norm: str) -> Tensor:
    """Scale every cloud by its longest side, [B, N, 3] → [B, N, 3].

    norm: "unitbox" centers the cloud's box in [-1/2, 1/2]³. "pointcmt" follows the reference code,
    which halves the box's lower corner together with the margin around it, so that clouds end up
    off-center by half of the corner: s·x - 1/2 - s·(low - margin) / 2.
    """
    low, high = points.amin(dim=1, keepdim=True), points.amax(dim=1, keepdim=True)  # [B, 1, 3]
    sides = high - low
    longest = sides.amax(dim=2, keepdim=True)  # [B, 1, 1]
    s = 1 / longest.clamp(min=SMALLEST)
    if norm == "unitbox":
        return s * (points - (low + high) / 2)
    return s * points - 0.5 - s * (low - (longest - sides)) / 2


def matched_distance(points: Tensor, targets: Tensor, norm: str, solver: str) -> Tensor:
    """Return mean_b EMD(scale(points), scale(targets)), a scalar, in boxes of side 1.

    points, targets: [B, N, 3]. Both of PointCMT's losses that match clouds use it. It runs in
    float32 even under autocast, since an assignment needs the last bits.
    """
    with torch.autocast(points.device.type, enabled=False):
        x, y = scale(points.float(), norm), scale(targets.float(), norm)
        return earth_movers_distance(x, y, solver)[0].mean()
