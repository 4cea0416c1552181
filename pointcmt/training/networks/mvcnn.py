"""MVCNN (Su et al., ICCV 2015, arXiv 1505.00880): one image network, pooled over the views."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pointcmt.training.images.building import build_network
from pointcmt.training.images.networks import NETWORKS, require_size, to_pixels

WIDTH = 512  # of a shape's feature, the teacher's as the students'
ATTENTION = 128  # width of the attention's hidden layer, L in Ilse et al.


class MVCNN(nn.Module):
    """Views of a shape → class.

    encoder: the image network `backbone` of NETWORKS, D wide. image_size: pixels the views are
    resized to, 0 = as they come. pooling: over the views: "max" (the paper), "mean" or "attention"
    (`GatedAttention`); neither the order nor the number of views matters. frozen: the encoder
    stays as it is, without gradients and in evaluation mode; only what is behind it learns.

    A ResNet whose feature is 512 wide is followed by the pooling alone, as in the paper; all others
    by Linear(D, 512) and a ReLU too, so that the feature is of the same width and never negative.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: str,
        encoder: nn.Module,
        classes: int,
        image_size: int = 0,
        pooling: str = "max",
        frozen: bool = False,
    ) -> None:
        super().__init__()
        network = NETWORKS[backbone]
        self.backbone, self.image_size, self.frozen = backbone, image_size, frozen
        self.encoder = encoder
        for name, parameter in encoder.named_parameters():  # the token stands in for masked patches
            parameter.requires_grad_(not frozen and not name.endswith("mask_token"))
        self.pooling = POOLINGS[pooling](network.width)
        as_in_the_paper = network.kind == "resnet" and network.width == WIDTH
        self.projection = (
            nn.Identity()
            if as_in_the_paper
            else nn.Sequential(nn.Linear(network.width, WIDTH), nn.ReLU())
        )
        self.classifier = nn.Linear(WIDTH, classes)
        mean, std = (255 * torch.tensor(values).view(3, 1, 1) for values in network.statistics)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)
        self._feature = FEATURES[network.kind]
        self.train()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """images [B, V, H, W, 3] u8 → logits [B, C], feature [B, 512], which is never negative."""
        feature = self.pool(self.encode(images))
        return self.classifier(feature), feature

    def encode(self, images: Tensor) -> Tensor:
        """images [B, V, H, W, 3] u8 → a feature per view [B, V, D].

        Raises UsageError for images that the encoder's patches do not tile.
        """
        B, V = images.shape[:2]
        require_size(NETWORKS[self.backbone], self.image_size or images.shape[-2])
        pixels = to_pixels(images.flatten(0, 1), self.image_size, self.mean, self.std)
        return self._feature(self.encoder, pixels).view(B, V, -1)

    def pool(self, per_view: Tensor) -> Tensor:
        """Features per view [B, V, D], of any number of views → the shape's feature [B, 512]."""
        return self.projection(self.pooling(per_view))

    def train(self, mode: bool = True) -> "MVCNN":
        """Training or evaluation mode; a frozen encoder stays in the latter."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self


class MaxPooling(nn.Module):
    """The largest value over the views, for each of the D on its own."""

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


def _pooled_map(network: nn.Module, pixels: Tensor) -> Tensor:
    return network(pixels).pooler_output.flatten(1)  # [n, D, 1, 1], the mean over the image


def _class_token(network: nn.Module, pixels: Tensor) -> Tensor:
    return network(pixels, interpolate_pos_encoding=True).last_hidden_state[:, 0]


def _pooled_token(network: nn.Module, pixels: Tensor) -> Tensor:
    return network(pixels).pooler_output  # DINOv2 interpolates its positions unasked


def _clip_token(network: nn.Module, pixels: Tensor) -> Tensor:
    return network(pixels, interpolate_pos_encoding=True).pooler_output


# By kind of image network: its feature [n, D] of normalised pixels [n, 3, H, W].
FEATURES: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "resnet": _pooled_map,
    "vit": _class_token,
    "dinov2": _pooled_token,
    "clip_vision_model": _clip_token,
}
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
) -> MVCNN:
    """An MVCNN over an image network of NETWORKS.

    weights: see `build_network`. pooling: see `MVCNN`. encoder: "train", or "frozen" to learn only
    what is behind it. Raises UsageError where the weights cannot be had.
    """
    network = build_network(backbone, weights)
    return MVCNN(backbone, network, classes, image_size, pooling, frozen=encoder == "frozen")
