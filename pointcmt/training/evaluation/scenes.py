"""Evaluate semantic segmentation: one confusion matrix over all points of all scenes.

The network predicts a class for each voxel, and each original point gets that of its voxel, so that
the scores do not depend on the size of voxels. Classes of run and store are matched by name.
"""

from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from pointcmt.console import Paced
from pointcmt.datasets.joint import match_names
from pointcmt.datasets.store.view_store import StoreReader
from pointcmt.datasets.streams import evaluation_config, open_stream
from pointcmt.errors import StoreError, UsageError, printable
from pointcmt.training.evaluation.classes import listing
from pointcmt.training.evaluation.classifier import Classifier
from pointcmt.training.figures.plots import draw_confusion
from pointcmt.training.figures.scenes import SegmentedScene, draw_scenes
from pointcmt.training.ops.semantic import IGNORE, Confusion, confusion
from pointcmt.training.recipes.semseg import Semseg
from pointcmt.training.runs.folder import Run
from pointcmt.training.runs.point_labels import learned_classes, point_classes

DRAWN = 3  # scenes in a picture
DRAWN_POINTS = 60_000  # of each, evenly taken


@dataclass(frozen=True, eq=False)
class SceneReport:
    """Results of a segmentation of scenes: what was evaluated, and counts of points.

    confusions: of each scene. examples: some scenes, to be drawn with the palette. notes: for the
    user, about the store. left_out: points of classes that the run does not know, by class.
    """

    recipe: str
    split: str
    which: str
    epoch: int
    votes: int
    class_names: list[str]
    confusions: list[Confusion]
    examples: list[SegmentedScene]
    palette: list[list[int]]
    notes: tuple[str, ...] = ()
    left_out: dict[str, int] = field(default_factory=dict)

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
    def measures(self) -> dict[str, float]:
        """The numbers to compare runs by, the most important one first."""
        total = self.total
        return {
            "miou": total.miou,
            "mean_class_accuracy": total.mean_accuracy,
            "overall_accuracy": total.overall_accuracy,
        }

    @property
    def per_class(self) -> dict[str, dict[str, Any]]:
        """Class name → points, IoU and accuracy (None without points)."""
        total = self.total
        points = total.counts.sum(axis=1).tolist()
        rows = zip(self.class_names, points, total.iou, total.recall, strict=True)
        return {
            name: {"points": count, "iou": _known(iou), "accuracy": _known(recall)}
            for name, count, iou, recall in rows
        }

    def as_json(self) -> dict[str, Any]:
        """Return the fields that `evaluate --json` prints."""
        about = {"notes": list(self.notes), "left_out": self.left_out}
        return {
            **self.measures,
            "averaged": self.total.averaged,
            "per_class": self.per_class,
        } | about

    def facts(self) -> dict[str, Any]:
        """Return more fields for evaluation.json: the counts; the last column is of no class."""
        return {"confusion": self.total.counts.tolist()}

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
        for name, c in self.per_class.items():
            if c["iou"] is not None:
                lines.append(
                    f"    {printed[name]:<{width}}  {c['iou']:7.2%}  {c['points']:>9,} points"
                )
        absent = [printed[name] for name, c in self.per_class.items() if c["iou"] is None]
        if absent:
            lines.append(f"  classes without points are not included: {listing(absent)}")
        if self.left_out:
            counts = [f"{printable(name)} ({n:,})" for name, n in self.left_out.items()]
            lines.append(f"  points of classes that the run does not know: {listing(counts)}")
        return "\n".join(lines)

    def pictures(self) -> dict[str, bytes]:
        """Draw the confusion matrix, and some scenes from above."""
        title = f"{self.recipe}, {self.split}: mIoU {self.total.miou:.1%}, {self.shapes:,} scenes"
        return {
            "confusion": draw_confusion(self.total.counts[:, :-1], self.class_names, title),
            "segmentation": draw_scenes(self.examples, self.class_names, self.palette),
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


@torch.no_grad()
def segment_scenes(
    about: dict[str, Any],
    opened: Classifier,
    store: StoreReader,
    scenes: NDArray[np.int64],
    of_class: NDArray[np.int64],
    progress: Paced,
) -> SceneReport:
    """Predict the class of each point of these scenes [n]; of_class: see `match_classes`.

    about: the first fields of the report. Raises UsageError for votes.
    """
    if opened.votes > 1:
        raise UsageError(
            "votes are not available for scenes",
            where="--votes",
            fix="leave it out: scenes are segmented once, as in training",
        )
    recipe, run = cast(Semseg, opened.recipe), opened.run
    model = recipe.model.eval()
    device = next(model.parameters()).device
    names, classes = point_classes(store), len(run.class_names)
    drawn = set(np.unique(np.linspace(0, len(scenes) - 1, DRAWN).astype(int)).tolist())
    confusions, examples, unknown = [], [], np.zeros(len(names), np.int64)
    stream = open_stream(store, scenes, evaluation_config(recipe.stream, 1))
    for number, batch in enumerate(stream):
        on_device = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
        voxels = recipe.logits(model, on_device).argmax(dim=1).cpu().numpy()
        stored = batch["point_semantic"].numpy()
        true = np.append(of_class, IGNORE)[stored]
        left_out = stored[(stored >= 0) & (true < 0)]
        unknown += np.bincount(left_out, minlength=len(names))
        confusions.append(confusion(true, voxels[batch["inverse"].numpy()], classes))
        if number in drawn:
            every = -(-len(voxels) // DRAWN_POINTS)
            points, labels = (batch[n][::every].numpy() for n in ("points", "semantic"))
            labels = np.append(of_class, IGNORE)[labels]
            name = store.shapes[int(scenes[number])].id
            examples.append(SegmentedScene(name, points, labels, voxels[::every]))
        progress.advance(1)
    counted = {n: int(c) for n, c in zip(names, unknown, strict=True) if c}
    palette = _palette(store, of_class, classes)
    about = {**about, "left_out": counted}
    return SceneReport(
        **about, class_names=run.class_names, confusions=confusions, examples=examples,
        palette=palette,
    )  # fmt: skip


def _palette(store: StoreReader, of_class: NDArray[np.int64], classes: int) -> list[list[int]]:
    """Return a color for each of the run's classes: the store's, gray for those it lacks."""
    colors = np.full((classes, 3), 150)
    known = of_class >= 0
    colors[of_class[known]] = np.array(store.members[0].attributes["palette"])[known]
    found: list[list[int]] = colors.tolist()
    return found


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
