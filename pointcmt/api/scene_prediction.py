"""Predict the class of each point of scenes: of stores, of files and objects that hold scans."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray

from pointcmt.api.predictions import (
    FailedShape,
    Palette,
    PredictedPoints,
    Prediction,
    Predictions,
    spread,
)
from pointcmt.api.stores import ViewStore
from pointcmt.api.targets import Target
from pointcmt.console import Paced, logger, meter
from pointcmt.datasets.joint import match_names
from pointcmt.datasets.sources import s3dis, scannet, toyrooms
from pointcmt.errors import ShapeRefused, UsageError
from pointcmt.extras import needs
from pointcmt.input_frame import UP_AXES
from pointcmt.training.evaluation.scene_predictor import LABELS, ScenePredictor
from pointcmt.training.figures.scenes import SegmentedScene
from pointcmt.training.ops.semantic import IGNORE
from pointcmt.training.runs.facts import store_notes

if TYPE_CHECKING:
    from pointcmt.api.files import Entry
    from pointcmt.api.scans import PlacedScan, Scan

DRAWN = 6  # scenes in the picture
DRAWN_POINTS = 60_000  # of each, evenly taken
KNOWN = (scannet.LABELS, s3dis.LABELS, toyrooms.LABELS)  # classes that have colors of their own
MOST_NOTED = 3  # scans that a note names


@dataclass(eq=False)
class SceneJob:
    """One call of `predict` with a run that segments scenes.

    top: classes to name for each scene. scannet: predict the vertices of ScanNet's own meshes.
    """

    up: ClassVar[str] = "z"  # of files, unless another axis is given
    predictor: ScenePredictor
    top: int
    scannet: bool = False
    shapes: list[Prediction] = field(default_factory=list)
    failures: list[FailedShape] = field(default_factory=list)
    pictures: list[SegmentedScene] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    palette: Palette = ()
    _of_scans: dict[str, list[str]] = field(default_factory=dict)  # note → scans

    def run(self, targets: list[Target], up: str) -> Predictions:
        """Predict all scenes. up: of files and objects. Raises UsageError for another axis."""
        if up not in UP_AXES:
            raise UsageError(f"unknown up axis '{up}'", where="--up", fix="known: x, y, z")
        run, total = self.predictor.run, sum(target.count for target in targets)
        self.palette = find_palette(
            run.class_names, [t.store for t in targets if t.store is not None]
        )
        drawn, begin = spread(total, DRAWN), 0
        with meter(f"predicting with {run.folder}", total, "scenes") as bar:
            progress = Paced(bar)
            for target in targets:
                own = {n - begin for n in drawn if begin <= n < begin + target.count}
                if target.store is None:
                    self._of_files(target.entries, own, up, progress)
                else:
                    self._of_store(target.store, target.shapes, own, up, progress)
                begin += target.count
            progress.advance(0, now=True)
        for note, scans in self._of_scans.items():
            more = f" and {len(scans) - MOST_NOTED} more" if len(scans) > MOST_NOTED else ""
            self.notes.append(f"{', '.join(scans[:MOST_NOTED])}{more}: {note}")
        for note in self.notes:
            logger.warning(f"note: {note}")
        return Predictions(
            str(run.folder),
            run.config.recipe,
            self.predictor.which,
            self.predictor.epoch,
            tuple(run.class_names),
            tuple(self.shapes),
            tuple(self.failures),
            tuple(self.notes),
            self.top,
            palette=self.palette,
            scenes=tuple(self.pictures),
        )

    def _of_store(
        self,
        store: ViewStore,
        scenes: NDArray[np.int64],
        drawn: set[int],
        up: str,
        progress: Paced,
    ) -> None:
        """Predict a store's scenes [n], or the meshes that they were read from."""
        self.notes += store_notes(self.predictor.run.facts["data"], store)
        if self.scannet:
            with needs("render", "reading files"):
                from pointcmt.api.scans import scans_of_store

                entries = scans_of_store(store, scenes.tolist())
            self._of_files(entries, drawn, up, progress)
            return
        names = store.semantic_names
        of_class = np.append(match_names(names, self.predictor.run.class_names), IGNORE)
        batches = self.predictor.of_store(store, scenes)
        for number, (scene, batch) in enumerate(zip(scenes.tolist(), batches, strict=True)):
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

    def _of_files(
        self, entries: "Sequence[Entry]", drawn: set[int], up: str, progress: Paced
    ) -> None:
        """Read and predict scans."""
        with needs("render", "reading files"):
            from pointcmt.api.scans import ScanEntry, place_scan, read_scan

        for number, entry in enumerate(entries):
            pose = entry.pose if isinstance(entry, ScanEntry) else None
            try:
                scan = read_scan(entry)
                placed = place_scan(scan, up, self.predictor.channels, pose)
            except ShapeRefused as refused:
                reason = refused.reason.value, refused.detail
                self.failures.append(FailedShape(entry.record.id, entry.path, *reason))
            else:
                self._of_scan(entry, scan, placed, number in drawn)
            progress.advance(1)

    def _of_scan(self, entry: "Entry", scan: "Scan", placed: "PlacedScan", drawn: bool) -> None:
        """Predict a scan; its points come back in the order of its file."""
        label_there, score_there = self.predictor.of_points(placed.points, placed.channels)
        label, score = np.empty_like(label_there), np.empty_like(score_there)
        label[placed.order], score[placed.order] = label_there, score_there
        for note in placed.notes:
            self._of_scans.setdefault(note, []).append(entry.record.id)
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
        self.pictures.append(SegmentedScene(name, points[few], true, label[few], color))


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
