"""VoteNet's losses (Qi et al., ICCV 2019, section 4.3 and loss_helper.py of its code).

A mean over a set is its sum divided by (its size + 1e-6), as there: of an empty set it is 0.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from pointcmt.training.ops.detection.bins import to_bins
from pointcmt.training.ops.detection.proposals import Proposals
from pointcmt.training.ops.detection.targets import (
    Assignment,
    Targets,
    assign,
    squared_distances,
)

FLOOR = 1e-6  # added to the size of a set
OBJECTNESS = (0.2, 0.8)  # weights of negatives and positives
FACTOR = 10.0  # of the weighted sum of all terms


def total_loss(terms: dict[str, Tensor], weights: dict[str, float]) -> Tensor:
    """Return 10 times the sum of the terms of `loss_terms`, with a weight for each."""
    weighted = [weight * terms[name] for name, weight in weights.items()]
    return FACTOR * torch.stack(weighted).sum()


def loss_terms(found: Proposals, targets: Targets, mean_sizes: Tensor) -> dict[str, Tensor]:
    """Return each term of the loss by name, scalars. mean_sizes: [C, 3] of the classes."""
    assigned = assign(found.clusters, targets)
    return {
        "vote": vote_loss(found, targets),
        "objectness": objectness_loss(found.objectness, assigned),
        "center": center_loss(found.centers, targets, assigned.positive),
        **box_losses(found, targets, assigned, mean_sizes),
    }


def vote_loss(found: Proposals, targets: Targets) -> Tensor:
    """Return the L1 distance of a vote from the nearest of its seed's three targets.

    The mean over the seeds that have targets.
    """
    scene = torch.arange(len(found.seed), device=found.seed.device)[:, None]
    centers, owned = targets.centers[scene, found.seed], targets.owned[scene, found.seed]
    away = (found.votes[:, :, None] - centers).abs().sum(dim=3).min(dim=2).values
    return _mean(away, owned)


def objectness_loss(logits: Tensor, assigned: Assignment) -> Tensor:
    """Return the weighted cross entropy of objectness, the mean over the proposals that count."""
    weights = logits.new_tensor(OBJECTNESS)
    labels = assigned.positive.long()
    losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), weights, reduction="none")
    return _mean(losses.view(labels.shape), assigned.counted)


def center_loss(centers: Tensor, targets: Targets, positive: Tensor) -> Tensor:
    """Return the squared Chamfer distance between predicted and true centers.

    From positive proposals to the nearest box, and from each box to the nearest proposal.
    """
    real = targets.labels >= 0
    away = squared_distances(centers, targets.boxes[..., :3], real)  # [B, P, K]
    to_box, to_proposal = away.min(dim=2).values, away.min(dim=1).values
    return _mean(to_box, positive) + _mean(to_proposal, real)


def box_losses(
    found: Proposals, targets: Targets, assigned: Assignment, mean_sizes: Tensor
) -> dict[str, Tensor]:
    """Return the losses of headings, sizes and classes, means over the positive proposals."""
    scene = torch.arange(len(found.clusters), device=assigned.box.device)[:, None]
    boxes = targets.boxes[scene, assigned.box]  # [B, P, 7]
    labels = targets.labels[scene, assigned.box].clamp(min=0)  # of padding: not positive anyway
    bins, turn = to_bins(boxes[..., 6], found.heading.shape[2])
    own = labels[..., None, None].expand(-1, -1, 1, 3)
    growth = found.growth.gather(2, own)[:, :, 0] - (boxes[..., 3:6] / mean_sizes[labels] - 1)
    turned = found.turn.gather(2, bins[..., None])[..., 0] - turn
    terms = {
        "heading_class": _cross_entropy(found.heading, bins),
        "heading_residual": _huber(turned),
        "size_class": _cross_entropy(found.size, labels),
        "size_residual": _huber(growth).mean(dim=2),
        "class": _cross_entropy(found.logits, labels),
    }
    return {name: _mean(values, assigned.positive) for name, values in terms.items()}


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Logits [B, P, C], labels [B, P] → [B, P]."""
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view(
        labels.shape
    )


def _huber(errors: Tensor) -> Tensor:
    return F.huber_loss(errors, torch.zeros_like(errors), reduction="none", delta=1.0)


def _mean(values: Tensor, chosen: Tensor) -> Tensor:
    """Return the mean of the chosen values; others may be infinite."""
    return torch.where(chosen, values, 0.0).sum() / (chosen.sum(dtype=values.dtype) + FLOOR)
