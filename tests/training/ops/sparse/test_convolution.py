"""Sparse convolution against torch's dense one, its gradients, and what it promises."""

import subprocess
import sys
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pointcmt.errors import UsageError
from pointcmt.training.ops.sparse import KernelMap, VoxelGrid, sparse_convolution
from pointcmt.training.ops.sparse import convolution as implementation
from pointcmt.training.runs.cost import count_flops
from tests.training.ops.sparse.test_grid import random_coords

SPAN, WIDTHS = 8, (5, 6)
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}
FULL, SPARSE = 2 * SPAN**3, 150
KINDS = ("submanifold 3", "submanifold 5", "strided", "transposed")


def case(kind, count, dtype, seed=0):
    """A random kernel's map, features and weight; the grids of sources and targets."""
    generator = torch.Generator().manual_seed(seed)
    grid, _ = VoxelGrid.from_coords(random_coords(count, SPAN))
    if kind.startswith("submanifold"):
        sources = targets = grid
        kernel_map = grid.neighbors(int(kind[-1]))
    else:
        sources, (targets, kernel_map) = grid, grid.coarser
        if kind == "transposed":
            sources, targets, kernel_map = targets, sources, kernel_map.swapped()
    features = torch.randn(len(sources), WIDTHS[0], generator=generator, dtype=dtype)
    weight = torch.randn(kernel_map.offsets, *WIDTHS, generator=generator, dtype=dtype)
    weight /= (WIDTHS[0] * kernel_map.offsets) ** 0.5  # outputs of about 1
    return kernel_map, features, weight, sources, targets


