"""Building blocks of the point networks, and their common output.

Layers work on rows [M, D], one for each point or neighbor: the fastest layout on a CPU. Linear
layers before a batch norm have no bias, which the norm would cancel.
"""

from itertools import pairwise
from typing import NamedTuple, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pointcmt.errors import UsageError
from pointcmt.training import ops

FEATURE = 512
HIDDEN = 256  # of published heads


class Prediction(NamedTuple):
    """Output of every backbone for points [B, N, 3].

    logits [B, C]: `classifier` of the feature. feature [B, 512]: after a ReLU, so never negative.
    local [B, N, D]: a feature per point, if the network computes them anyway or on request (see
    `DENSE`).
    transform [B, 64, 64]: PointNet's feature transform.
    """

    logits: Tensor
    feature: Tensor
    local: Tensor | None = None
    transform: Tensor | None = None


class PublishedHead(nn.Module):
    """Most published classifiers after the feature: dropout, 256, dropout, C.

    A layer to 256 with batch norm and LeakyReLU (slope 0 = ReLU), then a linear layer. The feature
    itself, D wide, is the published head's first layer.
    """

    def __init__(self, classes: int, dropout: float, slope: float, width: int = FEATURE) -> None:
        super().__init__()
        self.dropout, self.slope = nn.Dropout(dropout), slope
        self.hidden = nn.Linear(width, HIDDEN, bias=False)
        self.norm = nn.BatchNorm1d(HIDDEN)
        self.last = nn.Linear(HIDDEN, classes)

    def forward(self, feature: Tensor) -> Tensor:
        """feature [B, D] → logits [B, C]."""
        hidden = self.norm(self.hidden(self.dropout(feature)))
        return self.last(self.dropout(F.leaky_relu(hidden, self.slope)))


@runtime_checkable
class HasOwnHead(Protocol):
    """A network whose published head is not 512-256-C."""

    def publish_head(self, classes: int, dropout: float) -> None:
        """Replace head and classifier."""


def publish_head(model: nn.Module, classes: int, dropout: float) -> None:
    """Replace a backbone's linear classifier by the head that it was published with.

    With an attribute `slope`, as DGCNN has, the feature ends in a LeakyReLU of this slope, too, and
    may then be negative. A network with a method `publish_head` does it itself.
    """
    if isinstance(model, HasOwnHead):
        model.publish_head(classes, dropout)
        return
    slope = float(getattr(model, "slope", 0.0))
    model.classifier = PublishedHead(classes, dropout, slope)
    if slope:
        model.get_submodule("head")[-1] = nn.LeakyReLU(slope)  # type: ignore[operator]


class SharedMLP(nn.Sequential):
    """Layers of rows [M, D], in which a batch norm and the ReLU after it are one operation."""

    def forward(self, rows: Tensor) -> Tensor:
        """rows [M, D] → [M, D']."""
        return _run([*self], rows)

    def maximum(self, rows: Tensor, groups: int) -> Tensor:
        """rows [G·K, D] → the maximum of the output over each group's K rows, [G, D'].

        The last layer is a batch norm.
        """
        *layers, norm = self
        return ops.norm_maximum(_run(layers, rows), norm, groups)

    def pool(self, rows: Tensor, groups: int) -> Tensor:
        """`maximum`, then a ReLU: the same as a ReLU first, which would be on many more rows."""
        return self.maximum(rows, groups).relu()


def _run(layers: list[nn.Module], rows: Tensor) -> Tensor:
    while layers:
        layer, *layers = layers
        if isinstance(layer, nn.BatchNorm1d) and layers and isinstance(layers[0], nn.ReLU):
            rows, layers = ops.norm_relu(rows, layer), layers[1:]
        else:
            rows = layer(rows)
    return rows


