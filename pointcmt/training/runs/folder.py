"""The folder of a run: its configuration, data, metrics, pictures and checkpoints.

run.json        recipe, configuration, classes, hashes of data, split and inputs, versions
config.yaml     the configuration again, usable with --config
metrics.jsonl   one JSON object per finished epoch (metrics.py)
curve.png       the same as a picture
evaluation.json results of `evaluate`, with confusion.png or, for parts, segmentation.png; of scenes
                with both, frames.png (the same in frames) and classes.png (IoU of each class); of
                boxes with boxes.png and precision.png; for other splits or checkpoints than test
                and best: evaluation-val-last.json and so on
predictions.json what evaluation.json was counted from, of each shape
probe.json      results of a linear SVM on frozen features; few-shot-5w10s.json: with few labels
cost.json       parameters, FLOPs, hours, samples/s, memory, disk (cost.py)
features.png    pre-training: features of points in views, next to those of the image network
matches.png     pre-training: pixels of one view in another, true and predicted
parts.png       segmentation: validation shapes with their true and predicted parts
scenes.png      scenes: validation scenes from above, with true and predicted classes or boxes
clouds.png      generator: shapes, and clouds generated from the teacher's features of them
tensorboard/    the metrics as TensorBoard's event files
last/ best/     checkpoints: the last epoch, and the best one on validation
epoch-000050/   checkpoints that `loop.keep_every` keeps
"""

import fcntl
import hashlib
import json
import platform
import re
import secrets
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointcmt import __version__
from pointcmt.datasets.enclosing import store_around
from pointcmt.datasets.store.view_store import StoreReader
from pointcmt.errors import StoreError, UsageError, differing, nearest
from pointcmt.files import append_regular, open_regular, read_json
from pointcmt.training.config.files import flatten, parse_config, to_yaml
from pointcmt.training.config.pointcmt import INPUTS, input_folders
from pointcmt.training.config.sections import TrainConfig
from pointcmt.training.config.tables import check
from pointcmt.training.images.networks import RANDOM
from pointcmt.training.images.weights import weights_key
from pointcmt.training.runs import checkpoint
from pointcmt.training.runs.facts import Facts, describe_store, order_of_run, outside_parts
from pointcmt.training.runs.metrics import METRICS
from pointcmt.training.runs.published_weights import find_backbone_of
from pointcmt.training.runs.splits import Split, unlearned_classes
from pointcmt.training.runs.store_kinds import learned_classes

VERSION = 2
FACTS, CONFIG, LOCK = "run.json", "config.yaml", ".lock"
LAST, BEST, EVENTS = "last", "best", "tensorboard"
CHECKPOINTS = (BEST, LAST)
LIBRARIES = ("torch", "numpy", "accelerate", "transformers", "safetensors", "tensorstore")


@dataclass(frozen=True)
class Run:
    """A run. facts: the contents of run.json."""

    folder: Path
    config: TrainConfig
    facts: dict[str, Any]

    @property
    def class_names(self) -> list[str]:
        """The classes in the order of the logits."""
        return self.facts["class_names"]


def plan_run(
    folder: Path,
    config: TrainConfig,
    store: StoreReader,
    split: Split,
    pending: Collection[str] = (),
) -> Run:
    """Return the run that this configuration and data make in `folder`; writes nothing.

    pending: options that name runs which are still to be trained, and so are not looked at.

    facts["inputs"]: SHA-256 of the weights of each run that it starts from, by option, and of the
    image network that it learns from.
    facts["split"]: SHA-256 of the ids of the training and validation shapes.

    A run with fewer epochs is continued: its facts then say from how many to how many, "extended".

    Raises UsageError for a folder inside a view store, StoreError if one of those inputs is
    missing, if `folder` holds another run of at least one epoch (with the differences), or if it
    holds anything but a run.
    """
    require_outside_stores(folder)
    folders = input_folders(config).items()
    inputs = {key: weights_digest(path) for key, path in folders if key not in pending}
    images = config.image_network
    if images is not None and images.weights != RANDOM:
        inputs["images.weights"] = weights_key(images.backbone, images.weights)
    facts = {
        "version": VERSION,
        "recipe": config.recipe,
        "class_names": learned_classes(store, config),
        "id": secrets.token_hex(6),
        "config": config.model_dump(mode="json"),
        "inputs": inputs,
        "split": {
            "train": shapes_digest(store, split.train),
            "validation": shapes_digest(store, split.validation),
        },
        "unlearned": unlearned_classes(store, split.train) if config.labeled else [],
        "data": describe_store(store),
        "versions": {"pointcmt": __version__, "python": platform.python_version()}
        | {name: version(name) for name in LIBRARIES}
        | outside_parts(config),
    }
    run = Run(folder, config, facts)
    if checkpoint.read_scalars(folder / LAST) is None:
        _refuse_foreign_folder(folder)
        return run
    existing, asked = open_run(folder), _identity(run)
    stored = {key: value for key, value in _identity(existing).items() if key not in pending}
    if config.epochs > existing.config.epochs and {**stored, "epochs": config.epochs} == asked:
        return with_epochs(existing, config.epochs)
    different = _differences(stored, asked)
    if different:
        raise StoreError(
            "this run was started with different settings:\n  " + "\n  ".join(different),
            where=str(folder),
            fix=order_of_run(existing.facts["data"], run.facts["data"])
            or "use the same settings to resume it, or choose another --out",
        )
    return existing


