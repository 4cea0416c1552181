"""IoU of oriented boxes against known values and Monte Carlo; non-maximum suppression."""

import math

import numpy as np
import pytest
import torch

from pointcmt.training.ops.detection import boxes as ops
from pointcmt.training.ops.detection.boxes import box_iou, generalized_iou, hulls, suppress
from pointcmt.training.ops.detection.boxes import inside as inside_boxes

UNIT = [0.0, 0, 0, 1, 1, 1, 0]


def box(**changes):
    """The unit cube with changes: x, y, z, dx, dy, dz, yaw."""
    names = ["x", "y", "z", "dx", "dy", "dz", "yaw"]
    return [changes.get(name, value) for name, value in zip(names, UNIT, strict=True)]


def iou(first, second):
    value = box_iou(torch.tensor([first]), torch.tensor([second]))
    assert value.shape == (1, 1)
    assert value.dtype == torch.float64
    return float(value)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (UNIT, UNIT, 1),
        (UNIT, box(yaw=math.pi / 4), 1 / math.sqrt(2)),
        (box(dx=2), box(dx=2, yaw=math.pi / 2), 1 / 3),
        (UNIT, box(x=0.5), 1 / 3),
        (UNIT, box(z=0.5), 1 / 3),
        (UNIT, box(x=1), 0),
        (UNIT, box(y=-1), 0),
        (UNIT, box(z=1), 0),
        (UNIT, box(x=5, yaw=1), 0),
        (UNIT, box(dx=0), 0),
        (UNIT, box(dx=-1, dy=-1), 0),
        (box(dx=0), box(dx=0), 0),
        (box(dx=2, dy=3, yaw=0.7), box(dx=2, dy=3, yaw=0.7 + math.pi), 1),
        (box(dx=2, dy=3, yaw=0.7), box(dx=3, dy=2, yaw=0.7 + math.pi / 2), 1),
        (box(dx=2, dy=2, dz=2), box(yaw=0.3), 1 / 8),  # one inside the other
        (UNIT, box(x=0.5 + math.sqrt(0.5), yaw=math.pi / 4), 0),  # a corner touches a side
        (UNIT, box(x=1, y=1, yaw=math.pi / 2), 0),  # corners touch
    ],
)
def test_known_values(first, second, expected):
    """The first cases are those of SCENES.md, checked there by another implementation."""
    assert iou(first, second) == pytest.approx(expected, abs=1e-7)
    assert iou(second, first) == pytest.approx(expected, abs=1e-7)


def random_boxes(count, seed):
    rng = np.random.default_rng(seed)
    center, size = rng.uniform(-0.5, 0.5, (count, 3)), rng.uniform(0.3, 2, (count, 3))
    return torch.tensor(np.hstack([center, size, rng.uniform(-7, 7, (count, 1))]))


def inside(points, box):
    cos, sin = math.cos(box[6]), math.sin(box[6])
    away = points - box[:3]
    own = np.stack([away[:, 0] * cos + away[:, 1] * sin, away[:, 1] * cos - away[:, 0] * sin], 1)
    flat = (np.abs(own) <= box[3:5] / 2).all(axis=1)
    return flat & (np.abs(away[:, 2]) <= box[5] / 2)


def test_random_pairs_agree_with_monte_carlo():
    first, second = random_boxes(12, 0), random_boxes(10, 1)
    exact = box_iou(first, second).numpy()
    points = np.random.default_rng(2).uniform(-2, 2, (200_000, 3))
    ours = [inside(points, b) for b in first.numpy()]
    theirs = [inside(points, b) for b in second.numpy()]
    for i, a in enumerate(ours):
        for j, b in enumerate(theirs):
            union = (a | b).sum()
            estimate = (a & b).sum() / union
            error = math.sqrt(max(estimate * (1 - estimate), 1e-4) / union)
            assert abs(exact[i, j] - estimate) < 5 * error
    assert (exact > 0.01).mean() > 0.5


