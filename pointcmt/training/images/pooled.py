"""One feature per view from an image network, for MVCNN to pool over the views.

Four kinds of networks define a feature of an image themselves. For any other one, and those from
outside the package, it is the mean over the last block's map: of a transformer, over its patches
after its last norm.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pointcmt.training.images.blocks import Blocks, own_size
from pointcmt.training.images.networks import ImageNetwork
from pointcmt.training.ops.eager import eager

SIZE_KEY = "data.image_size"
USUAL = 224  # image side in pixels if the network's training size is unknown
Feature = Callable[[nn.Module, Tensor], Tensor]


def feature_of(known: ImageNetwork, network: nn.Module, size: int) -> tuple[Feature, int]:
    """Return a function from normalized pixels [n, 3, s, s] to a feature [n, D], and D.

    known: the description of `network`. size: s, 0 = not known yet. Raises UsageError for a network
    whose blocks do not return maps at this size.
    """
    if known.build is None and known.kind in FEATURES:
        return FEATURES[known.kind], known.width
    mean = LastMap(known, network)
    return mean, mean.width_at(size or own_size(known) or USUAL)


class LastMap:
    """The mean over the map of a network's last block."""

    def __init__(self, known: ImageNetwork, network: nn.Module) -> None:
        self.blocks = Blocks(known, network, SIZE_KEY)
        self.layers = self.blocks.find([1.0])
        self._widths: dict[int, int] = {}  # by image size tried

    @eager
    def __call__(self, network: nn.Module, pixels: Tensor) -> Tensor:
        """pixels [n, 3, s, s] → [n, D]."""
        self.width_at(pixels.shape[-1])
        (level,) = self.blocks.maps(pixels, self.layers)
        return level.mean(dim=(2, 3))

    def width_at(self, size: int) -> int:
        """Return D, by trying images of this size once. Raises UsageError if there are no maps."""
        if size not in self._widths:
            network = self.blocks.network
            training, device = network.training, next(network.parameters()).device
            network.eval()  # so that no running statistics change
            with torch.autocast(device.type, enabled=False):
                ((self._widths[size], _, _),) = self.blocks.shapes((size, size), self.layers)
            network.train(training)
        return self._widths[size]

    def unused(self, size: int) -> list[nn.Parameter]:
        """Return the parameters that the feature does not depend on, such as a head's."""
        network = self.blocks.network
        size = size or own_size(self.blocks.known) or USUAL
        parameters = [p for p in network.parameters() if p.requires_grad]
        weights = next(network.parameters())
        pixels = torch.linspace(-1, 1, 3 * size * size, device=weights.device, dtype=weights.dtype)
        training = network.training
        with torch.enable_grad(), torch.random.fork_rng(devices=[]):
            total = self(network.eval(), pixels.view(1, 3, size, size)).sum()
            found = torch.autograd.grad(total, parameters, allow_unused=True)
        network.train(training)
        return [p for p, gradient in zip(parameters, found, strict=True) if gradient is None]


def _pooled_map(network: nn.Module, pixels: Tensor) -> Tensor:
    return network(pixels).pooler_output.flatten(1)  # [n, D, 1, 1], the mean over the image


def _class_token(network: nn.Module, pixels: Tensor) -> Tensor:
    return network(pixels, interpolate_pos_encoding=True).last_hidden_state[:, 0]


def _pooled_token(network: nn.Module, pixels: Tensor) -> Tensor:
    return network(pixels).pooler_output  # DINOv2 interpolates its positions by default


def _clip_token(network: nn.Module, pixels: Tensor) -> Tensor:
    return network(pixels, interpolate_pos_encoding=True).pooler_output


# By kind of image network: its feature [n, D] of normalized pixels [n, 3, H, W].
FEATURES: dict[str, Feature] = {
    "resnet": _pooled_map,
    "vit": _class_token,
    "dinov2": _pooled_token,
    "clip_vision_model": _clip_token,
}
