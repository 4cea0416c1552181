"""Evaluate semantic segmentation: one confusion matrix over all points of all scenes.

The network predicts a class for each voxel, and each original point gets that of its voxel, so that
the scores do not depend on the size of voxels. Classes of run and store are matched by name. Scores
with votes stand beside those of the plain prediction, never in their place.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pointcmt.console import Paced
from pointcmt.datasets.joint import match_names
from pointcmt.datasets.store.epochs import Batch
from pointcmt.datasets.store.scene_streams.scenes import find_scenes
from pointcmt.datasets.store.view_store import StoreReader
from pointcmt.errors import StoreError, printable
from pointcmt.training.evaluation.classes import listing
from pointcmt.training.evaluation.classifier import Classifier
from pointcmt.training.evaluation.evaluated import Evaluated
from pointcmt.training.evaluation.scene_frames import find_frames
from pointcmt.training.evaluation.scene_predictor import ScenePredictor
from pointcmt.training.figures.confusion import draw_confusion
from pointcmt.training.figures.frames import SegmentedFrame, draw_frames
from pointcmt.training.figures.scenes import SegmentedScene, draw_classes, draw_scenes
from pointcmt.training.ops.semantic import IGNORE, Confusion, confusion
from pointcmt.training.runs.facts import each_store
from pointcmt.training.runs.folder import Run
from pointcmt.training.runs.splits import areas_of, held_out_areas
from pointcmt.training.runs.store_kinds import learned_classes, scene_classes

DRAWN = 3  # scenes in a picture
DRAWN_POINTS = 60_000  # of each, evenly taken
DRAWN_FRAMES = 2  # of each


@dataclass(frozen=True, eq=False)
class Drawn:
    """What pictures show: some scenes and some of their frames. palette: of the classes."""

    scenes: list[SegmentedScene]
    frames: list[SegmentedFrame]
    palette: list[list[int]]


@dataclass(frozen=True, eq=False)
class SceneReport(Evaluated):
    """Results of a segmentation of scenes: what was evaluated, and counts of points.

    confusions: of each scene, once as it is. voted: the same of the votes; empty without.
    """

    class_names: list[str]
    confusions: list[Confusion]
    voted: list[Confusion]
    drawn: Drawn

    @property
    def shapes(self) -> int:
        """The number of scenes."""
        return len(self.confusions)

    @property
    def counts(self) -> NDArray[np.int64]:
        """The counts of each scene, [n, C, C + 1]."""
        return np.array([each.counts for each in self.confusions])

    @property
    def total(self) -> Confusion:
        """The counts of all scenes together."""
        return Confusion(self.counts.sum(axis=0))

    @property
    def total_of_votes(self) -> Confusion | None:
        """The same with votes."""
        counts = [each.counts for each in self.voted]
        return Confusion(np.sum(counts, axis=0)) if counts else None

    @property
    def measures(self) -> dict[str, float]:
        """The numbers to compare runs by, the most important one first; without votes."""
        return measures_of(self.total)

    @property
    def per_class(self) -> dict[str, dict[str, Any]]:
        """Class name → points, IoU and accuracy (None without points)."""
        return table_of(self.total, self.class_names)

    def as_json(self) -> dict[str, Any]:
        """Return the fields that `evaluate --json` prints; those of votes are in `with_votes`."""
        found = _numbers(self.total, self.class_names)
        about = {"notes": list(self.notes), "left_out": self.left_out}
        if self.total_of_votes is not None:
            numbers = _numbers(self.total_of_votes, self.class_names)
            found["with_votes"] = {"votes": self.votes, **numbers}
        return found | about

    def of_each(self) -> dict[str, Any]:
        """Return points of each scene and class, for predictions.json: right ones, and the union
        of true and predicted ones; an IoU is the ratio of their sums over scenes.
        """
        right = self.counts.diagonal(axis1=1, axis2=2)  # [n, C]
        union = self.counts.sum(axis=2) + self.counts[..., :-1].sum(axis=1) - right
        return {"right": right.tolist(), "union": union.tolist()}

    def facts(self) -> dict[str, Any]:
        """Return more fields for evaluation.json: the counts; the last column is of no class."""
        found = {"confusion": self.total.counts.tolist()}
        if self.total_of_votes is not None:
            found["confusion_with_votes"] = self.total_of_votes.counts.tolist()
        return found

    def describe(self) -> str:
        """Return the numbers as text; each class takes one line, whatever its name holds."""
        measures, total = self.measures, self.total
        printed = {name: printable(name) for name in self.class_names}
        width = max(map(len, printed.values()))
        points = int(total.counts.sum())
        lines = [
            f"{self.recipe}, {self.which} checkpoint (epoch {self.epoch}), {self.shapes:,} "
            f"{self.split} scenes, {points:,} labeled points",
            f"  mIoU                 {measures['miou']:7.2%}  (mean over {total.averaged} of "
            f"{len(self.class_names)} classes)",
            f"  mean class accuracy  {measures['mean_class_accuracy']:7.2%}",
            f"  overall accuracy     {measures['overall_accuracy']:7.2%}",
        ]
        voted = self.total_of_votes
        more = table_of(voted, self.class_names) if voted else {}
        if voted:
            values = measures_of(voted)
            lines.append(
                f"  mean of {self.votes} votes      {values['miou']:7.2%}  mIoU, "
                f"{values['mean_class_accuracy']:.2%} mean class accuracy, "
                f"{values['overall_accuracy']:.2%} overall accuracy"
            )
        for name, c in self.per_class.items():
            if c["iou"] is not None:
                line = f"    {printed[name]:<{width}}  {c['iou']:7.2%}  {c['points']:>9,} points"
                iou = more[name]["iou"] if more else None
                lines.append(line if iou is None else f"{line}  ({iou:.2%} with votes)")
        absent = [printed[name] for name, c in self.per_class.items() if c["iou"] is None]
        if absent:
            lines.append(f"  classes without points are not included: {listing(absent)}")
        if self.left_out:
            counts = [f"{printable(name)} ({n:,})" for name, n in self.left_out.items()]
            lines.append(f"  points of classes that the run does not know: {listing(counts)}")
        return "\n".join(lines)

    def pictures(self) -> dict[str, bytes]:
        """Draw the confusion matrix, the classes, and some scenes from above and in frames."""
        total, names, drawn = self.total, self.class_names, self.drawn
        title = f"{self.recipe}, {self.split}: mIoU {total.miou:.1%}, {self.shapes:,} scenes"
        points = total.counts.sum(axis=1)
        found = {
            "confusion": draw_confusion(total.counts[:, :-1], names, title),
            "classes": draw_classes(names, total.iou, total.recall, points, title),
        }
        if drawn.scenes:
            found["segmentation"] = draw_scenes(drawn.scenes, names, drawn.palette)
        if drawn.frames:
            found["frames"] = draw_frames(drawn.frames, names, drawn.palette)
        return found


def measures_of(total: Confusion) -> dict[str, float]:
    """Return the measures of a segmentation of scenes, the most important one first."""
    return {
        "miou": total.miou,
        "mean_class_accuracy": total.mean_accuracy,
        "overall_accuracy": total.overall_accuracy,
    }


def table_of(total: Confusion, names: list[str]) -> dict[str, dict[str, Any]]:
    """Return class name → points, IoU and accuracy (None without points)."""
    points = total.counts.sum(axis=1).tolist()
    rows = zip(names, points, total.iou, total.recall, strict=True)
    return {
        name: {"points": count, "iou": _known(iou), "accuracy": _known(recall)}
        for name, count, iou, recall in rows
    }


def match_classes(run: Run, store: StoreReader) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return the run's number of each class of the store's points or boxes [C], and notes.

    The notes are for the user. Classes that the run does not know are -1, like points without a
    class. Raises StoreError if they have no class in common.
    """
    names = learned_classes(store, run.config)
    of_class = match_names(names, run.class_names)
    if not np.any(of_class >= 0):
        raise StoreError(
            f"the run and this store have no class in common: the run knows "
            f"{listing(run.class_names)}; the store has {listing(names)}",
            where=f"{run.folder}, {store.path}",
            fix="use a run that was trained on these classes",
        )
    if names == run.class_names:
        return of_class, ()
    common = int(np.sum(of_class >= 0))
    return of_class, (
        f"classes are matched by name: this store has {common} of the run's "
        f"{len(run.class_names)}; predictions are among all of them",
    )


