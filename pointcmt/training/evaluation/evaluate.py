"""Evaluate a run: accuracy over all shapes and over classes, and which classes it confuses.

Part segmentation has its own measures, see `segmentation`. Only evaluation and the probes read the
test split: training and the choice of the best epoch never see it.
"""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray

from pointcmt.console import Paced, logger, meter
from pointcmt.datasets.store.schema import SCENES
from pointcmt.datasets.store.view_store import StoreReader
from pointcmt.datasets.streams import evaluation_config, open_stream
from pointcmt.errors import StoreError, UsageError, nearest, printable
from pointcmt.training.config.downstream import PartsegConfig
from pointcmt.training.evaluation.boxes import detect_scenes
from pointcmt.training.evaluation.classes import Matched, left_out_lines, match, match_parts
from pointcmt.training.evaluation.classifier import (
    Classifier,
    open_classifier,
    predict,
    vote,
)
from pointcmt.training.evaluation.published import FROM_FILE, FileOptions, open_file
from pointcmt.training.evaluation.scenes import match_classes, require_held_out, segment_scenes
from pointcmt.training.evaluation.segmentation import PartReport
from pointcmt.training.figures.confusion import draw_confusion
from pointcmt.training.ops.statistics import accuracy_interval
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
MOST_NAMED = 5  # classes without shapes that are listed


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


@dataclass(frozen=True)
class Report:
    """Results of a classifier: what was evaluated, and the labels that all numbers follow from.

    true, predicted: class indices [n], in the order of the split's shapes. notes: for the user,
    about the store. left_out: shapes of classes that the run does not know, by class. ids: of the
    shapes.
    """

    recipe: str
    split: str
    which: str
    epoch: int
    votes: int
    class_names: list[str]
    true: NDArray[np.int64]
    predicted: NDArray[np.int64]
    notes: tuple[str, ...] = ()
    left_out: dict[str, int] = field(default_factory=dict)
    ids: tuple[str, ...] = ()

    @property
    def shapes(self) -> int:
        """The number of shapes that were classified."""
        return len(self.true)

    @property
    def scores(self) -> NDArray[np.float64]:
        """1 for each correctly classified shape, else 0, [n]; the mean is the first measure."""
        return self.correct.astype(float)

    @property
    def measures(self) -> dict[str, float]:
        """The numbers to compare runs by, the most important one first."""
        return {
            "overall_accuracy": self.overall_accuracy,
            "mean_class_accuracy": self.mean_class_accuracy,
        }

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether each shape is classified correctly, [n]."""
        return self.true == self.predicted

    @property
    def confusion(self) -> NDArray[np.int64]:
        """Counts [C, C]; rows are the true classes, columns the predicted ones."""
        return confusion_matrix(self.true, self.predicted, len(self.class_names))

    @property
    def overall_accuracy(self) -> float:
        """The share of correctly classified shapes."""
        return float(self.correct.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the overall accuracy, by the bootstrap over shapes."""
        return accuracy_interval(int(self.correct.sum()), self.shapes)

    @property
    def mean_class_accuracy(self) -> float:
        """The mean accuracy over the classes that have shapes."""
        return float(np.mean([c["accuracy"] for c in self.per_class.values() if c["shapes"]]))

    @property
    def per_class(self) -> dict[str, dict[str, Any]]:
        """Class name → shapes, correct, accuracy (None without shapes)."""
        table, confusion = {}, self.confusion
        for name, row, correct in zip(
            self.class_names, confusion.sum(axis=1), np.diag(confusion), strict=True
        ):
            accuracy = float(correct / row) if row else None
            table[name] = {"shapes": int(row), "correct": int(correct), "accuracy": accuracy}
        return table

    def as_json(self) -> dict[str, Any]:
        """Return the fields that `evaluate --json` prints."""
        return {**self.numbers(), "notes": list(self.notes), "left_out": self.left_out}

    def of_each(self) -> dict[str, Any]:
        """Return the true and the predicted class of each shape, for predictions.json."""
        return {"true": self.true.tolist(), "predicted": self.predicted.tolist()}

    def facts(self) -> dict[str, Any]:
        """Return more fields for evaluation.json."""
        return {"confusion": self.confusion.tolist()}

    def numbers(self) -> dict[str, Any]:
        """Return the same without the notes."""
        return {
            "overall_accuracy": self.overall_accuracy,
            "overall_accuracy_interval": list(self.interval),
            "mean_class_accuracy": self.mean_class_accuracy,
            "per_class": self.per_class,
        }

    def pictures(self) -> dict[str, bytes]:
        """Draw the confusion matrix."""
        title = (
            f"{self.recipe}, {self.split}: {self.overall_accuracy:.1%} of {self.shapes:,} shapes"
        )
        return {"confusion": draw_confusion(self.confusion, self.class_names, title)}

    def describe(self) -> str:
        """Return the numbers as text; each class takes one line, whatever its name holds."""
        voted = f", {self.votes} votes" if self.votes > 1 else ""
        trained = f" checkpoint (epoch {self.epoch})" if self.epoch else ""  # none of a file
        printed = {name: printable(name) for name in self.class_names}
        width = max(map(len, printed.values()))
        lines = [
            f"{self.recipe}, {self.which}{trained}, {self.shapes:,} {self.split} shapes{voted}",
            f"  overall accuracy     {self.overall_accuracy:7.2%}  (95 % bootstrap interval: "
            "{:.2%} … {:.2%})".format(*self.interval),
            f"  mean class accuracy  {self.mean_class_accuracy:7.2%}",
        ]
        for name, c in self.per_class.items():
            if c["shapes"]:
                share = f"{c['correct']:>5} of {c['shapes']:<5}"
                lines.append(
                    f"    {printed[name]:<{width}}  {c['accuracy']:7.2%}  {share}".rstrip()
                )
        absent = [printed[name] for name, c in self.per_class.items() if not c["shapes"]]
        if absent:
            some = ", ".join(absent[:MOST_NAMED]) + (" …" if len(absent) > MOST_NAMED else "")
            lines.append(f"  {len(absent)} classes without shapes are not included: {some}")
        lines += left_out_lines(self.left_out)
        return "\n".join(lines)


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
    text = json.dumps({**each, **report.of_each()}) + "\n"
    write_file(folder / f"predictions{suffix}.json", text.encode())
    for kind, picture in report.pictures().items():
        write_file(folder / f"{kind}{suffix}.png", picture)
    return report


def _evaluate_file(
    path: Path, store: StoreReader, split: str, votes: int, device: str, file: FileOptions
) -> Report:
    """Classify a split with published weights; nothing is written."""
    opened, notes = open_file(path, store, file, votes, device)
    about: dict[str, Any] = {"recipe": opened.run.config.model_dump()["model"]["backbone"]}
    about |= {"split": split, "which": opened.which, "epoch": opened.epoch, "votes": votes}
    _show(notes)
    report = cast(Report, _predict(about, opened, store, labeled(store, split)[0]))
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


def confusion_matrix(
    true: NDArray[np.int64], predicted: NDArray[np.int64], classes: int
) -> NDArray[np.int64]:
    """Count pairs of classes, [C, C]; rows are the true classes, columns the predicted ones."""
    cells = np.bincount(true * classes + predicted, minlength=classes * classes)
    return cells.reshape(classes, classes)


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
