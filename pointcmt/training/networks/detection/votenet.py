"""VoteNet (Qi, Litany, He, Guibas: Deep Hough Voting for 3D Object Detection, ICCV 2019).

Letters: B scenes, N points, S seeds, P proposals, H bins of headings, C classes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pointcmt.training import ops
from pointcmt.training.networks.backbones.blocks import shared_mlp
from pointcmt.training.networks.detection.seeds import WIDTH, Abstraction, Seeds
from pointcmt.training.ops.detection.proposals import Proposals

CLUSTER, VOTES = 0.3, 16  # radius in meters around a proposal, and the most votes in it
INNER = 128  # width of the layers that predict boxes


class VoteNet(nn.Module):
    """Seeds vote for the centers of objects; clusters of votes propose boxes.

    seeds: a network from points [B, N, 3] and features [B, N, F] to `Seeds`. headings: H.
    `mean_sizes` [C, 3] in meters is a buffer, 1 until a recipe sets it.
    """

    mean_sizes: Tensor

    def __init__(self, seeds: nn.Module, classes: int, headings: int, proposals: int) -> None:
        super().__init__()
        self.seeds, self.classes = seeds, classes
        self.headings, self.proposals = headings, proposals
        self.voting = nn.Sequential(shared_mlp(WIDTH, WIDTH, WIDTH), nn.Linear(WIDTH, 3 + WIDTH))
        self.cluster = Abstraction(WIDTH, CLUSTER, VOTES, (INNER, INNER, INNER))
        outputs = 2 + 3 + 2 * headings + 4 * classes + classes
        self.predict = nn.Sequential(shared_mlp(INNER, INNER, INNER), nn.Linear(INNER, outputs))
        self.register_buffer("mean_sizes", torch.ones(classes, 3))

    def forward(self, points: Tensor, features: Tensor) -> Proposals:
        """points [B, N, 3], features [B, N, F], F may be 0 → proposals.

        The votes that proposals start from are the farthest ones in training, and in evaluation
        those of the farthest seeds, which cover the scene more evenly.
        """
        seeds: Seeds = self.seeds(points, features)
        votes, rows = self._vote(seeds)
        if self.training:
            chosen = ops.farthest_points(votes, self.proposals)
        else:  # seeds are in farthest-point order
            first = torch.arange(self.proposals, device=points.device)
            chosen = first.expand(len(points), -1)
        clusters = ops.gather(votes, chosen)
        return self._propose(seeds, votes, clusters, self.cluster(votes, rows, clusters))

    def _vote(self, seeds: Seeds) -> tuple[Tensor, Tensor]:
        """Return votes [B, S, 3] and their features of length 1, [B, S, 256]."""
        B, S, _ = seeds.places.shape
        offset, residual = (
            self.voting(seeds.features.flatten(0, 1)).view(B, S, -1).split([3, WIDTH], dim=2)
        )
        return seeds.places + offset, F.normalize(seeds.features + residual, dim=2)

    def _propose(self, seeds: Seeds, votes: Tensor, clusters: Tensor, rows: Tensor) -> Proposals:
        """Predict boxes from the features of clusters, [B, P, 128]."""
        B, P, _ = rows.shape
        H, C = self.headings, self.classes
        columns = self.predict(rows.flatten(0, 1)).view(B, P, -1)
        objectness, offset, heading, turn, size, growth, logits = columns.split(
            [2, 3, H, H, C, 3 * C, C], dim=2
        )
        growth = growth.reshape(B, P, C, 3)
        centers = clusters + offset
        return Proposals(
            seeds.chosen, votes, clusters, objectness, centers, heading, turn, size, growth, logits
        )
