"""Image networks: ten by name, and the description of any other one before its weights are read.

All are transformers' own, except those with code from outside the package. `files.py` reads a
network's description from a folder, `weights.py` finds weights, `building.py` builds the network.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from pointcmt import plugins
from pointcmt.console import in_pixels
from pointcmt.errors import UsageError, nearest

RANDOM, HUB = "random", "hub"  # values of `weights` other than a folder or a hub id
AUTO = "auto"  # the backbone that the folder of the weights describes

Statistics = tuple[float, float, float]  # of RGB from 0 to 1
IMAGENET: tuple[Statistics, Statistics] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
OPENAI_CLIP: tuple[Statistics, Statistics] = (
    (0.48145466, 0.4578275, 0.40821073),
    (0.26862954, 0.26130258, 0.27577711),
)
HALF: tuple[Statistics, Statistics] = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@dataclass(frozen=True)
class ImageNetwork:
    """One architecture, written out: a run must build the same network again without its weights.

    name: for messages. kind: transformers' `model_type`. config: settings that weights must match,
    in the terms of the kind's configuration. hub: the default location of its weights, with a
    revision where the main one holds pickles only. statistics: mean and standard deviation for
    normalizing pixels; guessed: why these are ImageNet's, if no file has any. fingerprint: of all
    of this, unless the name alone identifies it.

    build: for a network outside transformers: returns it with random weights of torch's global
    generator. It accepts normalized pixels [n, 3, H, W], may return anything, and has an
    nn.ModuleList of blocks, each of which returns a map [n, D, h, w] or tokens [n, T, D] whose last
    ones are the patches, row by row. Its weights are in a `model.safetensors`, under the names of
    its `state_dict`. Of its `config` only `patch_size` (default 1) and `image_size`, the side of
    its training images (default unknown), are read.
    """

    name: str
    kind: str
    config: dict[str, Any]
    hub: str
    statistics: tuple[Statistics, Statistics] = IMAGENET
    guessed: str = ""
    fingerprint: str = ""
    build: Callable[[], nn.Module] | None = None

    @property
    def width(self) -> int:
        """D, the width of a view's feature."""
        sizes = self.config.get("hidden_sizes")
        return sizes[-1] if sizes else self.config["hidden_size"]

    @property
    def patch(self) -> int:
        """Pixels that an image's side must be a multiple of."""
        patch = self.config.get("patch_size") or 1
        return patch if isinstance(patch, int) else patch[0]


def _resnet(
    name: str, layer: str, depths: tuple[int, ...], sizes: tuple[int, ...], hub: str
) -> ImageNetwork:
    config = {"layer_type": layer, "depths": list(depths), "hidden_sizes": list(sizes)}
    return ImageNetwork(name, "resnet", config, hub)


def _transformer(
    name: str, kind: str, depth: int, width: int, patch: int, hub: str, **more: Any
) -> ImageNetwork:
    """Describe a transformer with heads 64 wide and hidden layers four times the width."""
    statistics = more.pop("statistics", IMAGENET)
    config = {
        "num_hidden_layers": depth,
        "hidden_size": width,
        "num_attention_heads": width // 64,
        "patch_size": patch,
        **more,
    }
    return ImageNetwork(name, kind, config, hub, statistics)


