"""Where an image network's weights are: in a folder, or on the Hugging Face hub and in its cache.

They are read from safetensors, in one file or several, and never from a pickle.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from pointcmt.errors import UsageError
from pointcmt.files import open_regular
from pointcmt.training.images.files import (
    CONFIG,
    PROCESSORS,
    read_network,
    read_settings,
    read_table,
    require_same,
)
from pointcmt.training.images.networks import AUTO, HUB, ImageNetwork, named_network

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARD = r"model[\w.-]*\.safetensors"  # files an index may name: no folders or pickles
HUB_ID = r"[\w.-]+/[\w.-]+(@[\w./-]+)?"
PICKLES = "pickled weights are not supported"


@dataclass(frozen=True)
class Weights:
    """Weights that are not random. files: all files to read; where, fix: for messages."""

    network: ImageNetwork
    files: list[Path]
    where: str
    fix: str


def find_network(backbone: str, weights: str) -> ImageNetwork:
    """Return the network of a name; "auto": the one that the weights' `config.json` describes.

    weights: see `build_network`. Raises UsageError if it is not available, or if its blocks do not
    return maps.
    """
    if backbone != AUTO:
        return named_network(backbone)
    config = _need(backbone, weights, CONFIG)
    # Lazily: the second is not requested if the first one is enough.
    processors = (path for name in PROCESSORS if (path := _find(backbone, weights, name)))
    network = read_network(config, processors, where=weights, fix=how_to_give(backbone))
    if network.guessed and not _is_folder(weights) and not _knows_all(weights, PROCESSORS):
        said = f"the hub cannot be reached, and its local cache has no {PROCESSORS[0]} of {weights}"
        return replace(network, guessed=said)
    return network


def find_weights(backbone: str, weights: str) -> Weights:
    """Return the network and files of non-random weights, downloading them if necessary.

    Raises UsageError if there are none in safetensors, or if they belong to another network.
    """
    where, fix = origin(backbone, weights), how_to_give(backbone)
    network = find_network(backbone, weights)  # check before downloading hundreds of megabytes
    if backbone != AUTO and network.build is None:
        config = _need(backbone, weights, CONFIG)
        require_same(network, read_settings(config, where, fix), where)
    return Weights(network, _find_files(backbone, weights), where, fix)


def weights_key(backbone: str, weights: str) -> str:
    """Return the SHA-256 of non-random weights, independent of their location.

    It includes the network's description unless the name identifies it.
    """
    found = find_weights(backbone, weights)
    digest = hashlib.sha256()
    try:
        for path in found.files:
            with open_regular(path) as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    except OSError as error:
        raise UsageError(
            f"the weights cannot be read: {error.strerror}", where=found.where, fix=found.fix
        ) from None
    digest.update(found.network.fingerprint.encode())
    return digest.hexdigest()


def origin(backbone: str, weights: str) -> str:
    """Return the folder of weights, or their id on the hub."""
    return named_network(backbone).hub if weights == HUB else weights


def how_to_give(backbone: str) -> str:
    """Return advice for weights that are not available."""
    if backbone == AUTO:
        return (
            f"use a folder with {CONFIG} and {WEIGHTS}, as written by transformers' "
            "save_pretrained, or organization/name[@revision] on the hub (mvnet: --set "
            "images.weights=…, teacher: --set model.weights=…)"
        )
    known = named_network(backbone)
    files = f"{CONFIG} and {WEIGHTS}" if known.build is None else WEIGHTS
    hub = f", such as a download of {known.hub}, or hub" if known.hub else ""
    return (
        f"use a folder with {files}{hub}, or random (mvnet: --set images.weights=…, teacher: "
        "--set model.weights=…)"
    )


def _find_files(backbone: str, weights: str) -> list[Path]:
    """Return the single file, or all that an index names: safetensors files in its folder."""
    whole = _find(backbone, weights, WEIGHTS)
    index = None if whole else _find(backbone, weights, INDEX)
    if index is None:
        return [whole or _need(backbone, weights, WEIGHTS)]
    try:
        names = set(read_table(index)["weight_map"].values())
        if not names or not all(re.fullmatch(SHARD, name) for name in names):
            raise ValueError("it refers to files other than model….safetensors")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{INDEX} cannot be used: {error}",
            where=origin(backbone, weights),
            fix=how_to_give(backbone),
        ) from error
    return [_need(backbone, weights, name) for name in sorted(names)]


def _find(backbone: str, weights: str, file: str) -> Path | None:
    """Return a file of the folder or the hub, or None."""
    if not _is_folder(weights):
        return _download(backbone, weights, file)
    path = Path(weights) / file
    return path if path.exists() else None


def _need(backbone: str, weights: str, file: str) -> Path:
    """Return a file of the folder or the hub, which must exist."""
    if _is_folder(weights):
        path = _find(backbone, weights, file)
        what = f"the weights cannot be read: {file} not found"
    else:
        path = _download(backbone, weights, file, needed=True)
        what = f"the model on the hub has no {file}"
    if path is None:
        pickles = f" ({PICKLES})" if file.endswith(".safetensors") else ""
        raise UsageError(what + pickles, where=origin(backbone, weights), fix=how_to_give(backbone))
    return path


def _knows_all(hub_id: str, files: Iterable[str]) -> bool:
    return all(_cached(hub_id, file) is not None for file in files)


def _is_folder(weights: str) -> bool:
    return weights != HUB and Path(weights).is_dir()


def _download(backbone: str, weights: str, file: str, needed: bool = False) -> Path | None:
    """Return a file of the hub, or None if the model does not have it.

    Reads the local cache if the hub cannot be reached. A cache with the configuration is assumed to
    be complete, except for needed files.
    """
    from huggingface_hub import errors, hf_hub_download

    hub_id = origin(backbone, weights)
    if not re.fullmatch(HUB_ID, hub_id) or hub_id.startswith("."):
        raise UsageError("no such folder of weights", where=weights, fix=how_to_give(backbone))
    name, _, revision = hub_id.partition("@")
    try:
        return Path(hf_hub_download(name, file, revision=revision or None))
    except errors.LocalEntryNotFoundError:
        if _cached(hub_id, file) is False or (not needed and _cached(hub_id, CONFIG)):
            return None
        what = f"the hub cannot be reached, and its local cache has no {file} of these weights"
        if weights != HUB:
            what = f"there is no folder of this name, {what}"
    except errors.GatedRepoError:
        what = "access to these weights on the hub requires accepting their license and logging in"
    except (errors.RepositoryNotFoundError, errors.HFValidationError):
        what = "there is no folder with this name and no public model on the hub"
    except errors.RevisionNotFoundError:
        what = "the model on the hub has no such revision"
    except errors.EntryNotFoundError:
        return None
    except Exception as error:  # the hub's HTTP and transfer libraries raise their own types
        what = f"cannot download {file} from the hub: {error}"
    raise UsageError(what, where=hub_id, fix=how_to_give(backbone))


def _cached(hub_id: str, file: str) -> bool | None:
    """Return whether the hub's model has a file; None if the local cache does not know."""
    from huggingface_hub import _CACHED_NO_EXIST, try_to_load_from_cache

    name, _, revision = hub_id.partition("@")
    found = try_to_load_from_cache(name, file, revision=revision or None)
    return None if found is None else found is not _CACHED_NO_EXIST