def with_epochs(run: Run, epochs: int) -> Run:
    """Return a run that is to be continued to more epochs than it was started with."""
    before, config = run.config.epochs, run.config.model_copy(update={"epochs": epochs})
    extended = [*run.facts.get("extended", []), {"from": before, "to": epochs}]
    table = {**run.facts["config"], "epochs": epochs}
    return Run(run.folder, config, {**run.facts, "config": table, "extended": extended})


def require_outside_stores(folder: Path) -> None:
    """Raise UsageError for a folder in a view store, since stores are deleted as a whole."""
    store = store_around(folder)
    if store is not None:
        raise UsageError(
            f"a run cannot be inside a view store: {store}",
            where=f"--out {folder}",
            fix="move the run out of the store and pass its new folder as --out"
            if is_run(folder)
            else "choose another --out",
        )


def shapes_digest(store: StoreReader, shapes: NDArray[np.int64]) -> str:
    """Return the SHA-256 of the ids of these shapes, in their order."""
    ids = "\n".join(store.shapes[shape].id for shape in shapes)
    return hashlib.sha256(ids.encode()).hexdigest()


def weights_digest(path: Path) -> str:
    """Return the SHA-256 of a run's best weights, or of a file of weights.

    Raises StoreError if there is neither.
    """
    if not path.is_file():
        scalars = checkpoint.read_scalars(open_run(path).folder / BEST)
        if scalars is None:
            raise StoreError(
                "this run has no checkpoint yet",
                where=str(path),
                fix="train it for at least one epoch, then start from it",
            )
        path = path / BEST / scalars["files"]["weights"]
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise StoreError(f"cannot be read: {error.strerror}", where=str(path)) from None


def epoch_folder(epoch: int) -> str:
    """Return the name of the folder of an epoch's checkpoint that is kept forever."""
    return f"epoch-{epoch:06d}"


def find_checkpoint(folder: Path, which: str) -> str:
    """Return the folder of a run's checkpoint: best, last, or the number of an epoch that was kept.

    Raises UsageError for another name.
    """
    names = sorted(path.name for path in folder.glob("epoch-*"))
    epochs = [name for name in names if re.fullmatch(r"epoch-\d{6,}", name)]
    if which.isdecimal() and epoch_folder(int(which)) in epochs:
        return epoch_folder(int(which))
    known = (*CHECKPOINTS, *(str(int(name.removeprefix("epoch-"))) for name in epochs))
    if which not in CHECKPOINTS:
        raise UsageError(f"unknown checkpoint '{which}'", fix=nearest(which, known))
    return which


