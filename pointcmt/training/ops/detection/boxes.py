"""Oriented boxes: exact 3D IoU, generalized IoU, non-maximum suppression, and the points inside.

A box is (center x y z, full sizes dx dy dz, yaw), as in docs/conventions.md: meters, and the yaw
counter-clockwise from +X about +Z, in radians. All functions work on any device, in float64.
"""

from typing import Literal

import torch
from torch import Tensor

Suppression = Literal["hull", "rotated"]  # what non-maximum suppression compares

MAX_PAIRS = 1 << 16  # compared at a time: about 100 MB
MAX_POINTS = 1 << 20  # points and boxes that are compared at a time: the same


def box_iou(first: Tensor, second: Tensor) -> Tensor:
    """Return the volume of the intersection over that of the union of all pairs: [P,G] f64.

    first: [P,7], second: [G,7]. Boxes without a volume have an IoU of 0.
    """
    first, second = _without_negative_sizes(first), _without_negative_sizes(second)
    rows = max(1, MAX_PAIRS // max(1, len(second)))
    parts = [_iou(part[:, None], second[None]) for part in first.split(rows)]
    return torch.cat(parts) if parts else first.new_zeros(0, len(second))


def generalized_iou(first: Tensor, second: Tensor) -> Tensor:
    """Return the generalized IoU of boxes [...,7] that broadcast against each other: [...] f64.

    IoU - (|C| - |A ∪ B|) / |C|, from -1 to 1 (Rezatofighi et al., CVPR 2019, algorithm 1). C is the
    smallest box with yaw 0 around A and B, as in 3DETR's code (utils/box_util.py): turning both
    together changes the value. Differentiable in all seven numbers of either. A pair without any
    extent has the value 0.
    """
    first, second = _without_negative_sizes(first), _without_negative_sizes(second)
    shared, union = _volumes(first, second)
    ends = [
        (h[..., :3] - h[..., 3:6] / 2, h[..., :3] + h[..., 3:6] / 2)
        for h in (hulls(first), hulls(second))
    ]
    (low, high), (other_low, other_high) = ends
    around = (torch.maximum(high, other_high) - torch.minimum(low, other_low)).prod(dim=-1)
    found = _ratio(shared, union) - _ratio(around - union, around)
    return torch.where(around > 0, found, 0.0)


def hulls(boxes: Tensor) -> Tensor:
    """Return the smallest boxes with yaw 0 that contain the boxes [...,7]: [...,7] f64."""
    boxes = boxes.double()
    cos, sin = boxes[..., 6].cos().abs(), boxes[..., 6].sin().abs()
    dx, dy = boxes[..., 3], boxes[..., 4]
    sizes = torch.stack([dx * cos + dy * sin, dx * sin + dy * cos, boxes[..., 5]], dim=-1)
    return torch.cat([boxes[..., :3], sizes, torch.zeros_like(boxes[..., 6:])], dim=-1)


def suppress(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    threshold: float = 0.25,
    kind: Suppression = "hull",
) -> Tensor:
    """Return the indices of the boxes that remain, by descending score: int64 [M].

    Non-maximum suppression within each label: a box is dropped if its IoU with one of a higher
    score that remains is over the threshold; of equal scores, the first counts as higher. boxes:
    [K,7], scores and labels: [K]. kind: "hull" compares the axis-aligned hulls of the boxes, as
    VoteNet does (models/ap_helper.py) and published scores have it; "rotated" the boxes themselves.
    """
    order = scores.argsort(descending=True, stable=True)
    own = boxes[order] if kind == "rotated" else hulls(boxes[order])
    same = labels[order][:, None] == labels[order][None]
    overlaps = ((box_iou(own, own) > threshold) & same).cpu()
    kept = torch.ones(len(order), dtype=torch.bool)
    for index in range(len(order)):
        if kept[index]:
            kept[index + 1 :] &= ~overlaps[index, index + 1 :]
    return order[kept.to(order.device)]


def inside(points: Tensor, boxes: Tensor) -> Tensor:
    """Return which points [N,3] each of the boxes [K,7] contains, its surface included: [K,N]."""
    rows = max(1, MAX_POINTS // max(1, len(points)))
    parts = [_inside(points.double(), part) for part in boxes.double().split(rows)]
    return torch.cat(parts) if parts else points.new_zeros(0, len(points), dtype=torch.bool)


def _inside(points: Tensor, boxes: Tensor) -> Tensor:
    away = points - boxes[:, None, :3]  # [K,N,3]
    flat = _turned(away[..., :2], -boxes[:, 6])
    own = torch.cat([flat, away[..., 2:]], dim=-1)
    return (own.abs() <= boxes[:, None, 3:6] / 2).all(dim=-1)


def _without_negative_sizes(boxes: Tensor) -> Tensor:
    """Return boxes [...,7] in f64; a network may predict sizes below 0, which have no volume."""
    boxes = boxes.double()
    return torch.cat([boxes[..., :3], boxes[..., 3:6].clamp(min=0), boxes[..., 6:]], dim=-1)


def _iou(first: Tensor, second: Tensor) -> Tensor:
    """Return the IoU of boxes [...,7] that broadcast against each other."""
    return _ratio(*_volumes(first, second))


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """Return part / whole; 0 where the whole is 0, with gradients of 0."""
    return torch.where(whole > 0, part / torch.where(whole > 0, whole, 1.0), 0.0)


def _volumes(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Return the volumes of the intersection and of the union of boxes [...,7]."""
    top = torch.minimum(first[..., 2] + first[..., 5] / 2, second[..., 2] + second[..., 5] / 2)
    low = torch.maximum(first[..., 2] - first[..., 5] / 2, second[..., 2] - second[..., 5] / 2)
    shared = _shared_area(first, second) * (top - low).clamp(min=0)
    return shared, first[..., 3:6].prod(dim=-1) + second[..., 3:6].prod(dim=-1) - shared


def _shared_area(first: Tensor, second: Tensor) -> Tensor:
    """Return the area that the footprints of boxes share.

    In the second box's own axes, its footprint is |x| ≤ hx, |y| ≤ hy. Clamping x and y to that
    rectangle keeps areas inside of it and flattens all others, so the shared area is the area that
    the first box's outline encloses after clamping. Each edge is split where it crosses one of the
    four lines; between the splits, the clamped outline is straight.
    """
    corners = _corners_in(first, second)  # [...,4,2]
    step = corners.roll(-1, dims=-2) - corners
    half = (second[..., 3:5] / 2)[..., None, :]  # [...,1,2]
    flat = step == 0
    safe = torch.where(flat, 1.0, step)
    splits = torch.cat([(half - corners) / safe, (-half - corners) / safe], dim=-1)
    splits = torch.where(torch.cat([flat, flat], dim=-1), 0.0, splits).clamp(0, 1).sort(-1).values
    ends = torch.zeros_like(splits[..., :1])
    splits = torch.cat([ends, splits, ends + 1], dim=-1)  # [...,4,6], along each edge
    outline = corners[..., None, :] + splits[..., None] * step[..., None, :]  # [...,4,6,2]
    clamped = torch.minimum(torch.maximum(outline, -half[..., None, :]), half[..., None, :])
    x, y = clamped.unbind(-1)
    return ((x[..., 1:] + x[..., :-1]) * y.diff(dim=-1)).sum(dim=(-2, -1)).clamp(min=0) / 2


def _corners_in(boxes: Tensor, others: Tensor) -> Tensor:
    """Return the corners of footprints in the axes of other boxes, counter-clockwise: [...,4,2]."""
    signs = boxes.new_tensor([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    own = signs * (boxes[..., None, 3:5] / 2)
    away = _turned((boxes[..., :2] - others[..., :2])[..., None, :], -others[..., 6])
    return _turned(own, boxes[..., 6] - others[..., 6]) + away


def _turned(points: Tensor, angle: Tensor) -> Tensor:
    """Turn points [...,M,2] counter-clockwise by an angle [...]."""
    cos, sin = angle.cos()[..., None], angle.sin()[..., None]
    x, y = points.unbind(-1)
    return torch.stack([x * cos - y * sin, x * sin + y * cos], dim=-1)
