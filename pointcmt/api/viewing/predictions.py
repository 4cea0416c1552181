"""Predictions of the shown shapes: classes, parts, classes of points, or boxes."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pointcmt.api.box_prediction import find_true_boxes
from pointcmt.api.predicted import PredictedBoxes as BoxesOfScene
from pointcmt.api.prediction import Given, job_of
from pointcmt.api.predictions import Predictions
from pointcmt.api.stores import ViewStore
from pointcmt.api.targets import Target
from pointcmt.datasets.joint import match_names
from pointcmt.training.evaluation.box_predictor import BoxPredictor
from pointcmt.training.evaluation.prediction import Predictor
from pointcmt.training.evaluation.scene_predictor import ScenePredictor
from pointcmt.training.ops.detection.confusion import count_classes
from pointcmt.training.ops.detection.scores import Detections, TrueBoxes
from pointcmt.view.overlay import (
    Boxes,
    Labels,
    Overlay,
    PredictedBoxes,
    PredictedClasses,
    PredictedLabels,
    arrow,
)
from pointcmt.view.shapes import MOST_POINTS

TOP = 3  # classes of a shape
FALSE, MISSED = "nothing", "not found"  # in place of a true class, of a predicted one


def predict_shown(
    predictor: Predictor | ScenePredictor | BoxPredictor,
    store: ViewStore,
    shapes: NDArray[np.int64],
) -> Overlay:
    """Predict these rendered shapes [n]. Raises what `predict` raises."""
    job = job_of(predictor, TOP, Given())
    target = replace(Target.open(store, 0, None, predictor.run.config), shapes=shapes)
    found = job.run([target], job.up)
    numbers = {store.shapes[shape].id: shape for shape in shapes.tolist()}
    if found.kind == "classes":
        scores = {shape.id: shape.scores for shape in found.shapes}
        return PredictedClasses(store, scores, frozenset(found.class_names))
    if found.kind == "boxes":
        return _boxes(found, store, numbers)
    return _labels(found, store, numbers)


def _labels(found: Predictions, store: ViewStore, numbers: Mapping[str, int]) -> Overlay:
    labels, shares, confusions = {}, {}, {}
    for shape in found.shapes:
        number = numbers[shape.id]
        if shape.points is not None:
            whole = Labels(shape.points.names, shape.points.labels, shape.points.true)
        else:
            assert shape.parts is not None
            names, predicted = shape.parts.names, shape.parts.labels
            whole = Labels(names, predicted, true_parts(store, number, names, len(predicted)))
        labels[number] = replace(
            whole,
            predicted=whole.predicted[:MOST_POINTS],
            true=None if whole.true is None else whole.true[:MOST_POINTS],
        )
        shares[number], confusions[number] = compare_labels(whole)
    return PredictedLabels(labels, shares, confusions, found.palette)


def true_parts(
    store: ViewStore, shape: int, names: tuple[str, ...], count: int
) -> NDArray[np.int64] | None:
    """Return the stored parts of a shape's first points [count] as numbers of these names, -1 =
    none of them; None if the store has no parts.
    """
    if "part" not in store.specs:
        return None
    stored = store.read("part", shape)[:count].astype(np.int64)
    own = (store.attributes.get("part_names") or {}).get(store.shapes[shape].class_name, [])
    of_part = np.full(256, -1, np.int64)  # u8
    of_part[: len(own)] = match_names(own, names)
    return of_part[stored]


def compare_labels(labels: Labels) -> tuple[float | None, dict[str, int]]:
    """Return what share of the labeled points is right (None without any), and how many points of
    each kind are wrong.
    """
    if labels.true is None or not np.any(labels.true >= 0):
        return None, {}
    known = labels.true >= 0
    true, predicted = labels.true[known].astype(int), labels.predicted[known].astype(int)
    pairs, counts = np.unique(
        np.stack([true, predicted])[:, true != predicted], axis=1, return_counts=True
    )
    confused = {
        arrow(labels.names[a], labels.names[b]): int(count)
        for (a, b), count in zip(pairs.T.tolist(), counts, strict=True)
    }
    return float(np.mean(true == predicted)), confused


def _boxes(found: Predictions, store: ViewStore, numbers: Mapping[str, int]) -> Overlay:
    of_class = match_names(store.box_names, found.class_names)
    boxes, confusions = {}, {}
    for scene in found.shapes:
        number, own = numbers[scene.id], scene.boxes
        assert own is not None
        boxes[number] = Boxes(own.boxes, own.label, own.score)
        true = find_true_boxes(store, number, of_class)
        confusions[number] = {} if true is None else compare_boxes(own, true)
    return PredictedBoxes(found.class_names, boxes, confusions)


def compare_boxes(found: BoxesOfScene, true: TrueBoxes) -> dict[str, int]:
    """Return how many boxes of each kind are confused, missed, or found where nothing is."""
    detections = Detections(found.boxes, found.label, found.score)
    counts = count_classes(detections, true, len(found.names))
    np.fill_diagonal(counts, 0)
    true_names, names = (*found.names, FALSE), (*found.names, MISSED)
    return {
        arrow(true_names[a], names[b]): int(counts[a, b])
        for a, b in np.argwhere(counts > 0).tolist()
    }
