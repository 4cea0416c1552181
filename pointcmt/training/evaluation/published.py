"""Evaluate a file of weights that others have published, without training a step.

The network is built with the head that the file has, all of the file is loaded, and the points are
taken in the frame of the benchmark that the store holds.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pointcmt.datasets.store.view_store import StoreReader
from pointcmt.errors import StoreError, UsageError, nearest
from pointcmt.input_frame import AS_STORED, InputFrame, parse_frame
from pointcmt.training.config.pointcmt import Student as Network
from pointcmt.training.config.pointcmt import StudentConfig
from pointcmt.training.config.sections import StudentData
from pointcmt.training.evaluation.classifier import Classifier, require_votes
from pointcmt.training.networks.backbones import BACKBONES, is_known
from pointcmt.training.ops.device import find_device
from pointcmt.training.recipes.student import build
from pointcmt.training.runs.facts import describe_store
from pointcmt.training.runs.folder import Run
from pointcmt.training.runs.frames import stated_frame
from pointcmt.training.runs.published_weights import (
    LAST_LAYERS,
    find_backbone_of,
    load_published,
    peek,
)
from pointcmt.training.runs.store_kinds import require_kind

BENCHMARK = InputFrame("y", "centroid")  # of published networks, if the store states none


@dataclass(frozen=True)
class FileOptions:
    """How to read a file of weights.

    backbone: the network; "" finds it by the tensors' names and shapes. points: per shape, the
    first n of the store. frame: in which the network takes them; None = that which the store states
    for its benchmark, or else +Y up, centered by the mean of the points, scaled by the farthest.
    """

    backbone: str = ""
    points: int = 1024
    frame: InputFrame | None = None


FROM_FILE = FileOptions()


def file_options(backbone: str = "", points: int | None = None, frame: str = "") -> FileOptions:
    """Return the options that a user gives as text; empty = the defaults. Raises UsageError."""
    chosen = parse_frame(frame) if frame else None
    return FileOptions(backbone, points or FROM_FILE.points, chosen)


def open_file(
    path: Path, store: StoreReader, options: FileOptions, votes: int, device: str
) -> tuple[Classifier, tuple[str, ...]]:
    """Open a file of published weights as a classifier of the store's classes; notes for the user.

    The file's classes are taken to be the store's, in the order of its labels. Raises StoreError
    for a file that cannot be read or does not fit, UsageError for an unknown network.
    """
    require_votes(votes)
    require_kind(store, StudentConfig())
    found = peek(path)
    backbone = options.backbone or find_backbone_of(path)
    if not backbone:
        raise UsageError(
            "the network of this file is not known",
            where=str(path),
            fix=f"pass --backbone, one of: {', '.join(BACKBONES)}",
        )
    if not is_known(backbone, BACKBONES):
        fix = nearest(backbone, BACKBONES)
        raise UsageError(f"unknown backbone '{backbone}'", where="--backbone", fix=fix)
    if options.points > store.schema.points:
        raise UsageError(
            f"{options.points} points per shape, but the store has {store.schema.points}",
            where="--points",
            fix=f"use --points {store.schema.points} or fewer, or render with more --points",
        )
    classes = next((len(found.weights[key]) for key in LAST_LAYERS if key in found.weights), None)
    if classes not in (None, len(store.class_names)):
        raise StoreError(
            f"this file has {classes} classes, and the store {len(store.class_names)}",
            where=f"{path}, {store.path}",
            fix="evaluate it on a store of the benchmark that it was trained on",
        )
    frame = options.frame or stated_frame(store) or BENCHMARK
    config = StudentConfig(
        model=Network(backbone=backbone, head=found.head),  # type: ignore[arg-type]
        data=StudentData(points=options.points, **frame.as_json()),  # type: ignore[arg-type]
    )
    recipe = build(config, len(store.class_names), False)
    notes = load_published(path, recipe.model)
    recipe.model.to(find_device(device))
    if frame != AS_STORED:
        notes = (*notes, f"the network takes the points {frame.describe()}")
    facts: dict[str, Any] = {"class_names": store.class_names, "data": describe_store(store)}
    opened = Classifier(Run(path, config, facts), recipe, f"the file {path.name}", 0, votes)
    return opened, notes
