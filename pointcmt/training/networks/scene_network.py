"""Networks of scenes: a backbone and a linear layer, logits of every class for every point.

All take the points of packed scenes. A sparse U-Net takes them as they are. A network of clouds
[B, N, 3] of one size, such as PointNet++, takes crops in training, and whole scenes piece by piece.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pointcmt.training.networks.view_consistency import without_classes

DROPOUT = 0.5  # before the last layer of point networks, as in PointNet++


class SceneNetwork(nn.Module):
    """backbone: its head and classifier, of whole clouds, are removed. classes: of points."""

    def __init__(self, backbone: nn.Module, classes: int) -> None:
        super().__init__()
        without_classes(backbone)
        dense: Any = backbone
        self.backbone = dense
        self.output = nn.Linear(dense.local_width, classes)

    def forward(self, points: Tensor, batch: Tensor, features: Tensor) -> Tensor:
        """Points [N, 3] of the scenes batch [N], with features [N, F] → logits [N, C].

        Raises UsageError like the backbone.
        """
        local: Tensor = self.backbone.forward_packed(points, batch, features)
        return self.output(local)


class PointSceneNetwork(SceneNetwork):
    """The same for a dense backbone of clouds of one size.

    size: points of a crop. In evaluation mode a larger scene is taken apart into pieces like crops
    of training: the `size` points nearest to one that has no prediction yet, again and again. A
    point's logits are the mean over all pieces that it is in.
    """

    def __init__(self, backbone: nn.Module, classes: int, size: int) -> None:
        super().__init__(backbone, classes)
        self.size = size

    def forward(self, points: Tensor, batch: Tensor, features: Tensor) -> Tensor:
        """See `SceneNetwork`."""
        if self.training:
            return self._predict(points, batch, features)
        scores = points.new_zeros(len(points), self.output.out_features)
        for scene in range(int(batch[-1]) + 1 if len(batch) else 0):
            rows = (batch == scene).nonzero()[:, 0]
            scores[rows] = self._in_pieces(points[rows], features[rows]).to(scores)
        return scores

    def _in_pieces(self, points: Tensor, features: Tensor) -> Tensor:
        """Points [n, 3] of one scene, features [n, F] → logits [n, C]."""
        sums = points.new_zeros(len(points), self.output.out_features)
        times = points.new_zeros(len(points), 1)
        size, order = min(self.size, len(points)), _shuffled(len(points), points.device)
        while len(order):
            away = (points - points[order[0]]).square().sum(dim=1)
            away[order[0]] = -1  # always in its own piece
            piece = away.topk(size, largest=False).indices.sort().values
            clouds = torch.zeros_like(piece)
            sums[piece] += self._predict(points[piece], clouds, features[piece]).to(sums)
            times[piece] += 1
            order = order[times[order, 0] == 0]
        return sums / times

    def _predict(self, points: Tensor, batch: Tensor, features: Tensor) -> Tensor:
        """Points [n, 3] of clouds batch [n], features [n, F] → logits [n, C], all at once."""
        index, place = fill_clouds(batch, self.backbone.least)
        clouds = self.backbone(points[index], local=True, features=features[index])
        local = F.dropout(clouds.local.flatten(0, 1)[place], DROPOUT, self.training)
        return self.output(local)


def fill_clouds(batch: Tensor, least: int) -> tuple[Tensor, Tensor]:
    """Arrange packed points as clouds of one size: which points [B, N], and where each is [n].

    batch: the cloud of each point, [n], ascending. Clouds are as large as the largest, at least
    `least`. Points are shuffled, in the same way each time, since networks may take the first ones
    of a ball; then those of smaller clouds repeat, which a maximum over a ball does not see.
    place: of each point among the B·N, so that `clouds.flatten(0, 1)[place]` is packed again.
    """
    counts = batch.bincount().tolist()
    width, first = max(least, *counts), 0
    rows, place = [], torch.empty_like(batch)
    for cloud, count in enumerate(counts):
        own = first + _shuffled(count, batch.device)
        place[own] = cloud * width + torch.arange(count, device=batch.device)
        rows.append(own[torch.arange(width, device=batch.device) % count])
        first += count
    return torch.stack(rows), place


def _shuffled(count: int, device: torch.device) -> Tensor:
    """Return the numbers 0 … count - 1 in an arbitrary order, always the same."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(0)).to(device)
