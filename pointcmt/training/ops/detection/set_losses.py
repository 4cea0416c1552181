"""3DETR's losses: queries are matched with boxes one to one (Misra et al., ICCV 2021, section 3.2,
and criterion.py of its code).

Every layer of the decoder is matched on its own, and the terms are summed over layers. In terms of
boxes, sums over matched pairs are divided by the number of boxes of all scenes, at least 1.

Letters: L layers, B scenes, P queries, K boxes, of which those with a label of -1 are padding.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pointcmt.training.ops.detection.bins import to_bins
from pointcmt.training.ops.detection.boxes import generalized_iou
from pointcmt.training.ops.detection.queries import Queries, decode_queries


class Costs(NamedTuple):
    """Weights of what a query and a box are matched by. center: of the L1 distance of centers in
    units of the scene's extent. Of what else, more is better."""

    label: float
    giou: float
    center: float
    objectness: float


class Pairs(NamedTuple):
    """Matched queries: their scenes, their numbers and those of their boxes, [M] each."""

    scene: Tensor
    query: Tensor
    box: Tensor


def set_loss_terms(
    found: Queries, boxes: Tensor, labels: Tensor, costs: Costs, no_object: float
) -> dict[str, Tensor]:
    """Return each term of the loss by name, scalars. boxes [B, K, 7], labels [B, K].

    no_object: weight of queries without a box in the cross entropy of classes.
    """
    predicted = decode_queries(found)
    layers = [
        _layer_terms(
            Queries(*found[:2], *(each[layer] for each in found[2:])),
            predicted[layer],
            (boxes, labels),
            costs,
            no_object,
        )
        for layer in range(len(predicted))
    ]
    return {name: torch.stack([terms[name] for terms in layers]).sum() for name in layers[0]}


@torch.no_grad()
def match(found: Queries, predicted: Tensor, boxes: Tensor, labels: Tensor, costs: Costs) -> Pairs:
    """Match the queries of one layer with boxes, so that the total cost is least.

    found: of the layer, [B, P, ...]. predicted: its boxes, [B, P, 7].
    """
    from scipy.optimize import linear_sum_assignment  # slow to import, for one detector alone

    pairs = []
    for scene in range(len(boxes)):
        (real,) = (labels[scene] >= 0).nonzero(as_tuple=True)
        shares = found.logits[scene].float().softmax(dim=1)
        true, extent = boxes[scene, real], found.extent[scene]
        away = torch.cdist(found.centers[scene].float() / extent, true[:, :3].float() / extent, p=1)
        cost = (
            costs.center * away
            - costs.label * shares[:, labels[scene, real]]
            - costs.objectness * (1 - shares[:, -1:])
            - costs.giou * generalized_iou(predicted[scene][:, None], true[None])
        )
        # of a diverged network, costs are not finite: its loss reports that, not the matching
        query, box = linear_sum_assignment(cost.nan_to_num().cpu().numpy())
        query, box = (torch.as_tensor(each, device=real.device) for each in (query, box))
        pairs.append((torch.full_like(query, scene), query, real[box]))
    return Pairs(*(torch.cat(columns) for columns in zip(*pairs, strict=True)))


def _layer_terms(
    found: Queries,
    predicted: Tensor,
    targets: tuple[Tensor, Tensor],
    costs: Costs,
    no_object: float,
) -> dict[str, Tensor]:
    """Return the terms of one layer."""
    boxes, labels = targets
    scene, query, box = match(found, predicted, boxes, labels, costs)
    count = (labels >= 0).sum().clamp(min=1)
    true, extent = boxes[scene, box], found.extent[scene]
    bins, turn = to_bins(true[:, 6], found.heading.shape[2])
    turned = found.turn[scene, query].gather(1, bins[:, None])[:, 0]
    iou = generalized_iou(predicted[scene, query], true)
    sums = {
        "center": ((found.centers[scene, query] - true[:, :3]) / extent).abs().sum(),
        "size": (found.sizes[scene, query] - true[:, 3:6] / extent).abs().sum(),
        "giou": (1 - iou).sum().to(found.logits),
        "heading_class": F.cross_entropy(found.heading[scene, query], bins, reduction="sum"),
        "heading_residual": F.huber_loss(turned, turn.to(turned), reduction="sum"),
    }
    terms = {name: value / count for name, value in sums.items()}
    none = found.logits.shape[2] - 1
    target = torch.full_like(found.logits[..., 0], none, dtype=torch.int64)
    target[scene, query] = labels[scene, box]
    weights = torch.ones_like(found.logits[0, 0])
    weights[none] = no_object
    terms["class"] = F.cross_entropy(found.logits.flatten(0, 1), target.flatten(), weights)
    return terms
