"""Point networks under one contract, by name.

A backbone is built from the number of classes and maps points [B, N, 3] to a `Prediction`: logits
[B, C], feature [B, 512] and what else it has. Its attribute `classifier` is exactly one
nn.Linear(512, C) of that feature, so that another network's 512-d feature can go through it; the
feature has gone through a ReLU, and nothing is dropped out on the way. In evaluation mode a cloud's
result does not depend on its batch. All of them live in the store's world: unit sphere, +Z up.

A dense backbone has a feature of each point too. `forward(points, local=True)` fills `local`
[B, N, D] of the prediction, of width `local_width`; without it the answer costs what it costs any
student. It takes `least` points or more. Parameters under `decoder` are what only the points'
features need (DGCNN needs none), `head` and `classifier` what only classes need; all others are the
encoder. BACKBONES has the same networks without a decoder: by the same name, PointNet++'s as
pointnet2-ssg.
"""

from collections.abc import Callable
from functools import partial

from torch import nn

from pointcmt.training.networks.backbones.dgcnn import DGCNN
from pointcmt.training.networks.backbones.pointmlp import PointMLP
from pointcmt.training.networks.backbones.pointnet import PointNet
from pointcmt.training.networks.backbones.pointnet2 import (
    DensePointNet2,
    PointNet2MSG,
    PointNet2SSG,
)
from pointcmt.training.networks.backbones.pointnext import PointNeXtS
from pointcmt.training.networks.backbones.pointvit import (
    BASE,
    LARGE,
    SMALL,
    DensePointViT,
    PointViT,
)

BACKBONES: dict[str, Callable[[int], nn.Module]] = {
    "pointnet": PointNet,  # Qi et al. 2017: one shared MLP per point and a maximum
    "pointnet2-ssg": PointNet2SSG,  # Qi et al. 2017: balls around farthest points, twice
    "pointnet2-msg": PointNet2MSG,  # with balls of three sizes: PointCMT's own student
    "dgcnn": DGCNN,  # Wang et al. 2019: nearest neighbours in feature space
    "pointmlp": PointMLP,  # Ma et al. 2022: residual MLPs over nearest neighbours, four stages
    "pointnext-s": PointNeXtS,  # Qian et al. 2022: PointNet++ with residuals, smaller and deeper
    "pointvit-s": partial(PointViT, size=SMALL),  # Pang et al. 2022: a transformer on patches
    "pointvit-b": partial(PointViT, size=BASE),
    "pointvit-l": partial(PointViT, size=LARGE),
}
DENSE: dict[str, Callable[[int], nn.Module]] = {
    "pointnet2": DensePointNet2,  # feature propagation behind single-scale grouping
    "dgcnn": DGCNN,
    "pointvit-s": partial(DensePointViT, size=SMALL),
    "pointvit-b": partial(DensePointViT, size=BASE),
    "pointvit-l": partial(DensePointViT, size=LARGE),
}
