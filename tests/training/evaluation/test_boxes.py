"""Reports of detection, made of known boxes."""

import json

import numpy as np
import pytest

from pointcmt.training.evaluation.boxes import DetectionReport
from pointcmt.training.figures.boxes import BoxedScene
from pointcmt.training.ops.detection.scores import Detections, TrueBoxes
from pointcmt.training.study import Study

NAMES = ["chair", "lamp", "table"]


def boxes(*places):
    """Unit cubes at x."""
    return np.array([[x, 0, 0, 1, 1, 1, 0] for x in places], np.float64).reshape(-1, 7)


def as_every_class(found, label, score):
    """Detections of boxes in all classes; with a score over 0 in their own."""
    scores = np.zeros((len(NAMES), len(found)))
    scores[label, np.arange(len(found))] = score
    labels = np.repeat(np.arange(len(NAMES)), len(found))
    return Detections(np.tile(found, (len(NAMES), 1)), labels, scores.ravel())


def report(shift=0.0):
    """Two scenes with two chairs and a table; a chair is off by `shift`, a table is missed."""
    true = [
        TrueBoxes(boxes(0, 5), np.array([0, 0])),
        TrueBoxes(boxes(0), np.array([2])),
    ]
    found = [
        as_every_class(boxes(shift, 5, 9), [0, 0, 1], [0.9, 0.8, 0.7]),
        as_every_class(boxes(7), [0], [0.85]),
    ]
    points = np.zeros((10, 3), np.float32)
    examples = [BoxedScene("_$1", points, *each) for each in zip(true, found, strict=True)]
    return DetectionReport(
        recipe="detect", split="test", which="best", epoch=3, votes=1, class_names=NAMES,
        found=found, true=true, nms="rotated", points=20_000, examples=examples,
        left_out={"sofa": 2},
    )  # fmt: skip


def test_measures_are_means_over_the_classes_with_boxes():
    """Of the chairs, the first is right and, after a miss, the third: (1 + 2/3) / 2."""
    chair = (1 + 2 / 3) / 2
    measures = report().measures
    assert measures == pytest.approx(
        {"ap25": chair / 2, "ap50": chair / 2, "ar25": 0.5, "ar50": 0.5}
    )
    moved = report(0.5).measures  # an IoU of 1/3
    assert moved["ap25"] == pytest.approx(chair / 2)
    assert moved["ap50"] == pytest.approx((1 / 3) / 2 / 2)
    assert moved["ar50"] == 0.25


def test_classes_are_confused_by_likely_boxes():
    """Two chairs are right, the lamp and a third chair are where nothing is, the table is missed;
    a chair that is off too far is one of each."""
    found = report().facts()
    assert found["confusion"] == [[2, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1], [1, 1, 0, 0]]
    assert found["confusion_least_score"] == 0.3
    assert report(0.9).facts()["confusion"][0] == [1, 0, 0, 1]


def test_classes_without_boxes_are_named_but_do_not_count():
    found = report().as_json()
    assert found["per_class"]["lamp"] == {
        "boxes": 0, "ap25": None, "ap50": None, "ar25": None, "ar50": None,
    }  # fmt: skip
    assert found["per_class"]["table"]["ap25"] == 0
    assert [row["boxes"] for row in found["per_class"].values()] == [2, 0, 1]
    assert (found["nms"], found["left_out"]) == ("rotated", {"sofa": 2})
    json.dumps(found, allow_nan=False)
    text = report().describe()
    assert "2 test scenes, 3 boxes, 20,000 points of each scene, NMS: rotated" in text
    assert "mean over 2 of 3 classes" in text
    assert "classes without boxes are not included: lamp" in text
    assert "boxes of classes that the run does not know: sofa (2)" in text


def test_pictures_are_drawn():
    pictures = report().pictures()
    assert sorted(pictures) == ["boxes", "confusion", "precision"]
    assert all(picture.startswith(b"\x89PNG") for picture in pictures.values())


def test_a_study_compares_average_precisions_in_pairs():
    """Of two scenes, the first decides: drawn twice, it has no table, and the other no chair."""
    better, worse = report(), report(2.0)
    reports = {("none", "last"): [worse, worse], ("all", "last"): [better, better]}
    study = Study("detect", (0, 1), reports)
    found = study.differences["all", "last"]
    expected = better.measures["ap25"] - worse.measures["ap25"]
    assert expected > 0
    assert found.mean == pytest.approx(expected)
    assert found.std == pytest.approx(0)
    assert found.low <= found.mean <= found.high
