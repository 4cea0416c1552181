"""MVCNN (Su et al., ICCV 2015, arXiv 1505.00880): one image network, pooled over the views."""

from typing import Any

import torch
from torch import Tensor, nn

from pointcmt.training.images.building import build_known, build_random
from pointcmt.training.images.files import described_network
from pointcmt.training.images.networks import AUTO, RANDOM, ImageNetwork, require_size, to_pixels
from pointcmt.training.images.pooled import LastMap, feature_of

WIDTH = 512  # width of a shape's feature, for teacher and students
ATTENTION = 128  # width of the attention's hidden layer, L in Ilse et al.


class MVCNN(nn.Module):
    """Classify a shape from its views.

    encoder: an image network, D wide; known: its description. image_size: pixels the views are
    resized to, 0 = as they are. pooling over the views: "max" (the paper), "mean" or "attention"
    (`GatedAttention`); neither the order nor the number of views matters. frozen: keep the encoder
    fixed, without gradients and in evaluation mode; only the layers after it learn.

    A ResNet whose feature is 512 wide is followed by the pooling alone, as in the paper; all others
    by Linear(D, 512) and a ReLU too, so that the feature is of the same width and never negative.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        known: ImageNetwork,
        encoder: nn.Module,
        classes: int,
        image_size: int = 0,
        pooling: str = "max",
        frozen: bool = False,
    ) -> None:
        super().__init__()
        self.known, self.image_size, self.frozen = known, image_size, frozen
        self.encoder = encoder
        self._feature, self.width = feature_of(known, encoder, image_size)
        for name, parameter in encoder.named_parameters():  # the mask token replaces masked patches
            parameter.requires_grad_(not frozen and not name.endswith("mask_token"))
        if not frozen and isinstance(self._feature, LastMap):
            for parameter in self._feature.unused(image_size):
                parameter.requires_grad_(False)
        self.pooling = POOLINGS[pooling](self.width)
        as_in_the_paper = known.kind == "resnet" and self.width == WIDTH
        self.projection = (
            nn.Identity()
            if as_in_the_paper
            else nn.Sequential(nn.Linear(self.width, WIDTH), nn.ReLU())
        )
        self.classifier = nn.Linear(WIDTH, classes)
        mean, std = (255 * torch.tensor(values).view(3, 1, 1) for values in known.statistics)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)
        self.train()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """images [B, V, H, W, 3] u8 → logits [B, C], feature [B, 512], which is never negative."""
        return self.classify(self.encode(images))

    def classify(self, per_view: Tensor) -> tuple[Tensor, Tensor]:
        """Features per view [B, V, D] → logits [B, C], feature [B, 512]."""
        feature = self.pool(per_view)
        return self.classifier(feature), feature

    def encode(self, images: Tensor) -> Tensor:
        """images [B, V, H, W, 3] u8 → a feature per view [B, V, D].

        Raises UsageError for images that the encoder's patches do not tile.
        """
        B, V = images.shape[:2]
        size = (self.image_size or images.shape[-3], self.image_size or images.shape[-2])
        require_size(self.known, size)
        pixels = to_pixels(images.flatten(0, 1), size, self.mean, self.std)
        return self._feature(self.encoder, pixels).view(B, V, -1)

    def pool(self, per_view: Tensor) -> Tensor:
        """Features per view [B, V, D], of any number of views → the shape's feature [B, 512]."""
        return self.projection(self.pooling(per_view))

    def train(self, mode: bool = True) -> "MVCNN":
        """Set training or evaluation mode; a frozen encoder stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self


class MaxPooling(nn.Module):
    """The maximum over the views, per channel."""

    def __init__(self, width: int) -> None:
        super().__init__()

    def forward(self, per_view: Tensor) -> Tensor:
        """[B, V, D] → [B, D]."""
        return per_view.max(dim=1).values


class MeanPooling(nn.Module):
    """The mean over the views."""

    def __init__(self, width: int) -> None:
        super().__init__()

    def forward(self, per_view: Tensor) -> Tensor:
        """[B, V, D] → [B, D]."""
        return per_view.mean(dim=1)


class GatedAttention(nn.Module):
    """Gated attention over the views: Ilse et al., ICML 2018, arXiv 1802.04712, eq. 7 and 9.

    f = Σ_v a_v h_v with a = softmax over the views of wᵀ(tanh(V h_v) ⊙ sigmoid(U h_v)), where w is
    a learned query of 128 numbers, and V and U are linear layers D → 128.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.key = nn.Linear(width, ATTENTION)  # V
        self.gate = nn.Linear(width, ATTENTION)  # U
        self.query = nn.Linear(ATTENTION, 1, bias=False)  # w

    def forward(self, per_view: Tensor) -> Tensor:
        """[B, V, D] → [B, D]."""
        hidden = self.key(per_view).tanh() * self.gate(per_view).sigmoid()  # [B, V, 128]
        weight = self.query(hidden).softmax(dim=1)  # [B, V, 1]
        return (weight * per_view).sum(dim=1)


POOLINGS: dict[str, type[nn.Module]] = {
    "max": MaxPooling,
    "mean": MeanPooling,
    "attention": GatedAttention,
}


def build_mvcnn(
    backbone: str,
    weights: str,
    classes: int,
    image_size: int,
    pooling: str = "max",
    encoder: str = "train",
    architecture: Any = None,
) -> MVCNN:
    """Build an MVCNN over an image network: one of NETWORKS, from outside the package, or "auto".

    weights: see `build_network`; for "auto" with random weights, `architecture` describes the
    network (see `describe_network`). pooling: see `MVCNN`. encoder: "train", or "frozen" to train
    only the layers after it. Raises UsageError if network or weights are not available.
    """
    if backbone == AUTO and weights == RANDOM:
        known = described_network(architecture, "model.architecture")
        network = build_random(known)
    else:
        known, network = build_known(backbone, weights)
    return MVCNN(known, network, classes, image_size, pooling, frozen=encoder == "frozen")
