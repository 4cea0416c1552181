"""Predict for stores, files, folders and objects with a trained run: classes, parts, labels."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from pointcmt.api.paths import local_path, textures_folder
from pointcmt.api.predictions import (
    FailedShape,
    PredictedParts,
    Prediction,
    Predictions,
    ranked,
    spread,
)
from pointcmt.api.scene_prediction import SceneJob
from pointcmt.api.stores import ViewStore
from pointcmt.api.targets import AnyTarget, Target
from pointcmt.console import Paced, logger, meter, showing_messages
from pointcmt.datasets.store.schema import SPLITS
from pointcmt.errors import ShapeRefused, UsageError, nearest
from pointcmt.extras import needs
from pointcmt.input_frame import place
from pointcmt.training.evaluation.prediction import Predictor, open_predictor
from pointcmt.training.evaluation.scene_predictor import ScenePredictor
from pointcmt.training.figures.sheet import Tile
from pointcmt.training.runs.facts import store_notes

if TYPE_CHECKING:
    from pointcmt.api.files import Entry, Loaded

UNKNOWN_CLASS = "unknown_class"  # the reason of a shape that cannot be segmented
FROM_FILES = ("points", "rgb")  # arrays that files have, too


def predict(
    run: str | Path,
    *targets: AnyTarget,
    split: str | None = None,
    class_name: str | None = None,
    checkpoint: str = "best",
    votes: int = 1,
    top: int = 3,
    up: str | None = None,
    textures: str | Path | None = None,
    scannet: bool = False,
    out: str | Path | None = None,
    overwrite: bool = False,
    device: str = "auto",
    progress: bool = False,
) -> Predictions:
    """Predict the class of each shape, with scores, the part of each of its points, or the class of
    each point of a scene.

    run: a folder, as for `load_run`. targets: stores, files or folders of meshes and clouds, or
    objects; they need no classes. Files are loaded, normalized and sampled as those of a store; for
    a network that reads images, they are rendered with the settings of the store it was trained on.
    split: of stores; None = all rendered shapes. class_name: of all shapes; segmentation needs the
    class of a shape, otherwise that of its store or its folder. votes: as in `evaluate`. top:
    classes to return for each shape, 0 = all. up: the axis that points up in files and objects; y,
    for scenes z. textures: one more folder in which the textures of files are looked for. out: a
    folder for predictions.csv, .json and .png, and for parts/ or scenes/, or one .csv, .json or
    .png.

    Files of scenes are scans in meters, clouds or meshes, whose vertices are the points. scannet:
    also write scannet/, label files for ScanNet's benchmark; of a store of ScanNet, the vertices of
    its meshes are then predicted instead of the stored points.

    A shape that cannot be read is one of the `failures`; the others go on. Raises UsageError for
    invalid settings, StoreError for a run or a store that cannot be used.

    >>> found = pc.predict("RUN", "chair.off", "S", top=2)
    >>> found.shapes[0].id, len(found.shapes[0].scores), len(found)
    ('chair', 2, 41)
    """
    from pointcmt.api.prediction_files import plan_files, write_predictions
    from pointcmt.api.scannet_files import require_scannet, require_scans

    if not targets:
        what = "there is nothing to predict"
        raise UsageError(what, where="TARGET", fix="pass stores, files or folders")
    if top < 0:
        raise UsageError(f"cannot return {top} classes", where="--top", fix="use 0 (all) or more")
    if split is not None and split not in SPLITS:
        raise UsageError(f"unknown split '{split}'", where="--split", fix=nearest(split, SPLITS))
    with showing_messages(progress):
        plan = None if out is None else plan_files(local_path(out, "--out"), overwrite)
        predictor = open_predictor(local_path(run, "RUN"), checkpoint, votes, device)
        top = top or len(predictor.run.class_names)
        job: _Job | SceneJob
        if isinstance(predictor, ScenePredictor):
            _require_no(class_name, "--class-name", "points of scenes have classes of their own")
            _require_no(textures, "--textures", "scans are read without textures")
            job = SceneJob(predictor, top, scannet)
        else:
            job = _Job(predictor, _class_of(predictor, class_name), top, textures_folder(textures))
        if scannet:
            require_scannet(predictor.run, plan is not None and plan.whole)
        config = predictor.run.config
        opened = [Target.open(t, n, split, config) for n, t in enumerate(targets)]
        if scannet:
            require_scans(opened)
        found = job.run(opened, up or job.up)
    if plan is not None:
        write_predictions(plan, found, scannet)
    return found


def _require_no(value: object, flag: str, why: str) -> None:
    """Raise UsageError for an option that scenes do not have."""
    if value is not None:
        raise UsageError(why, where=flag, fix="leave it out for a run that segments scenes")


def _class_of(predictor: Predictor, class_name: str | None) -> int | None:
    """Return the run's number of --class-name. Raises UsageError for an unknown one."""
    if class_name is None:
        return None
    (label,) = predictor.labels_of([class_name]).tolist()
    if label < 0:
        fix = nearest(class_name, predictor.run.class_names)
        what = f"the run does not know the class '{class_name}'"
        raise UsageError(what, where="--class-name", fix=fix)
    return int(label)


