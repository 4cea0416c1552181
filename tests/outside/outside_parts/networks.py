"""A point network and an image network."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from pointcmt.training.images.networks import ImageNetwork
from pointcmt.training.networks.backbones.blocks import Prediction


class Net(nn.Module):
    """An MLP per point and a maximum over the points; it also returns per-point features."""

    local_width, least = 16, 4

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.near = nn.Sequential(nn.Linear(3, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU())
        self.head = nn.Sequential(nn.Linear(16, 512), nn.ReLU())
        self.classifier = nn.Linear(512, classes)

    def forward(self, points: Tensor, local: bool = False) -> Prediction:
        near = self.near(points)  # [B, N, 16]
        feature = self.head(near.amax(dim=1))
        return Prediction(self.classifier(feature), feature, near if local else None)


class Images(nn.Module):
    """Three convolutions that each halve the image, and a head that features do not use."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 8, 16, 24)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, stride=2, padding=1), nn.BatchNorm2d(b), nn.ReLU())
            for a, b in pairwise(widths)
        )
        self.head = nn.Linear(24, 7)

    def forward(self, pixels: Tensor) -> Tensor:
        for block in self.blocks:
            pixels = block(pixels)
        return torch.flatten(self.head(pixels.mean(dim=(2, 3))), 1)


IMAGES = ImageNetwork("outside", "outside", {}, hub="", build=Images)
