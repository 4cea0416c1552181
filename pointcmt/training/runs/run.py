"""A run's folder: what is trained, on what, with what, and how it went.

run.json        recipe, configuration, classes, hashes of data, split and inputs, versions
config.yaml     the configuration again, fit for --config
metrics.jsonl   one JSON object per finished epoch
curve.png       the same as a picture
evaluation.json what `evaluate` found, with confusion.png; of other splits or checkpoints than
                test and best: evaluation-val-last.json and so on; of parts segmentation.png
probe.json      what a linear SVM makes of the frozen features; few-shot-5w10s.json: of few labels
cost.json       parameters, FLOPs, hours, samples/s, memory, disk (cost.py)
features.png    of pre-training: points' features in views, beside what a 2D network sees there
matches.png     and pixels of one view in another, as they are and as they are predicted
parts.png       of a segmenter: validation shapes with their parts, true and predicted
clouds.png      of a generator: shapes, and what it makes of the teacher's view of them
tensorboard/    the same as TensorBoard's event files
last/ best/     checkpoints: of the last epoch, and of the best one on validation
epoch-000050/   checkpoints that `loop.keep_every` keeps
"""

import fcntl
import hashlib
import json
import os
import platform
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointcmt import __version__
from pointcmt.datasets.store.enclosing import store_around
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.differences import differing
from pointcmt.errors import StoreError, UsageError, nearest
from pointcmt.json_files import parse_json, read_json
from pointcmt.regular_files import append_regular, open_regular, read_regular
from pointcmt.training.config.files import flatten, parse_config, to_yaml
from pointcmt.training.config.mvnet import MvnetConfig
from pointcmt.training.config.pointcmt import INPUTS, input_folders
from pointcmt.training.config.sections import TrainConfig
from pointcmt.training.images.networks import RANDOM
from pointcmt.training.images.weights import weights_key
from pointcmt.training.runs import checkpoint
from pointcmt.training.runs.facts import Facts, describe_store
from pointcmt.training.runs.splits import Split
from pointcmt.training.runs.tables import Count, Number, Table, check

VERSION = 2
FACTS, CONFIG, METRICS, LOCK = "run.json", "config.yaml", "metrics.jsonl", ".lock"
LAST, BEST, EVENTS = "last", "best", "tensorboard"
CHECKPOINTS = (BEST, LAST)
METRICS_MOST = 256 << 20  # bytes of metrics.jsonl: a million epochs
LOSS = "val_loss"
SCORES = ("val_instance_miou", "val_accuracy")  # what selects the best epoch, where there is one
LIBRARIES = ("torch", "numpy", "accelerate", "transformers", "safetensors", "tensorstore")


class Record(Table):
    """A line of metrics.jsonl: numbers by name, these and the recipe's own."""

    __pydantic_extra__: dict[str, Number]

    epoch: Count
    loss: Number
    val_loss: Number
    lr: Number
    samples_per_second: Number
    data_wait: Number
    seconds: Number


@dataclass(frozen=True)
class Run:
    """An existing run. facts: the contents of run.json."""

    folder: Path
    config: TrainConfig
    facts: dict[str, Any]

    @property
    def class_names(self) -> list[str]:
        """The classes in the order of the logits."""
        return self.facts["class_names"]


def plan_run(folder: Path, config: TrainConfig, store: ViewStore, split: Split) -> Run:
    """The run that this configuration and data make in `folder`; writes nothing.

    facts["inputs"]: SHA-256 of the weights of each run that it starts from, by knob, and of the 2D
    network that it learns from.
    facts["split"]: SHA-256 of the ids of the shapes that train and that validate.

    Raises UsageError for a folder inside a view store, StoreError where one of those inputs is
    missing, where another run of at least one epoch is in `folder` (with the differences), or other
    things than a run.
    """
    require_outside_stores(folder)
    inputs = {key: weights_digest(path) for key, path in input_folders(config).items()}
    if isinstance(config, MvnetConfig) and config.transfer.weight:
        images = config.images
        if images.weights != RANDOM:
            inputs["images.weights"] = weights_key(images.backbone, images.weights)
    facts = {
        "version": VERSION,
        "recipe": config.recipe,
        "class_names": store.class_names,
        "id": secrets.token_hex(6),
        "config": config.model_dump(mode="json"),
        "inputs": inputs,
        "split": {
            "train": shapes_digest(store, split.train),
            "validation": shapes_digest(store, split.validation),
        },
        "data": describe_store(store),
        "versions": {"pointcmt": __version__, "python": platform.python_version()}
        | {name: version(name) for name in LIBRARIES},
    }
    run = Run(folder, config, facts)
    if checkpoint.read_scalars(folder / LAST) is None:
        _refuse_foreign_folder(folder)
        return run
    begun = open_run(folder)
    different = _differences(_identity(begun), _identity(run))
    if different:
        raise StoreError(
            "this run was begun with other settings:\n  " + "\n  ".join(different),
            where=str(folder),
            fix="repeat its settings to go on with it, or choose another --out",
        )
    return begun


