"""Checkpoints without pickles: tensors in safetensors, scalars in JSON, replaced as a whole.

A checkpoint is a folder. `checkpoint.json` names its tensor files with their SHA-256 and is written
last, in one rename. Whenever a process is killed, the folder holds a whole checkpoint, the old one
or the new one. During the replacement `checkpoint.files.json` lists the files of both, so that the
next `save` can remove what a killed one leaves behind. Nothing else in the folder is ever replaced
or removed: it may hold files of others.
"""

import errno
import fcntl
import glob
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedWriter
from itertools import chain, count
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pointcmt.errors import MisfitError, StoreError, differing
from pointcmt.files import open_regular, read_json
from pointcmt.training.config.tables import Count, Table, check

VERSION = 3
MARKER, JOURNAL = "checkpoint.json", "checkpoint.files.json"
SUFFIX = ".safetensors"
FILE = r"^(weights|training)-[0-9]{9,}(-[0-9]+)?\.safetensors$"  # names that `save` chooses
HALF = ".pointcmt-half"  # ends the name of a file that is being written
SHOWN = 5  # differences listed before "and n more"


class Marker(Table):
    """The fields of checkpoint.json that every checkpoint has; the caller of `save` adds others."""

    version: int
    epoch: Count
    files: dict[str, Annotated[str, Field(pattern=FILE)]]
    sha256: dict[str, str]

    @model_validator(mode="after")
    def _check_kinds(self) -> "Marker":
        if "weights" not in self.files or self.files.keys() != self.sha256.keys():
            raise ValueError("it does not list its weights and the SHA-256 of each file")
        return self


def save(
    folder: Path,
    step: int,
    scalars: dict[str, Any],
    model: nn.Module,
    training: dict[str, Tensor] | None = None,
) -> None:
    """Replace the checkpoint in `folder`; all of it is on disk when this returns.

    step: names the files. scalars: values for JSON, with "epoch". model: its weights are saved.
    training: what else a resumed run needs, see `training_state`; without it the checkpoint holds
    weights alone. Raises StoreError if the disk refuses to write.
    """
    tensors = {"weights": dict(model.state_dict())}
    if training is not None:
        tensors["training"] = training
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        old = _list_files(folder / MARKER)
        _remove(folder, _list_files(folder / JOURNAL).keys() - old.keys())
        files = {kind: _free_name(folder, f"{kind}-{step:09d}") for kind in tensors}
        journal = {"files": dict.fromkeys([*old, *files.values()], "")}
        write_file(folder / JOURNAL, json.dumps(journal, indent=1).encode())
        hashes = {}
        for kind, name in files.items():
            # contiguous: a file has no strides
            save_file(
                {key: t.detach().contiguous() for key, t in tensors[kind].items()}, folder / name
            )
            _sync(folder / name)
            hashes[kind] = _sha256(folder / name)
            plain = f"{kind}-{step:09d}{SUFFIX}"
            if old.get(plain) == hashes[kind]:  # unchanged, since a finished run was repeated
                os.replace(folder / name, folder / plain)
                files[kind] = plain
        marker = {"version": VERSION, "epoch": 0, "files": files, "sha256": hashes, **scalars}
        write_file(folder / MARKER, json.dumps(marker, indent=1, allow_nan=False).encode())
        _remove(folder, old.keys() - set(files.values()))
        (folder / JOURNAL).unlink()


