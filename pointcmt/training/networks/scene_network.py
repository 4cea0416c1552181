"""A sparse U-Net with a linear layer: logits of every class for every point of packed scenes."""

from torch import Tensor, nn

from pointcmt.training.networks.backbones.sparse_unet import DenseSparseUNet
from pointcmt.training.networks.view_consistency import without_classes


class SceneNetwork(nn.Module):
    """backbone: its head and classifier, of whole clouds, are removed. classes: of points."""

    def __init__(self, backbone: DenseSparseUNet, classes: int) -> None:
        super().__init__()
        without_classes(backbone)
        self.backbone = backbone
        self.output = nn.Linear(backbone.local_width, classes)

    def forward(self, points: Tensor, batch: Tensor, features: Tensor) -> Tensor:
        """Points [N, 3] of the scenes batch [N], with features [N, F] → logits [N, C].

        Raises UsageError like the backbone.
        """
        local: Tensor = self.backbone.forward_packed(points, batch, features)
        return self.output(local)
