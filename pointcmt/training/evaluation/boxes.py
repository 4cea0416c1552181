"""Evaluate 3D detection: average precision at IoUs of 0.25 and 0.5, over all scenes together.

Classes of run and store are matched by name. Boxes of classes that the run does not know are left
out.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from pointcmt.console import Paced
from pointcmt.datasets.store.view_store import StoreReader
from pointcmt.errors import StoreError, printable
from pointcmt.training.evaluation.box_frames import find_box_frames
from pointcmt.training.evaluation.box_predictor import BoxPredictor
from pointcmt.training.evaluation.classes import listing
from pointcmt.training.evaluation.classifier import Classifier
from pointcmt.training.evaluation.evaluated import Evaluated
from pointcmt.training.evaluation.scenes import DRAWN, DRAWN_FRAMES
from pointcmt.training.figures.box_frames import BoxedFrame, draw_box_frames
from pointcmt.training.figures.boxes import (
    LEAST_SCORE,
    BoxedScene,
    Curve,
    draw_boxes,
    draw_precision,
)
from pointcmt.training.figures.confusion import draw_confusion
from pointcmt.training.ops.detection.confusion import count_classes
from pointcmt.training.ops.detection.scores import (
    Detections,
    DetectionScores,
    TrueBoxes,
    count_detections,
    detection_scores,
    over,
    pack_counts,
    precision_recall,
)
from pointcmt.training.ops.detection.selection import likeliest
from pointcmt.training.recipes.detect import Detect, true_boxes
from pointcmt.training.runs.store_kinds import scene_classes

NOTHING = "nothing"  # the row of detections without a true box, and the column of missed boxes
IOUS = {"25": 0.25, "50": 0.5}  # that a hit must exceed, by the ending of measures' names


@dataclass(frozen=True, eq=False)
class DetectionReport(Evaluated):
    """Results of a detection: what was evaluated, and the boxes that all numbers follow from.

    found, true: of each scene, as `selection.select` returns them. nms: what non-maximum
    suppression compared. points: of a scene, that the network took. examples, frames: some scenes
    and frames, to be drawn.
    """

    class_names: list[str]
    found: list[Detections]
    true: list[TrueBoxes]
    nms: str
    points: int
    examples: list[BoxedScene]
    frames: list[BoxedFrame] = field(default_factory=list)

    @property
    def shapes(self) -> int:
        """The number of scenes."""
        return len(self.true)

    @cached_property
    def scores(self) -> dict[str, DetectionScores]:
        """The scores at each IoU, by the ending of measures' names."""
        classes = len(self.class_names)
        return {
            name: detection_scores(self.found, self.true, classes, threshold)
            for name, threshold in IOUS.items()
        }

    @property
    def counts(self) -> NDArray[np.int64]:
        """The counts of each scene at an IoU of 0.25, [n, C, BINS + 1, 2]: `count_detections`."""
        return np.array(list(self._counts_of_scenes()))

    def _counts_of_scenes(self) -> Iterator[NDArray[np.int64]]:
        """Yield the counts of each scene: those of thousands together would fill the memory."""
        classes = len(self.class_names)
        for scene in zip(self.found, self.true, strict=True):
            yield count_detections(*scene, classes, IOUS["25"])

    @property
    def measures(self) -> dict[str, float]:
        """The numbers to compare runs by, the most important one first."""
        precision = {f"ap{name}": s.mean_average_precision for name, s in self.scores.items()}
        return precision | {f"ar{name}": s.mean_recall for name, s in self.scores.items()}

    @property
    def per_class(self) -> dict[str, dict[str, Any]]:
        """Class name → boxes, and ap25, ap50, ar25, ar50 (None without boxes)."""
        table = {}
        for label, name in enumerate(self.class_names):
            row: dict[str, Any] = {"boxes": int(self.scores["25"].positives[label])}
            for ending, s in self.scores.items():
                row[f"ap{ending}"] = _known(s.average_precision[label])
            for ending, s in self.scores.items():
                row[f"ar{ending}"] = _known(s.recall[label])
            table[name] = row
        return table

    def as_json(self) -> dict[str, Any]:
        """Return the fields that `evaluate --json` prints."""
        about = {"nms": self.nms, "points": self.points}
        more = {"notes": list(self.notes), "left_out": self.left_out}
        return {**self.measures, **about, "per_class": self.per_class, **more}

    def of_each(self) -> dict[str, Any]:
        """Return the counts of each scene at an IoU of 0.25 for predictions.json: see
        `count_detections` and `pack_counts`.
        """
        return {"counts": [pack_counts(counts) for counts in self._counts_of_scenes()]}

    @cached_property
    def confusion(self) -> NDArray[np.int64]:
        """Boxes by true and predicted class, [C + 1, C + 1], the last of each: none.

        Of detections with a score over LEAST_SCORE, each with its likeliest class; see
        `count_classes`.
        """
        classes = len(self.class_names)
        likely = (over(likeliest(found), LEAST_SCORE) for found in self.found)
        scenes = zip(likely, self.true, strict=True)
        return np.sum([count_classes(*scene, classes) for scene in scenes], axis=0)

    def facts(self) -> dict[str, Any]:
        """Return more fields for evaluation.json: the confusion, and its least score."""
        return {"confusion": self.confusion.tolist(), "confusion_least_score": LEAST_SCORE}

    def describe(self) -> str:
        """Return the numbers as text; each class takes one line, whatever its name holds."""
        rows = self.per_class
        printed = {name: printable(name) for name in self.class_names}
        width = max(map(len, printed.values()))
        boxes = sum(row["boxes"] for row in rows.values())
        known = [name for name, row in rows.items() if row["boxes"]]
        lines = [
            f"{self.recipe}, {self.which} checkpoint (epoch {self.epoch}), {self.shapes:,} "
            f"{self.split} scenes, {boxes:,} boxes, {self.points:,} points of each scene, "
            f"NMS: {self.nms}",
            f"  mean over {len(known)} of {len(rows)} classes",
        ]
        for name, value in self.measures.items():
            lines.append(f"  {name.upper()}  {value:7.2%}")
        for name in known:
            row = rows[name]
            numbers = "  ".join(f"{m.upper()} {row[m]:7.2%}" for m in self.measures)
            lines.append(f"    {printed[name]:<{width}}  {numbers}  {row['boxes']:>6,} boxes")
        absent = [printed[name] for name in rows if name not in known]
        if absent:
            lines.append(f"  classes without boxes are not included: {listing(absent)}")
        if self.left_out:
            counts = [f"{printable(name)} ({n:,})" for name, n in self.left_out.items()]
            lines.append(f"  boxes of classes that the run does not know: {listing(counts)}")
        return "\n".join(lines)

    def pictures(self) -> dict[str, bytes]:
        """Draw precision over recall, the confusion, and some scenes from above and in frames."""
        curves = {
            f"IoU > {IOUS[ending]:g}": [
                Curve(name, *precision_recall(hits, int(count)), average)
                for name, hits, count, average in zip(
                    self.class_names, s.hits, s.positives, s.average_precision, strict=True
                )
                if count
            ]
            for ending, s in self.scores.items()
        }
        title = f"{self.recipe}, {self.split}: boxes with a score over {LEAST_SCORE:g}"
        pictures = {
            "precision": draw_precision(curves, self.class_names),
            "confusion": draw_confusion(self.confusion, [*self.class_names, NOTHING], title),
            "boxes": draw_boxes(self.examples, self.class_names),
        }
        if self.frames:
            pictures["frames"] = draw_box_frames(self.frames, self.class_names)
        return pictures


