"""Point networks under one contract, by name.

A backbone is built from the number of classes and maps points [B, N, 3] to (logits [B, C],
feature [B, 512]); its attribute `classifier` is exactly one nn.Linear(512, C), so that another
network's 512-d feature can go through it. All of them live in the store's world: unit sphere, +Z
up.
"""

from collections.abc import Callable

from torch import nn

from pointcmt.training.backbones.pointnet import PointNet

BACKBONES: dict[str, Callable[[int], nn.Module]] = {
    "pointnet": PointNet,  # Qi et al. 2017: one shared MLP per point and a maximum
}