@contextmanager
def begin_run(run: Run, seen: dict[str, Any] | None = None) -> Iterator[None]:
    """Create the run's folder and lock it, so that no other process trains there meanwhile.

    seen: the scalars of its last checkpoint when `run` was planned. A killed process releases its
    lock. Raises StoreError if another process is training the run, or has trained it since.
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
                fix="wait for it to finish, or choose another --out",
            ) from None
        if checkpoint.read_scalars(folder / LAST) != seen:
            raise StoreError(
                "another process has trained this run in the meantime",
                where=str(folder),
                fix="run the same command again: it continues from there",
            )
        if seen is None or run.config != open_run(folder).config:  # of a run with more epochs
            facts = (json.dumps(run.facts, indent=1) + "\n").encode()
            checkpoint.write_file(folder / FACTS, facts)
            checkpoint.write_file(folder / CONFIG, to_yaml(run.config).encode())
        yield


def open_run(folder: Path) -> Run:
    """Open a run. Raises StoreError if there is none or it is damaged."""
    where = f"{folder}/{FACTS}"
    try:
        facts = read_json(folder / FACTS)
    except (FileNotFoundError, NotADirectoryError):
        if folder.is_file():
            raise _not_a_run(folder) from None
        raise StoreError(
            "there is no run here", where=str(folder), fix="create one with `pointcmt train --out`"
        ) from None
    except (OSError, ValueError) as error:
        raise StoreError(f"the run is damaged: {error}", where=where) from None
    stored = facts.get("version", VERSION) if isinstance(facts, dict) else VERSION
    if stored != VERSION:
        raise StoreError(
            f"the run has version {stored}; this pointcmt reads {VERSION}",
            where=str(folder),
            fix="use the pointcmt version that started it",
        )
    recipe = check(Facts, facts, "the run", where).recipe
    config = parse_config(recipe, facts["config"], where)
    if (config.labeled or config.classifies) and not facts["class_names"]:
        raise StoreError("the run is damaged: it has no class names", where=where)
    return Run(folder, config, facts)


def _not_a_run(file: Path) -> StoreError:
    """Return the error for a file in place of a run. Raises StoreError if it holds no weights."""
    backbone = find_backbone_of(file)
    return StoreError(
        "this is a file of weights, not the folder of a run",
        where=str(file),
        fix=f"start a run from it: `pointcmt train finetune --data STORE --init {file} "
        f"--set model.backbone={backbone} --out RUN`, then pass RUN"
        if backbone
        else "pass the folder that `pointcmt train --out` made",
    )


def is_run(folder: Path) -> bool:
    """Return whether a folder holds a run, of any version."""
    try:
        facts = read_json(folder / FACTS)
    except (OSError, ValueError):
        return False
    return isinstance(facts, dict) and facts.keys() >= {"recipe", "config", "inputs", "split"}


def require_classes(run: Run, store: StoreReader) -> None:
    """Raise StoreError unless the store has the classes that the run was trained on."""
    if store.class_names == run.class_names:
        return
    missing = [name for name in run.class_names if name not in store.class_names]
    unknown = [name for name in store.class_names if name not in run.class_names]
    raise StoreError(
        f"the store's classes differ from the {len(run.class_names)} that the run was trained on: "
        f"{len(missing)} missing ({', '.join(missing[:5])}), {len(unknown)} unknown "
        f"({', '.join(unknown[:5])})"
        if missing or unknown
        else "the run and the store have the same classes in a different order",
        where=f"{run.folder}, {store.path}",
        fix="evaluate on a store of the dataset that the run was trained on",
    )


def _refuse_foreign_folder(folder: Path) -> None:
    """Raise StoreError if a folder holds anything but a run without a finished epoch."""
    with checkpoint.disk_errors(folder):
        names = [path.name for path in folder.iterdir()] if folder.exists() else []
    known, written = {LOCK}, [FACTS]
    if is_run(folder):
        known |= {FACTS, CONFIG, METRICS, LAST, BEST, EVENTS, "wandb"}
        written += [CONFIG, METRICS]
    foreign = sorted(name for name in names if name not in known and not _is_half(name, written))
    if foreign:
        raise StoreError(
            f"this folder is not empty (it contains {foreign[0]}) and is not a run",
            where=str(folder),
            fix="choose an empty or new folder for --out",
        )


def _is_half(name: str, written: list[str]) -> bool:
    """Return whether a killed process, maybe of an older version, left this of a written file."""
    return any(checkpoint.is_half(name, file) or name == f"{file}.part" for file in written)


def _identity(run: Run) -> dict[str, Any]:
    """Return what a run and a command must agree on to resume it; paths and versions may differ."""
    data = {key: run.facts["data"][key] for key in ("dataset", "plan_sha256", "render_hash")}
    config = run.config.model_dump(mode="json", exclude=set(INPUTS))
    inputs = run.facts["inputs"]
    names = {"class_names": run.class_names, "split": run.facts["split"]}
    return flatten({**config, **names, "store": data}) | inputs


def _differences(stored: dict[str, Any], asked: dict[str, Any]) -> list[str]:
    different = differing(stored, asked)
    return [f"{key}: {a} in the run, {b} requested" for key, (a, b) in different.items()]
