"""Evaluate a run on a split of a store, and write the results into its folder.

The results of each kind of run are in modules of their own: `classification`, `segmentation`,
`scenes` and `boxes`. Only evaluation and the probes read the test split: training and the choice of
the best epoch never see it.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray

from pointcmt.console import Paced, logger, meter
from pointcmt.datasets.store.schema import SCENES
from pointcmt.datasets.store.view_store import StoreReader
from pointcmt.datasets.streams import evaluation_config, open_stream
from pointcmt.errors import StoreError, UsageError, nearest
from pointcmt.training.config.downstream import PartsegConfig
from pointcmt.training.evaluation.boxes import detect_scenes
from pointcmt.training.evaluation.classes import Matched, match, match_parts
from pointcmt.training.evaluation.classification import Report
from pointcmt.training.evaluation.classifier import (
    Classifier,
    open_classifier,
    predict,
    vote,
)
from pointcmt.training.evaluation.published import FROM_FILE, FileOptions, open_file
from pointcmt.training.evaluation.scenes import match_classes, require_held_out, segment_scenes
from pointcmt.training.evaluation.segmentation import PartReport
from pointcmt.training.runs.box_labels import require_boxes
from pointcmt.training.runs.checkpoint import write_file
from pointcmt.training.runs.facts import as_options, store_notes
from pointcmt.training.runs.folder import BEST, Run, shapes_digest
from pointcmt.training.runs.part_labels import find_parts, require_labels
from pointcmt.training.runs.point_labels import require_labeled_points
from pointcmt.training.runs.splits import labeled, split_shapes, split_test, split_train
from pointcmt.training.runs.store_kinds import require_kind

SPLITS = ("test", "val", "train")
LAST_EPOCH = "trained without validation (data.validation=0): best is the last epoch"


class Evaluation(Protocol):
    """The result of an evaluation, whatever was evaluated.

    shapes: their number. measures: the numbers to compare runs by, the most important one first.
    notes: for the user, such as that the store was rendered with other settings than the run's.
    pictures: PNG by name. ids: of the shapes. of_each: what was predicted for each of them, as
    lists in their order, for paired comparisons of runs.
    """

    @property
    def shapes(self) -> int: ...
    @property
    def measures(self) -> dict[str, float]: ...
    @property
    def notes(self) -> tuple[str, ...]: ...
    @property
    def ids(self) -> tuple[str, ...]: ...
    def of_each(self) -> dict[str, Any]: ...
    def as_json(self) -> dict[str, Any]: ...
    def facts(self) -> dict[str, Any]: ...
    def describe(self) -> str: ...
    def pictures(self) -> dict[str, bytes]: ...


def evaluate(
    folder: Path,
    store: StoreReader,
    split: str = "test",
    which: str = "best",
    votes: int = 1,
    device: str = "auto",
    file: FileOptions = FROM_FILE,
) -> Evaluation:
    """Classify or segment a split with a run's checkpoint; write the results into its folder.

    evaluation.json, predictions.json (of each shape) and confusion.png (for parts:
    segmentation.png; for scenes both, classes.png and frames.png) belong to the best checkpoint on
    the test split; the names of others say so, as in evaluation-val-last.json.

    folder: a run, or where `find_run` finds one. split: test, val (the shapes that selected the
    best epoch) or train (the others). which: best on validation, last, or the number of an epoch
    that was kept. votes: average the probabilities of the plain prediction and of votes - 1
    randomly varied inputs; the seed is fixed. Of scenes, the scores of votes stand beside those of
    the plain prediction. If the store was rendered with other settings than the run's store, a note
    on standard error and in the report says so.

    folder may also be a file of published weights: `file` says how to read it, val and train are
    the store's own, and nothing is written.

    Raises StoreError for a run without a checkpoint, for a store with other classes or parts or
    without shapes in the split, and UsageError for an unknown name.
    """
    _require("split", split, SPLITS)
    if folder.is_file():
        if which != BEST:
            raise UsageError(
                "a file of weights has no checkpoints to choose from",
                where="--checkpoint",
                fix="leave it out",
            )
        return _evaluate_file(folder, store, split, votes, device, file)
    opened = open_classifier(folder, which, votes, device)
    run, folder = opened.run, opened.run.folder
    require_kind(store, run.config)
    shapes = _shapes(run, store, split)
    about: dict[str, Any] = {"recipe": run.config.recipe, "split": split, "which": which}
    about |= {"epoch": opened.epoch, "votes": votes}
    report = (_label if run.config.reads == SCENES else _predict)(about, opened, store, shapes)
    facts = {
        **about,
        "shapes": report.shapes,
        "data": store.path,
        "plan_sha256": store.attributes["plan_sha256"],
        **report.as_json(),
        **report.facts(),
    }
    suffix = "" if (split, which) == ("test", "best") else f"-{split}-{which}"
    write_file(folder / f"evaluation{suffix}.json", (json.dumps(facts, indent=1) + "\n").encode())
    each = {**about, "classes": list(report.as_json()["per_class"]), "ids": list(report.ids)}
    text = json.dumps({**each, **report.of_each()}, separators=(",", ":")) + "\n"
    write_file(folder / f"predictions{suffix}.json", text.encode())
    for kind, picture in report.pictures().items():
        write_file(folder / f"{kind}{suffix}.png", picture)
    return report


def _evaluate_file(
    path: Path, store: StoreReader, split: str, votes: int, device: str, file: FileOptions
) -> Report | PartReport:
    """Classify or segment a split with published weights; nothing is written."""
    opened, notes = open_file(path, store, file, votes, device)
    about: dict[str, Any] = {"recipe": opened.run.config.model_dump()["model"]["backbone"]}
    about |= {"split": split, "which": opened.which, "epoch": opened.epoch, "votes": votes}
    _show(notes)
    shapes = labeled(store, split)[0]
    report = cast(Report | PartReport, _predict(about, opened, store, shapes))
    return replace(report, notes=(*notes, *report.notes))


def _predict(
    about: dict[str, Any], opened: Classifier, store: StoreReader, shapes: NDArray[np.int64]
) -> Evaluation:
    """Predict the classes or the parts of shapes."""
    run, split = opened.run, about["split"]
    matched = match(run, store, shapes, split)
    notes = (*store_notes(run.facts["data"], store), *matched.notes)
    if opened.which == BEST and not run.config.data.validation:
        notes += (LAST_EPOCH,)
    ids = tuple(store.shapes[shape].id for shape in matched.shapes.tolist())
    about = {**about, "notes": notes, "left_out": matched.left_out, "ids": ids}
    _show(notes)
    evaluate_with = _segment if isinstance(run.config, PartsegConfig) else _classify
    with meter(f"evaluating {run.folder}", len(matched.shapes), "shapes") as progress:
        return evaluate_with(about, opened, store, matched, Paced(progress))


def _label(
    about: dict[str, Any], opened: Classifier, store: StoreReader, scenes: NDArray[np.int64]
) -> Evaluation:
    """Predict the class of each point of scenes, or their boxes."""
    run, detects = opened.run, opened.run.config.detects
    of_class, more = match_classes(run, store)
    (require_boxes if detects else require_labeled_points)(store, scenes, about["split"])
    notes = (*store_notes(run.facts["data"], store), *more)
    _show(notes)
    with meter(f"evaluating {run.folder}", len(scenes), "scenes") as progress:
        ids = tuple(store.shapes[scene].id for scene in scenes.tolist())
        about = {**about, "notes": notes, "ids": ids}
        evaluate_with = detect_scenes if detects else segment_scenes
        return evaluate_with(about, opened, store, scenes, of_class, Paced(progress))


def _show(notes: tuple[str, ...]) -> None:
    for note in notes:
        logger.warning(f"note: {note}")


def _classify(
    about: dict[str, Any],
    opened: Classifier,
    store: StoreReader,
    matched: Matched,
    progress: Paced,
) -> Evaluation:
    """Predict each shape's class."""
    recipe, run = opened.recipe, opened.run
    reads = evaluation_config(recipe.stream, run.config.data.batch_size)
    stream = open_stream(store, matched.shapes, reads)
    log_p = predict(recipe, stream, about["votes"], run.config.seed, progress)
    predicted = log_p.argmax(dim=1).numpy()
    return Report(**about, class_names=run.class_names, true=matched.labels, predicted=predicted)


