"""Average precision of boxes: known values, and the rules of matching."""

import math

import numpy as np
import pytest

from pointcmt.training.ops.detection.scores import (
    BINS,
    Detections,
    TrueBoxes,
    average_precision,
    count_detections,
    counted_precision,
    detection_scores,
    precision_recall,
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


def random_scenes(seed, scenes=6, classes=3):
    """Boxes along a line, detections of most of them and of others, with scores of all kinds."""
    rng = np.random.default_rng(seed)
    detections, targets = [], []
    for _ in range(scenes):
        places = 3.0 * np.arange(rng.integers(1, 6))
        labels = rng.integers(classes, size=len(places))
        seen = np.concatenate([places + rng.normal(0, 0.3, len(places)), rng.uniform(0, 15, 4)])
        guess = np.concatenate([labels, rng.integers(classes, size=4)])
        detections.append(found(seen, rng.random(len(seen)), guess))
        targets.append(true(*places, labels=labels))
    return detections, targets


def test_counts_of_scenes_add_up_to_the_precision_of_all():
    """With scores in bins of their own."""
    for seed in range(20):
        detections, targets = random_scenes(seed)
        order = np.argsort(np.argsort(np.concatenate([d.score for d in detections])))
        spread = np.split((order + 0.5) / BINS, np.cumsum([len(d.score) for d in detections])[:-1])
        apart = [Detections(d.boxes, d.label, s) for d, s in zip(detections, spread, strict=True)]
        for threshold in (0.25, 0.5):
            exact = detection_scores(apart, targets, 3, threshold)
            counts = [
                count_detections(*scene, 3, threshold) for scene in zip(apart, targets, strict=True)
            ]
            assert counted_precision(sum(counts)) == pytest.approx(
                exact.average_precision, nan_ok=True
            )
            assert sum(counts)[:, BINS, 0].tolist() == exact.positives.tolist()


def test_detections_of_one_bin_count_together():
    """A hit and a miss of equal score: precision 1/2 at recall 1, whatever their order."""
    for scores in ([0.5001, 0.5002], [0.5002, 0.5001]):
        counts = count_detections(found([0, 9], scores), true(0), 1)
        assert counts[0, 500].tolist() == [1, 1]
        assert counts.sum() == 3
        assert counted_precision(counts).tolist() == [0.5]
    assert count_detections(found([0], [1.0]), true(0), 1)[0, BINS - 1, 0] == 1


def test_precision_over_recall_is_an_envelope():
    precision, recall = precision_recall(np.array([True, False, True, True, False]), 4)
    assert precision.tolist() == [1, 0.75, 0.75, 0.75, 0.6]
    assert recall.tolist() == [0.25, 0.25, 0.5, 0.75, 0.75]
