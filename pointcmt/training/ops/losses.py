"""Losses, each with its formula and source."""

import torch
import torch.nn.functional as F
from torch import Tensor


def smoothed_cross_entropy(
    logits: Tensor, labels: Tensor, smoothing: float, weights: Tensor | None = None
) -> Tensor:
    """Cross entropy against smoothed labels, mean over the batch.

    weights [C]: each shape's term times the weight of its class, mean_b w[y_b] · l_b. It is not
    divided by the sum of the batch's weights, so that batches can be split.

    The target gives the true class 1 - eps and every wrong class eps / (C - 1), as in DGCNN's
    code. torch's own `label_smoothing` spreads eps over all C classes instead, the true one
    included, so that its eps is C / (C - 1) times this one.

    logits: [B, C], C >= 2. labels: [B] i64. smoothing: eps. Returns a scalar.
    """
    log_p = F.log_softmax(logits, dim=-1)
    true = log_p.gather(1, labels[:, None])[:, 0]  # [B]
    wrong = log_p.sum(dim=-1) - true  # [B]
    terms = -((1 - smoothing) * true + smoothing / (logits.shape[1] - 1) * wrong)  # [B]
    return terms.mean() if weights is None else (weights[labels] * terms).mean()


def orthogonality(transform: Tensor) -> Tensor:
    """mean_b ||I - A Aᵀ||²_F, PointNet's regularizer of its feature transform (equation 2).

    transform: [B, K, K]. Returns a scalar.
    """
    identity = torch.eye(transform.shape[1], dtype=transform.dtype, device=transform.device)
    return (identity - transform @ transform.mT).square().sum(dim=(1, 2)).mean()


def classifier_enhancement(logits: Tensor, cross: Tensor) -> Tensor:
    """Return KL(softmax(cross) || softmax(logits)), mean over the batch: PointCMT's L_CE.

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
    """Return T² KL(softmax(teacher / T) || softmax(logits / T)), mean over the batch.

    Hinton et al. 2015 (arXiv 1503.02531), section 2. logits, teacher: [B, C].
    """
    return temperature**2 * classifier_enhancement(logits / temperature, teacher / temperature)


def feature_distance(feature: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared difference of [B, D] features (FitNets, Romero et al. 2015)."""
    return F.mse_loss(feature, teacher)


def transfer_distance(found: Tensor, wanted: Tensor, covered: Tensor, kind: str) -> Tensor:
    """Return L_k of one level: the distance to a 2D network's features, per view [n].

    found, wanted: [n, D, h, w]. covered: [n, h, w] bool, the patches that count. kind: "cosine",
    the mean over them of 1 - cos; or "smooth-l1" of the features after a layer norm without
    weights. Returns 0 for a view without such patches.
    """
    found, wanted = _single(found), _single(wanted)
    if kind == "cosine":
        distance = 1 - F.cosine_similarity(found, wanted, dim=1)  # [n, h, w]
    else:
        ours, theirs = (F.layer_norm(x.movedim(1, -1), x.shape[1:2]) for x in (found, wanted))
        distance = F.smooth_l1_loss(ours, theirs, reduction="none").mean(dim=-1)
    return masked_mean(distance, covered)


def coordinate_distance(found: Tensor, wanted: Tensor, valid: Tensor) -> Tensor:
    """Return L_m of each pair of views [P]: mean over valid pixels and both axes of |M - M*|.

    found, wanted: [P, h, w, 2], coordinates as shares of the image. valid: [P, h, w] bool.
    Returns 0 for a pair without a match.
    """
    distance = (_single(found) - _single(wanted)).abs().mean(dim=-1)
    return masked_mean(distance, valid)


def info_nce(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Return the symmetric contrastive loss of matched features [M, D] (van den Oord et al. 2018,
    arXiv 1807.03748; over matched pixels: PointInfoNCE, Xie et al. 2020, arXiv 2007.10985).

    mean_m -log(exp(a_m·b_m / T) / Σ_k exp(a_m·b_k / T)), and the same for b; 0 for M = 0.
    """
    a, b = F.normalize(_single(first), dim=1), F.normalize(_single(second), dim=1)
    with torch.autocast(a.device.type, enabled=False):  # a bf16 cosine is off by 6 % at T = 0.07
        scores = a @ b.T / temperature  # [M, M]
    if not len(scores):
        return scores.sum()
    own = torch.arange(len(scores), device=scores.device)
    return (F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own)) / 2


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Return CrossPoint's contrastive loss of matched features [N, D], a scalar: equations 1 to 4.

    Afham et al., CVPR 2022 (arXiv 2203.00680); NT-Xent of Chen et al., ICML 2020 (arXiv
    2002.05709). mean over i and both directions of
    -log(exp(a_i·b_i / T) / (Σ_{k≠i} exp(a_i·a_k / T) + Σ_k exp(a_i·b_k / T))), of unit vectors.
    """
    a, b = F.normalize(_single(first), dim=1), F.normalize(_single(second), dim=1)
    rows = torch.cat([a, b])  # [2N, D]
    with torch.autocast(rows.device.type, enabled=False):
        scores = rows @ rows.T / temperature  # [2N, 2N]
    itself = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    match = torch.arange(len(rows), device=rows.device).roll(len(a))  # a_i's is b_i, b_i's a_i
    return F.cross_entropy(scores.masked_fill(itself, -torch.inf), match)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of values [n, ...] where mask [n, ...] is true, [n]; 0 for an empty mask."""
    total = torch.where(mask, values, 0.0).flatten(1).sum(dim=1)
    return total / mask.flatten(1).sum(dim=1).clamp(min=1)


def _single(values: Tensor) -> Tensor:
    """Convert half precision, which would round distances away, to float32."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
