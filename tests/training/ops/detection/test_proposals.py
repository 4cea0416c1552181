"""Proposals become boxes and detections."""

import math

import numpy as np
import pytest
import torch

from pointcmt.training.ops.detection.boxes import box_iou
from pointcmt.training.ops.detection.proposals import decode, detect
from pointcmt.training.ops.detection.scores import TrueBoxes, detection_scores
from pointcmt.training.ops.detection.targets import boxes_of_points
from tests.training.ops.detection.scenes import (
    CLASSES,
    perfect_proposals,
    points_in,
    random_boxes,
    random_proposals,
)

SCENES, BOXES, EACH = 3, 4, 60


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def scenes():
    """Boxes far from each other, in all classes, points in them, and mean sizes."""
    boxes = random_boxes(generator(), SCENES, BOXES)
    boxes[..., 0] += 5 * torch.arange(BOXES)
    labels = torch.randint(CLASSES, (SCENES, BOXES), generator=generator(1))
    sizes = torch.rand(CLASSES, 3, generator=generator(2), dtype=torch.float64) + 0.5
    return points_in(boxes, EACH, generator(3)), boxes, labels, sizes


def perfect(sure=50.0):
    points, boxes, labels, sizes = scenes()
    owners = boxes_of_points(points, boxes, labels)[..., 0]
    return perfect_proposals(points, owners, boxes, labels, sizes, sure), scenes()


def true(boxes, labels):
    return [TrueBoxes(*scene) for scene in zip(boxes.numpy(), labels.numpy(), strict=True)]


def test_a_proposal_of_a_box_is_decoded_as_the_box():
    found, (_, boxes, _, sizes) = perfect()
    for decoded, box in zip(decode(found, sizes), boxes, strict=True):
        overlaps = box_iou(decoded, box)
        torch.testing.assert_close(overlaps.diag(), torch.ones(BOXES, dtype=torch.float64))
        torch.testing.assert_close((decoded[:, 6] - box[:, 6]).cos(), overlaps.diag())


def test_the_best_bin_and_the_best_mean_size_count():
    found, sizes = random_proposals(generator(), 1, 5, 40, 9), torch.rand(CLASSES, 3).double()
    for p, box in enumerate(decode(found, sizes)[0]):
        bins, label = int(found.heading[0, p].argmax()), int(found.size[0, p].argmax())
        yaw = bins * math.pi / 6 + float(found.turn[0, p, bins]) * math.pi / 12
        size = sizes[label] + found.growth[0, p, label] * sizes[label]
        expected = [*found.centers[0, p].tolist(), *size.tolist(), yaw]
        assert box.tolist() == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["hull", "rotated"])
def test_perfect_proposals_have_an_average_precision_of_1(kind):
    found, (points, boxes, labels, sizes) = perfect()
    detections = detect(found, sizes, points, kind)
    for threshold in (0.25, 0.5, 0.99):
        scores = detection_scores(detections, true(boxes, labels), CLASSES, threshold)
        assert scores.mean_average_precision == scores.mean_recall == 1


@pytest.mark.parametrize("shift", [0.1, 0.3, 0.6])
def test_shifted_boxes_have_the_precision_that_their_iou_allows(shift):
    """A box that is shifted by a share s of its length has an IoU of (1 - s) / (1 + s)."""
    found, (points, boxes, labels, sizes) = perfect()
    along = torch.stack([boxes[..., 6].cos(), boxes[..., 6].sin(), 0 * boxes[..., 6]], dim=2)
    found = found._replace(centers=found.centers + shift * boxes[..., 3:4] * along)
    detections = detect(found, sizes, points, "rotated")
    iou = (1 - shift) / (1 + shift)
    for threshold in (0.24, 0.5, iou - 1e-6, iou + 1e-6):
        scores = detection_scores(detections, true(boxes, labels), CLASSES, threshold)
        assert scores.mean_average_precision == (iou > threshold)


def test_each_box_counts_for_every_class_by_its_probability():
    found, (points, _, _, sizes) = perfect(sure=2.0)
    for scene, detections in enumerate(detect(found, sizes, points, "hull")):
        objectness = found.objectness[scene].softmax(dim=1)[:, 1]
        expected = (found.logits[scene].softmax(dim=1) * objectness[:, None]).T.flatten()
        assert detections.score.tolist() == pytest.approx(expected.tolist())
        assert detections.label.tolist() == np.repeat(np.arange(CLASSES), BOXES).tolist()
        boxes = detections.boxes.reshape(CLASSES, BOXES, 7)
        assert (boxes == boxes[0]).all()


def test_unlikely_empty_and_suppressed_boxes_are_dropped():
    found, (points, boxes, _, sizes) = perfect()
    logit = math.log(0.05 / 0.95)
    objectness = torch.tensor([[0, 50.0], [0, 50], [0, logit - 1e-6], [0, logit + 1e-6]])
    found = found._replace(objectness=objectness.double().expand(SCENES, -1, -1))
    few = points.clone()
    few[:, 4:EACH] += 100  # four points are left in the first box
    for detections in detect(found, sizes, few, "hull"):
        assert len(detections.boxes) == 2 * CLASSES  # the second and the last box
    few[:, 4] = boxes[:, 0, :3]
    assert all(len(each.boxes) == 3 * CLASSES for each in detect(found, sizes, few, "hull"))
    twice = found._replace(**{n: getattr(found, n).repeat_interleave(2, 1) for n in found._fields})
    for kind in ("hull", "rotated"):
        again = detect(twice, sizes, points, kind)
        assert all(len(each.boxes) == 3 * CLASSES for each in again)


def test_no_proposals_are_no_detections():
    found, (points, _, _, sizes) = perfect()
    never = found._replace(objectness=found.objectness.flip(2))
    for detections in detect(never, sizes, points, "hull"):
        assert detections.boxes.shape == (0, 7)
        assert len(detections.score) == len(detections.label) == 0
