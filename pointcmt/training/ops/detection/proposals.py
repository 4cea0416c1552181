"""What VoteNet predicts, and the boxes that it means (Qi et al., ICCV 2019, and its ap_helper.py).

Letters: B scenes, S seeds, P proposals, H bins of headings, C classes, each with one mean size.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pointcmt.training.ops.detection.bins import from_bins
from pointcmt.training.ops.detection.boxes import Suppression, inside, suppress
from pointcmt.training.ops.detection.scores import Detections

FEWEST_POINTS = 5  # that a detected box contains
LEAST_OBJECTNESS = 0.05
SUPPRESSION = 0.25  # the IoU beyond which the weaker of two boxes of a class is dropped


class Proposals(NamedTuple):
    """VoteNet's output. Coordinates in meters, in the coordinates of the points.

    seed [B, S] i64: each seed's point. votes [B, S, 3]. clusters [B, P, 3]: the votes that
    proposals start from. objectness [B, P, 2]: logits of no and yes. centers [B, P, 3] of boxes.
    heading [B, P, H]: logits of bins; turn [B, P, H]: residuals in half bins. size [B, P, C]:
    logits of mean sizes; growth [B, P, C, 3]: residuals in mean sizes. logits [B, P, C]: of
    classes.
    """

    seed: Tensor
    votes: Tensor
    clusters: Tensor
    objectness: Tensor
    centers: Tensor
    heading: Tensor
    turn: Tensor
    size: Tensor
    growth: Tensor
    logits: Tensor


def decode(found: Proposals, mean_sizes: Tensor) -> Tensor:
    """Return the box of each proposal, [B, P, 7], of its best bin and its best mean size [C, 3]."""
    heading, size = found.heading.argmax(dim=2), found.size.argmax(dim=2)
    turn = found.turn.gather(2, heading[..., None])[..., 0]
    yaw = from_bins(heading, turn, found.heading.shape[2])
    index = size[..., None, None].expand(-1, -1, 1, 3)
    sizes = mean_sizes[size] * (1 + found.growth.gather(2, index)[:, :, 0])
    return torch.cat([found.centers, sizes, yaw[..., None]], dim=2)


def detect(
    found: Proposals, mean_sizes: Tensor, points: Tensor, kind: Suppression
) -> list[Detections]:
    """Return the detections of each scene.

    Proposals with an objectness over 0.05 whose boxes contain at least 5 of the points [B, N, 3]
    remain, without those that a stronger one of the same class suppresses (kind: see `suppress`).
    Each counts as a detection of every class, with the score objectness · class probability.
    """
    boxes = decode(found, mean_sizes)
    objectness = found.objectness.softmax(dim=2)[..., 1]
    shares = found.logits.softmax(dim=2)
    return [_detect(*scene, kind) for scene in zip(boxes, objectness, shares, points, strict=True)]


def likeliest(found: Detections) -> Detections:
    """Return each box of `detect` once, with the class of its highest score, the best box first."""
    if not len(found.label):
        return found
    classes = int(found.label[-1]) + 1
    scores = found.score.reshape(classes, -1)
    label, best = scores.argmax(axis=0), scores.max(axis=0)
    order = np.argsort(-best, kind="stable")
    return Detections(found.boxes[: len(best)][order], label[order], best[order])


def _detect(
    boxes: Tensor, objectness: Tensor, shares: Tensor, points: Tensor, kind: Suppression
) -> Detections:
    """Return a scene's detections, class after class, each in the order of the proposals."""
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
