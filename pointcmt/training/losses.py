"""Losses, each with its formula and source."""

import torch
import torch.nn.functional as F
from torch import Tensor


def smoothed_cross_entropy(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Cross entropy against smoothed labels, mean over the batch.

    The target gives the true class 1 - eps and every wrong class eps / (C - 1), as in DGCNN's
    code. torch's own `label_smoothing` spreads eps over all C classes instead, the true one
    included, so that its eps is C / (C - 1) times this one.

    logits: [B, C], C >= 2. labels: [B] i64. smoothing: eps. Returns a scalar.
    """
    log_p = F.log_softmax(logits, dim=-1)
    true = log_p.gather(1, labels[:, None])[:, 0]  # [B]
    wrong = log_p.sum(dim=-1) - true  # [B]
    return -((1 - smoothing) * true + smoothing / (logits.shape[1] - 1) * wrong).mean()


def orthogonality(transform: Tensor) -> Tensor:
    """mean_b ||I - A Aᵀ||²_F, PointNet's regulariser of its feature transform (equation 2).

    transform: [B, K, K]. Returns a scalar.
    """
    identity = torch.eye(transform.shape[1], dtype=transform.dtype, device=transform.device)
    return (identity - transform @ transform.mT).square().sum(dim=(1, 2)).mean()


def classifier_enhancement(logits: Tensor, cross: Tensor) -> Tensor:
    """KL(softmax(cross) || softmax(logits)), mean over the batch: PointCMT's L_CE.

    logits: [B, C], the student's. cross: [B, C], the teacher's feature through the student's
    classifier: the target. The reference code sums over the batch instead.
    """
    return F.kl_div(
        F.log_softmax(logits, dim=1),
        F.log_softmax(cross, dim=1),
        reduction="batchmean",
        log_target=True,
    )


def logit_distillation(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² KL(softmax(teacher / T) || softmax(logits / T)), mean over the batch.

    Hinton et al. 2015 (arXiv 1503.02531), section 2. logits, teacher: [B, C].
    """
    return temperature**2 * classifier_enhancement(logits / temperature, teacher / temperature)


def feature_distance(feature: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference over batch and width (FitNets, Romero et al. 2015): [B, D] each."""
    return F.mse_loss(feature, teacher)
