"""What VoteNet predicts, and the boxes that it means (Qi et al., ICCV 2019, and its ap_helper.py).

Letters: B scenes, S seeds, P proposals, H bins of headings, C classes, each with one mean size.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from pointcmt.training.ops.detection.bins import from_bins
from pointcmt.training.ops.detection.boxes import Suppression
from pointcmt.training.ops.detection.scores import Detections
from pointcmt.training.ops.detection.selection import select


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
    """Return the detections of each scene, see `select`. points: [B, N, 3]."""
    objectness = found.objectness.softmax(dim=2)[..., 1]
    shares = found.logits.softmax(dim=2)
    return select(decode(found, mean_sizes), objectness, shares, points, kind)
