"""Load weights that others have published into our networks. Nothing is ever unpickled.

Known layouts, besides our own:

- PointNet++ MSG of PointCMT's reference code (ZhanHeshen/PointCMT, whose layers are those of
  etw_pytorch_utils): `SA_modules.0.mlps.0.layer0.conv.weight` [32, 3, 1, 1], its norm under
  `normlayer.bn` or, in older releases, `bn.bn`; then `fc_layer1`, `fc_layer2`.
- PointNet++ SSG and MSG of yanx27/Pointnet_Pointnet2_pytorch, without normals:
  `sa1.mlp_convs.0` or `sa1.conv_blocks.0.0`. Its head is 512-256-C: all but its last two layers
  fit. A bias before a batch norm only shifts the norm's mean, and is subtracted from it.

Weights may be nested under "model_state" and similar keys, as training loops save them, and the
names may begin with `module.` or `model.`.
"""

import os
import re
import warnings
import zipfile
from io import BufferedReader
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pointcmt.errors import StoreError
from pointcmt.files import open_regular, require_regular
from pointcmt.training.networks.backbones.pointnet2 import PointNet2
from pointcmt.training.runs.checkpoint import require_fit
from pointcmt.training.runs.pickled import NEWER, named_code

WRAPPERS = ("model_state", "model_state_dict", "state_dict", "model")
MOST_WRAPPED = 8  # nested wrappers
SPARE = 64 << 20  # bytes in memory allowed beyond twice the file's size, for shared weights
PREFIXES = ("module.", "model.")
NUMPY = (  # skipped without being created; both of numpy's spellings
    *("numpy.dtype", "numpy.ndarray"),
    *("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"),
    *("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"),
)
STAGES = ("near.mlps.{scale}", "far.mlps.{scale}", "all")  # our names of the set abstractions
RESCUE = (
    "no code in it was run. If you trust its source, load it with its own code in a safe "
    "environment, such as a container, and save only the weights:\n"
    "    from safetensors.torch import save_file\n"
    '    save_file(model.state_dict(), "weights.safetensors")'
)
HEADLESS = "the classifier was not loaded: this checkpoint has a 512-256-C head"


def load_published(path: Path, model: nn.Module) -> tuple[str, ...]:
    """Load a file of published weights into the model; return notes for the user.

    path: `.safetensors`, or a file that torch.save wrote (`.pth`, `.pt`, `.tar`). Raises StoreError
    if it is missing, damaged or something else, needs unpickling, or does not fit, with the tensors
    that differ; the model is then unchanged.
    """
    weights, headless = read_published(path, model)
    expected = model.state_dict()
    if headless:
        weights |= {key: value for key, value in expected.items() if key.startswith("classifier.")}
    fix = "use the model.backbone and the number of classes that the checkpoint was trained with"
    require_fit(weights, expected, str(path), fix)
    model.load_state_dict(weights)
    return (HEADLESS,) if headless else ()


def read_published(path: Path, model: nn.Module) -> tuple[dict[str, Tensor], bool]:
    """Read published weights by the model's names, and whether their head differs from ours.

    Raises StoreError like `load_published`, except that the caller checks whether they fit.
    """
    weights = _strip(_unwrap(_read(path), path))
    if isinstance(model, PointNet2) and any(key.startswith("SA_modules.") for key in weights):
        return _from_reference(weights), False
    if isinstance(model, PointNet2) and any(key.startswith("sa1.") for key in weights):
        return _from_yanx27(weights), True
    return weights, False


def _read(path: Path) -> Any:
    """Read a file's content, with tensors on the CPU."""
    try:
        if path.suffix == ".safetensors":
            require_regular(path)
            return load_file(path)
        with open_regular(path) as file:
            magic = file.read(2)
            _refuse_packed(file, magic, path)
        if magic not in (b"PK", b"\x80\x02"):  # a zip archive; torch's format before 1.6
            raise StoreError("this is not a torch or safetensors file", where=str(path))
        numpy = torch.serialization.safe_globals([(_Ignored, name) for name in NUMPY])
        with numpy, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the pickle's protocol
            return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        raise StoreError(f"this checkpoint cannot be read: {reason}", where=str(path)) from None
    except StoreError:
        raise
    except Exception as error:  # torch raises any error for damaged bytes
        named = named_code(path, error)
        if named == NEWER:
            raise StoreError(
                "this checkpoint was saved with a newer pickle protocol than can be read safely",
                where=str(path),
                fix="save it again with torch.save without pickle_protocol=, or as safetensors",
            ) from None
        if named:
            raise StoreError(
                f"this checkpoint holds more than tensors: unpickling it would run {named}",
                where=str(path),
                fix=RESCUE,
            ) from None
        # Only the type of torch's error: its text advises loading the file unsafely.
        raise StoreError(
            f"this checkpoint is damaged ({type(error).__name__})",
            where=str(path),
            fix="download it again",
        ) from None


