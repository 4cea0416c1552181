"""What VoteNet's seeds and proposals should predict, from the boxes of each scene.

Letters: B scenes, N points, K boxes, of which those with a label of -1 are padding and take no part
in anything, P proposals. (VoteNet's code lets its padding take part: proposals within 0.3 m of
the world's origin become positives there.)
"""

from typing import NamedTuple

import torch
from torch import Tensor

from pointcmt.training.ops.detection.boxes import inside

VOTES = 3  # boxes of a point that it may vote for
NEAR, FAR = 0.3, 0.6  # meters: a proposal this near to a center is positive; beyond, negative


class Targets(NamedTuple):
    """The boxes [B, K, 7] of scenes, their labels [B, K] i64 (-1 = padding), and votes.

    owned [B, N] bool: whether a point votes. centers [B, N, 3, 3]: for which places, three of them.
    """

    boxes: Tensor
    labels: Tensor
    owned: Tensor
    centers: Tensor


class Assignment(NamedTuple):
    """Of proposals [B, P]: the nearest box, whether it is near, and whether the loss counts it."""

    box: Tensor
    positive: Tensor
    counted: Tensor


def boxes_of_points(points: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
    """Return three boxes that contain each point, i64 [B, N, 3], -1 = none.

    points: [B, N, 3]. As in VoteNet's SUN RGB-D: one box fills all three places, a second one takes
    the second place, and of further ones the last takes the third.
    """
    within = torch.stack([inside(*scene) for scene in zip(points, boxes, strict=True)])
    within = (within & (labels >= 0)[..., None]).mT  # [B, N, K]
    order = torch.arange(boxes.shape[1], device=points.device)
    count = within.sum(dim=2)
    first = within.int().argmax(dim=2)
    second = (within & (order != first[..., None])).int().argmax(dim=2)
    last = boxes.shape[1] - 1 - within.flip(2).int().argmax(dim=2)
    found = torch.stack(
        [first, torch.where(count > 1, second, first), torch.where(count > 2, last, first)], dim=2
    )
    return torch.where(count[..., None] > 0, found, -1)


def boxes_of_instances(instance: Tensor, box_instance: Tensor, labels: Tensor) -> Tensor:
    """Return the box of each point's instance in all three places, i64 [B, N, 3], -1 = none.

    instance: [B, N], -1 = none. box_instance: [B, K].
    """
    same = (instance[..., None] == box_instance[:, None]) & (labels >= 0)[:, None]
    same &= (instance >= 0)[..., None]
    found = torch.where(same.any(dim=2), same.int().argmax(dim=2), -1)
    return found[..., None].expand(-1, -1, VOTES)


def instance_centers(points: Tensor, owners: Tensor, boxes: int) -> Tensor:
    """Return the middle of the extents of each box's own points, [B, K, 3]; 0 without points.

    VoteNet's target of votes on ScanNet: not the box's center. owners: [B, N, 3].
    """
    box = owners[..., 0]
    index = torch.where(box >= 0, box, boxes)[..., None].expand_as(points)  # the last one: nobody's
    shape = (len(points), boxes + 1, 3)
    low = points.new_full(shape, torch.inf).scatter_reduce(1, index, points, "amin")
    high = points.new_full(shape, -torch.inf).scatter_reduce(1, index, points, "amax")
    return torch.where(low <= high, (low + high) / 2, 0.0)[:, :boxes]


def make_targets(owners: Tensor, boxes: Tensor, labels: Tensor, centers: Tensor) -> Targets:
    """Return the targets of scenes. owners: [B, N, 3]. centers: of the boxes, [B, K, 3]."""
    scene = torch.arange(len(boxes), device=boxes.device)[:, None, None]
    return Targets(boxes, labels, owners[..., 0] >= 0, centers[scene, owners.clamp(min=0)])


def assign(clusters: Tensor, targets: Targets) -> Assignment:
    """Assign each proposal, by the middle of its cluster [B, P, 3], to the nearest box's center.

    Below 0.3 m it is positive, beyond 0.6 m negative; in between it does not count as either.
    """
    away = squared_distances(clusters, targets.boxes[..., :3], targets.labels >= 0)
    nearest, box = away.min(dim=2)
    positive = nearest < NEAR**2
    return Assignment(box, positive, positive | (nearest > FAR**2))


def squared_distances(places: Tensor, centers: Tensor, real: Tensor) -> Tensor:
    """Return squared distances [B, P, K] of places [B, P, 3] from centers; of padding, infinite."""
    away = (places[:, :, None] - centers[:, None]).square().sum(dim=3)
    return away.masked_fill(~real[:, None], torch.inf)
