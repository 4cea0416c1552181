"""Read a file of weights that others have saved. Nothing is ever unpickled.

Weights may be nested under "model_state" and similar keys, as training loops save them, several
levels deep and beside anything else; names may begin with `module.`, `model.` and the like.
"""

import os
import warnings
import zipfile
from io import BufferedReader
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from pointcmt.errors import StoreError, printable
from pointcmt.files import open_regular, require_regular
from pointcmt.training.runs.published.pickled import NEWER, named_code

# Keys that training loops save weights under, the first ones first; averages only if alone.
WRAPPERS = (
    *("model_state", "model_state_dict", "state_dict", "model", "net", "net_state_dict", "network"),
    *("base_model", "params", "weights", "encoder", "backbone", "student", "module"),
    *("ema", "model_ema", "ema_model", "state_dict_ema", "ema_state_dict", "params_ema"),
)
MOST_WRAPPED = 8  # nested wrappers
MOST_NAMED = 8  # keys in a message
SPARE = 64 << 20  # bytes in memory allowed beyond twice the file's size, for shared weights
IGNORED = (  # skipped without being created; both of numpy's spellings
    *("numpy.dtype", "numpy.ndarray", "argparse.Namespace"),
    *("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"),
    *("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"),
)
RESCUE = (
    "no code in it was run. If you trust its source, save only its tensors where its own code is "
    "installed, best in a container, and use weights.pth:\n"
    "    import torch\n"
    '    found = torch.load({path!r}, map_location="cpu", weights_only=False)\n'
    '    found = found.state_dict() if hasattr(found, "state_dict") else found\n'
    "    torch.save({{k: v for k, v in found.items() if torch.is_tensor(v) or isinstance(v, dict) "
    'and all(map(torch.is_tensor, v.values()))}}, "weights.pth")'
)


def read_weights(path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Read the tensors of a network by name, and notes for the user.

    path: `.safetensors`, or a file that torch.save wrote (`.pth`, `.pt`, `.tar`). Raises StoreError
    if it is missing, damaged or something else, needs unpickling, or holds no network.
    """
    return _unwrap(_read(path), path)


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
        ignored = torch.serialization.safe_globals([(_Ignored, name) for name in IGNORED])
        with ignored, warnings.catch_warnings():
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
                fix=RESCUE.format(path=str(path)),
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
    """Stands in for numpy's numbers and arrays, and for options, stored with the weights."""

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, _: object) -> None: ...


def _unwrap(content: Any, path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the weights by name, without the wrappers that a training loop has put around them.

    Of several networks, that of the first of WRAPPERS is taken, and a note says so.
    """
    key, notes = "", []
    for _ in range(MOST_WRAPPED):
        inside = _networks(content)
        if not inside or _count(_tensors(content)) >= max(map(_size, inside.values())):
            break
        known = [name for name in WRAPPERS if name in inside]
        if len(inside) > 1 and not known:
            raise StoreError(
                f"this file holds several networks: {_listed(inside)}",
                where=str(path),
                fix="save the one to start from in a file of its own, with torch.save",
            )
        key = known[0] if known else next(iter(inside))
        if len(inside) > 1:
            others = _listed([name for name in inside if name != key])
            notes.append(f"weights of '{printable(key)}' in {path}; it also holds {others}")
        content = inside[key]
    weights = _tensors(content)
    if weights:
        _refuse_expanded(weights, path)
        return weights, tuple(notes)
    kind = str(type(content))
    if isinstance(content, dict):
        kind = f"the keys {_listed(content)}" if content else "nothing"
    raise StoreError(
        f"this file does not contain weights by name, but {kind}",
        where=str(path),
        fix='pass a file that holds the state_dict of a network, alone or under a key like "model"',
    )


def _networks(content: Any) -> dict[str, Any]:
    """Return the entries of a dict that hold a network, directly or further inside."""
    if not isinstance(content, dict):
        return {}
    return {key: value for key, value in content.items() if isinstance(key, str) and _size(value)}


def _size(content: Any, depth: int = MOST_WRAPPED) -> int:
    """Return the number of layers of the largest network in a dict, which may contain itself."""
    if not isinstance(content, dict) or not depth:
        return 0
    nested = (_size(value, depth - 1) for key, value in content.items() if isinstance(key, str))
    return max([_count(_tensors(content)), *nested])


def _count(weights: dict[str, Tensor]) -> int:
    """Return the number of layers, which have matrices; metrics and random states have none."""
    return sum(tensor.dim() > 1 for tensor in weights.values())


def _tensors(content: Any) -> dict[str, Tensor]:
    """Return the tensors of a dict whose keys are names: {} for others, such as an optimizer's."""
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        return {}
    return {key: value for key, value in content.items() if isinstance(value, Tensor)}


def _listed(names: Any) -> str:
    """Return keys as text, some of many; one that is not a string may have a text of any length."""
    shown = [printable(name) if isinstance(name, str) else str(type(name)) for name in names]
    more = f" and {len(shown) - MOST_NAMED} more" if len(shown) > MOST_NAMED else ""
    return ", ".join(shown[:MOST_NAMED]) + more
