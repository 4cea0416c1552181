"""PointNet++ on scenes (Qi et al., NeurIPS 2017, arXiv 1706.02413), with a 512-d feature.

The layers, radii in meters and numbers of centers are those of its code for the semantic
segmentation of ScanNet, up to the last layer: four set abstractions and four feature propagations.
A point's own features are its height z and the features it comes with; positions count only
relative to centers. The feature of a whole cloud, which the published network does not have, is
the maximum over the last centers and a layer.
Sampling starts at point 0 and balls take the first points by index, so both depend on the order of
the points: `SceneNetwork` shuffles them.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from pointcmt.training.networks.backbones.blocks import (
    FEATURE,
    FeaturePropagation,
    Prediction,
    require_features,
    require_points,
    shared_mlp,
)
from pointcmt.training.networks.backbones.pointnet2 import Scale, SetAbstraction

NEIGHBORS = 32  # at most, within each ball


class Level(NamedTuple):
    """A set abstraction, and the propagation back to its input.

    radius: in meters. down: widths of the shared MLP over a ball; up: over the propagated features.
    """

    centers: int
    radius: float
    down: tuple[int, ...]
    up: tuple[int, ...]


LEVELS = (
    Level(
        1024, 0.1, (32, 32, 64), (128, 128, 128, 128)
    ),  # the last one is a layer of its own there
    Level(256, 0.2, (64, 64, 128), (256, 128)),
    Level(64, 0.4, (128, 128, 256), (256, 256)),
    Level(16, 0.8, (256, 256, 512), (256, 256)),
)


class ScenePointNet2(nn.Module):
    """Four levels of balls in meters. inputs: F, the number of a point's features besides z."""

    local_width = LEVELS[0].up[-1]
    least = LEVELS[0].centers  # minimum number of points

    def __init__(self, classes: int, inputs: int = 0) -> None:
        super().__init__()
        self.inputs = inputs
        widths = [1 + inputs, *(level.down[-1] for level in LEVELS)]
        self.levels = nn.ModuleList(
            MetricAbstraction(n, (Scale(radius, NEIGHBORS, down),), width)
            for (n, radius, down, _), width in zip(LEVELS, widths, strict=False)
        )
        self.decoder = Decoder(widths)
        self.head = shared_mlp(widths[-1], FEATURE)
        self.classifier = nn.Linear(FEATURE, classes)

    def forward(
        self, points: Tensor, local: bool = False, *, features: Tensor | None = None
    ) -> Prediction:
        """points [B, N, 3] in meters, features [B, N, F] → logits [B, C], feature [B, 512] and, if
        local, local [B, N, 128].

        Raises UsageError for N < 1024 and for features of another shape.
        """
        require_points(points, self.least, "PointNet++ on scenes")
        require_features(points, features, self.inputs)
        own = points[..., 2:] if features is None else torch.cat([points[..., 2:], features], dim=2)
        levels = [(points, own)]  # [B, N, 3], [B, N, 1 + F]
        for level in self.levels:
            levels.append(level(*levels[-1]))  # [B, M, 3], [B, M, D]
        feature = self.head(levels[-1][1].amax(dim=1))  # [B, 512]
        found = Prediction(self.classifier(feature), feature)
        return found._replace(local=self.decoder(levels)) if local else found


class MetricAbstraction(SetAbstraction):
    """A set abstraction that autocast leaves in float32.

    A neighbor's offset is the difference of two positions, see `GroupMLP`. In bfloat16 those of a
    crop of 4 m are off by a centimeter, a tenth of the smallest ball.
    """

    def forward(self, points: Tensor, features: Tensor | None) -> tuple[Tensor, Tensor]:
        """See `SetAbstraction`."""
        with torch.autocast(points.device.type, enabled=False):
            return super().forward(points, features)


class Decoder(nn.Module):
    """Propagate the features of the coarsest centers to all points. widths: of all levels."""

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        coarse = [level.up[-1] for level in LEVELS[1:]] + widths[-1:]
        self.ups = nn.ModuleList(
            FeaturePropagation(below, own, *level.up)
            for level, below, own in zip(LEVELS, coarse, widths, strict=False)
        )

    def forward(self, levels: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Places and features of all levels, finest first → [B, N, 128]."""
        places, features = levels[-1]
        for up, (finer, own) in zip(reversed(self.ups), levels[-2::-1], strict=True):
            features = up(places, features, finer, own)
            places = finer
        return features
