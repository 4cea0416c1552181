"""Targets of votes and proposals, against loops."""

import torch

from pointcmt.training.ops.detection.boxes import inside
from pointcmt.training.ops.detection.targets import (
    FAR,
    NEAR,
    assign,
    boxes_of_instances,
    boxes_of_points,
    instance_centers,
    make_targets,
)
from tests.training.ops.detection.scenes import points_in, random_boxes

SCENES, BOXES, EACH = 3, 6, 30


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def scenes():
    """Overlapping boxes, some of them padding, and points in and around them."""
    boxes = random_boxes(generator(), SCENES, BOXES)
    boxes[..., :3] /= 4
    labels = torch.randint(-1, 4, (SCENES, BOXES), generator=generator(1))
    around = torch.rand(SCENES, 40, 3, generator=generator(2), dtype=torch.float64) * 3 - 1.5
    points = torch.cat([points_in(boxes, EACH, generator(3)), around], dim=1)
    return points, boxes, labels


def test_points_vote_for_the_boxes_that_contain_them():
    """The first box takes all places, the second the second, each further one the third."""
    points, boxes, labels = scenes()
    found = boxes_of_points(points, boxes, labels)
    most = 0
    for scene in range(SCENES):
        within = inside(points[scene], boxes[scene])
        for point in range(points.shape[1]):
            places, count = [-1, -1, -1], 0
            for box in range(BOXES):
                if within[box, point] and labels[scene, box] >= 0:
                    places = [box] * 3 if count == 0 else places
                    places[min(count, 2)] = box
                    count += 1
            assert found[scene, point].tolist() == places
            most = max(most, count)
    assert most > 3


def test_points_vote_for_the_box_of_their_instance():
    labels = torch.tensor([[1, -1, 0], [2, 2, -1]])
    box_instance = torch.tensor([[7, 8, 9], [4, -1, -1]])
    instance = torch.tensor([[7, 8, 9, 10, -1], [4, -1, 9, 4, 0]])
    found = boxes_of_instances(instance, box_instance, labels)
    assert found[..., 0].tolist() == [[0, -1, 2, -1, -1], [0, -1, -1, 0, -1]]
    assert torch.equal(found[..., 0], found[..., 1])
    assert torch.equal(found[..., 0], found[..., 2])


def test_instances_have_the_middle_of_their_extents():
    points = torch.tensor([[[0.0, 0, 0], [4, 2, 2], [1, 1, 2], [9, 9, 9], [5, 5, 5]]])
    owners = torch.tensor([[0, 0, 0, -1, 2]])[..., None].expand(-1, -1, 3)
    expected = [[[2, 1, 1], [0, 0, 0], [5, 5, 5]]]
    assert instance_centers(points, owners, 3).tolist() == expected


def test_targets_are_the_centers_of_the_boxes_of_points():
    points, boxes, labels = scenes()
    owners = boxes_of_points(points, boxes, labels)
    targets = make_targets(owners, boxes, labels, boxes[..., :3])
    for scene in range(SCENES):
        own = owners[scene]
        assert torch.equal(targets.owned[scene], own[:, 0] >= 0)
        known = targets.owned[scene]
        assert torch.equal(targets.centers[scene][known], boxes[scene, own[known], :3])
    assert 0 < targets.owned.sum() < targets.owned.numel()


def test_proposals_belong_to_the_nearest_real_box():
    """A padded box at the origin attracts nothing, unlike in VoteNet's code."""
    boxes = torch.zeros(1, 3, 7, dtype=torch.float64)
    boxes[0, :2, 0] = torch.tensor([5.0, 7.0])
    labels = torch.tensor([[0, 1, -1]])
    owners = torch.full((1, 1, 3), -1)
    targets = make_targets(owners, boxes, labels, boxes[..., :3])
    x = [0.0, 5.29, 5.31, 5.59, 5.61, 7.2, 6.5, 3.0]
    clusters = torch.tensor([[[value, 0, 0] for value in x]], dtype=torch.float64)
    found = assign(clusters, targets)
    assert (NEAR, FAR) == (0.3, 0.6)
    assert found.box.tolist() == [[0, 0, 0, 0, 0, 1, 1, 0]]
    assert found.positive.tolist() == [[False, True, False, False, False, True, False, False]]
    assert found.counted.tolist() == [[True, True, False, False, True, True, False, True]]


def test_a_scene_without_boxes_has_negative_proposals_only():
    boxes, labels = torch.zeros(1, 1, 7), torch.full((1, 1), -1)
    points = torch.randn(1, 50, 3, generator=generator())
    owners = boxes_of_points(points, boxes, labels)
    targets = make_targets(owners, boxes, labels, boxes[..., :3])
    found = assign(points, targets)
    assert not targets.owned.any()
    assert found.counted.all()
    assert not found.positive.any()