def indices(grid, span, width):
    """Where a grid's rows [n, width] are in a dense volume [B, width, span, span, span]."""
    batch, *axes = grid.coords[:, :, None].unbind(1)  # each [n, 1]
    return (batch, torch.arange(width), *(axis + span // 2 for axis in axes))


def dense(kind, features, weight, sources, targets):
    """The same by torch, on a dense volume whose empty voxels are 0."""
    size, width = round(len(weight) ** (1 / 3)), features.shape[1]
    span = SPAN // 2 if kind == "transposed" else SPAN
    empty = features.new_zeros(2, width, span, span, span)
    volume = empty.index_put(indices(sources, span, width), features)
    kernel = weight.view(size, size, size, *weight.shape[1:])
    if kind == "transposed":
        found = F.conv_transpose3d(volume, kernel.permute(3, 4, 0, 1, 2), stride=2)
    else:
        stride, padding = (2, 0) if kind == "strided" else (1, size // 2)
        found = F.conv3d(volume, kernel.permute(4, 3, 0, 1, 2), stride=stride, padding=padding)
    return found[indices(targets, found.shape[-1], found.shape[1])]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("count", [FULL, SPARSE, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_convolutions_equal_dense_ones_with_their_gradients(kind, count, dtype, monkeypatch):
    """With blocks of 64 pairs, so that offsets have several of them."""
    monkeypatch.setattr(implementation, "BLOCK", 64)
    kernel_map, features, weight, *grids = case(kind, count, dtype)
    inputs = features.requires_grad_(), weight.requires_grad_()
    found = sparse_convolution(*inputs, kernel_map)
    expected = dense(kind, *inputs, *grids)
    close = partial(torch.testing.assert_close, rtol=0, atol=TOLERANCE[dtype])
    close(found, expected)
    other = torch.randn(found.shape, generator=torch.Generator().manual_seed(1), dtype=dtype)
    other /= len(found) ** 0.5  # gradients of about 1
    for one, two in zip(
        *(torch.autograd.grad((r * other).sum(), inputs) for r in (found, expected)), strict=True
    ):
        close(one, two)


class Convolution(nn.Module):
    """A convolution along a map with a fixed weight."""

    def __init__(self, weight, kernel_map):
        super().__init__()
        self.weight, self.kernel_map = weight, kernel_map

    def forward(self, features):
        return sparse_convolution(features, self.weight, self.kernel_map)


@pytest.mark.parametrize("kind", KINDS)
def test_flops_are_those_of_all_pairs(kind):
    kernel_map, features, weight, *grids = case(kind, SPARSE, torch.float32)
    ones = torch.ones(len(features), 1), torch.ones(len(weight), 1, 1)
    pairs = int(dense(kind, *ones, *grids).sum())
    convolution = Convolution(weight, kernel_map)
    assert count_flops(convolution, (features,)) == 2 * pairs * WIDTHS[0] * WIDTHS[1]


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_finite_differences(kind):
    kernel_map, features, weight, *_ = case(kind, 12, torch.float64)
    inputs = features.requires_grad_(), weight.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda *given: sparse_convolution(*given, kernel_map), inputs, fast_mode=True
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_operator_is_registered_as_torch_requires(kind):
    """Schema, shapes without data, and gradients under torch.compile's tracing."""
    kernel_map, features, weight, *_ = case(kind, 40, torch.float64)
    source, target, starts, _, targets, mirrored = kernel_map
    inputs = features.requires_grad_(), weight.requires_grad_()
    torch.library.opcheck(
        implementation.convolve, (*inputs, source, target, starts, targets, mirrored)
    )


def test_results_are_the_same_bits_with_several_threads():
    coords = torch.cartesian_prod(torch.arange(1), *[torch.arange(14)] * 3)
    kernel_map = VoxelGrid.from_coords(coords)[0].neighbors(3)
    features = torch.randn(14**3, 16, requires_grad=True)
    weight = torch.randn(27, 16, 24, requires_grad=True)

    def run():
        found = sparse_convolution(features, weight, kernel_map)
        return [found, *torch.autograd.grad(found.square().sum(), (features, weight))]

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert all(map(torch.equal, run(), run()))
    finally:
        torch.set_num_threads(before)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_cuda_gives_the_same_as_the_cpu_and_the_same_bits_twice(kind):
    kernel_map, features, weight, *_ = case(kind, FULL, torch.float64)
    inputs = features.requires_grad_(), weight.requires_grad_()
    expected = sparse_convolution(*inputs, kernel_map)
    expected = [expected, *torch.autograd.grad(expected.square().sum(), inputs)]
    there = [each.cuda() if isinstance(each, torch.Tensor) else each for each in kernel_map]
    there[2] = kernel_map.starts  # stays on the CPU
    inputs = [each.detach().cuda().requires_grad_() for each in inputs]

    def run():
        found = sparse_convolution(*inputs, KernelMap(*there))
        return [found, *torch.autograd.grad(found.square().sum(), inputs)]

    first = run()
    assert all(map(torch.equal, first, run()))
    for one, two in zip(first, expected, strict=True):
        torch.testing.assert_close(one.cpu(), two, rtol=1e-9, atol=1e-9)


def test_clouds_of_a_batch_do_not_mix():
    """Both have voxels at the same places; NaN in one would spread to whatever it reaches."""
    kernel_map, features, weight, grid, _ = case("submanifold 5", FULL, torch.float32)
    second = grid.coords[:, 0] == 1
    expected = sparse_convolution(features, weight, kernel_map)
    features[second] = torch.nan
    found = sparse_convolution(features, weight, kernel_map)
    assert torch.equal(found[~second], expected[~second])
    assert found[second].isnan().all()


def test_the_order_of_voxels_only_permutes_the_result():
    coords = random_coords(SPARSE, SPAN)
    features, weight = torch.randn(SPARSE, 5), torch.randn(27, 5, 6)
    shuffle = torch.randperm(SPARSE)

    def run(coords, features):
        grid, order = VoxelGrid.from_coords(coords)
        found = torch.empty(SPARSE, 6)
        found[order] = sparse_convolution(features[order], weight, grid.neighbors(3))
        return found

    assert torch.equal(run(coords, features)[shuffle], run(coords[shuffle], features[shuffle]))


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_gathered_is_kept_for_the_gradient(kind):
    kernel_map, features, weight, *_ = case(kind, SPARSE, torch.float32)
    inputs = features.requires_grad_(), weight.requires_grad_()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        sparse_convolution(*inputs, kernel_map)
    own = {t.data_ptr() for t in (*inputs, *kernel_map[:3])}
    assert {t.data_ptr() for t in kept} <= own


def test_gradients_that_are_not_needed_are_not_computed(monkeypatch):
    kernel_map, features, weight, *_ = case("submanifold 3", SPARSE, torch.float32)
    monkeypatch.setattr(implementation, "weight_gradient", None)
    sparse_convolution(features.requires_grad_(), weight, kernel_map).sum().backward()
    assert features.grad.shape == features.shape


@pytest.mark.parametrize("kind", KINDS)
def test_autocast_computes_in_bfloat16_and_sums_in_float32(kind):
    """The error stays that of one rounding of inputs and products, whatever the offsets."""
    kernel_map, features, weight, *_ = case(kind, FULL, torch.float32)
    weight.requires_grad_()
    expected = sparse_convolution(features, weight, kernel_map)
    with torch.autocast("cpu", torch.bfloat16):
        found = sparse_convolution(features, weight, kernel_map)
    assert found.dtype == torch.bfloat16
    assert (found - expected).square().mean().sqrt() < 2**-8 * expected.square().mean().sqrt()
    (grad,) = torch.autograd.grad(found.float().square().sum(), weight)
    (exact,) = torch.autograd.grad(expected.square().sum(), weight)
    assert grad.dtype == torch.float32
    assert (grad - exact).norm() < 0.01 * exact.norm()


def test_a_convolution_compiles_into_one_graph_for_all_maps():
    graphs = []

    def count(module, _):
        graphs.append(module)
        return module.forward

    run = torch.compile(sparse_convolution, backend=count, fullgraph=True, dynamic=True)
    for number in (60, 100, 150):
        kernel_map, features, weight, *_ = case("submanifold 3", number, torch.float32)
        expected = sparse_convolution(features, weight, kernel_map)
        assert torch.equal(run(features, weight, kernel_map), expected)
    assert len(graphs) <= 2  # torch may specialize on the first sizes


@pytest.mark.parametrize("change", ["rows", "channels", "offsets", "dimensions"])
def test_shapes_that_do_not_fit_the_map_are_refused(change):
    kernel_map, features, weight, *_ = case("submanifold 3", SPARSE, torch.float32)
    features, weight = {
        "rows": (features[1:], weight),
        "channels": (features[:, 1:], weight),
        "offsets": (features, weight[1:]),
        "dimensions": (features, weight[0]),
    }[change]
    with pytest.raises(UsageError, match=f"a map of {SPARSE} rows and 27 offsets"):
        sparse_convolution(features, weight, kernel_map)


def test_a_prediction_does_not_import_torchs_compiler():
    """It takes a second and 100 MB in each process."""
    code = """
import sys, torch
from pointcmt.training.ops.sparse import KernelMap, VoxelGrid, sparse_convolution
grid, _ = VoxelGrid.from_coords(torch.tensor([[0, 1, 2, 3], [0, 1, 2, 4]]))
sparse_convolution(torch.ones(2, 3), torch.ones(27, 3, 4), grid.neighbors(3))
sys.exit("torch._dynamo" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
