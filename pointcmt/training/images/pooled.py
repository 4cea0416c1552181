"""One feature of each view from an image network: what MVCNN pools over the views.

Four kinds of networks have a feature of an image by themselves. Of any other one, and of those from
outside the package, it is the mean over the image of what the last block gives: over the patches of
a transformer, after its last norm, as over the map of a convolutional network.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pointcmt.training.images.blocks import Blocks, own_size
from pointcmt.training.images.networks import ImageNetwork

SIZE_KEY = "data.image_size"
USUAL = 224  # pixels of the images of a network that does not say what it was trained on
Feature = Callable[[nn.Module, Tensor], Tensor]


def feature_of(known: ImageNetwork, network: nn.Module, size: int) -> tuple[Feature, int]:
    """What makes a feature [n, D] of normalized pixels [n, 3, s, s], and D.

    known: what `network` is built of. size: s, 0 = not known yet. Raises UsageError for a network
    whose blocks give no maps of this size.
    """
    if known.build is None and known.kind in FEATURES:
        return FEATURES[known.kind], known.width
    mean = LastMap(known, network)
    return mean, mean.width_at(size or own_size(known) or USUAL)


class LastMap:
    """The mean over the image of what the last block of a network gives."""

    def __init__(self, known: ImageNetwork, network: nn.Module) -> None:
        self.blocks = Blocks(known, network, SIZE_KEY)
        self.layers = self.blocks.find([1.0])
        self._widths: dict[int, int] = {}  # by the size of the images that were tried

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def __call__(self, network: nn.Module, pixels: Tensor) -> Tensor:
        """pixels [n, 3, s, s] → [n, D]."""
        self.width_at(pixels.shape[-1])
        (level,) = self.blocks.maps(pixels, self.layers)
        return level.mean(dim=(2, 3))

    def width_at(self, size: int) -> int:
        """D, by trying images of this size once. Raises UsageError if there are no maps of it."""
        if size not in self._widths:
            network = self.blocks.network
            training, device = network.training, next(network.parameters()).device
            network.eval()  # so that no running statistics change
            with torch.autocast(device.type, enabled=False):
                ((self._widths[size], _, _),) = self.blocks.shapes(size, self.layers)
            network.train(training)
        return self._widths[size]

    def unused(self, size: int) -> list[nn.Parameter]:
        """The parameters that the feature does not depend on, such as those of a head."""
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
    return network(pixels).pooler_output  # DINOv2 interpolates its positions unasked


def _clip_token(network: nn.Module, pixels: Tensor) -> Tensor:
    return network(pixels, interpolate_pos_encoding=True).pooler_output


# By kind of image network: its feature [n, D] of normalized pixels [n, 3, H, W].
FEATURES: dict[str, Feature] = {
    "resnet": _pooled_map,
    "vit": _class_token,
    "dinov2": _pooled_token,
    "clip_vision_model": _clip_token,
}
