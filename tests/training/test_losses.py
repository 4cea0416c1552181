"""Losses against their formulas, written out densely in float64."""

import pytest
import torch
import torch.nn.functional as F

from pointcmt.training.losses import orthogonality, smoothed_cross_entropy


@pytest.mark.parametrize("smoothing", [0.0, 0.2, 0.7])
@pytest.mark.parametrize("classes", [2, 3, 40])
def test_smoothing_is_dgcnns(classes, smoothing):
    rng = torch.Generator().manual_seed(classes)
    logits = 5 * torch.randn(7, classes, generator=rng, dtype=torch.float64)
    labels = torch.randint(classes, (7,), generator=rng)
    target = torch.full((7, classes), smoothing / (classes - 1), dtype=torch.float64)
    target[torch.arange(7), labels] = 1 - smoothing
    p = logits.exp() / logits.exp().sum(dim=1, keepdim=True)
    expected = -(target * p.log()).sum() / 7
    assert target.sum(dim=1) == pytest.approx(1)
    torch.testing.assert_close(smoothed_cross_entropy(logits, labels, smoothing), expected)


def test_smoothing_is_torchs_with_another_epsilon():
    logits, labels = torch.randn(9, 5, dtype=torch.float64), torch.randint(5, (9,))
    torch.testing.assert_close(
        smoothed_cross_entropy(logits, labels, 0.2),
        F.cross_entropy(logits, labels, label_smoothing=0.2 * 5 / 4),
    )


def test_smoothing_stays_finite_for_any_finite_logits():
    logits = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    loss = smoothed_cross_entropy(logits, torch.tensor([1]), 0.2)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


def test_rotations_cost_nothing_and_the_rest_its_formula():
    turned = torch.linalg.qr(torch.randn(4, 8, 8, dtype=torch.float64)).Q
    assert orthogonality(turned).item() == pytest.approx(0, abs=1e-12)
    A = torch.randn(4, 8, 8, dtype=torch.float64)
    expected = sum((torch.eye(8) - a @ a.T).pow(2).sum() for a in A) / 4
    torch.testing.assert_close(orthogonality(A), expected)
