"""Random scenes of boxes with points inside, and proposals, in float64."""

import torch

from pointcmt.training.ops.detection.bins import to_bins
from pointcmt.training.ops.detection.proposals import Proposals

CLASSES, HEADINGS = 4, 12


def random_boxes(generator, scenes, count):
    """Boxes [B, K, 7] with centers in a room of 4 m."""
    center = torch.rand(scenes, count, 3, generator=generator, dtype=torch.float64) * 4 - 2
    size = torch.rand(scenes, count, 3, generator=generator, dtype=torch.float64) + 0.3
    yaw = torch.rand(scenes, count, 1, generator=generator, dtype=torch.float64) * 20 - 10
    return torch.cat([center, size, yaw], dim=2)


def points_in(boxes, each, generator):
    """Points [B, K·each, 3] within 90 % of the boxes [B, K, 7], box after box."""
    B, K, _ = boxes.shape
    own = torch.rand(B, K, each, 3, generator=generator, dtype=torch.float64) - 0.5
    own = own * 0.9 * boxes[:, :, None, 3:6]
    cos, sin = boxes[:, :, None, 6].cos(), boxes[:, :, None, 6].sin()
    x, y, z = own.unbind(-1)
    turned = torch.stack([x * cos - y * sin, x * sin + y * cos, z], dim=-1)
    return (turned + boxes[:, :, None, :3]).flatten(1, 2)


def random_proposals(generator, scenes, seeds, count, points):
    """Proposals without any meaning."""

    def draw(*shape):
        return torch.randn(scenes, *shape, generator=generator, dtype=torch.float64)

    seed = torch.randint(points, (scenes, seeds), generator=generator)
    return Proposals(
        seed,
        draw(seeds, 3),
        draw(count, 3),
        draw(count, 2),
        draw(count, 3),
        draw(count, HEADINGS),
        draw(count, HEADINGS),
        draw(count, CLASSES),
        draw(count, CLASSES, 3),
        draw(count, CLASSES),
    )


def perfect_proposals(points, owners, boxes, labels, mean_sizes, sure=50.0):
    """Proposals that mean exactly the boxes: one each, from votes that are all right.

    points: [B, N, 3], each a seed. owners: [B, N], the box of each.
    """
    B = len(boxes)
    bins, turn = to_bins(boxes[..., 6], HEADINGS)

    def logits(index, width):
        return sure * torch.nn.functional.one_hot(index.clamp(min=0), width).to(boxes)

    turns = turn[..., None].expand(-1, -1, HEADINGS)
    growth = (boxes[:, :, None, 3:6] / mean_sizes - 1).expand(-1, -1, CLASSES, 3)
    centers = boxes[..., :3]
    scene = torch.arange(B)[:, None]
    return Proposals(
        torch.arange(points.shape[1]).expand(B, -1),
        torch.where(owners[..., None] >= 0, centers[scene, owners.clamp(min=0)], points),
        centers,
        logits((labels >= 0).long(), 2),
        centers,
        logits(bins, HEADINGS),
        turns,
        logits(labels, CLASSES),
        growth,
        logits(labels, CLASSES),
    )