def training_state(
    model: nn.Module, optimizer: torch.optim.Optimizer, averaged: bool
) -> dict[str, Tensor]:
    """Return what training resumes from: the optimizer's moments and step counts by parameter.

    averaged: the checkpoint's weights are an average; then these tensors include the model's own.
    """
    tensors = {
        f"optimizer/{name}/{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }
    if averaged:
        tensors |= {f"model/{name}": tensor for name, tensor in model.state_dict().items()}
    return tensors


def read_scalars(folder: Path) -> dict[str, Any] | None:
    """Read what `save` wrote besides the tensors, with "epoch"; None without a checkpoint.

    Raises StoreError for a marker that is damaged or has another version.
    """
    try:
        marker = read_json(folder / MARKER)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise StoreError(f"this checkpoint is damaged: {error}", where=str(folder)) from None
    version = marker.get("version", VERSION) if isinstance(marker, dict) else VERSION
    if version != VERSION:
        raise StoreError(
            f"the checkpoint has version {version}; this pointcmt reads {VERSION}",
            where=str(folder),
            fix="use the pointcmt version that wrote it",
        )
    check(Marker, marker, "this checkpoint", f"{folder}/{MARKER}", "train again into a new --out")
    return marker


def load_weights(folder: Path, model: nn.Module) -> dict[str, Any]:
    """Load a checkpoint's weights into the model and return its scalars.

    Raises StoreError if there is no checkpoint or it belongs to another architecture, with the
    tensors that differ; the model is then unchanged.
    """
    scalars, weights = read_weights(folder)
    require_fit(
        weights,
        model.state_dict(),
        str(folder),
        "use the configuration and the classes it was trained with",
    )
    model.load_state_dict(weights)
    return scalars


def read_weights(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a checkpoint's scalars and its weights by name.

    Raises StoreError without a checkpoint, and for weights that are damaged or not finite.
    """
    scalars = read_scalars(folder)
    if scalars is None:
        raise StoreError(
            "there is no checkpoint here",
            where=str(folder),
            fix="a run has one after its first epoch",
        )
    try:
        weights = _read(folder, scalars, "weights")
    except StoreError:
        if read_scalars(folder) == scalars:
            raise
        return read_weights(folder)  # training has just replaced it
    _require_finite(weights, folder)
    return scalars, weights


def load_training(
    folder: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    averaged: nn.Module | None = None,
) -> dict[str, Any]:
    """Load all of a checkpoint into model, optimizer and, if there is one, the averaged model.

    Returns its scalars. Raises like `load_weights`.
    """
    scalars = load_weights(folder, model if averaged is None else averaged)
    tensors = _read(folder, scalars, "training")
    if averaged is not None:
        prefix = "model/"
        current = {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}
        require_fit(current, model.state_dict(), str(folder), "train again into a new --out")
        model.load_state_dict(current)
    for name, parameter in model.named_parameters():
        prefix = f"optimizer/{name}/"
        state = {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}
        if state:  # a parameter that never had a gradient has none
            _require_moments(state, parameter, name, folder)
            optimizer.state[parameter] = {
                key: _as_state(key, value, parameter) for key, value in state.items()
            }
    return scalars


def require_fit(
    weights: dict[str, Tensor], expected: dict[str, Tensor], where: str, fix: str
) -> None:
    """Raise MisfitError with the tensors that differ in name or shape from a model's.

    expected: the state dict of that model.
    """
    differences = list(_differences(weights, expected))
    if differences:
        more = len(differences) - SHOWN
        raise MisfitError(
            "this checkpoint belongs to a different architecture:\n  "
            + "\n  ".join(differences[:SHOWN] + [f"and {more} more"] * (more > 0)),
            where=where,
            fix=fix,
        )


def write_file(path: Path, data: bytes) -> None:
    """Write a file so that readers see all of it or what was there before; on disk on return.

    Each writer has a half-written file of its own, which it keeps locked until it has its final
    name. Those that killed writers have left are not locked; they are removed first.
    """
    with disk_errors(path):
        for half in path.parent.glob(f".{glob.escape(path.name)}*{HALF}"):
            if is_half(half.name, path.name):
                _remove_half(half)
        half, file = _create_half(path)
        with file:
            file.write(data)
            file.flush()
            _sync(half)
            os.replace(half, path)
        _sync(path.parent)


def is_half(name: str, of: str) -> bool:
    """Return whether a name is that of a half-written file `of`; older versions' had no token."""
    return re.fullmatch(rf"\.{re.escape(of)}(\.[0-9a-f]{{8}})?{re.escape(HALF)}", name) is not None


def _create_half(path: Path) -> tuple[Path, BufferedWriter]:
    """Create and lock a half-written file of our own."""
    while True:
        half = path.with_name(f".{path.name}.{secrets.token_hex(4)}{HALF}")
        file = half.open("xb")
        with suppress(OSError):  # without locks on this file system nobody removes it either
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return half, file
        file.close()  # another process removed it before it was locked


def _remove_half(half: Path) -> None:
    """Remove a half-written file, unless a living process is writing it."""
    with suppress(OSError), open_regular(half) as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        half.unlink()


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a failed write into a StoreError with its remedy."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        code = re.search(r"os error (\d+)", reason)  # safetensors gives no errno
        number = error.errno if isinstance(error, OSError) else int(code[1]) if code else None
        full = number in (errno.ENOSPC, errno.EDQUOT)
        raise StoreError(
            f"cannot write here: {reason}",
            where=str(path),
            fix="free some space and run the same command again; it continues after the last "
            "finished epoch"
            if full
            else "choose a writable location",
        ) from error


def _list_files(path: Path) -> dict[str, str]:
    """Return the tensor files that a marker or a journal names, with the SHA-256 of a marker.

    Names that `save` cannot have chosen are ignored: a forged list must not remove other files.
    """
    try:
        table = read_json(path)
    except (FileNotFoundError, ValueError):
        return {}
    table = table if isinstance(table, dict) else {}
    named, hashes = table.get("files"), table.get("sha256")
    if not isinstance(named, dict):
        return {}
    if not isinstance(hashes, dict):  # a journal
        return {name: "" for name in named if re.fullmatch(FILE, name)}
    pairs = [(name, str(hashes.get(kind))) for kind, name in named.items()]
    return {name: sha for name, sha in pairs if isinstance(name, str) and re.fullmatch(FILE, name)}


def _free_name(folder: Path, stem: str) -> str:
    """Return a name for a new tensor file: the plain one, unless it is taken."""
    names = (f"{stem}{number}{SUFFIX}" for number in chain([""], (f"-{n}" for n in count(2))))
    return next(name for name in names if not os.path.lexists(folder / name))


def _remove(folder: Path, names: Iterable[str]) -> None:
    """Remove tensor files; ignore missing ones and folders."""
    for name in names:
        with suppress(FileNotFoundError, IsADirectoryError):
            (folder / name).unlink()


def _sync(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _as_state(name: str, value: Tensor, parameter: Tensor) -> Tensor:
    """Give a moment its parameter's device and strides: other strides would round differently."""
    if name == "step":
        return value  # stays on the CPU, so that the optimizer need not wait for a GPU
    return torch.empty_like(parameter, requires_grad=False).copy_(value)


def _require_moments(state: dict[str, Tensor], parameter: Tensor, name: str, folder: Path) -> None:
    """Raise StoreError unless this is what Adam and AdamW, or SGD, keep for a parameter."""
    adam = {"step": torch.Size(), "exp_avg": parameter.shape, "exp_avg_sq": parameter.shape}
    sgd = {"momentum_buffer": parameter.shape}
    if {key: tensor.shape for key, tensor in state.items()} not in (adam, sgd):
        raise StoreError(
            f"this checkpoint is damaged: the optimizer's state of {name} does not match",
            where=str(folder),
            fix="train again into a new --out",
        )


def _sha256(path: Path) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _require_finite(weights: dict[str, Tensor], folder: Path) -> None:
    """Raise StoreError with the first tensor that is not finite."""
    broken = [name for name, tensor in weights.items() if not tensor.isfinite().all()]
    if broken:
        raise StoreError(
            f"the weights are not finite in {len(broken)} of {len(weights)} tensors, such as "
            f"{broken[0]}",
            where=str(folder),
            fix="train again into a new --out",
        )


def _read(folder: Path, scalars: dict[str, Any], kind: str) -> dict[str, Tensor]:
    name = scalars["files"].get(kind)
    if name is None:
        raise StoreError(f"this checkpoint has no {kind}", where=str(folder))
    try:
        if _sha256(folder / name) != scalars["sha256"][kind]:
            raise OSError("the file has changed since it was written")
        return load_file(folder / name)
    except (OSError, KeyError, TypeError, SafetensorError) as error:
        raise StoreError(
            f"this checkpoint is damaged: {error}",
            where=str(folder / name),
            fix="train again into a new --out",
        ) from None


def _differences(stored: dict[str, Tensor], expected: dict[str, Tensor]) -> Iterator[str]:
    for key, (here, there) in differing(_shapes(stored), _shapes(expected)).items():
        if here is None:
            yield f"{key}: missing in the checkpoint"
        elif there is None:
            yield f"{key}: not in the model"
        else:
            yield f"{key}: {here} in the checkpoint, {there} in the model"


def _shapes(tensors: dict[str, Tensor]) -> dict[str, list[int]]:
    return {key: list(tensor.shape) for key, tensor in tensors.items()}
