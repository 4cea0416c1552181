"""What the files beside an image network's weights say of it: architecture and image statistics.

Only JSON is read, and only networks that transformers itself has are built: a folder brings no code
along. `transformers` takes seconds to import, so only what needs it imports it.
"""

import hashlib
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pointcmt.errors import UsageError
from pointcmt.training.image_networks import IMAGENET, ImageNetwork, Statistics

CONFIG = "config.json"
PROCESSORS = ("preprocessor_config.json", "processor_config.json")  # the first that says it counts
LEVEL = 255.0  # of a pixel that is 1 on the scale of the statistics
UNFIT = {  # whose tokens are not those of the image's patches, row by row
    "hiera": "its tokens lie in the order of its windows",
    "vit_mae": "it looks at a random quarter of the patches",
    "yolos": "tokens of objects follow those of the patches",
}


def read_network(folder: Path, where: str, fix: str) -> ImageNetwork:
    """The network that a folder's files describe; of several towers the one for images.

    Its statistics are those of its preprocessing, or else ImageNet's, guessed. Raises UsageError
    where it is none, or one whose blocks do not give maps.
    """
    settings = read_settings(folder, where, fix)
    kind = settings.model_type
    reason = UNFIT.get(kind, "")
    if find_class(settings, where).main_input_name != "pixel_values":
        reason = "it takes no images"
    elif getattr(settings, "is_encoder_decoder", False):
        reason = "it has a decoder"
    if reason:
        raise UsageError(f"{kind} is no backbone for images: {reason}", where=where, fix=fix)
    statistics = _read_statistics(folder, where, fix)
    described = f"{statistics}\n".encode() + (folder / CONFIG).read_bytes()
    return ImageNetwork(
        kind,
        kind,
        settings.to_dict(),
        where,
        statistics or IMAGENET,
        guessed=statistics is None,
        fingerprint=hashlib.sha256(described).hexdigest(),
    )


def read_settings(folder: Path, where: str, fix: str) -> Any:
    """transformers' configuration of the network in a folder; of several towers the images'.

    Raises UsageError where there is none.
    """
    import transformers

    try:
        table = json.loads((folder / CONFIG).read_text("utf-8"))
        kind = table.get("model_type")
        if kind not in transformers.CONFIG_MAPPING:
            said = f"transformers {transformers.__version__} has no {kind!r}"
            raise ValueError(said if kind else f"{CONFIG} has no model_type, as transformers' have")
        with quiet_transformers():
            whole = transformers.CONFIG_MAPPING[kind].from_dict(table)
    except Exception as error:  # a value that does not fit is transformers' own, of many kinds
        raise UsageError(f"the weights cannot be read: {error}", where=where, fix=fix) from error
    return getattr(whole, "vision_config", None) or whole


def require_same(network: ImageNetwork, settings: Any, where: str) -> None:
    """Raise UsageError unless a folder's settings are those of this network of NETWORKS."""
    fix = (
        "name the backbone that these weights are of (of mvnet: images.backbone=auto), or give "
        "others"
    )
    kind = settings.model_type
    if kind != network.kind:
        raise UsageError(f"this is no {network.name}: {kind}", where=where, fix=fix)
    wrong = [
        f"{name} is {_plain(getattr(settings, name, None))}, not {expected}"
        for name, expected in network.config.items()
        if _plain(getattr(settings, name, None)) != expected
    ]
    if wrong:
        raise UsageError(
            f"this is no {network.name}: a {kind} whose {', '.join(wrong)}", where=where, fix=fix
        )


def find_class(settings: Any, where: str) -> Any:
    """transformers' class for a configuration. Raises UsageError where it has none without head."""
    import transformers

    try:
        return transformers.MODEL_MAPPING[type(settings)]
    except KeyError:
        raise UsageError(
            f"transformers builds no network of the type {settings.model_type} by itself",
            where=where,
            fix="give a backbone's own folder, such as CLIP's, SigLIP's or DINOv2's",
        ) from None


def _read_statistics(folder: Path, where: str, fix: str) -> tuple[Statistics, Statistics] | None:
    """Mean and standard deviation of RGB from 0 to 1; None where no file says them.

    Raises UsageError for a file that is none, or for images that are prepared in another way.
    """
    for name in PROCESSORS:
        try:
            table = json.loads((folder / name).read_text("utf-8"))
            table = table.get("image_processor", table)
            found = _statistics(table)
        except FileNotFoundError:
            continue
        except (OSError, ValueError, TypeError, AttributeError, ArithmeticError) as error:
            raise UsageError(f"{name} cannot be used: {error}", where=where, fix=fix) from error
        if found:
            return found
    return None


def _statistics(table: dict[str, Any]) -> tuple[Statistics, Statistics] | None:
    """As transformers' image processors use them. Raises ValueError for what they are not."""
    odd = [knob for knob in ("do_flip_channel_order", "rescale_offset") if table.get(knob)]
    if odd:
        raise ValueError(f"{odd[0]} is not supported")
    scale = LEVEL  # of what is normalised, where RGB from 0 to 1 is
    if table.get("do_rescale", True):
        scale *= table.get("rescale_factor", 1 / LEVEL)
    mean, std = table.get("image_mean"), table.get("image_std")
    if table.get("do_normalize") is False:
        mean, std = [0.0] * 3, [1.0] * 3
    if mean is None or std is None:
        return None
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
