"""Average precision of boxes: known values, and the rules of matching."""

import math

import numpy as np
import pytest

from pointcmt.training.evaluation.detection import (
    Detections,
    TrueBoxes,
    average_precision,
    detection_scores,
)


def boxes(*places):
    """Unit cubes at x."""
    return np.array([[x, 0, 0, 1, 1, 1, 0] for x in places], np.float32).reshape(-1, 7)


def found(places, scores, labels=None):
    label = np.zeros(len(places), int) if labels is None else np.array(labels)
    return Detections(boxes(*places), label, np.array(scores, np.float32))


def true(*places, labels=None):
    label = np.zeros(len(places), np.int16) if labels is None else np.array(labels)
    return TrueBoxes(boxes(*places), label)


@pytest.mark.parametrize(
    ("hits", "positives", "expected"),
    [([1, 0, 1, 1, 0], 4, 0.625), ([0, 1], 1, 0.5), ([], 3, 0), ([1, 1], 2, 1), ([0, 0], 2, 0)],
)
def test_known_values(hits, positives, expected):
    assert average_precision(np.array(hits, bool), positives) == pytest.approx(expected)


def envelope_area(hits, positives):
    """The area under the envelope, integrated over recall step by step, as VOC's devkit does."""
    right = np.cumsum(hits)
    recall = np.concatenate([[0], right / positives, [1]])
    precision = np.concatenate([[0], right / np.arange(1, len(hits) + 1), [0]])
    for i in range(len(precision) - 2, -1, -1):
        precision[i] = max(precision[i], precision[i + 1])
    return sum((recall[i] - recall[i - 1]) * precision[i] for i in range(1, len(recall)))


def test_random_rankings_agree_with_the_devkits_integration():
    rng = np.random.default_rng(0)
    for _ in range(50):
        hits = rng.random(rng.integers(1, 40)) < 0.4
        positives = int(hits.sum()) + int(rng.integers(1, 5))
        expected = envelope_area(hits, positives)
        assert average_precision(hits, positives) == pytest.approx(expected)


def test_a_box_is_found_once_and_a_second_hit_is_false():
    scores = detection_scores([found([0.1, 0, 9], [0.9, 0.8, 0.7])], [true(0, 9)], 1)
    assert scores.average_precision[0] == pytest.approx((1 + 2 / 3) / 2)
    assert scores.recall[0] == 1


def test_the_best_box_counts_even_if_it_is_taken():
    """The second detection overlaps both boxes, the taken one more; it does not get the other."""
    scores = detection_scores([found([0, 0.2], [0.9, 0.8])], [true(0, 0.6)], 1)
    assert scores.recall[0] == 0.5


def test_the_iou_must_exceed_the_threshold():
    half = found([0.5], [1.0])  # an IoU of exactly 1/3
    assert detection_scores([half], [true(0)], 1, threshold=1 / 3 - 1e-9).recall[0] == 1
    assert detection_scores([half], [true(0)], 1, threshold=0.5).recall[0] == 0
    quarter = Detections(np.array([[0, 0, 0, 0.5, 1, 1, 0]]), np.zeros(1, int), np.ones(1))
    assert detection_scores([quarter], [true(0)], 1, threshold=0.5).recall[0] == 0  # not over it


def test_scenes_are_ranked_together_but_matched_apart():
    detections = [found([0], [0.2]), found([0, 5], [0.9, 0.8])]
    targets = [true(0), true(5)]
    scores = detection_scores(detections, targets, 1)
    assert scores.average_precision[0] == pytest.approx((2 / 3 + 2 / 3) / 2)


def test_classes_are_apart_and_those_without_boxes_do_not_count():
    detections = [found([0, 0, 5], [0.9, 0.8, 0.7], labels=[0, 1, 2])]
    scores = detection_scores(detections, [true(0, 5, labels=[0, 1])], 4)
    assert scores.average_precision[:2].tolist() == [1, 0]
    assert np.isnan(scores.average_precision[2:]).all()
    assert scores.mean_average_precision == 0.5


def test_equal_scores_keep_the_order_of_scenes():
    hit, miss = found([0], [0.5]), found([9], [0.5])
    first = detection_scores([hit, miss], [true(0), true(0)], 1)
    second = detection_scores([miss, hit], [true(0), true(0)], 1)
    assert first.average_precision[0] == pytest.approx(0.5)
    assert second.average_precision[0] == pytest.approx(0.25)


def test_no_detections_and_no_boxes():
    assert detection_scores([found([], [])], [true(0)], 1).average_precision.tolist() == [0]
    assert math.isnan(detection_scores([found([0], [1])], [true()], 1).mean_average_precision)
    with pytest.raises(ValueError, match="zip"):
        detection_scores([found([0], [1])], [], 1)