def _refuse_packed(file: BufferedReader, magic: bytes, path: Path) -> None:
    """Raise StoreError for a zip archive that unpacks to much more; torch does not compress."""
    if magic != b"PK":
        return
    size = os.fstat(file.fileno()).st_size
    with zipfile.ZipFile(file) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > 2 * size + SPARE:
        what = f"this checkpoint's {size} bytes would expand to {unpacked} in memory"
        raise StoreError(what, where=str(path), fix="save it again with torch.save")


def _refuse_expanded(weights: dict[str, Tensor], path: Path) -> None:
    """Raise StoreError if the tensors are much larger than the file."""
    taken = sum(tensor.numel() * tensor.element_size() for tensor in weights.values())
    held = os.stat(path).st_size
    if taken > 2 * held + SPARE:
        what = f"this checkpoint's tensors need {taken} bytes, but the file only has {held}"
        raise StoreError(what, where=str(path), fix="save it again with contiguous tensors")


class _Ignored:
    """Stands in for numpy's numbers and arrays, which training loops store with the weights."""

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, _: object) -> None: ...


def _unwrap(content: Any, path: Path) -> dict[str, Tensor]:
    """Return the weights by name, without the wrappers that a training loop has put around them."""
    for _ in range(MOST_WRAPPED):  # a dict may contain itself
        if not isinstance(content, dict):
            break
        nested = (content[key] for key in WRAPPERS if isinstance(content.get(key), dict))
        inside = next(nested, None)
        if inside is None:
            break
        content = inside
    values = list(content.values()) if isinstance(content, dict) else []
    if values and all(isinstance(value, Tensor) for value in values):
        _refuse_expanded(content, path)
        return content
    kind = str(type(content))
    if isinstance(content, dict):  # the text of a key that is not a string may be of any length
        names = [key if isinstance(key, str) else str(type(key)) for key in content]
        kind = "the keys " + ", ".join(names)
    raise StoreError(f"this file does not contain weights by name, but {kind}", where=str(path))


def _strip(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove the prefixes that DataParallel and wrapping modules put before all names."""
    for prefix in PREFIXES * 2:
        if all(key.startswith(prefix) for key in weights):
            weights = {key.removeprefix(prefix): value for key, value in weights.items()}
    return weights


def _from_reference(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convert the reference code's names and shapes to ours; unknown names stay the same."""
    block = re.compile(
        r"SA_modules\.([012])\.mlps\.(\d)\.layer(\d)\.(conv|normlayer\.bn|bn\.bn)\.(\w+)"
    )
    head = re.compile(r"fc_layer1\.0\.(fc|normlayer\.bn|bn\.bn)\.(\w+)")
    converted = {}
    for key, value in weights.items():
        name = key.replace("fc_layer2.0.", "classifier.")
        if match := block.fullmatch(key):
            stage, scale, layer, part, field = match.groups()
            name = f"{_layer(int(stage), scale, int(layer), part != 'conv')}.{field}"
        elif match := head.fullmatch(key):
            name = f"head.{0 if match[1] == 'fc' else 1}.{match[2]}"
        converted[name] = _flat(value)
    return converted


def _from_yanx27(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convert yanx27's names, shapes and input order to ours, up to the feature."""
    block = re.compile(r"sa([123])\.(?:(conv|bn)_blocks\.(\d)|mlp_(conv|bn)s)\.(\d)\.(\w+)")
    head = re.compile(r"(fc|bn)1\.(\w+)")
    converted, biases = {}, {}
    for key, value in weights.items():
        name, norm = key, ""
        if match := block.fullmatch(key):
            stage, many, scale, one, layer, field = match.groups()
            place = int(stage) - 1, scale or "0", int(layer)
            name, norm = f"{_layer(*place, (many or one) == 'bn')}.{field}", _layer(*place, True)
            if many == "conv" and layer == "0" and field == "weight":
                value = torch.cat([value[:, -3:], value[:, :-3]], dim=1)  # to our input order
        elif match := head.fullmatch(key):
            name, norm = f"head.{0 if match[1] == 'fc' else 1}.{match[2]}", "head.1"
        elif key.startswith(("fc2.", "bn2.", "fc3.")):
            continue
        if norm and name.endswith(".bias") and not name.startswith(norm):
            biases[f"{norm}.running_mean"] = value
        else:
            converted[name] = _flat(value)
    for key, bias in biases.items():  # (Wx + b) - m = Wx - (m - b)
        if key in converted and converted[key].shape == bias.shape:
            converted[key] = converted[key].double() - bias.double()
    return converted


def _layer(stage: int, scale: str, layer: int, norm: bool) -> str:
    """Return our name of a set abstraction's linear layer or batch norm, numbered from 0."""
    prefix = STAGES[stage].format(scale=scale)
    if prefix == "all":
        return f"{prefix}.{3 * layer + norm}"
    return f"{prefix}.first" if not (layer or norm) else f"{prefix}.rest.{3 * layer - 1 + norm}"


def _flat(weight: Tensor) -> Tensor:
    """Return a 1×1 convolution's weight [O, I, 1, 1] as a linear layer's [O, I]."""
    return weight.flatten(1) if weight.dim() > 2 and set(weight.shape[2:]) == {1} else weight
