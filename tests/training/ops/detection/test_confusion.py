"""Boxes by true and predicted class, counted by hand."""

import numpy as np

from pointcmt.training.ops.detection.confusion import count_classes
from pointcmt.training.ops.detection.scores import Detections, TrueBoxes
from pointcmt.training.ops.detection.selection import likeliest


def cubes(*places):
    """Unit cubes at x."""
    return np.array([[x, 0, 0, 1, 1, 1, 0] for x in places], np.float64).reshape(-1, 7)


def test_boxes_are_matched_whatever_their_classes():
    """The best detection takes the first box with another class; its rival finds nothing there."""
    true = TrueBoxes(cubes(0, 3, 6), np.array([0, 1, 1]))
    found = Detections(
        cubes(0.1, 0.0, 3.2, 9), np.array([1, 0, 1, 0]), np.array([0.9, 0.8, 0.7, 0.6])
    )
    counts = count_classes(found, true, 2)
    assert counts.tolist() == [[0, 1, 0], [0, 1, 1], [2, 0, 0]]
    assert count_classes(found, true, 2, 0.9).tolist() == [[1, 0, 0], [0, 0, 2], [1, 2, 0]]


def test_scenes_without_boxes():
    nothing = Detections(cubes(), np.zeros(0, int), np.zeros(0))
    assert count_classes(nothing, TrueBoxes(cubes(0), np.array([1])), 2).tolist()[1] == [0, 0, 1]
    found = Detections(cubes(0), np.array([1]), np.ones(1))
    no_boxes = TrueBoxes(cubes(), np.zeros(0, int))
    assert count_classes(found, no_boxes, 2).tolist()[2] == [0, 1, 0]
    assert not count_classes(nothing, no_boxes, 2).any()


def test_each_box_once_with_its_likeliest_class():
    """Of three boxes that are detections of two classes each."""
    boxes, score = cubes(0, 1, 2), np.array([0.1, 0.2, 0.3, 0.6, 0.1, 0.3])
    found = likeliest(Detections(np.tile(boxes, (2, 1)), np.repeat([0, 1], 3), score))
    assert found.label.tolist() == [1, 0, 0]
    assert found.score.tolist() == [0.6, 0.3, 0.2]
    assert found.boxes[:, 0].tolist() == [0, 2, 1]
    assert likeliest(Detections(boxes[:0], np.zeros(0, int), score[:0])).label.tolist() == []
