"""Point networks under one contract, by name.

A backbone is built from the number of classes and maps points [B, N, 3] to a `Prediction`: logits
[B, C], feature [B, 512] and what else it has. Its attribute `classifier` is exactly one
nn.Linear(512, C) of that feature, so that another network's 512-d feature can go through it; the
feature has gone through a ReLU, and nothing is dropped out on the way. In evaluation mode a cloud's
result does not depend on its batch. All of them live in the store's world: unit sphere, +Z up.
"""

from collections.abc import Callable

from torch import nn

from pointcmt.training.backbones.dgcnn import DGCNN
from pointcmt.training.backbones.pointmlp import PointMLP
from pointcmt.training.backbones.pointnet import PointNet
from pointcmt.training.backbones.pointnet2 import PointNet2MSG, PointNet2SSG
from pointcmt.training.backbones.pointnext import PointNeXtS

BACKBONES: dict[str, Callable[[int], nn.Module]] = {
    "pointnet": PointNet,  # Qi et al. 2017: one shared MLP per point and a maximum
    "pointnet2-ssg": PointNet2SSG,  # Qi et al. 2017: balls around farthest points, twice
    "pointnet2-msg": PointNet2MSG,  # with balls of three sizes: PointCMT's own student
    "dgcnn": DGCNN,  # Wang et al. 2019: nearest neighbours in feature space
    "pointmlp": PointMLP,  # Ma et al. 2022: residual MLPs over nearest neighbours, four stages
    "pointnext-s": PointNeXtS,  # Qian et al. 2022: PointNet++ with residuals, smaller and deeper
}
