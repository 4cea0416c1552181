"""Read an image network's architecture and image statistics from the files beside its weights.

Only JSON is read, and only networks of transformers itself are built: no code comes from a folder.
`transformers` takes seconds to import, so it is imported only where needed.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pointcmt.errors import UsageError
from pointcmt.files import MOST_BYTES, read_json, read_regular
from pointcmt.training.images.networks import IMAGENET, ImageNetwork, Statistics

CONFIG = "config.json"
PROCESSORS = ("preprocessor_config.json", "processor_config.json")  # by precedence
LEVEL = 255.0  # pixel value that is 1 on the scale of the statistics
BGR = ("mobilevit", "mobilevitv2")  # use BGR unless their preprocessing says otherwise
# Keys that a description leaves out: the network does not depend on them.
NOT_BUILT = (
    "_name_or_path",
    "architectures",
    "dtype",
    "id2label",
    "label2id",
    "model_type",
    "torch_dtype",
    "transformers_version",
)
UNFIT = {  # kinds whose tokens are not the image's patches, row by row
    "hiera": "its tokens are in the order of its windows",
    "vit_mae": "it uses a random quarter of the patches",
    "yolos": "object tokens follow the patch tokens",
}


def read_network(config: Path, processors: Iterable[Path], where: str, fix: str) -> ImageNetwork:
    """Return the network that files describe; of several towers, the one for images.

    processors: files that describe image preprocessing; the first with statistics counts. Without
    one, ImageNet's statistics are assumed. Raises UsageError if the files do not describe an image
    network, or if its blocks do not return maps.
    """
    settings = read_settings(config, where, fix)
    _require_images(settings, where, fix)
    kind = settings.model_type
    statistics = _read_statistics(kind, processors, where, fix)
    described = f"{statistics}\n".encode() + read_regular(config, MOST_BYTES)
    return ImageNetwork(
        kind,
        kind,
        settings.to_dict(),
        where,
        statistics or IMAGENET,
        guessed="" if statistics else f"{where} has no image normalization settings",
        fingerprint=hashlib.sha256(described).hexdigest(),
    )


def describe_network(network: ImageNetwork) -> dict[str, Any]:
    """Return a JSON object from which `described_network` restores the network without files."""
    kept = {key: value for key, value in network.config.items() if key not in NOT_BUILT}
    table = {"kind": network.kind, "config": kept, "statistics": network.statistics}
    described: dict[str, Any] = json.loads(json.dumps(table, default=str, sort_keys=True))
    return described


def described_network(table: Any, where: str) -> ImageNetwork:
    """Return the network of a `describe_network` object. Raises UsageError for anything else."""
    fix = "train again into a new --out"
    try:
        mean, std = table["statistics"]
        statistics = _statistics({"image_mean": mean, "image_std": std})
        config = {**table["config"], "model_type": table["kind"]}
        if statistics is None:
            raise ValueError("statistics are null")
    except (KeyError, TypeError, ValueError) as error:
        what = f"the description of the image network is damaged: {error!r}"
        raise UsageError(what, where=where, fix=fix) from error
    settings = _parse_settings(config, where, fix)
    _require_images(settings, where, fix)
    fingerprint = hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()
    kind = settings.model_type
    return ImageNetwork(kind, kind, config, where, statistics, fingerprint=fingerprint)


def _require_images(settings: Any, where: str, fix: str) -> None:
    """Raise UsageError for a network that is not an image backbone."""
    kind = settings.model_type
    reason = UNFIT.get(kind, "")
    if find_class(settings, where).main_input_name != "pixel_values":
        reason = "it does not take images"
    elif getattr(settings, "is_encoder_decoder", False):
        reason = "it has a decoder"
    if reason:
        raise UsageError(f"{kind} is not an image backbone: {reason}", where=where, fix=fix)


def read_settings(config: Path, where: str, fix: str) -> Any:
    """Read transformers' configuration from a `config.json`; of several towers, the image tower's.

    Raises UsageError if there is none, or if its weights are quantized.
    """
    try:
        table = read_table(config)
    except (OSError, ValueError) as error:
        raise UsageError(f"the weights cannot be read: {error}", where=where, fix=fix) from error
    return _parse_settings(table, where, fix)


def _parse_settings(table: dict[str, Any], where: str, fix: str) -> Any:
    """Parse the content of a `config.json` for `read_settings`."""
    import transformers

    try:
        kind = table.get("model_type")
        if not isinstance(kind, str) or kind not in transformers.CONFIG_MAPPING:
            said = f"transformers {transformers.__version__} has no {kind!r}"
            raise ValueError(
                said if kind else f"{CONFIG} has no model_type, so it is not from transformers"
            )
        with quiet_transformers():
            whole = transformers.CONFIG_MAPPING[kind].from_dict(table)
    except Exception as error:  # transformers raises many types for invalid values
        raise UsageError(f"the weights cannot be read: {error}", where=where, fix=fix) from error
    settings = getattr(whole, "vision_config", None) or whole
    if any(getattr(each, "quantization_config", None) is not None for each in (whole, settings)):
        raise UsageError(
            f"the weights cannot be read: {CONFIG} says that {kind} is quantized",
            where=where,
            fix=fix,
        )
    return settings


def read_table(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file. Raises OSError, or ValueError for anything else."""
    table = read_json(path)
    if not isinstance(table, dict):
        raise ValueError(f"{path.name} is not a table")
    return table


