"""Predict the boxes around the objects of scenes: of stores, of files and objects with scans."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pointcmt.api.predicted import PredictedBoxes
from pointcmt.api.predictions import MADE_BY, NAME, Kind, Prediction
from pointcmt.api.scene_prediction import ScanJob
from pointcmt.api.stores import ViewStore
from pointcmt.console import Paced
from pointcmt.datasets.joint import match_names
from pointcmt.scenes import box_corners
from pointcmt.training.evaluation.box_frames import find_box_frames
from pointcmt.training.evaluation.box_predictor import BoxPredictor
from pointcmt.training.figures.box_frames import BoxedFrame, draw_box_frames
from pointcmt.training.figures.boxes import LEAST_SCORE, BoxedScene, draw_boxes
from pointcmt.training.ops.detection.scores import Detections, TrueBoxes, over
from pointcmt.training.ops.detection.selection import likeliest

if TYPE_CHECKING:
    from pointcmt.api.files import Entry
    from pointcmt.api.scans import PlacedScan, Scan

FRAMES = "frames"  # the picture of boxes in frames


@dataclass(eq=False)
class BoxJob(ScanJob[BoxPredictor]):
    """Boxes of scenes. least: the score that a box exceeds. for_benchmark: keep all detections."""

    least: float = LEAST_SCORE
    for_benchmark: bool = False
    scenes: list[BoxedScene] = field(default_factory=list)
    frames: list[BoxedFrame] = field(default_factory=list)

    @property
    def kind(self) -> Kind:
        return "boxes"

    @property
    def channels(self) -> Sequence[str]:
        return self.predictor.channels

    def pictures(self) -> dict[str, Callable[[], bytes]]:
        names = self.predictor.run.class_names
        found: dict[str, Callable[[], bytes]] = {}
        if self.scenes:
            found[NAME] = partial(draw_boxes, self.scenes, names, MADE_BY)
        if self.frames:
            found[FRAMES] = partial(draw_box_frames, self.frames, names, MADE_BY)
        return found

    def of_store(
        self, store: ViewStore, shapes: NDArray[np.int64], drawn: set[int], up: str, progress: Paced
    ) -> None:
        of_class = match_names(store.box_names, self.predictor.run.class_names)
        batches = self.predictor.of_store(store, shapes)
        for number, (scene, batch) in enumerate(zip(shapes.tolist(), batches, strict=True)):
            found, name = self.predictor.detect(batch), store.shapes[scene].id
            boxes = self._add(name, store.path, found, np.eye(4))
            if self.for_benchmark:
                from pointcmt.api.benchmark_boxes import in_benchmark

                names = self.predictor.run.class_names
                every = in_benchmark(store, scene, found, names)
                self.shapes[-1] = replace(self.shapes[-1], boxes=replace(boxes, detections=every))
            if number in drawn:
                true = find_true_boxes(store, scene, of_class)
                self.scenes.append(BoxedScene(name, batch["points"][0].numpy(), true, boxes))
                self.frames += find_box_frames(store, scene, true, boxes, 1)
            progress.advance(1)

    def of_scan(self, entry: "Entry", scan: "Scan", placed: "PlacedScan", drawn: bool) -> None:
        """Detect the boxes of a scan, and return them in the scan's own coordinates."""
        found, back = self.predictor.of_points(placed.points, placed.channels), placed.pose
        self._add(entry.record.id, entry.path, found, np.linalg.inv(back).astype(np.float64))
        if drawn:
            likely = over(likeliest(found), self.least)
            self.scenes.append(BoxedScene(entry.record.id, placed.points, None, likely))

    def _add(
        self, name: str, place: str, found: Detections, back: NDArray[np.float64]
    ) -> PredictedBoxes:
        """Add the likely boxes of a scene. back [4, 4]: from the world to their coordinates."""
        likely = over(likeliest(found), self.least)
        boxes = np.asarray(likely.boxes, np.float64).copy()
        corners = box_corners(boxes) @ back[:3, :3].T + back[:3, 3]
        boxes[:, :3] = boxes[:, :3] @ back[:3, :3].T + back[:3, 3]
        label, score = likely.label.astype(np.int64), likely.score.astype(np.float32)
        names = tuple(self.predictor.run.class_names)
        predicted = PredictedBoxes(names, boxes, label, score, corners)
        self.shapes.append(Prediction(name, place, None, boxes=predicted))
        return predicted


def find_true_boxes(store: ViewStore, scene: int, of_class: NDArray[np.int64]) -> TrueBoxes | None:
    """Return a scene's boxes of the classes that the run knows; None if it has none of them."""
    if "boxes" not in store.specs:
        return None
    stored = store.read("box_label", scene).astype(np.int64)
    label = np.append(of_class, -1)[stored]
    if not np.any(label >= 0):
        return None
    return TrueBoxes(store.read("boxes", scene)[label >= 0], label[label >= 0])
