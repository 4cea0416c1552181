"""Where an image network's weights are: in a folder, or on the Hugging Face hub and in its cache.

They are read from safetensors, in one file or several, and never from a pickle.
"""

import hashlib
import json
import re
from pathlib import Path

from pointcmt.errors import UsageError
from pointcmt.training.image_files import (
    CONFIG,
    PROCESSORS,
    read_network,
    read_settings,
    require_same,
)
from pointcmt.training.image_networks import AUTO, HUB, NETWORKS, ImageNetwork

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLES = "pickled weights are never read"


def find_network(backbone: str, weights: str) -> ImageNetwork:
    """The network of a name; "auto": the one that the weights' `config.json` describes.

    weights: see `build_network`. Raises UsageError where that cannot be had, or is not one whose
    blocks give maps.
    """
    if backbone != AUTO:
        return NETWORKS[backbone]
    return read_network(_describe(backbone, weights), where=weights, fix=how_to_give(backbone))


def find_weights(backbone: str, weights: str) -> Path:
    """The folder of weights that are not random, after a download where need be.

    Raises UsageError where there are none in safetensors, or where they are of another network.
    """
    where, fix = origin(backbone, weights), how_to_give(backbone)
    folder = _describe(backbone, weights)
    network = find_network(backbone, weights)  # all checked before hundreds of megabytes come down
    if backbone != AUTO:
        require_same(network, read_settings(folder, where, fix), where)
    if not _is_folder(weights):
        folder = _download_weights(backbone, where)
    if not list(folder.glob("model*.safetensors")):
        raise UsageError(
            f"the weights cannot be read: there is no {WEIGHTS} here ({PICKLES})",
            where=str(folder),
            fix=fix,
        )
    return folder


def weights_key(backbone: str, weights: str) -> str:
    """What weights that are not random are, wherever they lie: the SHA-256 of all of them.

    And, where the name does not tell it, of what they are the weights of.
    """
    folder = find_weights(backbone, weights)
    digest = hashlib.sha256()
    try:
        for path in sorted(folder.glob("model*.safetensors")):
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    except OSError as error:
        raise UsageError(
            f"the weights cannot be read: {error.strerror}",
            where=str(folder),
            fix=how_to_give(backbone),
        ) from None
    digest.update(find_network(backbone, weights).fingerprint.encode())
    return digest.hexdigest()


def origin(backbone: str, weights: str) -> str:
    """The folder of weights, or their id on the hub."""
    return NETWORKS[backbone].hub if weights == HUB else weights


def how_to_give(backbone: str) -> str:
    """What to do about weights that cannot be had, in words."""
    if backbone == AUTO:
        return (
            f"give a folder with {CONFIG} and {WEIGHTS}, as transformers' save_pretrained writes "
            "it, or organisation/name[@revision] of the hub, as --set images.weights=…"
        )
    return (
        f"give a folder with {CONFIG} and {WEIGHTS}, such as a download of "
        f"{NETWORKS[backbone].hub}, or hub, or random: to mvnet as --set images.weights=…, to a "
        "teacher as --set model.weights=…"
    )


def _describe(backbone: str, weights: str) -> Path:
    """The folder of what is said of the weights, without a download of the weights themselves."""
    if _is_folder(weights):
        return Path(weights)
    hub_id = origin(backbone, weights)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", hub_id) or hub_id.startswith("."):
        raise UsageError("no such folder of weights", where=weights, fix=how_to_give(backbone))
    if backbone == AUTO:
        for name in PROCESSORS:
            _download_if_there(backbone, hub_id, name)
    return _download(backbone, hub_id, CONFIG).parent


def _is_folder(weights: str) -> bool:
    return weights != HUB and Path(weights).is_dir()


def _download_weights(backbone: str, hub_id: str) -> Path:
    """One file, or all that an index names; returns their folder."""
    index = None
    if not _download_if_there(backbone, hub_id, WEIGHTS):
        index = _download_if_there(backbone, hub_id, INDEX)
    if index is None:
        return _download(backbone, hub_id, WEIGHTS).parent
    try:
        files = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
        if not all(re.fullmatch(r"model[\w.-]*\.safetensors", file) for file in files):
            raise ValueError("it names other files than model….safetensors")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{INDEX} cannot be used: {error}", where=hub_id, fix=how_to_give(backbone)
        ) from error
    for file in files:
        _download(backbone, hub_id, file)
    return index.parent


def _download(backbone: str, hub_id: str, file: str) -> Path:
    """A file of the hub's, from its local cache if the hub cannot be reached."""
    path = _download_if_there(backbone, hub_id, file)
    if path is None:
        what = f"the model on the hub has no {file}"
        if file.endswith(".safetensors"):
            what += f" ({PICKLES})"
        raise UsageError(what, where=hub_id, fix=how_to_give(backbone))
    return path


def _download_if_there(backbone: str, hub_id: str, file: str) -> Path | None:
    """The same, or None where the model on the hub has no such file."""
    from huggingface_hub import (
        _CACHED_NO_EXIST,
        errors,
        hf_hub_download,
        try_to_load_from_cache,
    )

    name, _, revision = hub_id.partition("@")
    try:
        return Path(hf_hub_download(name, file, revision=revision or None))
    except errors.LocalEntryNotFoundError:
        if try_to_load_from_cache(name, file, revision=revision or None) is _CACHED_NO_EXIST:
            return None
        what = "the hub cannot be reached, and these weights are not in its local cache"
    except errors.GatedRepoError:
        what = "the hub gives these weights to those who accept their licence and log in"
    except (errors.RepositoryNotFoundError, errors.HFValidationError):
        what = "there is neither a folder of this name nor a public model on the hub"
    except errors.RevisionNotFoundError:
        what = "the model on the hub has no such revision"
    except errors.EntryNotFoundError:
        return None
    except Exception as error:  # the hub's HTTP and transfer libraries have kinds of their own
        what = f"the hub did not give {file}: {error}"
    raise UsageError(what, where=hub_id, fix=how_to_give(backbone))
