"""Image networks by name: how they are built, where their weights come from, what a feature is.

All are transformers' own. `transformers` takes seconds to import, so only building one imports it.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pointcmt.errors import UsageError

RANDOM, HUB = "random", "hub"  # what `weights` may be beside a folder and a hub id

Statistics = tuple[float, float, float]  # of RGB from 0 to 1
IMAGENET: tuple[Statistics, Statistics] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
OPENAI_CLIP: tuple[Statistics, Statistics] = (
    (0.48145466, 0.4578275, 0.40821073),
    (0.26862954, 0.26130258, 0.27577711),
)
HALF: tuple[Statistics, Statistics] = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@dataclass(frozen=True)
class Family:
    """Networks that transformers builds with one class.

    config, model: names of its classes. types: the `model_type`s whose files it reads. feature:
    (network, normalised pixels [n,3,H,W]) → [n,D]. norm: name of a transformer's last norm.
    options: of the model's constructor.
    """

    config: str
    model: str
    types: tuple[str, ...]
    feature: Callable[[nn.Module, Tensor], Tensor]
    norm: str = ""
    options: tuple[tuple[str, Any], ...] = ()


def _pooled_map(network: nn.Module, pixels: Tensor) -> Tensor:
    return network(pixels).pooler_output.flatten(1)  # [n, D, 1, 1], the mean over the image


def _class_token(network: nn.Module, pixels: Tensor) -> Tensor:
    return network(pixels, interpolate_pos_encoding=True).last_hidden_state[:, 0]


def _pooled_token(network: nn.Module, pixels: Tensor) -> Tensor:
    return network(pixels).pooler_output  # DINOv2 interpolates its positions unasked


def _clip_token(network: nn.Module, pixels: Tensor) -> Tensor:
    return network(pixels, interpolate_pos_encoding=True).pooler_output


FAMILIES = {
    "resnet": Family("ResNetConfig", "ResNetModel", ("resnet",), _pooled_map),
    "vit": Family(
        "ViTConfig",
        "ViTModel",
        ("vit",),
        _class_token,
        "layernorm",
        options=(("add_pooling_layer", False),),
    ),
    "dinov2": Family("Dinov2Config", "Dinov2Model", ("dinov2",), _pooled_token, "layernorm"),
    # A whole CLIP is fine as well: its text tower is left where it is.
    "clip": Family(
        "CLIPVisionConfig",
        "CLIPVisionModel",
        ("clip", "clip_vision_model"),
        _clip_token,
        "post_layernorm",
    ),
}


@dataclass(frozen=True)
class ImageNetwork:
    """One architecture, written out: a run must build the same network again without its weights.

    config: what weights must agree with, in the words of the family's configuration. hub: id of
    the weights that `hub` means, with a revision where the main one holds pickles only.
    statistics: mean and standard deviation that the pixels are normalised with.
    """

    family: str
    config: dict[str, Any]
    hub: str
    statistics: tuple[Statistics, Statistics] = IMAGENET

    @property
    def width(self) -> int:
        """D, of a view's feature."""
        sizes = self.config.get("hidden_sizes")
        return sizes[-1] if sizes else self.config["hidden_size"]

    @property
    def patch(self) -> int:
        """Pixels that an image's side must be a multiple of."""
        return self.config.get("patch_size", 1)

    @property
    def depth(self) -> int:
        """Blocks of a transformer, stages of a ResNet."""
        depths = self.config.get("depths")
        return len(depths) if depths else self.config["num_hidden_layers"]

    def width_of(self, layer: int) -> int:
        """D of what a block or a stage gives; they count from 1."""
        sizes = self.config.get("hidden_sizes")
        return sizes[layer - 1] if sizes else self.config["hidden_size"]


def _resnet(layer: str, depths: tuple[int, ...], sizes: tuple[int, ...], hub: str) -> ImageNetwork:
    config = {"layer_type": layer, "depths": list(depths), "hidden_sizes": list(sizes)}
    return ImageNetwork("resnet", config, hub)


