"""CrossPoint's network: a dense backbone, and a projection head for each modality.

Afham et al., CVPR 2022 (arXiv 2203.00680). The feature of a cloud is the maximum and the mean over
its points' features, as in the paper's encoder and in the probes of frozen features. After
pre-training only `backbone` is used.
"""

from typing import Any

import torch
from torch import Tensor, nn

from pointcmt.training.networks.view_consistency import point_features, without_classes

HIDDEN = 512  # width of the projection heads' hidden layer


class CrossPoint(nn.Module):
    """Projects clouds and image features into one space, where they are compared.

    backbone: a network of DENSE; its head and classifier are removed. images: width of the image
    network's feature, 0 = without it. width: of the projections.
    """

    def __init__(self, backbone: nn.Module, images: int, width: int) -> None:
        super().__init__()
        dense: Any = backbone
        self.backbone = backbone
        without_classes(backbone)
        self.of_points = projection(2 * dense.local_width, width)
        self.of_images = projection(images, width) if images else None

    def forward(self, points: Tensor) -> Tensor:
        """points [B, N, 3] → projection [B, W]."""
        local = point_features(self.backbone, points, None)  # [B, N, D]
        return self.of_points(torch.cat([local.amax(dim=1), local.mean(dim=1)], dim=1))

    def project(self, images: Tensor) -> Tensor:
        """Feature of a view [B, D] → projection [B, W]."""
        assert self.of_images is not None, "this network was built without images"
        return self.of_images(images)


def projection(inputs: int, width: int) -> nn.Sequential:
    """Return an MLP with one hidden layer, as in the paper's code."""
    return nn.Sequential(
        nn.Linear(inputs, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, width)
    )