def require_same(network: ImageNetwork, settings: Any, where: str) -> None:
    """Raise UsageError unless a folder's settings match this network of NETWORKS."""
    fix = "set the backbone to the one that these weights belong to (or auto), or use other weights"
    kind = settings.model_type
    if kind != network.kind:
        raise UsageError(
            f"the weights are not of {network.name}, but of {kind}", where=where, fix=fix
        )
    wrong = [
        f"{name} is {_plain(getattr(settings, name, None))}, not {expected}"
        for name, expected in network.config.items()
        if _plain(getattr(settings, name, None)) != expected
    ]
    if wrong:
        raise UsageError(
            f"the weights are not of {network.name}, but of a {kind} whose {', '.join(wrong)}",
            where=where,
            fix=fix,
        )


def find_class(settings: Any, where: str) -> Any:
    """Return transformers' headless class for a configuration. Raises UsageError without one."""
    import transformers

    try:
        found: Any = transformers.MODEL_MAPPING[type(settings)]
        found = found[0] if isinstance(found, tuple) else found
        found.main_input_name  # noqa: B018, the placeholder for a missing library raises
    except Exception as error:
        said = "" if isinstance(error, KeyError) else f": {error}"
        raise UsageError(
            f"transformers cannot build a network of the type {settings.model_type} by "
            f"itself{said}",
            where=where,
            fix="use the folder of a backbone such as CLIP, SigLIP or DINOv2",
        ) from error
    return found


def _read_statistics(
    kind: str, processors: Iterable[Path], where: str, fix: str
) -> tuple[Statistics, Statistics] | None:
    """Return mean and standard deviation of RGB from 0 to 1; None if no file has them.

    Raises UsageError for an invalid file or unsupported preprocessing.
    """
    found, flips = None, kind in BGR
    for path in processors:
        try:
            table = read_table(path)
            table = table.get("image_processor") or table
            said = {key: value for key, value in table.items() if value is not None}
            flips = bool(said.get("do_flip_channel_order", flips))
            found = _statistics(said)
        except (OSError, ValueError, TypeError, AttributeError, ArithmeticError) as error:
            raise UsageError(
                f"{path.name} cannot be used: {error}", where=where, fix=fix
            ) from error
        if found:
            break
    if flips:
        raise UsageError(
            f"{kind} takes BGR images, which are not supported",
            where=where,
            fix="use a network that takes RGB images; if this one does, set "
            f"do_flip_channel_order: false in its {PROCESSORS[0]}",
        )
    return found


def _statistics(said: dict[str, Any]) -> tuple[Statistics, Statistics] | None:
    """Parse statistics as transformers' image processors do. Raises ValueError if invalid."""
    if said.get("rescale_offset"):
        raise ValueError("rescale_offset is not supported")
    scale = LEVEL  # range of the values to be normalized, in units of RGB from 0 to 1
    if said.get("do_rescale", True):
        scale *= said.get("rescale_factor", 1 / LEVEL)
    mean, std = said.get("image_mean"), said.get("image_std")
    if said.get("do_normalize") is False:
        mean, std = 0.0, 1.0
    if mean is None or std is None:
        return None
    mean, std = ([x] * 3 if isinstance(x, int | float) else x for x in (mean, std))
    values = [float(value) / scale for value in (*mean, *std)]
    if (
        len(mean) != 3
        or len(std) != 3
        or not all(map(math.isfinite, values))
        or min(values[3:]) <= 0
    ):
        raise ValueError("image_mean and image_std should be three numbers each, the latter > 0")
    return (values[0], values[1], values[2]), (values[3], values[4], values[5])


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Suppress transformers' progress bar and report, since the outcome is checked here."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        logging.enable_progress_bar()