_VIT = {"image_size": 224, "hidden_act": "gelu", "layer_norm_eps": 1e-12, "qkv_bias": True}
_DINOV2 = {
    "image_size": 518,
    "mlp_ratio": 4,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-6,
    "qkv_bias": True,
    "use_swiglu_ffn": False,
}
_CLIP = {"image_size": 224, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
_BASIC, _BOTTLENECK = (64, 128, 256, 512), (256, 512, 1024, 2048)

# ResNet: He et al. 2016, arXiv 1512.03385, table 1. ViT: Dosovitskiy et al. 2021, arXiv 2010.11929.
# DINOv2: Oquab et al. 2023, arXiv 2304.07193. CLIP: Radford et al. 2021, arXiv 2103.00020.
_NETWORKS = (
    _resnet("resnet-18", "basic", (2, 2, 2, 2), _BASIC, "microsoft/resnet-18"),
    _resnet("resnet-34", "basic", (3, 4, 6, 3), _BASIC, "microsoft/resnet-34"),
    _resnet("resnet-50", "bottleneck", (3, 4, 6, 3), _BOTTLENECK, "microsoft/resnet-50"),
    _transformer(
        "vit-base", "vit", 12, 768, 16, "google/vit-base-patch16-224-in21k",
        intermediate_size=3072, statistics=HALF, **_VIT,
    ),
    _transformer("dinov2-small", "dinov2", 12, 384, 14, "facebook/dinov2-small", **_DINOV2),
    _transformer("dinov2-base", "dinov2", 12, 768, 14, "facebook/dinov2-base", **_DINOV2),
    _transformer("dinov2-large", "dinov2", 24, 1024, 14, "facebook/dinov2-large", **_DINOV2),
    # The first two hold pickles only; the revisions are the hub's own conversions of them.
    _transformer(
        "clip-vit-b32", "clip_vision_model", 12, 768, 32,
        "openai/clip-vit-base-patch32@c237dc49a33fc61debc9276459120b7eac67e7ef",
        intermediate_size=3072, statistics=OPENAI_CLIP, **_CLIP,
    ),
    _transformer(
        "clip-vit-b16", "clip_vision_model", 12, 768, 16,
        "openai/clip-vit-base-patch16@5ef227a78de3f75873f373246dac80def63b0003",
        intermediate_size=3072, statistics=OPENAI_CLIP, **_CLIP,
    ),
    _transformer(
        "clip-vit-l14", "clip_vision_model", 24, 1024, 14, "openai/clip-vit-large-patch14",
        intermediate_size=4096, statistics=OPENAI_CLIP, **_CLIP,
    ),
)  # fmt: skip
NETWORKS: dict[str, ImageNetwork] = {network.name: network for network in _NETWORKS}


def named_network(name: str) -> ImageNetwork:
    """Return a network of NETWORKS, an entry point of `pointcmt.image_networks`, or `module:name`.

    Raises UsageError for an unknown name, and for an outside one that cannot be imported or is not
    an `ImageNetwork`.
    """
    if name in NETWORKS:
        return NETWORKS[name]
    found = plugins.find(plugins.IMAGE_NETWORKS, name, "backbone")
    if found is None:
        known = [*NETWORKS, *plugins.names(plugins.IMAGE_NETWORKS)]
        raise UsageError(f"unknown image network '{name}'", fix=nearest(name, known))
    if not isinstance(found, ImageNetwork):
        what = f"must be an ImageNetwork, not a {type(found).__name__}"
        raise plugins.mistake(plugins.IMAGE_NETWORKS, name, what)
    code = plugins.origin(plugins.IMAGE_NETWORKS, name)
    return replace(found, name=name, fingerprint=found.fingerprint or code)


def to_pixels(images: Tensor, size: tuple[int, int], mean: Tensor, std: Tensor) -> Tensor:
    """images [n,H,W,3] u8 → network input [n,3,h,w], channels last in memory.

    size: h and w that they are resized to. mean, std [3,1,1]: on the scale 0 to 255.
    """
    pixels = images.permute(0, 3, 1, 2).to(mean.dtype)
    if pixels.shape[-2:] != size:
        pixels = F.interpolate(pixels, size, mode="bilinear", antialias=True)
    return (pixels - mean) / std


def require_size(
    network: ImageNetwork, size: tuple[int, int], option: str = "data.image_size"
) -> None:
    """Raise UsageError for images [h, w] that the network's patches do not tile."""
    patch, longer = network.patch, max(size)
    if any(side % patch for side in size):
        below = longer - longer % patch
        near = f"{below} or {below + patch}" if below else str(patch)
        raise UsageError(
            f"{network.name} cuts images into patches of {patch}², which do not tile "
            f"{in_pixels(size)} pixels",
            where=option,
            fix=f"set {option} to a multiple of {patch}, such as {near}",
        )
