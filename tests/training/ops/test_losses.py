"""Losses against their formulas, written densely in float64."""

import math

import pytest
import torch
import torch.nn.functional as F

from pointcmt.training.ops.losses import (
    coordinate_distance,
    info_nce,
    nt_xent,
    orthogonality,
    smoothed_cross_entropy,
    transfer_distance,
)


@pytest.mark.parametrize("smoothing", [0.0, 0.2, 0.7])
@pytest.mark.parametrize("classes", [2, 3, 40])
def test_label_smoothing_equals_that_of_dgcnn(classes, smoothing):
    rng = torch.Generator().manual_seed(classes)
    logits = 5 * torch.randn(7, classes, generator=rng, dtype=torch.float64)
    labels = torch.randint(classes, (7,), generator=rng)
    target = torch.full((7, classes), smoothing / (classes - 1), dtype=torch.float64)
    target[torch.arange(7), labels] = 1 - smoothing
    p = logits.exp() / logits.exp().sum(dim=1, keepdim=True)
    expected = -(target * p.log()).sum() / 7
    assert target.sum(dim=1) == pytest.approx(1)
    torch.testing.assert_close(smoothed_cross_entropy(logits, labels, smoothing), expected)


def test_label_smoothing_equals_torchs_with_another_epsilon():
    logits, labels = torch.randn(9, 5, dtype=torch.float64), torch.randint(5, (9,))
    torch.testing.assert_close(
        smoothed_cross_entropy(logits, labels, 0.2),
        F.cross_entropy(logits, labels, label_smoothing=0.2 * 5 / 4),
    )


def test_label_smoothing_is_finite_for_any_finite_logits():
    logits = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    loss = smoothed_cross_entropy(logits, torch.tensor([1]), 0.2)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


def test_orthogonality_loss_is_0_for_rotations_and_else_its_formula():
    turned = torch.linalg.qr(torch.randn(4, 8, 8, dtype=torch.float64)).Q
    assert orthogonality(turned).item() == pytest.approx(0, abs=1e-12)
    A = torch.randn(4, 8, 8, dtype=torch.float64)
    expected = sum((torch.eye(8) - a @ a.T).pow(2).sum() for a in A) / 4
    torch.testing.assert_close(orthogonality(A), expected)


def features(seed, n=3, D=7, h=4):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, D, h, h, generator=generator, dtype=torch.float64)


def some(n=3, h=4):
    """[n, h, h] bool, empty in the last one."""
    mask = torch.rand(n, h, h, generator=torch.Generator().manual_seed(9)) < 0.5
    mask[-1] = False
    return mask


@pytest.mark.parametrize("kind", ["cosine", "smooth-l1"])
def test_transfer_loss_equals_its_formula_over_covered_patches(kind):
    found, wanted, covered = features(0), features(1), some()
    expected = torch.zeros(3, dtype=torch.float64)
    for view in range(3):
        places = covered[view].nonzero().tolist()
        for row, column in places:
            f, w = found[view, :, row, column], wanted[view, :, row, column]
            if kind == "cosine":
                distance = 1 - f @ w / (f.norm() * w.norm())
            else:
                f, w = ((x - x.mean()) / (x.var(correction=0) + 1e-5).sqrt() for x in (f, w))
                a = (f - w).abs()
                distance = torch.where(a < 1, a * a / 2, a - 0.5).mean()
            expected[view] += distance / len(places)
    torch.testing.assert_close(transfer_distance(found, wanted, covered, kind), expected)
    assert expected[-1] == 0
    assert (expected[:-1] > 0.3).all()


@pytest.mark.parametrize("kind", ["cosine", "smooth-l1"])
def test_transfer_loss_is_0_if_the_head_equals_the_network(kind):
    wanted = features(1)
    found = (5 * wanted).requires_grad_()  # for any scale
    distance = transfer_distance(found, wanted, some(), kind)
    torch.testing.assert_close(distance, torch.zeros_like(distance), rtol=0, atol=1e-6)
    transfer_distance(found, wanted, some(), kind).sum().backward()
    assert found.grad.isfinite().all()
    assert found.grad.abs().max() < 1e-5


def test_uncovered_patches_have_no_gradient():
    found, covered = features(0).requires_grad_(), some()
    transfer_distance(found, features(1), covered, "cosine").sum().backward()
    reached = (found.grad != 0).any(dim=1)
    assert torch.equal(reached, covered)


def test_coordinate_loss_is_the_mean_error_over_valid_places():
    truth = torch.rand(3, 4, 4, 2, dtype=torch.float64)
    wrong = torch.where(some()[..., None], truth, 77.0)  # invalid places may hold anything
    assert (coordinate_distance(wrong, truth, some()) == 0).all()
    off = truth + torch.tensor([0.1, -0.3])
    found = coordinate_distance(off, truth, some())
    torch.testing.assert_close(found, torch.tensor([0.2, 0.2, 0.0], dtype=torch.float64))


def test_nt_xent_equals_crosspoints_equations():
    """Afham et al. 2022, equations 1 and 2, pair by pair."""
    a, b = torch.randn(2, 5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def s(x, y):
        return float(x @ y / x.norm() / y.norm()) / 0.1

    def of(i, x, y):
        others = sum(math.exp(s(x[i], x[k])) for k in range(5) if k != i)
        others += sum(math.exp(s(x[i], y[k])) for k in range(5))
        return -math.log(math.exp(s(x[i], y[i])) / others)

    expected = sum(of(i, a, b) + of(i, b, a) for i in range(5)) / 10
    assert nt_xent(a, b, 0.1).item() == pytest.approx(expected, abs=1e-12)
    assert nt_xent(3 * a, b, 0.1).item() == pytest.approx(expected, abs=1e-12)


def test_info_nce_equals_its_formula_in_both_directions():
    a, b = features(0)[0].flatten(1).T, features(1)[0].flatten(1).T  # [16, 7]
    unit_a, unit_b = (x / x.norm(dim=1, keepdim=True) for x in (a, b))
    expected = 0.0
    for one, other in ((unit_a, unit_b), (unit_b, unit_a)):
        for m in range(16):
            scores = torch.stack([(one[m] @ other[k] / 0.07).exp() for k in range(16)])
            expected -= (scores[m] / scores.sum()).log() / 32
    torch.testing.assert_close(info_nce(a, b, 0.07), expected)
    assert info_nce(a, a, 0.01) < 1e-3
    nothing = a[:0].requires_grad_()
    info_nce(nothing, b[:0], 0.07).backward()  # no match in the batch: no loss, no nan
    assert nothing.grad.shape == (0, 7)


def test_distances_in_half_precision_are_computed_in_float32():
    found, wanted = features(0).bfloat16(), features(1).float()
    assert transfer_distance(found, wanted, some(), "cosine").dtype == torch.float32
    assert info_nce(found[0].flatten(1), found[1].flatten(1), 0.07).dtype == torch.float32


def test_similarities_are_computed_in_float32_under_autocast():
    """In bf16, cosines near 1 that differ by 0.003 would be equal: e^(0.003 / 0.07) = 1.04."""
    a, b = (features(seed)[0].flatten(1).T.float() for seed in (0, 1))
    a = (b + 0.05 * a).requires_grad_()
    expected = info_nce(a, b, 0.07)
    (wanted,) = torch.autograd.grad(expected, a)
    with torch.autocast("cpu", torch.bfloat16):
        found = info_nce(a, b, 0.07)
    (gradient,) = torch.autograd.grad(found, a)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradient, wanted)
