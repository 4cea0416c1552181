"""An image network from transformers' own classes, with its weights or with random ones.

transformers reads no folder and downloads nothing: it receives the tensors of exactly the files
that `find_weights` returns, so pickles, adapters and code beside them are never loaded.
"""

import inspect
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from pointcmt import plugins
from pointcmt.errors import UsageError
from pointcmt.files import require_regular
from pointcmt.training.images.files import find_class, quiet_transformers
from pointcmt.training.images.networks import RANDOM, ImageNetwork
from pointcmt.training.images.weights import Weights, find_network, find_weights

# No feature depends on these: a checkpoint may lack them. The token replaces masked patches.
SPARE = ("pooler", "head", "mask_token")


def build_network(backbone: str, weights: str) -> nn.Module:
    """Build an image network in float32, without its head.

    backbone: a name (see `named_network`), or "auto": the network that the weights belong to.
    weights: "random", drawn from torch's global generator; a folder written by transformers'
    `save_pretrained`; "hub", the usual weights of this name; or `organization/name[@revision]` on
    the Hugging Face hub, from its cache if present. An existing folder takes precedence. Weights
    are read from safetensors, never from a pickle; of several towers, the image tower's.

    Raises UsageError if they are not available, or belong to another network.
    """
    return build_known(backbone, weights)[1]


def build_known(backbone: str, weights: str) -> tuple[ImageNetwork, nn.Module]:
    """Return a network's description and the network, built as by `build_network`."""
    if weights == RANDOM:
        known = find_network(backbone, weights)
        return known, build_random(known)
    found = find_weights(backbone, weights)
    return found.network, _load(found)


def build_random(network: ImageNetwork) -> nn.Module:
    """Build the network with random weights of torch's global generator, on the default device.

    Raises UsageError if transformers cannot build it.
    """
    own = network.build is not None
    try:
        if network.build is not None:
            return _own(network, network.build())
        settings = _settings(network)
        return find_class(settings, network.hub)(settings, **_options(settings))
    except UsageError:
        raise
    except Exception as error:  # of any type: a missing library, sizes that do not fit
        raise UsageError(
            f"{network.name} cannot be built: {error}",
            where=network.hub,
            fix="choose another network, or correct " + ("its code" if own else "its config.json"),
        ) from error


def _own(network: ImageNetwork, built: Any) -> nn.Module:
    """Return an outside network's module. Raises UsageError if it did not build an nn.Module."""
    if not isinstance(built, nn.Module):
        what = f"built a {type(built).__name__}, not an nn.Module"
        raise plugins.mistake(plugins.IMAGE_NETWORKS, network.name, what)
    return built


def _settings(network: ImageNetwork) -> Any:
    """Return transformers' configuration, in float32 and with torch's own attention.

    The attention is set explicitly so that no installed or configured kernel library replaces it.
    """
    import transformers

    settings = transformers.CONFIG_MAPPING[network.kind].from_dict(dict(network.config))
    known = find_class(settings, network.hub)
    settings._attn_implementation = "sdpa" if known._supports_sdpa else "eager"
    settings.dtype = torch.float32
    settings.transformers_weights = None  # would name a file to read instead of those found
    return settings


def _options(settings: Any) -> dict[str, Any]:
    """Return constructor options: leave out an unused pooler where possible."""
    known = inspect.signature(find_class(settings, "")).parameters
    return {"add_pooling_layer": False} if "add_pooling_layer" in known else {}


def _load(weights: Weights) -> nn.Module:
    """Load a network's weights. Raises UsageError if they do not fit or are not finite."""
    where, fix = weights.where, weights.fix
    tensors: dict[str, Tensor] = {}
    try:
        for path in weights.files:
            require_regular(path)
            tensors.update(load_file(path))
        if weights.network.build is not None:
            return _load_own(weights, tensors)
        settings = _settings(weights.network)
        with quiet_transformers():
            loaded: Any = find_class(settings, where).from_pretrained(
                None,
                config=settings,
                state_dict=tensors,
                ignore_mismatched_sizes=True,  # they are reported below
                output_loading_info=True,
                **_options(settings),
            )
    except UsageError:
        raise
    except Exception as error:  # transformers and safetensors raise many types
        raise UsageError(f"the weights cannot be read: {error}", where=where, fix=fix) from error
    built, report = loaded[0].to(torch.float32), loaded[1]
    found = {
        "lack": _needed(report["missing_keys"]),
        "have other shapes in": _needed(str(key[0]) for key in report["mismatched_keys"]),
        "are not finite in": _needed(
            name for name, tensor in built.state_dict().items() if not tensor.isfinite().all()
        ),
    }
    for how, names in found.items():
        if names:
            raise UsageError(
                f"the weights {how} {len(names)} tensors, such as {names[0]}", where=where, fix=fix
            )
    return built.train()


def _load_own(weights: Weights, tensors: dict[str, Tensor]) -> nn.Module:
    """Load the weights of a network from outside the package."""
    network = build_random(weights.network)
    own = network.state_dict()
    wrong = [
        name
        for name in {**own, **tensors}
        if name not in own or name not in tensors or tensors[name].shape != own[name].shape
    ]
    infinite = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    for names, how in ((wrong, "do not match"), (infinite, "are not finite in")):
        if names:
            raise UsageError(
                f"the weights {how} {len(names)} tensors of {weights.network.name}, such as "
                f"{names[0]}",
                where=weights.where,
                fix=weights.fix,
            )
    network.load_state_dict(tensors)
    return network.to(torch.float32).train()


def _needed(names: Any) -> list[str]:
    return sorted(name for name in names if not set(name.split(".")) & set(SPARE))
