"""What 3DETR predicts, and the boxes that it means (Misra, Girdhar, Joulin: An End-to-End
Transformer Model for 3D Object Detection, ICCV 2021, and its models/model_3detr.py).

Letters: L layers of the decoder, B scenes, P queries, H bins of headings, C classes.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from pointcmt.training.ops.detection.bins import from_bins
from pointcmt.training.ops.detection.boxes import Suppression
from pointcmt.training.ops.detection.scores import Detections
from pointcmt.training.ops.detection.selection import select

LEAST_EXTENT = 0.1  # meters of a scene, along each axis


class Queries(NamedTuple):
    """3DETR's output, of all layers. Coordinates in meters, in the coordinates of the points.

    low, extent [B, 3]: the corner of the points' bounds, and their size. logits [L, B, P, C + 1]:
    of classes, and as the last one of no object. centers [L, B, P, 3] of boxes. sizes
    [L, B, P, 3]: shares of the extent. heading [L, B, P, H]: logits of bins; turn [L, B, P, H]:
    residuals in half bins.
    """

    low: Tensor
    extent: Tensor
    logits: Tensor
    centers: Tensor
    sizes: Tensor
    heading: Tensor
    turn: Tensor


def decode_queries(found: Queries) -> Tensor:
    """Return the box of each query, of its best bin, [L, B, P, 7]."""
    heading = found.heading.argmax(dim=3)
    turn = found.turn.gather(3, heading[..., None])[..., 0]
    yaw = from_bins(heading, turn, found.heading.shape[3])
    sizes = found.sizes * found.extent[:, None]
    return torch.cat([found.centers, sizes, yaw[..., None]], dim=3)


def detect_queries(found: Queries, points: Tensor, kind: Suppression) -> list[Detections]:
    """Return the detections of each scene, of the last layer; see `select`. points: [B, N, 3].

    The objectness is 1 - the probability of no object. Probabilities of classes are those among
    all C + 1, as in 3DETR's code, so that the score contains the objectness twice.
    """
    shares = found.logits[-1].softmax(dim=2)
    return select(decode_queries(found)[-1], 1 - shares[..., -1], shares[..., :-1], points, kind)