def _segment(
    about: dict[str, Any],
    opened: Classifier,
    store: StoreReader,
    matched: Matched,
    progress: Paced,
) -> Evaluation:
    """Predict each point's part."""
    recipe, config = opened.recipe, cast(PartsegConfig, opened.run.config)
    shapes, of_part = matched.shapes, match_parts(config.parts, store, matched)
    require_labels(find_parts(store), store, shapes)
    stream = open_stream(store, shapes, evaluation_config(recipe.stream, config.data.batch_size))
    of_class = torch.from_numpy(matched.of_class)
    votes = vote(recipe, stream, about["votes"], config.seed, progress, of_class)
    predicted = torch.cat([log_p.argmax(dim=2) for log_p in votes]).numpy()
    points = store.read("points", shapes)[:, : config.data.points]
    stored = store.read("part", shapes)[:, : config.data.points].astype(np.int64)
    pairs = zip(stored, store.labels[shapes], strict=True)
    true = np.stack([of_part[label][parts] for parts, label in pairs])
    return PartReport(
        **about,
        parts=config.parts,
        labels=matched.labels,
        true=true,
        predicted=predicted,
        points=points,
    )


def _shapes(run: Run, store: StoreReader, split: str) -> NDArray[np.int64]:
    """Return the shapes of a split: `train` and `val` as the run itself divided them."""
    if split == "test" and run.config.reads == SCENES:
        scenes = split_test(store, run.config.data)
        require_held_out(run, store, scenes)
        return scenes
    if split == "test":
        return labeled(store, "test")[0]
    if store.attributes["plan_sha256"] != run.facts["data"]["plan_sha256"]:
        raise StoreError(
            f"the '{split}' shapes of this run are only defined for the store it was trained on",
            where=store.path,
            fix=f"use {as_options(run.facts['data'])}, or the test split of this store",
        )
    own = (split_train if run.config.labeled else split_shapes)(store, run.config.data)
    if split == "val" and not len(own.validation):
        raise StoreError(
            "this run held out no validation shapes (data.validation=0)",
            where=str(run.folder),
            fix="evaluate on the test split",
        )
    kind, chosen = ("train", own.train) if split == "train" else ("validation", own.validation)
    if shapes_digest(store, chosen) != run.facts["split"][kind]:
        raise StoreError(
            f"'{split}' does not contain the same shapes as when this run was trained: the number "
            "of rendered shapes in the store has changed",
            where=store.path,
            fix="evaluate on the test split",
        )
    return chosen


def _require(kind: str, name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        raise UsageError(f"unknown {kind} '{name}'", fix=nearest(name, known))
