"""Motions move points and boxes together: axioms."""

import math

import pytest
import torch

from pointcmt.training.ops.detection.boxes import box_iou, inside
from pointcmt.training.ops.detection.motion import Motion, random_motion, without_headings
from tests.training.ops.detection.scenes import points_in, random_boxes

SCENES, BOXES, EACH = 6, 5, 40


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def motion(seed=0):
    """Of all kinds: of six scenes, some are mirrored in x, some in y, some in both."""
    found = random_motion(SCENES, (0.5, 0.5), 180, (0.8, 1.2), generator(seed))
    signs = torch.tensor([[1, 1], [-1, 1], [1, -1], [-1, -1], [1, 1], [-1, 1]])
    return Motion(signs.double(), found.yaw.double(), found.scale.double())


@pytest.fixture
def boxes():
    return random_boxes(generator(), SCENES, BOXES)


@pytest.fixture
def points(boxes):
    return points_in(boxes, EACH, generator(1))


def test_turned_there_and_back_all_is_as_before(points, boxes):
    there = motion()
    back = there.inverse()
    torch.testing.assert_close(back.of_points(there.of_points(points)), points)
    torch.testing.assert_close(back.of_normals(there.of_normals(points)), points)
    found = back.of_boxes(there.of_boxes(boxes))
    torch.testing.assert_close(found[..., :6], boxes[..., :6])
    turn = found[..., 6] - boxes[..., 6]
    torch.testing.assert_close(turn.cos(), torch.ones_like(turn))


def test_the_points_of_a_box_stay_its_points(points, boxes):
    moved = motion()
    for before, after, own, new in zip(
        boxes, moved.of_boxes(boxes), points, moved.of_points(points), strict=True
    ):
        kept = inside(own, before)
        assert torch.equal(inside(new, after), kept)
        for box in range(BOXES):
            assert kept[box, box * EACH : (box + 1) * EACH].all()
        assert not kept.all()


def test_a_box_shares_as_much_with_another_as_before(boxes):
    before, after = boxes, motion().of_boxes(boxes)
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(box_iou(one, one), box_iou(other, other))


def test_the_front_of_a_box_turns_with_it(boxes):
    """The middle of the side that the yaw points to is moved like a point."""
    moved = motion()

    def fronts(of):
        ahead = torch.stack([of[..., 6].cos(), of[..., 6].sin(), 0 * of[..., 6]], dim=-1)
        return of[..., :3] + ahead * of[..., 3:4] / 2

    torch.testing.assert_close(fronts(moved.of_boxes(boxes)), moved.of_points(fronts(boxes)))


def test_lengths_scale_and_angles_stay(points):
    moved = motion()
    found = moved.of_points(points)
    before, after = (torch.cdist(each, each) for each in (points, found))
    torch.testing.assert_close(after, before * moved.scale[:, None, None])
    torch.testing.assert_close(found[..., 2], points[..., 2] * moved.scale[:, None])


def test_settings_bound_what_is_drawn():
    drawn = random_motion(2000, (0.5, 0.0), 5, (0.85, 1.15), generator())
    assert drawn.yaw.abs().max() <= math.radians(5)
    assert drawn.yaw.min() < -0.08 < 0.08 < drawn.yaw.max()
    assert 0.85 <= drawn.scale.min() < 0.86 < 1.14 < drawn.scale.max() <= 1.15
    assert 900 < (drawn.signs[:, 0] < 0).sum() < 1100
    assert (drawn.signs[:, 1] == 1).all()
    again = random_motion(2000, (0.5, 0.0), 5, (0.85, 1.15), generator())
    assert all(torch.equal(one, other) for one, other in zip(drawn, again, strict=True))
    still = random_motion(5, (0.0, 0.0), 0, (1.0, 1.0), generator())
    assert (still.yaw.tolist(), still.scale.tolist()) == ([0] * 5, [1] * 5)


def test_boxes_without_headings_hold_the_turned_ones(points, boxes):
    grown = without_headings(boxes.float())
    assert grown.dtype == torch.float32
    assert (grown[..., 6] == 0).all()
    for own, box in zip(points, grown, strict=True):
        kept = inside(own, box)
        assert all(kept[i, i * EACH : (i + 1) * EACH].all() for i in range(BOXES))
    aligned = torch.cat([boxes[..., :6], 0 * boxes[..., 6:]], dim=-1)
    torch.testing.assert_close(without_headings(aligned), aligned)
