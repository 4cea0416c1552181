"""Predict classes of shapes, or parts of their points: of stores, files, folders and objects."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from pointcmt.api.predicted import PredictedParts
from pointcmt.api.prediction_job import PredictionJob
from pointcmt.api.predictions import MADE_BY, NAME, FailedShape, Kind, Prediction, ranked
from pointcmt.api.stores import ViewStore
from pointcmt.console import Paced
from pointcmt.errors import ShapeRefused, UsageError
from pointcmt.extras import needs
from pointcmt.input_frame import place, place_normals
from pointcmt.training.evaluation.prediction import Predictor
from pointcmt.training.figures.sheet import Tile, draw_sheet

if TYPE_CHECKING:
    from pointcmt.api.files import Entry, Loaded

UNKNOWN_CLASS = "unknown_class"  # the reason of a shape that cannot be segmented
FROM_FILES = ("points", "normals", "rgb")  # arrays that files have, too


@dataclass(eq=False)
class ShapeJob(PredictionJob[Predictor]):
    """Classes of shapes, or parts of their points.

    given: the run's number of the class that all shapes have, or None. textures: a folder, or None.
    """

    given: int | None = None
    textures: Path | None = None
    tiles: list[Tile] = field(default_factory=list)

    @property
    def kind(self) -> Kind:
        return "classes" if self.predictor.parts is None else "parts"

    def pictures(self) -> dict[str, Callable[[], bytes]]:
        if not self.tiles:
            return {}
        recipe, which = self.predictor.run.config.recipe, self.predictor.which
        shown = "" if len(self.tiles) == len(self.shapes) else f"{len(self.tiles)} of "
        heading = f"{recipe}, {which} checkpoint: {shown}{len(self.shapes):,} shapes"
        return {NAME: partial(draw_sheet, self.tiles, heading, MADE_BY)}

    def of_store(
        self, store: ViewStore, shapes: NDArray[np.int64], drawn: set[int], up: str, progress: Paced
    ) -> None:
        predictor, segments = self.predictor, self.predictor.parts is not None
        names = [store.class_names[n] if n >= 0 else None for n in store.labels[shapes].tolist()]
        labels = self._labels(names)
        kept = np.flatnonzero(labels >= 0) if segments else np.arange(len(shapes))
        for row in np.flatnonzero(labels < 0).tolist() if segments else ():
            self._unknown(store.shapes[int(shapes[row])].id, store.path, names[row])
        progress.advance(len(shapes) - len(kept))
        points = predictor.run.config.model_dump()["data"].get("points", 0)
        clouds = store.read("points", shapes[kept])[:, : points or None]
        batches = predictor.of_store(store, shapes[kept], labels[kept])
        found = (values for batch in predictor.probabilities(batches) for values in batch)
        for row, cloud, values in zip(kept.tolist(), clouds, found, strict=True):
            shape, parts, image = int(shapes[row]), None, None
            if segments:
                back = np.linalg.inv(store.read("source_to_world", shape))
                origin = store.read("point_face", shape)[: len(values)]
                parts = self._parts(int(labels[row]), values, cloud, origin, back)
            elif row in drawn:
                image = store.read("rgb", shape, 0)
            true = names[row] if labels[row] < 0 else predictor.run.class_names[labels[row]]
            self._add(store.shapes[shape].id, store.path, true, values, parts)
            if row in drawn:
                self._tile(image, cloud)
            progress.advance(1)

    def of_files(
        self, entries: "Sequence[Entry]", drawn: set[int], up: str, progress: Paced
    ) -> None:
        """Load and predict entries, a batch at a time. drawn: numbers of those to draw."""
        predictor, segments = self.predictor, self.predictor.parts is not None
        reads, config = predictor.reads, predictor.run.config
        odd = [name for name in reads.arrays if name not in FROM_FILES]
        if odd:
            raise UsageError(
                f"the network reads {', '.join(odd)}, which files do not have",
                where=str(predictor.run.folder),
                fix="render the files into a store, and predict that",
            )
        with needs("render", "reading files"):
            from pointcmt.api.files import Loader, load_all

            facts, draws = predictor.run.facts["data"], "rgb" in reads.arrays
            points = reads.points or 1
            loader = Loader(facts.get("render"), draws, points, up, self.textures)
        labels = self._labels([entry.record.class_name for entry in entries])
        waiting: list[tuple[int, Loaded]] = []
        for number, loaded in load_all(loader, entries, set() if segments else drawn):
            entry = entries[number]
            if isinstance(loaded, ShapeRefused):
                self.refuse(entry, loaded)
                progress.advance(1)
            elif segments and labels[number] < 0:
                self._unknown(entry.record.id, entry.path, entry.record.class_name)
                progress.advance(1)
            else:
                waiting.append((number, loaded))
            if len(waiting) == config.data.batch_size:
                self._of_loaded(entries, waiting, labels, drawn, progress)
                waiting = []
        if waiting:
            self._of_loaded(entries, waiting, labels, drawn, progress)

    def _of_loaded(
        self,
        entries: "Sequence[Entry]",
        loaded: "list[tuple[int, Loaded]]",
        labels: NDArray[np.int64],
        drawn: set[int],
        progress: Paced,
    ) -> None:
        """Predict one batch of loaded shapes, each with its number."""
        predictor, reads = self.predictor, self.predictor.reads
        numbers = [number for number, _ in loaded]
        batch = {"label": torch.from_numpy(labels[numbers]), "shape": torch.tensor(numbers)}
        if "points" in reads.arrays:
            clouds = [shape.points[: reads.points or None] for _, shape in loaded]
            moved = np.stack([shape.source_to_world for _, shape in loaded])
            batch["points"] = torch.from_numpy(place(np.stack(clouds), reads.frame, moved))
        if "normals" in reads.arrays:
            rows = [shape.normals[: reads.points or None] for _, shape in loaded]
            batch["normals"] = torch.from_numpy(place_normals(np.stack(rows), reads.frame))
        if "rgb" in reads.arrays:
            views = [shape.views for _, shape in loaded if shape.views is not None]
            batch["rgb"] = torch.from_numpy(np.stack(views))
        (found,) = predictor.probabilities([batch])
        for (number, shape), values in zip(loaded, found, strict=True):
            entry, label, parts = entries[number], int(labels[number]), None
            if predictor.parts is not None:
                back = np.linalg.inv(shape.source_to_world).astype(np.float64)
                parts = self._parts(label, values, shape.points, shape.source, back)
            true = None if label < 0 else predictor.run.class_names[label]
            self._add(entry.record.id, entry.path, true, values, parts)
            if number in drawn:
                image = None if shape.views is None else shape.views[0]
                self._tile(image, shape.points[: reads.points or None])
            progress.advance(1)

    def _labels(self, names: list[str | None]) -> NDArray[np.int64]:
        """Return the run's number of each shape's class, -1 = unknown."""
        if self.given is not None:
            return np.full(len(names), self.given, np.int64)
        return self.predictor.labels_of(names)

    def _unknown(self, shape: str, source: str, name: str | None) -> None:
        """Record a shape that cannot be segmented, since its class is not known to the run."""
        has = "it has no class" if name is None else f"the run does not know its class, {name}"
        detail = f"{has}; segmentation needs one (--class-name, class_name=)"
        self.failures.append(FailedShape(shape, source, UNKNOWN_CLASS, detail))

    def _parts(
        self,
        label: int,
        found: NDArray[Any],
        points: NDArray[np.float32],
        source: NDArray[np.int32],
        back: NDArray[np.float64],
    ) -> PredictedParts:
        """Return the parts of a shape. back [4, 4]: from the world to the source's coordinates."""
        assert self.predictor.parts is not None
        names = list(self.predictor.parts.values())[label]
        own = points[: len(found)].astype(np.float64) @ back[:3, :3].T + back[:3, 3]
        return PredictedParts(names, found.astype(np.int64), own, source[: len(found)])

    def _add(
        self,
        shape: str,
        source: str,
        true: str | None,
        found: NDArray[Any],
        parts: PredictedParts | None,
    ) -> None:
        """Add a prediction. found: probabilities [C], or of a segmentation the parts [N]."""
        names = self.predictor.run.class_names
        scores = {} if parts is not None else ranked(found, names, self.top)
        self.shapes.append(Prediction(shape, source, true, scores, parts))

    def _tile(self, image: NDArray[np.uint8] | None, cloud: NDArray[np.float32]) -> None:
        """Add the last shape to the contact sheet, as an image or as its cloud."""
        shape = self.shapes[-1]
        known = shape.true in self.predictor.run.class_names
        if shape.parts is not None:
            total = max(len(shape.parts.labels), 1)
            named = [(name, count / total) for name, count in shape.parts.counts.items() if count]
            lines = [str(shape.true), *(f"{name} {share:.0%}" for name, share in named)]
            tile = Tile(shape.id, tuple(lines), cloud=cloud, part=shape.parts.labels)
        else:
            lines = [f"{shape.predicted} {shape.score:.0%}"]
            right = shape.predicted == shape.true if known else None
            lines += [f"is {shape.true}"] if right is False else []
            tile = Tile(shape.id, tuple(lines), image, cloud, right=right)
        self.tiles.append(tile)