def require_held_out(run: Run, store: StoreReader, scenes: NDArray[np.int64]) -> None:
    """Raise StoreError if any of these scenes [n] is in an area of S3DIS that the run learned."""
    trained_on = [one["dataset"] for one in each_store(run.facts["data"])]
    held_out = held_out_areas(run.config.data, trained_on)
    if held_out is None:
        return
    learned = sorted(set(areas_of(store, scenes).tolist()) - {0, *held_out})
    if learned:
        areas = ", ".join(f"Area_{area}" for area in learned)
        held = ", ".join(f"Area_{area}" for area in held_out) or "no area"
        raise StoreError(
            f"the run was trained on {areas} of S3DIS, which holds these test scenes; it held out "
            f"{held}",
            where=f"{run.folder}, {store.path}",
            fix=f"evaluate on the area that was held out, or train another run with --set "
            f"data.test_area={learned[0]}",
        )


def segment_scenes(
    about: dict[str, Any],
    opened: Classifier,
    store: StoreReader,
    scenes: NDArray[np.int64],
    of_class: NDArray[np.int64],
    progress: Paced,
) -> SceneReport:
    """Predict the class of each point of these scenes [n]; of_class: see `match_classes`.

    about: the first fields of the report.
    """
    predictor = ScenePredictor(**vars(opened))
    counting = _Counting(store, of_class, predictor.classes)
    chosen = np.unique(np.linspace(0, len(scenes) - 1, DRAWN).astype(int)).tolist()
    for number, batch in enumerate(predictor.of_store(store, scenes)):
        plain, voted = (log_p.argmax(dim=1) for log_p in predictor.vote(batch))
        counting.add(batch, plain, voted if opened.votes > 1 else None)
        if number in chosen:
            counting.draw(int(scenes[number]), batch, plain)
        progress.advance(1)
    names = scene_classes(store, "points")
    left_out = {n: int(c) for n, c in zip(names, counting.unknown, strict=True) if c}
    return SceneReport(
        **{**about, "left_out": left_out},
        class_names=opened.run.class_names,
        confusions=counting.plain,
        voted=counting.voted,
        drawn=counting.drawn,
    )


