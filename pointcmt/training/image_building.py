"""An image network from transformers' own classes, with its weights or with random ones.

Nothing is downloaded here and no code comes from a folder: `find_weights` has found all of it.
"""

import inspect
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pointcmt.errors import UsageError
from pointcmt.training.image_files import find_class, quiet_transformers
from pointcmt.training.image_networks import RANDOM, ImageNetwork
from pointcmt.training.image_weights import find_network, find_weights, how_to_give, origin

# What no feature comes from: a checkpoint may lack it. The token stands in for masked patches.
SPARE = ("pooler", "head", "mask_token")


def build_network(backbone: str, weights: str) -> nn.Module:
    """An image network in float32, without its head.

    backbone: a name of NETWORKS, or "auto": what the weights are of. weights: "random", drawn from
    torch's global generator; a folder written by transformers' `save_pretrained`; "hub", the usual
    weights of this name; or `organisation/name[@revision]` on the Hugging Face hub, from its cache
    where they are there already. A folder that exists wins. Weights are read from safetensors,
    never from a pickle; of several towers those of the images' one.

    Raises UsageError where they cannot be had, or are those of another network.
    """
    network = find_network(backbone, weights)
    if weights == RANDOM:
        return build_random(network)
    folder = find_weights(backbone, weights)
    return _load(network, folder, origin(backbone, weights), how_to_give(backbone))


def build_random(network: ImageNetwork) -> nn.Module:
    """The network with random weights of torch's global generator; on torch's default device.

    Raises UsageError where transformers cannot build it.
    """
    settings = _settings(network)
    try:
        return find_class(settings, network.hub)(settings, **_options(settings))
    except Exception as error:  # a library that is not there, sizes that do not fit: of any kind
        raise UsageError(f"{network.name} cannot be built: {error}", where=network.hub) from error


def _settings(network: ImageNetwork) -> Any:
    """transformers' configuration, in float32 and with torch's own attention.

    That is named so that no installed kernel library takes its place, nor one that a file names.
    """
    import transformers

    settings = transformers.CONFIG_MAPPING[network.kind].from_dict(dict(network.config))
    known = find_class(settings, network.hub)
    settings._attn_implementation = "sdpa" if known._supports_sdpa else "eager"
    settings.dtype = torch.float32
    return settings


def _options(settings: Any) -> dict[str, Any]:
    """Of the constructor: a pooler that nobody reads is left out where that can be."""
    known = inspect.signature(find_class(settings, "")).parameters
    return {"add_pooling_layer": False} if "add_pooling_layer" in known else {}


def _load(network: ImageNetwork, folder: Path, where: str, fix: str) -> nn.Module:
    """The network in a local folder."""
    settings = _settings(network)
    try:
        with quiet_transformers():
            loaded: Any = find_class(settings, where).from_pretrained(
                str(folder),
                config=settings,
                local_files_only=True,
                use_safetensors=True,
                ignore_mismatched_sizes=True,  # they are reported below
                output_loading_info=True,
                **_options(settings),
            )
    except Exception as error:  # transformers and safetensors raise of all kinds
        raise UsageError(f"the weights cannot be read: {error}", where=where, fix=fix) from error
    built, report = loaded
    missing = _needed(report["missing_keys"])
    other = _needed(str(key[0]) for key in report["mismatched_keys"])
    if missing or other:
        kind = "lack" if missing else "have other shapes in"
        names = missing or other
        raise UsageError(
            f"the weights {kind} {len(names)} tensors, such as {names[0]}", where=where, fix=fix
        )
    return built.to(torch.float32).train()


def _needed(names: Any) -> list[str]:
    return sorted(name for name in names if not set(name.split(".")) & set(SPARE))