def _transformer(
    family: str, depth: int, width: int, patch: int, hub: str, **more: Any
) -> ImageNetwork:
    """Heads are 64 wide and the hidden layer four times the width in all of them."""
    statistics = more.pop("statistics", IMAGENET)
    config = {
        "num_hidden_layers": depth,
        "hidden_size": width,
        "num_attention_heads": width // 64,
        "patch_size": patch,
        **more,
    }
    return ImageNetwork(family, config, hub, statistics)


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
NETWORKS: dict[str, ImageNetwork] = {
    "resnet-18": _resnet("basic", (2, 2, 2, 2), _BASIC, "microsoft/resnet-18"),
    "resnet-34": _resnet("basic", (3, 4, 6, 3), _BASIC, "microsoft/resnet-34"),
    "resnet-50": _resnet("bottleneck", (3, 4, 6, 3), _BOTTLENECK, "microsoft/resnet-50"),
    "vit-base": _transformer(
        "vit", 12, 768, 16, "google/vit-base-patch16-224-in21k",
        intermediate_size=3072, statistics=HALF, **_VIT,
    ),
    "dinov2-small": _transformer("dinov2", 12, 384, 14, "facebook/dinov2-small", **_DINOV2),
    "dinov2-base": _transformer("dinov2", 12, 768, 14, "facebook/dinov2-base", **_DINOV2),
    "dinov2-large": _transformer("dinov2", 24, 1024, 14, "facebook/dinov2-large", **_DINOV2),
    # The first two hold pickles only; the revisions are the hub's own conversions of them.
    "clip-vit-b32": _transformer(
        "clip", 12, 768, 32,
        "openai/clip-vit-base-patch32@c237dc49a33fc61debc9276459120b7eac67e7ef",
        intermediate_size=3072, statistics=OPENAI_CLIP, **_CLIP,
    ),
    "clip-vit-b16": _transformer(
        "clip", 12, 768, 16,
        "openai/clip-vit-base-patch16@5ef227a78de3f75873f373246dac80def63b0003",
        intermediate_size=3072, statistics=OPENAI_CLIP, **_CLIP,
    ),
    "clip-vit-l14": _transformer(
        "clip", 24, 1024, 14, "openai/clip-vit-large-patch14",
        intermediate_size=4096, statistics=OPENAI_CLIP, **_CLIP,
    ),
}  # fmt: skip


def build_network(backbone: str, weights: str) -> nn.Module:
    """An image network of NETWORKS in float32, without its head.

    weights: "random", drawn from torch's global generator; a folder written by transformers'
    `save_pretrained`; "hub", the usual weights of this name; or `organisation/name[@revision]` on
    the Hugging Face hub, from its cache where they are there already. A folder that exists wins.
    Weights are read from safetensors, never from a pickle.

    Raises UsageError where they cannot be had, or are those of another network.
    """
    if weights == RANDOM:
        return _build_random(NETWORKS[backbone])
    folder = find_weights(backbone, weights)
    return _load(backbone, folder, where=_origin(backbone, weights))


def find_weights(backbone: str, weights: str) -> Path:
    """The folder of weights that are not random, after a download where need be; see above."""
    if weights != HUB and Path(weights).is_dir():
        return Path(weights)
    hub_id = _origin(backbone, weights)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", hub_id) or hub_id.startswith("."):
        raise UsageError("no such folder of weights", where=weights, fix=_fix(backbone))
    config = _download(backbone, hub_id, "config.json")
    _require_same(backbone, config, where=hub_id)  # before hundreds of megabytes come down
    return _download(backbone, hub_id, "model.safetensors").parent


def weights_key(backbone: str, weights: str) -> str:
    """What weights that are not random are, wherever they lie: the SHA-256 of all of them."""
    digest = hashlib.sha256()
    folder = find_weights(backbone, weights)
    try:
        for path in sorted(folder.glob("model*.safetensors")):
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    except OSError as error:
        raise UsageError(
            f"the weights cannot be read: {error.strerror}", where=str(folder), fix=_fix(backbone)
        ) from None
    return digest.hexdigest()


def find_layers(backbone: str, levels: Sequence[float]) -> list[int]:
    """The blocks or stages, from 1, that lie at these shares of a network's depth.

    Raises UsageError where two of them are the same.
    """
    depth = NETWORKS[backbone].depth
    layers = [max(1, round(level * depth)) for level in levels]
    if len(set(layers)) < len(layers):
        raise UsageError(
            f"the levels {list(levels)} of {backbone} are its layers {layers}: one twice",
            where="images.levels",
            fix=f"choose shares of its depth, {depth}, that are farther apart",
        )
    return layers


def to_pixels(images: Tensor, size: int, mean: Tensor, std: Tensor) -> Tensor:
    """images [n,H,W,3] u8 → what networks take, [n,3,h,w], channels last in memory.

    size: h = w that they are resized to, 0 = as they come. mean, std [3,1,1]: of 0 to 255.
    """
    pixels = images.permute(0, 3, 1, 2).to(mean.dtype)
    if size and pixels.shape[-2:] != (size, size):
        pixels = F.interpolate(pixels, (size, size), mode="bilinear", antialias=True)
    return (pixels - mean) / std


def require_size(backbone: str, size: int, knob: str = "data.image_size") -> None:
    """Raise UsageError for images [size, size] that the network's patches do not tile."""
    patch = NETWORKS[backbone].patch
    if size % patch:
        below = size - size % patch
        near = f"{below} or {below + patch}" if below else str(patch)
        raise UsageError(
            f"{backbone} cuts images into patches of {patch}², which do not tile {size}² pixels",
            where=knob,
            fix=f"set {knob} to a multiple of {patch}, such as {near}",
        )


