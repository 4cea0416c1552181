"""The output file of `export`: never a store's or a run's own, nor an unrelated existing file.

A file that an earlier export wrote in the same format is replaced; its metadata identifies it.
"""

import os
import re
import stat
from pathlib import Path

from safetensors import SafetensorError, safe_open

from pointcmt.datasets.enclosing import store_around
from pointcmt.errors import StoreError, UsageError
from pointcmt.files import read_regular, require_regular
from pointcmt.training.runs.checkpoint import FILE, HALF, JOURNAL, MARKER
from pointcmt.training.runs.folder import CONFIG, EVENTS, FACTS, LOCK
from pointcmt.training.runs.metrics import METRICS

MARKS = {"version", "pointcmt", "recipe"}  # keys that each exported file holds
MOST = 1 << 31  # maximum bytes of an ONNX file
STUDY = "study.json"

_RUNS_OWN = re.compile(
    "|".join(map(re.escape, (FACTS, CONFIG, METRICS, LOCK)))
    + r"|cost\.json|(curve|features|matches|parts|scenes|clouds)\.png"
    + r"|(evaluation|predictions|confusion|segmentation|classes|frames|precision|boxes|probe"
    + r"|few-shot)[\w.-]*\.(json|png)"
    + rf"|\..*{re.escape(HALF)}"
)
_CHECKPOINTS_OWN = re.compile(
    f"{re.escape(MARKER)}|{re.escape(JOURNAL)}|{FILE.strip('^$')}" + rf"|\..*{re.escape(HALF)}"
)
_CHECKPOINT = re.compile(r"best|last|epoch-\d{6,}")


def require_target(out: Path, to: str, overwrite: bool) -> Path:
    """Return the file to write for --out, with links resolved.

    to: the format. Raises UsageError for a store's or a run's own file, for anything but a regular
    file, and, unless `overwrite`, for a file that was not exported in this format; StoreError for a
    path that cannot be followed.
    """
    target = Path(os.path.realpath(out))
    _require_outside(out, target)
    try:
        mode = os.stat(out).st_mode
    except FileNotFoundError:
        return target
    except OSError as error:
        raise StoreError(
            f"cannot write here: {error.strerror}",
            where=f"--out {out}",
            fix="choose a writable location",
        ) from None
    if stat.S_ISDIR(mode):
        raise UsageError(
            "this is a folder, not a file", where=f"--out {out}", fix="pass a file name"
        )
    if not stat.S_ISREG(mode):
        raise UsageError(
            "this is not a regular file but a device, a FIFO or a socket",
            where=f"--out {out}",
            fix="pass a file name",
        )
    if not overwrite and not is_exported(target, to):
        raise UsageError(
            f"this file exists, and `pointcmt export --to {to}` did not write it",
            where=f"--out {out}",
            fix="choose another file, or add --overwrite to replace this one",
        )
    return target


def is_exported(path: Path, to: str) -> bool:
    """Return whether `export` wrote a file in this format."""
    try:
        if to == "onnx":
            return _onnx_keys(read_regular(path, MOST)) >= MARKS
        require_regular(path)
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).keys() >= MARKS
    except (OSError, SafetensorError):
        return False


def _onnx_keys(data: bytes) -> set[str]:
    """Return an ONNX model's metadata keys, none for other files."""
    import onnx

    try:
        return {prop.key for prop in onnx.load_model_from_string(data).metadata_props}
    except Exception:  # protobuf's own types
        return set()


def _require_outside(out: Path, target: Path) -> None:
    """Raise UsageError for a path in a view store, or one of a run's own files."""
    store = store_around(out)
    if store is not None:
        raise UsageError(
            f"cannot export into a view store: {store}",
            where=f"--out {out}",
            fix="choose another --out",
        )
    for path in (Path(os.path.abspath(out)), target):
        if _is_runs_own(path):
            raise UsageError(
                f"this is one of the run's own files: {path}",
                where=f"--out {out}",
                fix="choose another --out",
            )


def _is_runs_own(path: Path) -> bool:
    """Return whether a path is a run's or a study's own file, which need not exist yet."""
    if path.name == STUDY and path.exists():
        return True
    folder = path.parent
    if _is_begun(folder):
        return _RUNS_OWN.fullmatch(path.name) is not None
    if _CHECKPOINT.fullmatch(folder.name) and _is_begun(folder.parent):
        return _CHECKPOINTS_OWN.fullmatch(path.name) is not None
    return any(
        place.name in (EVENTS, "wandb") and _is_begun(place.parent) for place in path.parents
    )


def _is_begun(folder: Path) -> bool:
    return os.path.lexists(folder / FACTS)
