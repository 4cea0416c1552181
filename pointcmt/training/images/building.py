"""An image network from transformers' own classes, with its weights or with random ones.

transformers sees no folder and downloads nothing: it is given the tensors of exactly the files that
`find_weights` names, and so it reads no pickle, no adapter and no code that lies beside them.
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

# What no feature comes from: a checkpoint may lack it. The token stands in for masked patches.
SPARE = ("pooler", "head", "mask_token")


def build_network(backbone: str, weights: str) -> nn.Module:
    """An image network in float32, without its head.

    backbone: a name (see `named_network`), or "auto": what the weights are of. weights: "random",
    drawn from torch's global generator; a folder written by transformers' `save_pretrained`; "hub",
    the usual weights of this name; or `organisation/name[@revision]` on the Hugging Face hub, from
    its cache where they are there already. A folder that exists wins. Weights are read from
    safetensors, never from a pickle; of several towers those of the images' one.

    Raises UsageError where they cannot be had, or are those of another network.
    """
    return build_known(backbone, weights)[1]


def build_known(backbone: str, weights: str) -> tuple[ImageNetwork, nn.Module]:
    """What is known of a network, and as `build_network` gives it."""
    if weights == RANDOM:
        known = find_network(backbone, weights)
        return known, build_random(known)
    found = find_weights(backbone, weights)
    return found.network, _load(found)


def build_random(network: ImageNetwork) -> nn.Module:
    """The network with random weights of torch's global generator; on torch's default device.

    Raises UsageError where transformers cannot build it.
    """
    own = network.build is not None
    try:
        if network.build is not None:
            return _own(network, network.build())
        settings = _settings(network)
        return find_class(settings, network.hub)(settings, **_options(settings))
    except UsageError:
        raise
    except Exception as error:  # a library that is not there, sizes that do not fit: of any kind
        raise UsageError(
            f"{network.name} cannot be built: {error}",
            where=network.hub,
            fix="choose another network, or put right what "
            + ("its code does" if own else "its config.json says"),
        ) from error


def _own(network: ImageNetwork, built: Any) -> nn.Module:
    """What a network from outside the package has built. Raises UsageError for anything else."""
    if not isinstance(built, nn.Module):
        what = f"built a {type(built).__name__}, not an nn.Module"
        raise plugins.mistake(plugins.IMAGE_NETWORKS, network.name, what)
    return built


def _settings(network: ImageNetwork) -> Any:
    """transformers' configuration, in float32 and with torch's own attention.

    That is named so that no installed kernel library takes its place, nor one that a file names.
    """
    import transformers

    settings = transformers.CONFIG_MAPPING[network.kind].from_dict(dict(network.config))
    known = find_class(settings, network.hub)
    settings._attn_implementation = "sdpa" if known._supports_sdpa else "eager"
    settings.dtype = torch.float32
    settings.transformers_weights = None  # a file to read in place of those that are found
    return settings


def _options(settings: Any) -> dict[str, Any]:
    """Of the constructor: a pooler that nobody reads is left out where that can be."""
    known = inspect.signature(find_class(settings, "")).parameters
    return {"add_pooling_layer": False} if "add_pooling_layer" in known else {}


def _load(weights: Weights) -> nn.Module:
    """The network with these weights. Raises UsageError where they are not its or not finite."""
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
    except Exception as error:  # transformers and safetensors raise of all kinds
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
    """The same of a network from outside the package."""
    network = build_random(weights.network)
    own = network.state_dict()
    wrong = [
        name
        for name in {**own, **tensors}
        if name not in own or name not in tensors or tensors[name].shape != own[name].shape
    ]
    infinite = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    for names, how in ((wrong, "do not fit"), (infinite, "are not finite in")):
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
