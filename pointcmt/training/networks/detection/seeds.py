"""Seeds of VoteNet: some points of a scene with a feature each, from points or from voxels.

Letters: B scenes, N points, S seeds, F further features of a point (color, normal). Seeds are in
farthest-point order, so the first n of them are an even sample.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pointcmt.training import ops
from pointcmt.training.networks.backbones.blocks import (
    FeaturePropagation,
    GroupMLP,
    require_points,
)
from pointcmt.training.networks.backbones.sparse_unet import DenseSparseUNet, pack_clouds
from pointcmt.training.networks.view_consistency import without_classes
from pointcmt.training.ops.eager import eager
from pointcmt.training.ops.sparse import Voxels

WIDTH = 256  # of a seed's feature
SEEDS = 1024
FLOOR = 0.0099  # quantile of the points' z that is taken for the floor


class Seeds(NamedTuple):
    """chosen [B, S] i64: the points they are. places [B, S, 3]. features [B, S, 256]."""

    chosen: Tensor
    places: Tensor
    features: Tensor


@dataclass(frozen=True)
class Level:
    """A set abstraction: centers, the radius in meters, neighbors, and the widths of the MLP."""

    centers: int
    radius: float
    neighbors: int
    widths: tuple[int, ...]


# VoteNet's PointNet++ (Qi et al., ICCV 2019, section A.1; models/backbone_module.py).
VOTENET = (
    Level(2048, 0.2, 64, (64, 64, 128)),
    Level(SEEDS, 0.4, 32, (128, 128, 256)),
    Level(512, 0.8, 16, (128, 128, 256)),
    Level(256, 1.2, 16, (128, 128, WIDTH)),
)


class Abstraction(nn.Module):
    """Pool a shared MLP over the neighbors of given centers; offsets are in units of the radius."""

    def __init__(self, width: int, radius: float, neighbors: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.radius, self.neighbors = radius, neighbors
        self.mlp = GroupMLP(3 + width, *widths)

    def forward(self, points: Tensor, features: Tensor, centers: Tensor) -> Tensor:
        """points [B, N, 3], features [B, N, D], centers [B, M, 3] → [B, M, D']."""
        index = ops.ball_query(points, centers, self.radius, self.neighbors)
        found: Tensor = self.mlp(points, features, centers, index, self.radius)
        return found.relu()


class ScenePointNet2(nn.Module):
    """PointNet++ with radii in meters: four set abstractions, two feature propagations.

    inputs: F. levels: four, the second of which has the seeds.
    """

    def __init__(self, inputs: int, levels: tuple[Level, ...] = VOTENET) -> None:
        super().__init__()
        self.levels = levels
        widths = [1 + inputs, *(level.widths[-1] for level in levels)]
        self.encoder = nn.ModuleList(
            Abstraction(width, level.radius, level.neighbors, level.widths)
            for width, level in zip(widths, levels, strict=False)
        )
        propagate = FeaturePropagation(widths[4], widths[3], WIDTH, WIDTH, power=1)
        last = FeaturePropagation(WIDTH, widths[2], WIDTH, WIDTH, power=1)
        self.decoder = nn.ModuleList([propagate, last])

    def forward(self, points: Tensor, features: Tensor) -> Seeds:
        """points [B, N, 3], features [B, N, F] → seeds. Raises UsageError for too few points.

        The first centers of a level are the next level's: farthest points of the farthest points
        are the first ones of these.
        """
        most = self.levels[0].centers
        require_points(points, most, "VoteNet's PointNet++")
        index = ops.farthest_points(points, most)  # [B, 2048]
        places, rows = points, torch.cat([heights(points), features], dim=2)
        all_places, all_rows = [], []
        centers = ops.gather(points, index)
        for level, abstraction in zip(self.levels, self.encoder, strict=True):
            rows = abstraction(places, rows, centers[:, : level.centers])
            places = centers[:, : level.centers]
            all_places.append(places)
            all_rows.append(rows)
        for step, coarse in zip(self.decoder, (3, 2), strict=True):
            rows = step(all_places[coarse], rows, all_places[coarse - 1], all_rows[coarse - 1])
        return Seeds(index[:, : self.levels[1].centers], all_places[1], rows)


class PointSeeds(nn.Module):
    """Seeds of points. inputs: F. levels: of the backbone."""

    def __init__(self, inputs: int, levels: tuple[Level, ...] = VOTENET) -> None:
        super().__init__()
        self.backbone = ScenePointNet2(inputs, levels)

    def forward(self, points: Tensor, features: Tensor) -> Seeds:
        """points [B, N, 3], features [B, N, F] → seeds."""
        found: Seeds = self.backbone(points, features)
        return found


class VoxelSeeds(nn.Module):
    """Seeds of a sparse U-Net's voxels, as PointContrast has them for VoteNet.

    A seed is the first point of its voxel; a linear layer widens the U-Net's features to 256. The
    U-Net's own inputs are 1 and z; its head and classifier are removed.
    """

    def __init__(self, backbone: DenseSparseUNet, seeds: int = SEEDS) -> None:
        super().__init__()
        without_classes(backbone)
        self.backbone, self.seeds = backbone, seeds
        self.output = nn.Linear(backbone.local_width, WIDTH)

    def forward(self, points: Tensor, features: Tensor) -> Seeds:
        """points [B, N, 3], features [B, N, F] → seeds; they repeat if there are fewer voxels."""
        network = self.backbone
        prepared = network.prepare(*pack_clouds(points, features, network.inputs))
        levels = network.encoder(prepared.rows, prepared.pyramid)
        rows = network.decoder(levels, prepared.pyramid)  # [n, D]
        index = self.choose(points, prepared.voxels)  # [B, S]
        own = prepared.voxels.index.view(len(points), -1).gather(1, index)
        wide = self.output(ops.gather(rows[None], own[None])[0])
        return Seeds(index, ops.gather(points, index), wide)

    @eager
    @torch.no_grad()
    def choose(self, points: Tensor, voxels: Voxels) -> Tensor:
        """Return the farthest of the voxels' first points, [B, S] i64.

        Scenes have different numbers of voxels. Rows are filled with the first one again, which
        is never farther than another.
        """
        B, N, _ = points.shape
        first = voxels.order[voxels.starts]
        mine = [first[first // N == scene] - scene * N for scene in range(B)]
        width = max(self.seeds, *(len(own) for own in mine))
        padded = torch.stack([torch.cat([own, own[:1].expand(width - len(own))]) for own in mine])
        chosen = ops.farthest_points(ops.gather(points, padded), self.seeds)
        return padded.gather(1, chosen)


def heights(points: Tensor) -> Tensor:
    """Return how high points [B, N, 3] are over the floor, [B, N, 1].

    The floor is the 0.99th percentile of z, as in VoteNet's code: a minimum that does not depend on
    a few points.
    """
    z = points[..., 2]
    return (z - z.quantile(FLOOR, dim=1, keepdim=True))[..., None]
