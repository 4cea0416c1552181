"""Published networks for part segmentation: PointNet's and PointNet++'s, as in yanx27's code.

Source: yanx27/Pointnet_Pointnet2_pytorch, `models/pointnet_part_seg.py`,
`models/pointnet2_part_seg_ssg.py` and `models/pointnet2_part_seg_msg.py`; the networks are those of
Qi et al. (CVPR 2017, arXiv 1612.00593; NeurIPS 2017, arXiv 1706.02413). Unlike a `PartNetwork`,
which puts one head on any dense backbone, each of these is a whole network, so that published
weights fit it. The object category enters as a one-hot vector. With `inputs=3`, points are
[B, N, 6], each with its position and its unit normal.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pointcmt.training import ops
from pointcmt.training.networks.backbones.blocks import (
    FeaturePropagation,
    SharedMLP,
    require_inputs,
    require_points,
    shared_mlp,
)
from pointcmt.training.networks.backbones.pointnet import TransformNet, align
from pointcmt.training.networks.backbones.pointnet2 import (
    SSG_FAR,
    SSG_NEAR,
    Scale,
    SetAbstraction,
)

MSG_NEAR = (
    Scale(0.1, 32, (32, 32, 64)),
    Scale(0.2, 64, (64, 64, 128)),
    Scale(0.4, 128, (64, 96, 128)),
)
MSG_FAR = (Scale(0.4, 64, (128, 128, 256)), Scale(0.8, 128, (128, 196, 256)))


class PointNetPartSeg(nn.Module):
    """PointNet: the features of all layers, their maximum and the category, then a shared MLP.

    classes: object categories. parts: P, over all categories. It has no dropout, as published.
    """

    def __init__(self, classes: int, parts: int, dropout: float = 0.0, inputs: int = 0) -> None:
        super().__init__()
        self.classes, self.inputs = classes, inputs
        self.align_input = TransformNet(3, inputs)
        first = (3 + inputs, 64), (64, 128), (128, 128)
        self.local = nn.ModuleList(shared_mlp(*widths) for widths in first)
        self.align_feature = TransformNet(128)
        self.lift = nn.ModuleList([shared_mlp(128, 512), shared_mlp(512, 2048, last_relu=False)])
        own = 64 + 128 + 128 + 512 + 2048
        self.head = SharedHead(2048 + classes, own, 256, 256, 128)
        self.classifier = nn.Linear(128, parts)

    def forward(self, points: Tensor, labels: Tensor) -> Tensor:
        """points [B, N, 3 + F], labels [B] i64, the category of each → logits [B, N, P]."""
        require_inputs(points, self.inputs)
        B, N, _ = points.shape
        rows = align(points, self.align_input(points)).flatten(0, 1)
        layers = []
        for layer in self.local:
            rows = layer(rows)
            layers.append(rows)  # [B·N, 64], 128, 128
        rows = rows.view(B, N, -1)
        rows = (rows @ self.align_feature(rows)).flatten(0, 1)
        for layer in self.lift:
            rows = layer(rows)
            layers.append(rows)  # [B·N, 512], 2048
        category = F.one_hot(labels, self.classes).to(rows)
        whole = torch.cat([ops.maximum(rows, B), category], dim=1)  # [B, 2048 + C]
        own = torch.cat(layers, dim=1).view(B, N, -1)
        return self.classifier(self.head(whole, own)).view(B, N, -1)


class SharedHead(nn.Module):
    """A shared MLP of [what belongs to the whole cloud, a point's own features].

    whole, own: widths of both. The first layer is linear, so the cloud's part of it is computed
    once, not for each point.
    """

    def __init__(self, whole: int, own: int, *widths: int) -> None:
        super().__init__()
        self.widths = whole, own
        self.first = nn.Linear(whole + own, widths[0], bias=False)
        self.rest = SharedMLP(
            nn.BatchNorm1d(widths[0]), nn.ReLU(inplace=True), *shared_mlp(*widths)
        )

    def forward(self, whole: Tensor, own: Tensor) -> Tensor:
        """whole [B, W], own [B, N, D] → rows [B·N, D']."""
        of_cloud, of_point = self.first.weight.split(self.widths, dim=1)
        rows = F.linear(own, of_point) + F.linear(whole, of_cloud)[:, None]
        return self.rest(rows.flatten(0, 1))


class PointNet2PartSeg(nn.Module):
    """PointNet++: two set abstractions, the whole cloud, three propagations, a shared MLP.

    Positions enter twice, relative to the centers of balls and as features. classes: object
    categories. parts: P, over all categories. near, far: the scales of both set abstractions. last:
    widths of the propagation to all points.
    """

    least = 512  # minimum number of points

    def __init__(
        self,
        classes: int,
        parts: int,
        dropout: float = 0.5,
        inputs: int = 0,
        *,
        near: tuple[Scale, ...],
        far: tuple[Scale, ...],
        last: tuple[int, ...],
    ) -> None:
        super().__init__()
        self.classes, self.inputs = classes, inputs
        self.near = SetAbstraction(512, near, width=3 + inputs)
        self.far = SetAbstraction(128, far, width=self.near.width)
        self.all = shared_mlp(3 + self.far.width, 256, 512, 1024, last_relu=False)
        self.decoder = nn.ModuleDict(
            {
                "to_far": FeaturePropagation(1024, self.far.width, 256, 256),
                "to_near": FeaturePropagation(256, self.near.width, 256, 128),
                "to_points": FeaturePropagation(128, classes + 6 + inputs, *last),
            }
        )
        self.head = nn.Sequential(*shared_mlp(last[-1], 128), nn.Dropout(dropout))
        self.classifier = nn.Linear(128, parts)

    def forward(self, points: Tensor, labels: Tensor) -> Tensor:
        """points [B, N, 3 + F], labels [B] i64, the category of each → logits [B, N, P].

        Raises UsageError for N < 512.
        """
        require_points(points, self.least, "PointNet++")
        require_inputs(points, self.inputs)
        B, N, _ = points.shape
        places = points[..., :3]
        near, near_features = self.near(places, points)  # [B, 512, 3], [B, 512, D]
        far, far_features = self.far(near, near_features)  # [B, 128, 3], [B, 128, D]
        whole = self.all.pool(torch.cat([far, far_features], dim=2).flatten(0, 1), B)
        steps = self.decoder
        rows = steps["to_far"](far[:, :1], whole[:, None], far, far_features)  # [B, 128, 256]
        rows = steps["to_near"](far, rows, near, near_features)  # [B, 512, 128]
        category = F.one_hot(labels, self.classes).to(points)[:, None].expand(B, N, -1)
        own = torch.cat([category, places, points], dim=2)
        rows = steps["to_points"](near, rows, places, own)  # [B, N, 128]
        return self.classifier(self.head(rows.flatten(0, 1))).view(B, N, -1)


PART_NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "pointnet-part-seg": PointNetPartSeg,
    "pointnet2-part-seg-ssg": partial(
        PointNet2PartSeg, near=SSG_NEAR, far=SSG_FAR, last=(128, 128, 128)
    ),
    "pointnet2-part-seg-msg": partial(
        PointNet2PartSeg, near=MSG_NEAR, far=MSG_FAR, last=(128, 128)
    ),
}


class WholeNetwork(nn.Module):
    """One of PART_NETWORKS under the name `backbone`, as a `PartNetwork` has its backbone."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.backbone = network

    def forward(self, points: Tensor, labels: Tensor) -> Tensor:
        """points [B, N, 3 + F], labels [B] i64 → logits [B, N, P]."""
        return self.backbone(points, labels)