class _Counting:
    """Counts of the scenes so far, and those of them that are drawn.

    unknown: points of each of the store's classes that the run does not know, [C].
    """

    def __init__(self, store: StoreReader, of_class: NDArray[np.int64], classes: int) -> None:
        self._store, self._classes = store, classes
        self._of_class = np.append(of_class, IGNORE)  # the last one is that of label -1
        self.plain: list[Confusion] = []
        self.voted: list[Confusion] = []
        self.unknown = np.zeros(len(of_class), np.int64)
        self.drawn = Drawn([], [], _palette(store, of_class, classes))

    def add(self, batch: Batch, plain: Tensor, voted: Tensor | None) -> None:
        """Count a scene. plain, voted: the classes of its voxels [N]."""
        stored, voxel = batch["point_semantic"].numpy(), batch["inverse"].numpy()
        true = self._of_class[stored]
        left_out = stored[(stored >= 0) & (true < 0)]
        self.unknown += np.bincount(left_out, minlength=len(self.unknown))
        self.plain.append(confusion(true, plain.numpy()[voxel], self._classes))
        if voted is not None:
            self.voted.append(confusion(true, voted.numpy()[voxel], self._classes))

    def draw(self, scene: int, batch: Batch, plain: Tensor) -> None:
        """Keep some voxels and frames of a scene for the pictures."""
        name = self._store.shapes[scene].id
        every = -(-len(plain) // DRAWN_POINTS)
        points, labels = (batch[name][::every].numpy() for name in ("points", "semantic"))
        true, predicted = self._of_class[labels], plain.numpy()
        self.drawn.scenes.append(SegmentedScene(name, points, true, predicted[::every]))
        found = find_scenes(self._store, np.array([scene]))[scene]
        stored, voxel = (batch[name].numpy() for name in ("point_semantic", "inverse"))
        classes = self._of_class[stored], predicted[voxel]
        self.drawn.frames.extend(find_frames(found, name, *classes, DRAWN_FRAMES))


def _palette(store: StoreReader, of_class: NDArray[np.int64], classes: int) -> list[list[int]]:
    """Return a color for each of the run's classes: the store's, gray for those it lacks."""
    colors = np.full((classes, 3), 150)
    known = of_class >= 0
    colors[of_class[known]] = np.array(store.members[0].attributes["palette"])[known]
    found: list[list[int]] = colors.tolist()
    return found


def _numbers(total: Confusion, names: list[str]) -> dict[str, Any]:
    measures = measures_of(total)
    return {**measures, "averaged": total.averaged, "per_class": table_of(total, names)}


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