@dataclass(eq=False)
class _Job:
    """One call of `predict`.

    given: the run's number of the class that all shapes have, or None. textures: a folder, or None.
    """

    up: ClassVar[str] = "y"  # of files, unless another axis is given
    predictor: Predictor
    given: int | None
    top: int
    textures: Path | None = None
    shapes: list[Prediction] = field(default_factory=list)
    failures: list[FailedShape] = field(default_factory=list)
    tiles: list[Tile] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def run(self, targets: list[Target], up: str) -> Predictions:
        total = sum(target.count for target in targets)
        pictures, begin = spread(total), 0
        run = self.predictor.run
        with meter(f"predicting with {run.folder}", total, "shapes") as bar:
            progress = Paced(bar)
            for target in targets:
                own = {n - begin for n in pictures if begin <= n < begin + target.count}
                if target.store is not None:
                    self._of_store(target.store, target.shapes, own, progress)
                else:
                    self._of_files(target.entries, own, up, progress)
                begin += target.count
            progress.advance(0, now=True)
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
            tuple(self.tiles),
        )

    def _of_store(
        self, store: ViewStore, shapes: NDArray[np.int64], pictures: set[int], progress: Paced
    ) -> None:
        """Predict a store's shapes. pictures: rows of `shapes` to show on the sheet."""
        predictor, segments = self.predictor, self.predictor.parts is not None
        names = [store.class_names[n] if n >= 0 else None for n in store.labels[shapes].tolist()]
        labels = self._labels(names)
        self.notes += store_notes(predictor.run.facts["data"], store)
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
            elif row in pictures:
                image = store.read("rgb", shape, 0)
            true = names[row] if labels[row] < 0 else predictor.run.class_names[labels[row]]
            self._add(store.shapes[shape].id, store.path, true, values, parts)
            if row in pictures:
                self._tile(image, cloud)
            progress.advance(1)

    def _of_files(
        self, entries: "Sequence[Entry]", pictures: set[int], up: str, progress: Paced
    ) -> None:
        """Load and predict entries, a batch at a time. pictures: numbers of those to show."""
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
        for number, loaded in load_all(loader, entries, set() if segments else pictures):
            entry = entries[number]
            if isinstance(loaded, ShapeRefused):
                reason = loaded.reason.value, loaded.detail
                self.failures.append(FailedShape(entry.record.id, entry.path, *reason))
                progress.advance(1)
            elif segments and labels[number] < 0:
                self._unknown(entry.record.id, entry.path, entry.record.class_name)
                progress.advance(1)
            else:
                waiting.append((number, loaded))
            if len(waiting) == config.data.batch_size:
                self._of_loaded(entries, waiting, labels, pictures, progress)
                waiting = []
        if waiting:
            self._of_loaded(entries, waiting, labels, pictures, progress)

    def _of_loaded(
        self,
        entries: "Sequence[Entry]",
        loaded: "list[tuple[int, Loaded]]",
        labels: NDArray[np.int64],
        pictures: set[int],
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
            if number in pictures:
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