def detect_scenes(
    about: dict[str, Any],
    opened: Classifier,
    store: StoreReader,
    scenes: NDArray[np.int64],
    of_class: NDArray[np.int64],
    progress: Paced,
) -> DetectionReport:
    """Detect the boxes of these scenes [n]; of_class: see `evaluation.scenes.match_classes`.

    about: the first fields of the report. Raises UsageError for votes, StoreError if the scenes
    have no box of a class that the run knows.
    """
    predictor, names = BoxPredictor(**vars(opened)), scene_classes(store, "boxes")
    drawn = set(np.unique(np.linspace(0, len(scenes) - 1, DRAWN).astype(int)).tolist())
    found, targets, unknown = [], [], np.zeros(len(names), np.int64)
    examples: list[BoxedScene] = []
    frames: list[BoxedFrame] = []
    for number, batch in enumerate(predictor.of_store(store, scenes)):
        found.append(predictor.detect(batch))
        (stored,) = true_boxes(batch)
        label = of_class[stored.label]
        unknown += np.bincount(stored.label[label < 0], minlength=len(names))
        targets.append(TrueBoxes(stored.boxes[label >= 0], label[label >= 0]))
        if number in drawn:
            scene = int(scenes[number])
            name, likely = store.shapes[scene].id, likeliest(found[-1])
            boxes = targets[-1], over(likely, LEAST_SCORE)
            examples.append(BoxedScene(name, batch["points"][0].numpy(), *boxes))
            frames += find_box_frames(store, scene, *boxes, DRAWN_FRAMES)
        progress.advance(1)
    if not any(len(true.label) for true in targets):
        raise StoreError(
            f"no box of a class that the run knows is in any of the {len(scenes)} scenes",
            where=store.path,
            fix="use more scenes, or a store of the dataset that the run was trained on",
        )
    counted = {n: int(c) for n, c in zip(names, unknown, strict=True) if c}
    recipe = cast(Detect, opened.recipe)
    return DetectionReport(
        **{**about, "left_out": counted}, class_names=opened.run.class_names, found=found,
        true=targets, nms=recipe.config.model.nms, points=predictor.points, examples=examples,
        frames=frames,
    )  # fmt: skip


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
