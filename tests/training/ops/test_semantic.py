"""Confusion matrices of points: known scores, ignored points, absent classes, and sums."""

import math

import numpy as np
import pytest
from sklearn.metrics import jaccard_score

from pointcmt.training.ops.semantic import confusion

TRUE = np.array([0, 0, 0, 1, 1, 2, -1, -1])
PREDICTED = np.array([0, 0, 1, 1, 2, 2, 0, 2])


def test_known_scores():
    """The case of SCENES.md, whose scores were found there by another implementation."""
    found = confusion(TRUE, PREDICTED, 4)
    assert np.allclose(found.iou[:3], [2 / 3, 1 / 3, 1 / 2])
    assert math.isnan(found.iou[3])
    assert found.miou == pytest.approx(0.5)
    assert found.averaged == 3
    assert found.overall_accuracy == pytest.approx(4 / 6)
    assert found.mean_accuracy == pytest.approx(0.7222, abs=5e-5)


def test_scores_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    true, predicted = rng.integers(0, 13, (2, 5000))
    found = confusion(true, predicted, 13)
    assert np.allclose(found.iou, jaccard_score(true, predicted, average=None))
    assert found.overall_accuracy == pytest.approx((true == predicted).mean())


def test_a_prediction_of_no_class_is_a_miss_of_the_true_class_alone():
    found = confusion(np.array([0, 0, 1]), np.array([0, -1, 1]), 2)
    assert found.iou.tolist() == [0.5, 1]
    assert found.overall_accuracy == pytest.approx(2 / 3)


def test_a_class_that_is_only_predicted_counts_as_zero():
    found = confusion(np.array([0, 0]), np.array([0, 1]), 3)
    assert found.iou[:2].tolist() == [0.5, 0]
    assert (found.miou, found.averaged) == (0.25, 2)
    assert found.mean_accuracy == 0.5


def test_sums_are_scores_of_all_points_and_not_a_mean_of_scores():
    first = confusion(np.array([0, 0, 0, 1]), np.array([0, 0, 0, 1]), 2)
    second = confusion(np.array([0, 1]), np.array([1, 0]), 2)
    both = confusion(np.array([0, 0, 0, 1, 0, 1]), np.array([0, 0, 0, 1, 1, 0]), 2)
    assert np.array_equal((first + second).counts, both.counts)
    assert (first + second).miou == pytest.approx((3 / 5 + 1 / 3) / 2)
    assert (first + second).miou != pytest.approx((first.miou + second.miou) / 2)


def test_scenes_without_labels_have_no_scores():
    found = confusion(np.full(3, -1), np.array([0, 1, -1]), 2)
    assert found.counts.sum() == 0
    assert all(math.isnan(s) for s in (found.miou, found.mean_accuracy, found.overall_accuracy))
    assert found.averaged == 0


@pytest.mark.parametrize(
    ("true", "predicted"), [([0, 1], [0]), ([0, 2], [0, 0]), ([0, -2], [0, 0]), ([0, 0], [0, 2])]
)
def test_classes_that_do_not_exist_are_refused(true, predicted):
    with pytest.raises(ValueError, match=r"labels|predictions"):
        confusion(np.array(true), np.array(predicted), 2)