def require_outside_stores(folder: Path) -> None:
    """Raise UsageError for a run's folder in a view store, which is deleted as a whole."""
    store = store_around(folder)
    if store is not None:
        raise UsageError(
            f"a run cannot be kept inside a view store: {store} is one",
            where=f"--out {folder}",
            fix="move the run out of the store and give its new folder as --out"
            if is_run(folder)
            else "choose another --out",
        )


def shapes_digest(store: ViewStore, shapes: NDArray[np.int64]) -> str:
    """SHA-256 of the ids of these shapes, in their order."""
    ids = "\n".join(store.shapes[shape].id for shape in shapes)
    return hashlib.sha256(ids.encode()).hexdigest()


def weights_digest(path: Path) -> str:
    """SHA-256 of a run's best weights, or of a file of weights.

    Raises StoreError where there is neither.
    """
    if not path.is_file():
        scalars = checkpoint.read_scalars(open_run(path).folder / BEST)
        if scalars is None:
            raise StoreError(
                "this run has no checkpoint yet",
                where=str(path),
                fix="train it for an epoch at least, then start from it",
            )
        path = path / BEST / scalars["files"]["weights"]
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise StoreError(f"cannot be read: {error.strerror}", where=str(path)) from None


def kept(epoch: int) -> str:
    """The folder of an epoch's checkpoint that is kept for good."""
    return f"epoch-{epoch:06d}"


def find_checkpoint(folder: Path, which: str) -> str:
    """The folder of a run's checkpoint: best, last, or the number of an epoch that was kept.

    Raises UsageError for another name.
    """
    names = sorted(path.name for path in folder.glob("epoch-*"))
    epochs = [name for name in names if re.fullmatch(r"epoch-\d{6,}", name)]
    if which.isdecimal() and kept(int(which)) in epochs:
        return kept(int(which))
    known = (*CHECKPOINTS, *(str(int(name.removeprefix("epoch-"))) for name in epochs))
    if which not in CHECKPOINTS:
        raise UsageError(f"no checkpoint is called '{which}'", fix=nearest(which, known))
    return which


@contextmanager
def begin_run(run: Run, seen: dict[str, Any] | None = None) -> Iterator[None]:
    """Make the folder what `run` says and keep other processes from training in it meanwhile.

    seen: the scalars of its last checkpoint when `run` was planned. A killed process gives its lock
    up. Raises StoreError where another one is at work, or has been since.
    """
    folder = run.folder
    with checkpoint.disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = append_regular(folder / LOCK)
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError(
                "another process is training this run",
                where=str(folder),
                fix="wait for it, or choose another --out",
            ) from None
        if checkpoint.read_scalars(folder / LAST) != seen:
            raise StoreError(
                "another process has trained this run while this one was getting ready",
                where=str(folder),
                fix="run the same command again: it goes on from there",
            )
        if seen is None:
            facts = (json.dumps(run.facts, indent=1) + "\n").encode()
            checkpoint.write_file(folder / FACTS, facts)
            checkpoint.write_file(folder / CONFIG, to_yaml(run.config).encode())
        yield


def open_run(folder: Path) -> Run:
    """Open a run. Raises StoreError where there is none, or a damaged one."""
    where = f"{folder}/{FACTS}"
    try:
        facts = read_json(folder / FACTS)
    except (FileNotFoundError, NotADirectoryError):
        raise StoreError(
            "there is no run here", where=str(folder), fix="make one with `pointcmt train --out`"
        ) from None
    except (OSError, ValueError) as error:
        raise StoreError(f"the run is damaged: {error}", where=where) from None
    found = facts.get("version", VERSION) if isinstance(facts, dict) else VERSION
    if found != VERSION:
        raise StoreError(
            f"the run has version {found}, this pointcmt reads {VERSION}",
            where=str(folder),
            fix="use the pointcmt version that began it",
        )
    recipe = check(Facts, facts, "the run", where).recipe
    config = parse_config(recipe, facts["config"], where)
    if config.labelled and not facts["class_names"]:
        raise StoreError("the run is damaged: it names no classes", where=where)
    return Run(folder, config, facts)