def _build_random(network: ImageNetwork) -> nn.Module:
    import transformers

    family = FAMILIES[network.family]
    config = getattr(transformers, family.config)(**network.config, **_attention(network))
    return getattr(transformers, family.model)(config, **dict(family.options))


def _attention(network: ImageNetwork) -> dict[str, str]:
    """torch's own attention, named so that no installed kernel library takes its place."""
    return {} if network.family == "resnet" else {"attn_implementation": "sdpa"}


def _origin(backbone: str, weights: str) -> str:
    """The folder of weights, or their id on the hub."""
    return NETWORKS[backbone].hub if weights == HUB else weights


def _load(backbone: str, folder: Path, where: str) -> nn.Module:
    """The network in a local folder."""
    from safetensors import SafetensorError

    _require_same(backbone, folder / "config.json", where)
    import transformers

    network = NETWORKS[backbone]
    family = FAMILIES[network.family]
    settings = getattr(transformers, family.config)(**network.config, **_attention(network))
    try:
        with _quiet_transformers():
            loaded: Any = getattr(transformers, family.model).from_pretrained(
                str(folder),
                config=settings,
                local_files_only=True,
                use_safetensors=True,
                ignore_mismatched_sizes=True,  # they are reported below
                output_loading_info=True,
                **dict(family.options),
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UsageError(
            f"the weights cannot be read: {error}", where=where, fix=_fix(backbone)
        ) from error
    built, report = loaded
    missing = sorted(report["missing_keys"])
    other = sorted(str(key[0]) for key in report["mismatched_keys"])
    if missing or other:
        kind = "lack" if missing else "have other shapes in"
        names = missing or other
        raise UsageError(
            f"the weights {kind} {len(names)} tensors, such as {names[0]}",
            where=where,
            fix=_fix(backbone),
        )
    return built.to(torch.float32).train()


def _require_same(backbone: str, config: Path, where: str) -> None:
    """Raise UsageError unless a `config.json` says what NETWORKS says of this network."""
    import transformers
    from huggingface_hub.errors import StrictDataclassError

    network = NETWORKS[backbone]
    family = FAMILIES[network.family]
    fix = "name the backbone that these weights are of, or give others"
    try:
        kind = json.loads(config.read_text("utf-8"))["model_type"]
        if kind not in family.types:
            raise UsageError(f"this is no {backbone}: {kind}", where=where, fix=fix)
        with _quiet_transformers():
            found = getattr(transformers, family.config).from_pretrained(str(config))
    except (OSError, ValueError, KeyError, TypeError, StrictDataclassError) as error:
        raise UsageError(
            f"the weights cannot be read: {error}", where=where, fix=_fix(backbone)
        ) from error
    wrong = [
        f"{name} is {_plain(getattr(found, name, None))}, not {expected}"
        for name, expected in network.config.items()
        if _plain(getattr(found, name, None)) != expected
    ]
    if wrong:
        raise UsageError(
            f"this is no {backbone}: a {kind} whose {', '.join(wrong)}", where=where, fix=fix
        )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _download(backbone: str, hub_id: str, file: str) -> Path:
    """A file of the hub's, from its local cache if the hub cannot be reached."""
    from huggingface_hub import errors, hf_hub_download

    name, _, revision = hub_id.partition("@")
    try:
        return Path(hf_hub_download(name, file, revision=revision or None))
    except errors.LocalEntryNotFoundError:
        what = "the hub cannot be reached, and these weights are not in its local cache"
    except errors.GatedRepoError:
        what = "the hub gives these weights to those who accept their licence and log in"
    except (errors.RepositoryNotFoundError, errors.HFValidationError):
        what = "there is neither a folder of this name nor a public model on the hub"
    except errors.RevisionNotFoundError:
        what = "the model on the hub has no such revision"
    except errors.EntryNotFoundError:
        what = f"the model on the hub has no {file}"
        if file.endswith(".safetensors"):
            what += " (pickled weights are never read)"
    except Exception as error:  # the hub's HTTP and transfer libraries have kinds of their own
        what = f"the hub did not give {file}: {error}"
    raise UsageError(what, where=hub_id, fix=_fix(backbone))


def _fix(backbone: str) -> str:
    return (
        "give a folder with config.json and model.safetensors, such as a download of "
        f"{NETWORKS[backbone].hub}, or hub, or random: to mvnet as --set images.weights=…, to a "
        "teacher as --set model.weights=…"
    )


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """No progress bar and no report: the outcome is checked here."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        logging.enable_progress_bar()