def test_moving_and_turning_both_boxes_changes_nothing():
    first, second = random_boxes(20, 3), random_boxes(20, 4)
    before = box_iou(first, second)
    assert torch.allclose(before, box_iou(second, first).T, atol=1e-12)
    angle = 1.1
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    for boxes in (first, second):
        boxes[:, :2] = boxes[:, :2] @ turn.double().T + torch.tensor([30.0, -40.0])
        boxes[:, 2] += 5
        boxes[:, 6] += angle
    assert torch.allclose(before, box_iou(first, second), atol=1e-9)


def test_boxes_without_yaw_agree_with_the_plain_formula():
    first, second = random_boxes(30, 5), random_boxes(30, 6)
    first[:, 6] = second[:, 6] = 0
    low = torch.maximum(
        first[:, None, :3] - first[:, None, 3:6] / 2, second[:, :3] - second[:, 3:6] / 2
    )
    top = torch.minimum(
        first[:, None, :3] + first[:, None, 3:6] / 2, second[:, :3] + second[:, 3:6] / 2
    )
    shared = (top - low).clamp(min=0).prod(dim=2)
    union = first[:, 3:6].prod(dim=1)[:, None] + second[:, 3:6].prod(dim=1) - shared
    assert torch.allclose(box_iou(first, second), shared / union, atol=1e-12)


def test_pairs_are_compared_in_parts_of_bounded_size(monkeypatch):
    first, second = random_boxes(23, 7), random_boxes(9, 8)
    whole = box_iou(first, second)
    monkeypatch.setattr(ops, "MAX_PAIRS", 20)
    assert torch.equal(box_iou(first, second), whole)


def test_no_boxes_have_no_pairs():
    none = torch.zeros(0, 7)
    assert box_iou(none, random_boxes(3, 0)).shape == (0, 3)
    assert box_iou(random_boxes(3, 0), none).shape == (3, 0)
    assert suppress(none, torch.zeros(0), torch.zeros(0)).tolist() == []


def test_hulls_contain_the_corners_and_touch_them():
    boxes = random_boxes(20, 9)
    around = hulls(boxes).numpy()
    for own, hull in zip(boxes.numpy(), around, strict=True):
        signs = np.array([[x, y] for x in (-1, 1) for y in (-1, 1)]) * own[3:5] / 2
        cos, sin = math.cos(own[6]), math.sin(own[6])
        corners = signs @ np.array([[cos, sin], [-sin, cos]]) + own[:2]
        assert np.allclose(corners.min(axis=0), hull[:2] - hull[3:5] / 2)
        assert np.allclose(corners.max(axis=0), hull[:2] + hull[3:5] / 2)
    assert (around[:, 6] == 0).all()


def test_suppression_keeps_the_best_of_overlapping_boxes_of_a_label():
    boxes = torch.tensor([box(), box(x=0.1), box(x=0.2), box(x=3), box(x=0.15)])
    scores = torch.tensor([0.5, 0.9, 0.7, 0.1, 0.3])
    labels = torch.tensor([0, 0, 0, 0, 1])
    assert suppress(boxes, scores, labels).tolist() == [1, 4, 3]
    assert suppress(boxes, scores, torch.zeros(5)).tolist() == [1, 3]


def test_a_suppressed_box_suppresses_no_other():
    boxes = torch.tensor([box(), box(x=0.5), box(x=1.0)])  # neighbors have an IoU of 1/3
    labels = torch.zeros(3)
    assert suppress(boxes, torch.tensor([0.9, 0.8, 0.7]), labels, 0.3).tolist() == [0, 2]
    assert suppress(boxes, torch.tensor([0.5, 0.5, 0.5]), labels, 0.3).tolist() == [0, 2]
    assert suppress(boxes, torch.tensor([0.9, 0.8, 0.7]), labels, 0.34).tolist() == [0, 1, 2]


def test_hulls_of_crossing_boxes_overlap_where_the_boxes_do_not():
    """Two long boxes side by side at 45°: their hulls have an IoU of over a half."""
    boxes = torch.tensor(
        [box(dx=4, dy=0.4, yaw=math.pi / 4), box(x=0.5, y=-0.5, dx=4, dy=0.4, yaw=math.pi / 4)]
    )
    scores, labels = torch.tensor([0.9, 0.8]), torch.zeros(2)
    assert suppress(boxes, scores, labels, kind="hull").tolist() == [0]
    assert suppress(boxes, scores, labels, kind="rotated").tolist() == [0, 1]


