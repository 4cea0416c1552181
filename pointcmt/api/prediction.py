"""Predict for stores, files, folders and objects with a trained run: classes, parts, points,
boxes.
"""

from pathlib import Path
from typing import Any, NamedTuple

from pointcmt.api.box_prediction import BoxJob
from pointcmt.api.paths import local_path, textures_folder
from pointcmt.api.prediction_job import PredictionJob
from pointcmt.api.predictions import Predictions
from pointcmt.api.scene_prediction import PointJob
from pointcmt.api.shape_prediction import ShapeJob
from pointcmt.api.targets import AnyTarget, Target
from pointcmt.console import showing_messages
from pointcmt.datasets.store.schema import SPLITS
from pointcmt.errors import UsageError, nearest
from pointcmt.training.evaluation.box_predictor import BoxPredictor
from pointcmt.training.evaluation.prediction import Predictor, open_predictor
from pointcmt.training.evaluation.scene_predictor import ScenePredictor
from pointcmt.training.figures.boxes import LEAST_SCORE


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
    min_score: float | None = None,
    layout: str | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    device: str = "auto",
    progress: bool = False,
) -> Predictions:
    """Predict the class of each shape, with scores; the part of each of its points; the class of
    each point of a scene; or the boxes around the objects of a scene.

    run: a folder, as for `load_run`. targets: stores, files or folders of meshes and clouds, or
    objects; they need no classes. Files are loaded, normalized and sampled as those of a store; for
    a network that reads images, they are rendered with the settings of the store it was trained on.
    split: of stores; None = all rendered shapes. class_name: of all shapes; segmentation needs the
    class of a shape, otherwise that of its store or its folder. votes: as in `evaluate`. top:
    classes to return for each shape, 0 = all. up: the axis that points up in files and objects; y,
    for scenes z. textures: one more folder in which the textures of files are looked for. out: a
    folder for predictions.csv, .json and .png, and for parts/, scenes/ or boxes/, or one .csv,
    .json or .png.

    Files of scenes are scans in meters, clouds or meshes, whose vertices are the points. min_score:
    boxes need a higher score than this, 0.3 by default. layout: also write files that a benchmark
    reads into a folder of this name. scannet: of the classes of points; of a store of ScanNet, the
    vertices of its meshes are then predicted instead of the stored points. votenet, mmdet3d: of
    boxes, for stores of ScanNet or SUN RGB-D.

    A shape that cannot be read is one of the `failures`; the others go on. Raises UsageError for
    invalid settings, StoreError for a run or a store that cannot be used.

    >>> found = pc.predict("RUN", "chair.off", "S", top=2)
    >>> found.shapes[0].id, len(found.shapes[0].scores), len(found)
    ('chair', 2, 41)
    """
    from pointcmt.api.layouts import require_layout, require_targets
    from pointcmt.api.prediction_files import plan_files, write_predictions

    if not targets:
        what = "there is nothing to predict"
        raise UsageError(what, where="TARGET", fix="pass stores, files or folders")
    if top < 0:
        raise UsageError(f"cannot return {top} classes", where="--top", fix="use 0 (all) or more")
    if min_score is not None and not 0 <= min_score < 1:
        what = f"{min_score:g} is out of range: expected 0 or more, below 1"
        raise UsageError(what, where="--min-score")
    if split is not None and split not in SPLITS:
        raise UsageError(f"unknown split '{split}'", where="--split", fix=nearest(split, SPLITS))
    with showing_messages(progress):
        plan = None if out is None else plan_files(local_path(out, "--out"), overwrite)
        predictor = open_predictor(local_path(run, "RUN"), checkpoint, votes, device)
        if layout is not None:
            require_layout(layout, predictor.run, plan is not None and plan.whole)
        given = Given(class_name, textures, min_score, layout)
        job = job_of(predictor, top or len(predictor.run.class_names), given)
        config = predictor.run.config
        opened = [Target.open(t, n, split, config) for n, t in enumerate(targets)]
        if layout is not None:
            require_targets(layout, predictor.run, opened)
        found = job.run(opened, up or job.up)
    if plan is not None:
        write_predictions(plan, found, layout)
    return found


class Given(NamedTuple):
    """Options that not every kind of run has."""

    class_name: str | None = None
    textures: str | Path | None = None
    min_score: float | None = None
    layout: str | None = None


def job_of(
    predictor: Predictor | ScenePredictor | BoxPredictor, top: int, given: Given
) -> PredictionJob[Any]:
    """Return the job for a run. Raises UsageError for options that its kind does not have."""
    if not isinstance(predictor, BoxPredictor):
        _require_no(given.min_score, "--min-score", "only boxes have a least score")
    if isinstance(predictor, Predictor):
        folder = textures_folder(given.textures)
        given_class = _class_of(predictor, given.class_name)
        return ShapeJob(predictor, top, given=given_class, textures=folder)
    what = "boxes" if isinstance(predictor, BoxPredictor) else "points"
    why = f"{what} of scenes have classes of their own"
    _require_no(given.class_name, "--class-name", why)
    _require_no(given.textures, "--textures", "scans are read without textures")
    if isinstance(predictor, ScenePredictor):
        return PointJob(predictor, top, of_meshes=given.layout is not None)
    least = LEAST_SCORE if given.min_score is None else given.min_score
    return BoxJob(predictor, top, least=least, for_benchmark=given.layout is not None)


def _require_no(value: object, flag: str, why: str) -> None:
    """Raise UsageError for an option that a kind of run does not have."""
    if value is not None:
        raise UsageError(why, where=flag, fix="leave it out for this run")


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
