"""DGCNN (Wang et al., ACM TOG 2019, arXiv 1801.07829) with a 512-d feature and a linear classifier.

Four EdgeConvs over the 20 nearest neighbors, recomputed in each layer's features; a 1024-d
embedding of each point from all their outputs; its maximum and mean; a feature of 512. The paper
has LeakyReLU throughout and a head of 512-256-C with dropout. Here the feature ends in a ReLU, so
that it is non-negative like every student's, and one linear layer follows.
The order of the points does not matter, except for equally distant points, of which k-nearest takes
the first.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pointcmt.training import ops
from pointcmt.training.networks.backbones.blocks import (
    FEATURE,
    Prediction,
    middle_in_plan,
    require_features,
    require_points,
    shared_mlp,
)

K = 20  # neighbors, including the point itself
SLOPE = 0.2  # of LeakyReLU
WIDTHS = (64, 64, 128, 256)
EMBEDDING = 1024


class DGCNN(nn.Module):
    """Edge convolutions on graphs that are rebuilt from each layer's features."""

    slope = SLOPE  # of the published head
    local_width = EMBEDDING
    least = K  # minimum number of points

    def __init__(self, classes: int, inputs: int = 0) -> None:
        super().__init__()
        self.inputs = inputs
        before = (3 + inputs, *WIDTHS[:-1])
        self.edges = nn.ModuleList(EdgeConv(*width) for width in zip(before, WIDTHS, strict=True))
        self.embed = shared_mlp(sum(WIDTHS), EMBEDDING, last_relu=False)
        self.head = shared_mlp(2 * EMBEDDING, FEATURE)
        self.classifier = nn.Linear(FEATURE, classes)

    def forward(
        self, points: Tensor, local: bool = True, *, features: Tensor | None = None
    ) -> Prediction:
        """points [B, N, 3], features [B, N, F] → logits [B, C], feature [B, 512], local
        [B, N, 1024].

        local is always returned, whatever the argument. Raises UsageError for N < 20 and for
        features of another shape.
        """
        require_points(points, K, "DGCNN")
        require_features(points, features, self.inputs)
        B, N, _ = points.shape
        layers = [points if features is None else torch.cat([points, features], dim=2)]
        for number, edge in enumerate(self.edges):
            near = points if number == 0 else layers[-1]  # the first graph is that of places
            layers.append(edge(layers[-1], near))  # [B, N, 64], 64, 128, 256
        linear, norm = self.embed
        rows = linear(torch.cat(layers[1:], dim=2).flatten(0, 1))  # [B·N, 1024]
        rows = ops.norm_relu(rows, norm, SLOPE)
        pooled = torch.cat([ops.maximum(rows, B), rows.view(B, N, -1).mean(dim=1)], dim=1)
        feature = self.head(pooled)  # [B, 2048] → [B, 512]
        return Prediction(self.classifier(feature), feature, rows.view(B, N, -1))


class SceneDGCNN(DGCNN):
    """DGCNN of points in meters: x and y count from the middle of the cloud.

    inputs: F, the number of a point's features besides its place. Layers and widths are as on
    shapes, and so is the feature of each point.
    """

    def forward(
        self, points: Tensor, local: bool = True, *, features: Tensor | None = None
    ) -> Prediction:
        """See `DGCNN`."""
        return super().forward(middle_in_plan(points), local, features=features)


class EdgeConv(nn.Module):
    """max_j LeakyReLU(BN(W·[x_j - x_i, x_i])) over the nearest neighbors j of i (equation 7)."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * before, after, bias=False)
        self.norm = nn.BatchNorm1d(after)

    def forward(self, features: Tensor, near: Tensor) -> Tensor:
        """features [B, N, D] → [B, N, D']. near [B, N, E]: by which neighbors are found.

        W·[x_j - x_i, x_i] = U·x_j + (V - U)·x_i with W = [U, V]: two products per point, none per
        edge. LeakyReLU is increasing, so it may follow the maximum.
        """
        B, N, D = features.shape
        index, _ = ops.k_nearest(near, near, K)  # [B, N, K]
        there, here = self.linear.weight.split(D, dim=1)
        edges = ops.gather(F.linear(features, there), index)  # [B, N, K, D']
        edges = edges.add_(F.linear(features, here - there)[:, :, None])
        highest = ops.norm_maximum(edges.flatten(0, 2), self.norm, B * N)  # [B·N, D']
        return F.leaky_relu(highest, SLOPE).view(B, N, -1)