def test_points_on_the_surface_are_inside(monkeypatch):
    boxes = random_boxes(5, 10)
    points = torch.rand(300, 3, dtype=torch.float64) * 3 - 1.5
    found = inside_boxes(points, boxes)
    assert 0 < found.sum() < found.numel()
    for own, box in zip(found, boxes.numpy(), strict=True):
        assert own.tolist() == inside(points.numpy(), box).tolist()
    monkeypatch.setattr(ops, "MAX_POINTS", 400)
    assert torch.equal(inside_boxes(points, boxes), found)
    corner = torch.tensor([[0.5, -0.5, 0.5], [0.5, 0.5, 0.5000001]])
    assert inside_boxes(corner, torch.tensor([UNIT])).tolist() == [[True, False]]
    assert inside_boxes(corner, torch.zeros(0, 7)).shape == (0, 2)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (UNIT, UNIT, 1),
        (UNIT, box(x=0.5), 1 / 3),  # C is their union
        (UNIT, box(x=1), 0),
        (UNIT, box(x=2), -1 / 3),  # a gap of a third of C
        (UNIT, box(x=1, y=1, z=1), 0.25 - 1),  # two of eight cubes
        (box(dx=2, dy=2, dz=2), UNIT, 1 / 8),  # one inside the other
        (UNIT, box(yaw=math.pi / 4), 1 / math.sqrt(2) - (1 - (4 - 2 * math.sqrt(2)) / 2)),
        (UNIT, box(x=1e6), -1),
        (box(dx=0, dy=0, dz=0), box(dx=0, dy=0, dz=0), 0),
    ],
)
def test_known_generalized_ious(first, second, expected):
    """A cube and the same at 45° share 2(√2 - 1), and C is a square of side √2."""
    for pair in ((first, second), (second, first)):
        value = generalized_iou(*map(torch.tensor, pair))
        assert float(value) == pytest.approx(expected, abs=1e-5)


def test_generalized_ious_of_random_boxes_by_monte_carlo():
    """Shares of random points in C that are in both boxes, or in either."""
    first, second = random_boxes(12, 3), random_boxes(12, 4)
    second[:, :3] *= 3  # some of them apart
    found = generalized_iou(first, second)
    rng, both = np.random.default_rng(0), torch.stack([first, second], dim=1)
    for pair, value in zip(both, found.tolist(), strict=True):
        around = hulls(pair)
        low = (around[:, :3] - around[:, 3:6] / 2).amin(dim=0).numpy()
        high = (around[:, :3] + around[:, 3:6] / 2).amax(dim=0).numpy()
        points = torch.from_numpy(rng.uniform(low, high, (100_000, 3)))
        one, other = inside_boxes(points, pair).double()
        shared, union = (one * other).mean(), torch.maximum(one, other).mean()
        assert value == pytest.approx(float(shared / union - (1 - union)), abs=0.012)
    table = generalized_iou(first[:, None], second[None])
    torch.testing.assert_close(table.diagonal(), found)


def test_generalized_iou_is_differentiable_in_both_boxes():
    pairs = random_boxes(6, 5), random_boxes(6, 6)
    assert torch.autograd.gradcheck(
        generalized_iou, [each.clone().requires_grad_() for each in pairs], eps=1e-7, atol=1e-4
    )
    apart = torch.tensor([box()], dtype=torch.float64), torch.tensor([box(x=3.0)]).double()
    away = apart[0].requires_grad_()
    generalized_iou(away, apart[1]).sum().backward()
    assert away.grad[0, 0] > 0  # nearer is better, although nothing is shared
    for flat in (box(dx=0.0), box(dx=0.0, dy=0.0, dz=0.0)):
        edge = torch.tensor([flat], dtype=torch.float64, requires_grad=True)
        generalized_iou(edge, edge.detach()).sum().backward()
        assert edge.grad.isfinite().all()
