"""Checkpoints without pickles: tensors in safetensors, scalars in JSON, replaced as one.

A checkpoint is a folder. `checkpoint.json` names the tensor files it belongs to, with their
SHA-256, and is written last, in one rename: whenever a process is killed, the folder holds a whole
checkpoint, the old one or the new one. While one replaces the other, `checkpoint.files.json` lists
the files of both, so that the next `save` can remove what a killed one leaves behind. Nothing else
in the folder is ever replaced or removed: it may hold files of others.
"""

import errno
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain, count
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pointcmt.differences import differing
from pointcmt.errors import StoreError
from pointcmt.json_files import read_json
from pointcmt.regular_files import open_regular
from pointcmt.training.runs.tables import Count, Table, check

VERSION = 3
MARKER, JOURNAL = "checkpoint.json", "checkpoint.files.json"
SUFFIX = ".safetensors"
FILE = r"^(weights|training)-[0-9]{9,}(-[0-9]+)?\.safetensors$"  # names that `save` chooses
HALF = ".pointcmt-half"
SHOWN = 8  # differences listed before "and n more"


class Marker(Table):
    """The fields of checkpoint.json that every checkpoint has; others belong to who saved it."""

    version: int
    epoch: Count
    files: dict[str, Annotated[str, Field(pattern=FILE)]]
    sha256: dict[str, str]

    @model_validator(mode="after")
    def _check_kinds(self) -> "Marker":
        if "weights" not in self.files or self.files.keys() != self.sha256.keys():
            raise ValueError("it does not name its weights and the SHA-256 of each file")
        return self


def save(
    folder: Path,
    step: int,
    scalars: dict[str, Any],
    model: nn.Module,
    training: dict[str, Tensor] | None = None,
) -> None:
    """Replace the checkpoint in `folder`; all of it is on disk when this returns.

    step: names the files. scalars: JSON-able, with "epoch". model: whose weights these are.
    training: what else a resumed run needs, see `training_state`; without it the checkpoint holds
    weights alone. Raises StoreError where the disk refuses.
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
            # a file is a row of bytes: whatever order the tensors have in memory ends here
            save_file(
                {key: t.detach().contiguous() for key, t in tensors[kind].items()}, folder / name
            )
            _sync(folder / name)
            hashes[kind] = _sha256(folder / name)
            wanted = f"{kind}-{step:09d}{SUFFIX}"
            if old.get(wanted) == hashes[kind]:  # the same once more: a finished run was repeated
                os.replace(folder / name, folder / wanted)
                files[kind] = wanted
        marker = {"version": VERSION, "epoch": 0, "files": files, "sha256": hashes, **scalars}
        write_file(folder / MARKER, json.dumps(marker, indent=1, allow_nan=False).encode())
        _remove(folder, old.keys() - set(files.values()))
        (folder / JOURNAL).unlink()


def training_state(
    model: nn.Module, optimizer: torch.optim.Optimizer, averaged: bool
) -> dict[str, Tensor]:
    """What training goes on from: the optimizer's moments and step counts by parameter.

    averaged: the checkpoint's weights are an average; then the model's own are among these.
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
    """What `save` wrote beside the tensors, with "epoch"; None where there is no checkpoint.

    Raises StoreError for a marker that is damaged, or of another version.
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
            f"the checkpoint has version {version}, this pointcmt reads {VERSION}",
            where=str(folder),
            fix="use the pointcmt version that wrote it",
        )
    check(Marker, marker, "this checkpoint", f"{folder}/{MARKER}", "train again into a new --out")
    return marker


def load_weights(folder: Path, model: nn.Module) -> dict[str, Any]:
    """Read a checkpoint's weights into the model; returns its scalars.

    Raises StoreError where there is no checkpoint, or where it belongs to another architecture,
    with the tensors that differ; the model is then unchanged.
    """
    scalars, weights = read_weights(folder)
    require_fit(
        weights,
        model.state_dict(),
        str(folder),
        "use the configuration and the classes that it was trained with",
    )
    model.load_state_dict(weights)
    return scalars


def read_weights(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A checkpoint's scalars and its weights by name.

    Raises StoreError where there is none, and for weights that are damaged or not finite.
    """
    scalars = read_scalars(folder)
    if scalars is None:
        raise StoreError(
            "there is no checkpoint here",
            where=str(folder),
            fix="a run has one as soon as its first epoch is finished",
        )
    try:
        weights = _read(folder, scalars, "weights")
    except StoreError:
        if read_scalars(folder) == scalars:
            raise
        return read_weights(folder)  # training replaced it just now
    _require_finite(weights, folder)
    return scalars, weights


