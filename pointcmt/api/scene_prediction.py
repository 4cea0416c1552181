"""Predict scenes, of stores and of scans in files and objects: the class of each point.

`ScanJob` reads scans for whatever is predicted in them; `PointJob` predicts classes of points.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray

from pointcmt.api.predicted import PredictedPoints
from pointcmt.api.prediction_job import Opened, PredictionJob
from pointcmt.api.predictions import MADE_BY, NAME, Kind, Palette, Prediction, Predictions
from pointcmt.api.stores import ViewStore
from pointcmt.api.targets import Target
from pointcmt.console import Paced
from pointcmt.datasets.joint import match_names
from pointcmt.datasets.sources import s3dis, scannet, toyrooms
from pointcmt.errors import ShapeRefused, UsageError
from pointcmt.extras import needs
from pointcmt.input_frame import UP_AXES
from pointcmt.training.evaluation.scene_predictor import LABELS, ScenePredictor
from pointcmt.training.figures.scenes import SegmentedScene, draw_scenes
from pointcmt.training.ops.semantic import IGNORE

if TYPE_CHECKING:
    from pointcmt.api.files import Entry
    from pointcmt.api.scans import PlacedScan, Scan

DRAWN = 6  # scenes in the picture
DRAWN_POINTS = 60_000  # of each, evenly taken
KNOWN = (scannet.LABELS, s3dis.LABELS, toyrooms.LABELS)  # classes that have colors of their own
MOST_NOTED = 3  # scans that a note names


@dataclass(eq=False)
class ScanJob(PredictionJob[Opened]):
    """Predictions of scenes."""

    up: ClassVar[str] = "z"
    unit: ClassVar[str] = "scenes"
    most_drawn: ClassVar[int] = DRAWN

    _of_scans: dict[str, list[str]] = field(default_factory=dict)  # note → scans

    @property
    @abstractmethod
    def channels(self) -> Sequence[str]:
        """What the network reads besides places: color, normal, both or neither."""

    @abstractmethod
    def of_scan(self, entry: "Entry", scan: "Scan", placed: "PlacedScan", drawn: bool) -> None:
        """Predict a scan. drawn: whether to draw it."""

    def run(self, targets: list[Target], up: str) -> Predictions:
        """See `PredictionJob`. Raises UsageError for an unknown axis."""
        if up not in UP_AXES:
            raise UsageError(f"unknown up axis '{up}'", where="--up", fix="known: x, y, z")
        return super().run(targets, up)

    def of_files(
        self, entries: "Sequence[Entry]", drawn: set[int], up: str, progress: Paced
    ) -> None:
        """Read and predict scans."""
        with needs("render", "reading files"):
            from pointcmt.api.scans import ScanEntry, place_scan, read_scan

        for number, entry in enumerate(entries):
            pose = entry.pose if isinstance(entry, ScanEntry) else None
            try:
                scan = read_scan(entry)
                placed = place_scan(scan, up, self.channels, pose)
            except ShapeRefused as refused:
                self.refuse(entry, refused)
            else:
                for note in placed.notes:
                    self._of_scans.setdefault(note, []).append(entry.record.id)
                self.of_scan(entry, scan, placed, number in drawn)
            progress.advance(1)

    def finish_notes(self) -> None:
        """Add a note for each thing that scans lack, with the first of them."""
        for note, scans in self._of_scans.items():
            more = f" and {len(scans) - MOST_NOTED} more" if len(scans) > MOST_NOTED else ""
            self.notes.append(f"{', '.join(scans[:MOST_NOTED])}{more}: {note}")


@dataclass(eq=False)
class PointJob(ScanJob[ScenePredictor]):
    """Classes of points. of_meshes: of a store, predict the vertices of ScanNet's own meshes."""

    of_meshes: bool = False
    scenes: list[SegmentedScene] = field(default_factory=list)
    _palette: Palette = ()

    @property
    def kind(self) -> Kind:
        return "points"

    @property
    def palette(self) -> Palette:
        return self._palette

    @property
    def channels(self) -> Sequence[str]:
        return self.predictor.channels

    def run(self, targets: list[Target], up: str) -> Predictions:
        """See `ScanJob`."""
        stores = [target.store for target in targets if target.store is not None]
        self._palette = find_palette(self.predictor.run.class_names, stores)
        return super().run(targets, up)

    def pictures(self) -> dict[str, Callable[[], bytes]]:
        if not self.scenes:
            return {}
        names = self.predictor.run.class_names
        return {NAME: partial(draw_scenes, self.scenes, names, self.palette, MADE_BY)}

    def of_store(
        self, store: ViewStore, shapes: NDArray[np.int64], drawn: set[int], up: str, progress: Paced
    ) -> None:
        """Predict a store's scenes [n], or the meshes that they were read from."""
        if self.of_meshes:
            with needs("render", "reading files"):
                from pointcmt.api.scans import scans_of_store

                entries = scans_of_store(store, shapes.tolist())
            self.of_files(entries, drawn, up, progress)
            return
        names = store.semantic_names
        of_class = np.append(match_names(names, self.predictor.run.class_names), IGNORE)
        batches = self.predictor.of_store(store, shapes)
        for number, (scene, batch) in enumerate(zip(shapes.tolist(), batches, strict=True)):
            label, score = self.predictor.predict(batch)
            points, back = store.read("points", scene), store.read("source_to_world", scene)
            true = None
            if LABELS in store.specs and names:
                true = of_class[batch["point_semantic"].numpy()]
            color = store.read("color", scene) if "color" in store.specs else None
            name = store.shapes[scene].id
            own = _moved(points, np.linalg.inv(back))
            source = np.arange(len(label), dtype=np.int32)
            self._add(name, store.path, label, score, own, source, true)
            if number in drawn:
                self._draw(name, points, label, true, color)
            progress.advance(1)

    def of_scan(self, entry: "Entry", scan: "Scan", placed: "PlacedScan", drawn: bool) -> None:
        """Predict a scan; its points come back in the order of its file."""
        label_there, score_there = self.predictor.of_points(placed.points, placed.channels)
        label, score = np.empty_like(label_there), np.empty_like(score_there)
        label[placed.order], score[placed.order] = label_there, score_there
        points = scan.points.points
        self._add(entry.record.id, entry.path, label, score, points, scan.source, None)
        if drawn:
            color = None if scan.points.color is None else scan.points.color[placed.order]
            self._draw(entry.record.id, placed.points, label_there, None, color)

    def _add(
        self,
        name: str,
        place: str,
        label: NDArray[np.int64],
        score: NDArray[np.float32],
        points: NDArray[np.float64],
        source: NDArray[np.int32],
        true: NDArray[np.int64] | None,
    ) -> None:
        found = PredictedPoints(
            tuple(self.predictor.run.class_names),
            label.astype(np.int16),
            score,
            points.astype(np.float32),
            source,
            None if true is None or not np.any(true >= 0) else true.astype(np.int16),
        )
        self.shapes.append(Prediction(name, place, None, points=found))

    def _draw(
        self,
        name: str,
        points: NDArray[np.float32],
        label: NDArray[np.int64],
        true: NDArray[np.int64] | None,
        color: NDArray[np.uint8] | None,
    ) -> None:
        """Keep a scene for the picture. The first points of a store's order are evenly spread."""
        few = slice(0, DRAWN_POINTS)
        if true is not None:
            true = true[few] if np.any(true >= 0) else None
        color = None if color is None else color[few]
        self.scenes.append(SegmentedScene(name, points[few], true, label[few], color))


def find_palette(names: Sequence[str], stores: Sequence[ViewStore]) -> Palette:
    """Return an sRGB color for each class: a store's, a known data set's, or one of a cycle."""
    tables = [(s.semantic_names, s.attributes["palette"]) for s in stores if s.semantic_names]
    tables += [(list(labels.semantic), list(labels.palette)) for labels in KNOWN]
    for known, palette in tables:
        index = match_names(names, known)
        if np.all(index >= 0):
            red, green, blue = np.array(palette)[index].T.tolist()
            return tuple(zip(red, green, blue, strict=True))
    cycle = np.rint(255 * np.array(colormaps["tab20"].colors)).astype(int)  # type: ignore[attr-defined]
    red, green, blue = cycle[np.arange(len(names)) % len(cycle)].T.tolist()
    return tuple(zip(red, green, blue, strict=True))


def _moved(points: NDArray[np.float32], pose: NDArray[np.float64]) -> NDArray[np.float64]:
    return points.astype(np.float64) @ pose[:3, :3].T + pose[:3, 3]