def shared_mlp(*widths: int, last_relu: bool = True) -> SharedMLP:
    """Linear, batch norm and ReLU from width to width, the same for every row [M, D]."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after, bias=False), nn.BatchNorm1d(after)]
        layers += [nn.ReLU(inplace=True)]
    return SharedMLP(*layers if last_relu else layers[:-1])


class GroupMLP(nn.Module):
    """A shared MLP over the neighbors of each center, and their maximum (set abstraction).

    widths: of a neighbor's input, 3 + D; then of each layer. The last layer has no ReLU.
    """

    def __init__(self, *widths: int) -> None:
        super().__init__()
        self.first = nn.Linear(widths[0], widths[1], bias=False)
        later = shared_mlp(*widths[1:], last_relu=False)
        self.rest = SharedMLP(nn.BatchNorm1d(widths[1]), nn.ReLU(inplace=True), *later)

    def forward(
        self,
        points: Tensor,
        features: Tensor | None,
        centers: Tensor,
        index: Tensor,
        radius: float = 1.0,
    ) -> Tensor:
        """points [B, N, 3], features [B, N, D] or None, centers [B, M, 3] → [B, M, D'].

        index [B, M, K]: each center's neighbors among the points. A neighbor's input is
        [(x - c) / radius, f]. The first linear layer is applied to the points before
        grouping, and the center's part is subtracted after: W·[(x - c)/r, f] = W·[x/r, f] -
        W·[c/r, 0]. That is one product per point, not one per neighbor.
        """
        B, M, K = index.shape
        places = points / radius
        rows = places if features is None else torch.cat([places, features], dim=2)
        grouped = ops.gather(self.first(rows), index)  # [B, M, K, D"]
        offset = F.linear(centers / radius, self.first.weight[:, :3])  # [B, M, D"]
        grouped = grouped.sub_(offset[:, :, None]).view(B * M * K, -1)
        return self.rest.maximum(grouped, B * M).view(B, M, -1)


class FeaturePropagation(nn.Module):
    """Propagate features of few points to many (Qi et al. 2017, PointNet++, section 3.4).

    A shared MLP of [features interpolated from the three nearest coarse points, own features], with
    BatchNorm and ReLU after each layer. widths: of both inputs, coarse and own; then of each layer.
    power: of the distance, in the weights of the three.
    """

    def __init__(self, coarse: int, own: int, *widths: int, power: int = 2) -> None:
        super().__init__()
        self.widths, self.power = (coarse, own), power
        self.first = nn.Linear(coarse + own, widths[0], bias=False)
        self.rest = SharedMLP(
            nn.BatchNorm1d(widths[0]), nn.ReLU(inplace=True), *shared_mlp(*widths)
        )

    def forward(
        self, points: Tensor, features: Tensor, places: Tensor, own: Tensor | None = None
    ) -> Tensor:
        """points [B, M, 3] with features [B, M, D], places [B, N, 3] with own features [B, N, D']
        or none → [B, N, D"]. One point gives its feature to all places.

        The first layer is linear, as is interpolation, so it is applied first, to the few points.
        """
        coarse, mine = self.first.weight.split(self.widths, dim=1)
        rows = F.linear(features, coarse)  # [B, M, D"]
        if points.shape[1] > 1:
            rows = ops.interpolate(rows, *ops.three_nearest_weights(points, places, self.power))
        if own is not None:
            rows = rows + F.linear(own, mine)
        B, N, _ = places.shape
        return self.rest(rows.expand(B, N, -1).reshape(B * N, -1)).view(B, N, -1)


def middle_in_plan(points: Tensor) -> Tensor:
    """Move each cloud [B, N, 3] to its mean in x and y; z stays the height over the floor."""
    middle = points.mean(dim=1, keepdim=True)
    return torch.cat([points[..., :2] - middle[..., :2], points[..., 2:]], dim=2)


def require_points(points: Tensor, least: int, network: str) -> None:
    """Raise UsageError for clouds [B, N, 3] with fewer points than the network needs."""
    if points.shape[1] < least:
        raise UsageError(
            f"{network} needs clouds of at least {least} points, not {points.shape[1]}",
            where="data.points",
            fix=f"set data.points to {least} or more, or choose another model.backbone",
        )


def require_inputs(points: Tensor, inputs: int) -> None:
    """Raise UsageError unless points are [..., 3 + inputs]."""
    if points.shape[-1] != 3 + inputs:
        raise UsageError(
            f"points have shape {list(points.shape)}, but the network takes {3 + inputs} values of "
            f"each{': its position and its normal' if inputs == 3 else ''}",
            where="points",
            fix="with data.normals=true, pass positions and normals as points [B, N, 6]; "
            "otherwise positions alone, [B, N, 3]",
        )


def require_features(points: Tensor, features: Tensor | None, inputs: int) -> None:
    """Raise UsageError unless points [..., 3] have features [..., inputs]; none if that is 0."""
    places = tuple(points.shape[:-1])
    found = (*places, 0) if features is None else tuple(features.shape)
    if found != (*places, inputs):
        raise UsageError(
            f"points {list(points.shape)} have features {list(found)}, but the network was built "
            f"for {inputs} per point",
            where="features",
            fix="pass features [..., F], or build the network with another `inputs`",
        )
