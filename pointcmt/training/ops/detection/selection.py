"""Which of the boxes that a network proposes are detections (VoteNet's ap_helper.py)."""

import numpy as np
import torch
from torch import Tensor

from pointcmt.training.ops.detection.boxes import Suppression, inside, suppress
from pointcmt.training.ops.detection.scores import Detections

FEWEST_POINTS = 5  # that a detected box contains
LEAST_OBJECTNESS = 0.05
SUPPRESSION = 0.25  # the IoU beyond which the weaker of two boxes of a class is dropped


def select(
    boxes: Tensor, objectness: Tensor, shares: Tensor, points: Tensor, kind: Suppression
) -> list[Detections]:
    """Return the detections of each scene, class after class, each in the order of the boxes.

    boxes [B, P, 7] with an objectness [B, P] over 0.05 that contain at least 5 of the points
    [B, N, 3] remain, without those that a stronger one of the same class suppresses (kind: see
    `suppress`). Each counts as a detection of every class, with the score objectness · share;
    shares: [B, P, C].
    """
    scenes = zip(boxes, objectness, shares, points, strict=True)
    return [_select(*scene, kind) for scene in scenes]


def likeliest(found: Detections) -> Detections:
    """Return each box of `select` once, with the class of its highest score, the best box first."""
    if not len(found.label):
        return found
    classes = int(found.label[-1]) + 1
    scores = found.score.reshape(classes, -1)
    label, best = scores.argmax(axis=0), scores.max(axis=0)
    order = np.argsort(-best, kind="stable")
    return Detections(found.boxes[: len(best)][order], label[order], best[order])


def _select(
    boxes: Tensor, objectness: Tensor, shares: Tensor, points: Tensor, kind: Suppression
) -> Detections:
    likely = objectness > LEAST_OBJECTNESS
    likely[likely.clone()] = inside(points, boxes[likely]).sum(dim=1) >= FEWEST_POINTS
    boxes, objectness, shares = boxes[likely], objectness[likely], shares[likely]
    kept, _ = suppress(boxes, objectness, shares.argmax(dim=1), SUPPRESSION, kind).sort()
    scores = (shares[kept] * objectness[kept, None]).T  # [C, M]
    labels = torch.arange(len(scores))[:, None].expand(scores.shape)
    repeated = boxes[kept].repeat(len(scores), 1)
    return Detections(
        repeated.double().cpu().numpy(), labels.flatten().numpy(), scores.flatten().cpu().numpy()
    )