def is_run(folder: Path) -> bool:
    """Whether a folder's run.json is one of ours, of whatever version."""
    try:
        facts = read_json(folder / FACTS)
    except (OSError, ValueError):
        return False
    return isinstance(facts, dict) and facts.keys() >= {"recipe", "config", "inputs", "split"}


def require_classes(run: Run, store: ViewStore) -> None:
    """Raise StoreError unless the store's classes are those that the run was trained on."""
    if store.class_names == run.class_names:
        return
    missing = [name for name in run.class_names if name not in store.class_names]
    unknown = [name for name in store.class_names if name not in run.class_names]
    raise StoreError(
        f"the run knows {len(run.class_names)} classes, the store has other ones: "
        f"{len(missing)} missing ({', '.join(missing[:5])}), "
        f"{len(unknown)} unknown ({', '.join(unknown[:5])})"
        if missing or unknown
        else "the run and the store have the same classes in another order",
        where=f"{run.folder}, {store.path}",
        fix="evaluate on a store of the data set that the run was trained on",
    )


def append_metrics(folder: Path, record: dict[str, Any]) -> None:
    """Add an epoch's line to metrics.jsonl."""
    with (
        checkpoint.disk_errors(folder / METRICS),
        append_regular(folder / METRICS) as file,
    ):
        file.write((json.dumps(record, allow_nan=False) + "\n").encode())
        file.flush()
        os.fsync(file.fileno())


def read_metrics(folder: Path, epochs: int) -> list[dict[str, Any]]:
    """The lines of the first `epochs` epochs. Raises StoreError where some are missing or damaged.

    A killed process may leave a line, or half of one, for an epoch that has no checkpoint.
    """
    path, fix = folder / METRICS, "train again into a new --out"
    try:
        lines = read_regular(path, METRICS_MOST).splitlines()[:epochs] if epochs else []
        records = [parse_json(line) for line in lines]
    except (OSError, ValueError):
        records = []
    for record in records:
        check(Record, record, "this line of metrics.jsonl", str(path), fix)
    scores = {tuple(name in record for name in SCORES) for record in records}
    whole = [record["epoch"] for record in records] == [*range(1, len(records) + 1)]
    if len(records) != epochs or not whole or len(scores) > 1:
        raise StoreError(
            f"metrics.jsonl does not hold the {epochs} finished epochs of this run",
            where=str(path),
            fix=fix,
        )
    return records


def write_metrics(folder: Path, records: list[dict[str, Any]]) -> None:
    """Replace metrics.jsonl."""
    lines = [json.dumps(record, allow_nan=False) + "\n" for record in records]
    checkpoint.write_file(folder / METRICS, "".join(lines).encode())


def _refuse_foreign_folder(folder: Path) -> None:
    """Raise StoreError where a folder holds other things than a run that was not trained yet."""
    with checkpoint.disk_errors(folder):
        names = [path.name for path in folder.iterdir()] if folder.exists() else []
    ours = {LOCK, *_halves(folder, FACTS)}
    if is_run(folder):
        halves = _halves(folder, CONFIG, METRICS)
        ours |= {FACTS, CONFIG, METRICS, LAST, BEST, EVENTS, "wandb"} | halves
    foreign = sorted(set(names) - ours)
    if foreign:
        raise StoreError(
            f"this folder holds other things (such as {foreign[0]}) and no run",
            where=str(folder),
            fix="choose an empty or a new folder for --out",
        )


def _halves(folder: Path, *names: str) -> set[str]:
    """What a killed process leaves of these files; first as now, then as earlier versions did."""
    return {checkpoint.half_of(folder / name).name for name in names} | {f"{n}.part" for n in names}


def _identity(run: Run) -> dict[str, Any]:
    """What two processes must agree on to train the same run; paths and versions may differ."""
    data = {key: run.facts["data"][key] for key in ("dataset", "plan_sha256", "render_hash")}
    config = run.config.model_dump(mode="json", exclude=set(INPUTS))
    inputs = run.facts["inputs"]
    names = {"class_names": run.class_names, "split": run.facts["split"]}
    return flatten({**config, **names, "store": data}) | inputs


def _differences(stored: dict[str, Any], asked: dict[str, Any]) -> list[str]:
    different = differing(stored, asked)
    return [f"{key}: {a} in the run, {b} asked for" for key, (a, b) in different.items()]
