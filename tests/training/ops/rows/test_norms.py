"""Batch norm with what follows it, against torch's own layers one after another."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pointcmt.training import ops
from pointcmt.training.networks.backbones.blocks import shared_mlp
from pointcmt.training.ops.rows import norms as module

SHAPES = [(2, 1, 1), (60, 7, 5), (195, 130, 3), (1024, 16, 128)]  # rows, columns, rows of a group
OPERATIONS = {
    "relu": (
        lambda rows, norm, groups: ops.norm_relu(rows, norm),
        lambda normalized, groups: F.relu(normalized),
    ),
    "leaky": (
        lambda rows, norm, groups: ops.norm_relu(rows, norm, slope=0.2),
        lambda normalized, groups: F.leaky_relu(normalized, 0.2),
    ),
    "maximum": (
        ops.norm_maximum,
        lambda normalized, groups: normalized.unflatten(0, (groups, -1)).amax(dim=1),
    ),
}


@pytest.fixture(autouse=True)
def small_rows_have_kernels_too(monkeypatch):
    monkeypatch.setattr(module, "FUSED", 0)


def batch_norm(width, dtype=torch.float64, **options):
    norm = nn.BatchNorm1d(width, dtype=dtype, **options)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return norm


def pair(width, dtype=torch.float64, **options):
    norm = batch_norm(width, dtype, **options)
    twin = nn.BatchNorm1d(width, dtype=dtype, **options)
    twin.load_state_dict(norm.state_dict())
    return norm, twin


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_gradients_and_running_statistics_are_torch_s(shape, name):
    torch.manual_seed(0)
    count, width, members = shape
    operation, after = OPERATIONS[name]
    groups = count // members
    norm, twin = pair(width, eps=1e-3, momentum=0.3)
    rows = (torch.randn(count, width, dtype=torch.float64) * 3 + 5).requires_grad_()
    for _ in range(2):
        found, expected = operation(rows, norm, groups), after(twin(rows), groups)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
        grad = torch.randn_like(found)
        for ours, theirs in zip(
            torch.autograd.grad(found, (rows, norm.weight, norm.bias), grad),
            torch.autograd.grad(expected, (rows, twin.weight, twin.bias), grad),
            strict=True,
        ):
            torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(norm.state_dict(), twin.state_dict(), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("name", OPERATIONS)
def test_gradients_are_those_of_finite_differences(name):
    torch.manual_seed(0)
    operation, _ = OPERATIONS[name]
    rows = torch.randn(12, 3, dtype=torch.float64, requires_grad=True)
    norm = batch_norm(3)
    assert torch.autograd.gradcheck(
        lambda rows, *_: operation(rows, norm, 4), (rows, norm.weight, norm.bias)
    )


@pytest.mark.parametrize("name", OPERATIONS)
def test_float32_is_as_near_to_float64_as_torch_s(name):
    torch.manual_seed(0)
    operation, after = OPERATIONS[name]
    norm, twin = pair(32, torch.float32)
    exact = nn.BatchNorm1d(32, dtype=torch.float64)
    exact.load_state_dict(norm.state_dict())
    rows = torch.randn(20_000, 32) + 100  # far from 0: a sum of squares would lose half the digits
    grads, errors = torch.randn(20_000 if name != "maximum" else 200, 32), {}
    for label, layer, dtype in (
        ("exact", exact, torch.float64),
        ("ours", norm, torch.float32),
        ("torch", twin, torch.float32),
    ):
        own = rows.to(dtype, copy=True).requires_grad_()
        out = operation(own, layer, 200) if label == "ours" else after(layer(own), 200)
        (grad,) = torch.autograd.grad(out, own, grads.to(dtype))
        errors[label] = out.detach().double(), grad.double()
    for ours, theirs, true in zip(errors["ours"], errors["torch"], errors["exact"], strict=True):
        assert (ours - true).abs().max() <= 2 * (theirs - true).abs().max()


@pytest.mark.parametrize("name", OPERATIONS)
def test_any_number_of_threads_gives_the_same_bits(name, monkeypatch):
    torch.manual_seed(0)
    operation, _ = OPERATIONS[name]
    rows = torch.randn(64 * 30, 24)
    grad = torch.randn(1920 if name != "maximum" else 240, 24)
    state = batch_norm(24, torch.float32).state_dict()
    found = []
    for threads in (1, 2, 3, 7):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        norm = nn.BatchNorm1d(24)
        norm.load_state_dict(state)
        own = rows.clone().requires_grad_()
        out = operation(own, norm, 240)
        out.backward(grad)
        found.append((out.detach(), own.grad, norm.weight.grad, norm.bias.grad, norm.running_var))
    for other in found[1:]:
        assert all(torch.equal(*both) for both in zip(found[0], other, strict=True))


def test_the_gradient_of_equal_maxima_goes_to_the_first():
    rows = torch.tensor([[1.0, 3.0], [2.0, 3.0], [2.0, 0.0]] * 2, dtype=torch.float64)
    index = torch.empty(2, 2, dtype=torch.int32)
    out, zero, one = torch.empty(2, 2).double(), torch.zeros(2).double(), torch.ones(2).double()
    arrays = (each.numpy() for each in (rows, one, zero, zero, out, index))
    module.norms_compiled.maximum(0, 2, *arrays)
    assert index.tolist() == [[1, 0], [1, 0]]
    assert out.tolist() == [[2.0, 3.0], [2.0, 3.0]]


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_shows_in_its_column(name, bad):
    operation, _ = OPERATIONS[name]
    rows = torch.randn(128, 3)
    rows[70, 1] = bad
    out = operation(rows, batch_norm(3, torch.float32), 4)
    assert out[:, 1].isnan().all()
    assert out[:, [0, 2]].isfinite().all()


def test_without_momentum_the_running_statistics_are_means_over_all_batches():
    norm, twin = pair(4, momentum=None)
    for _ in range(3):
        rows = torch.randn(50, 4, dtype=torch.float64)
        ops.norm_relu(rows, norm)
        twin(rows)
    torch.testing.assert_close(norm.state_dict(), twin.state_dict(), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(
    "options",
    [{"affine": False}, {"track_running_stats": False}, {"dtype": torch.bfloat16}],
    ids=str,
)
def test_other_norms_are_torch_s_own(options):
    norm = nn.BatchNorm1d(8, **options)
    rows = torch.randn(40, 8, dtype=options.get("dtype"))
    assert torch.equal(ops.norm_relu(rows, norm), F.relu(norm(rows)))
    maxima = norm(rows).unflatten(0, (10, 4)).amax(dim=1)
    assert torch.equal(ops.norm_maximum(rows, norm, 10), maxima)


def test_evaluation_has_the_running_statistics():
    norm = batch_norm(8, torch.float32)
    norm(torch.randn(30, 8) + 2)
    norm.eval()
    rows, before = torch.randn(40, 8), {k: v.clone() for k, v in norm.state_dict().items()}
    assert torch.equal(ops.norm_relu(rows, norm), F.relu(norm(rows)))
    assert all(torch.equal(before[name], value) for name, value in norm.state_dict().items())


def test_a_single_row_is_refused_as_by_torch():
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        ops.norm_relu(torch.randn(1, 8), nn.BatchNorm1d(8))


@pytest.mark.parametrize("last_relu", [True, False])
def test_a_shared_mlp_is_its_layers_one_after_another(last_relu):
    torch.manual_seed(0)
    mlp = shared_mlp(3, 16, 32, last_relu=last_relu).double()
    layers = nn.Sequential(*shared_mlp(3, 16, 32, last_relu=last_relu)).double()
    layers.load_state_dict(mlp.state_dict())
    rows = torch.randn(60, 3, dtype=torch.float64)
    expected = layers(rows)
    torch.testing.assert_close(mlp(rows), expected, rtol=1e-12, atol=1e-12)
    if not last_relu:
        pooled = expected.unflatten(0, (6, 10)).amax(dim=1).relu()
        torch.testing.assert_close(mlp.pool(rows, 6), pooled, rtol=1e-12, atol=1e-12)


def test_large_rows_alone_run_through_the_kernels(monkeypatch):
    monkeypatch.setattr(module, "FUSED", 64 * 8)
    norm = batch_norm(8, torch.float32)
    kinds = [type(ops.norm_relu(torch.randn(n, 8), norm).grad_fn).__name__ for n in (64, 63)]
    assert kinds == ["_NormReLUBackward", "ReluBackward0"]