def load_training(
    folder: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    averaged: nn.Module | None = None,
) -> dict[str, Any]:
    """Read all of a checkpoint into model, optimizer and, if there is one, the averaged model.

    Returns its scalars. Raises as `load_weights`.
    """
    scalars = load_weights(folder, model if averaged is None else averaged)
    tensors = _read(folder, scalars, "training")
    if averaged is not None:
        own = {k.removeprefix("model/"): t for k, t in tensors.items() if k.startswith("model/")}
        require_fit(own, model.state_dict(), str(folder), "train again into a new --out")
        model.load_state_dict(own)
    for name, parameter in model.named_parameters():
        prefix = f"optimizer/{name}/"
        state = {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}
        if state:  # a parameter without a gradient so far has none
            _require_moments(state, parameter, name, folder)
            optimizer.state[parameter] = {
                key: _as_state(key, value, parameter) for key, value in state.items()
            }
    return scalars


def require_fit(
    weights: dict[str, Tensor], wanted: dict[str, Tensor], where: str, fix: str
) -> None:
    """Raise StoreError, with the tensors that differ, where weights are not those of a model."""
    differences = list(_differences(weights, wanted))
    if differences:
        more = len(differences) - SHOWN
        raise StoreError(
            "this checkpoint belongs to another architecture:\n  "
            + "\n  ".join(differences[:SHOWN] + [f"and {more} more"] * (more > 0)),
            where=where,
            fix=fix,
        )


def write_file(path: Path, data: bytes) -> None:
    """Write a file so that readers see all of it or what was there before; on disk on return."""
    half = half_of(path)
    with disk_errors(path):
        with suppress(FileNotFoundError):
            half.unlink()  # a killed process left it
        with half.open("xb") as file:
            file.write(data)
        _sync(half)
        os.replace(half, path)
        _sync(path.parent)


def half_of(path: Path) -> Path:
    """Where `write_file` writes what becomes a file; the name says whose it is."""
    return path.with_name(f".{path.name}{HALF}")


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a disk's refusal to write into a StoreError with its remedy."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        found = re.search(r"os error (\d+)", reason)  # safetensors has no errno
        number = error.errno if isinstance(error, OSError) else int(found[1]) if found else None
        full = number in (errno.ENOSPC, errno.EDQUOT)
        raise StoreError(
            f"this cannot be written: {reason}",
            where=str(path),
            fix="free some space; the same command then goes on after the last finished epoch"
            if full
            else "choose a place that can be written",
        ) from error


def _list_files(path: Path) -> dict[str, str]:
    """The tensor files that a marker or a journal names, with the SHA-256 that a marker gives.

    Names that `save` cannot have chosen are left out: a stranger's list removes nothing of ours.
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
    """A name for a new tensor file: the plain one, unless something else has it already."""
    names = (f"{stem}{number}{SUFFIX}" for number in chain([""], (f"-{n}" for n in count(2))))
    return next(name for name in names if not os.path.lexists(folder / name))


def _remove(folder: Path, names: Iterable[str]) -> None:
    """Remove tensor files of ours, except where there is none or a folder instead."""
    for name in names:
        with suppress(FileNotFoundError, IsADirectoryError):
            (folder / name).unlink()


def _sync(path: Path) -> None:
    """Wait until a file, or a folder's list of files, is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _as_state(name: str, value: Tensor, parameter: Tensor) -> Tensor:
    """A moment lies where and as its parameter lies: other strides would round differently."""
    if name == "step":
        return value  # stays on the CPU: the optimizer would wait for a GPU to read it
    return torch.empty_like(parameter, requires_grad=False).copy_(value)


def _require_moments(state: dict[str, Tensor], parameter: Tensor, name: str, folder: Path) -> None:
    """Raise StoreError unless this is what Adam and AdamW keep of a parameter."""
    shapes = {"step": torch.Size(), "exp_avg": parameter.shape, "exp_avg_sq": parameter.shape}
    if {key: tensor.shape for key, tensor in state.items()} != shapes:
        raise StoreError(
            f"this checkpoint is damaged: the optimizer's state of {name} does not fit",
            where=str(folder),
            fix="train again into a new --out",
        )


def _sha256(path: Path) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _require_finite(weights: dict[str, Tensor], folder: Path) -> None:
    """Raise StoreError, with the first of them, where tensors are not finite."""
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
        raise StoreError(f"this checkpoint holds no {kind}", where=str(folder))
    try:
        if _sha256(folder / name) != scalars["sha256"][kind]:
            raise OSError("its bytes are not those that were written")
        return load_file(folder / name)
    except (OSError, KeyError, TypeError, SafetensorError) as error:
        raise StoreError(
            f"this checkpoint is damaged: {error}",
            where=str(folder / name),
            fix="train again into a new --out",
        ) from None


def _differences(stored: dict[str, Tensor], wanted: dict[str, Tensor]) -> Iterator[str]:
    for key, (here, there) in differing(_shapes(stored), _shapes(wanted)).items():
        if here is None:
            yield f"{key}: missing in the checkpoint"
        elif there is None:
            yield f"{key}: unknown to the model"
        else:
            yield f"{key}: {here} in the checkpoint, {there} in the model"


def _shapes(tensors: dict[str, Tensor]) -> dict[str, list[int]]:
    return {key: list(tensor.shape) for key, tensor in tensors.items()}
