"""The GPU kernels against the plain versions and scipy: interpreted without a GPU, or on one.

Triton decides whether to interpret when it is imported. So the tests of this file run in a separate
pytest with TRITON_INTERPRET set, on CPU tensors, and here with `-m gpu` on a GPU. That the kernels
can be compiled, which the interpreter cannot show, is tested without a GPU too.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pointcmt.training import ops
from pointcmt.training.ops import points_plain
from pointcmt.training.ops.emd import earth_movers_distance
from pointcmt.training.ops.points import _Gather
from tests.training.ops.test_emd import assert_bijection, duplicate, far, near, tensors
from tests.training.ops.test_points import DTYPES, KINDS, clouds

triton = pytest.importorskip("triton", reason="there is no Triton for this platform")

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
# Seeds found by trial, of clouds that need few rounds: the interpreter takes 10 ms per round.
QUICK = {near: {64: 127, 200: 119}, far: {64: 59, 200: 50}, duplicate: {64: 27, 200: 90}}


@pytest.fixture(
    params=["cpu"] if INTERPRETED else [pytest.param("cuda", marks=pytest.mark.gpu)], scope="module"
)
def device(request):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch found no CUDA device")
    return torch.device(request.param)


@pytest.fixture(scope="module")
def kernels(device):
    from pointcmt.training.ops import points_triton

    return points_triton


@pytest.fixture(scope="module")
def auction(device):
    from pointcmt.training.ops.emd_triton import auction

    return auction


@pytest.mark.skipif(INTERPRETED, reason="this is where it runs them")
def test_this_file_under_the_interpreter():
    """All tests pass there, and are not skipped."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    root = Path(__file__).parents[3]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= 65, done.stdout[-5000:]


# --- point operations


def same(found, expected):
    return torch.equal(found.cpu(), expected.cpu())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("size", "kind"),
    [(1, "random"), (2, "equal"), (7, "lattice"), *((130, kind) for kind in KINDS)],
)
def test_kernels_equal_plain_bit_by_bit(kernels, device, size, kind, dtype):
    """Sizes that do not fill blocks; ties, duplicates and empty balls; plain version on a CPU."""
    points, queries = clouds(size, kind, dtype), clouds(5, kind, dtype, seed=1)
    on, queries_on = points.to(device), queries.to(device)
    count, start = min(size, 30), torch.tensor([0, size - 1])
    found = kernels.farthest_points(on, count, start.to(device))
    assert same(found, points_plain.farthest_points(points, count, start))
    for radius, count in ((0.0, 3), (0.05, size + 3), (0.25, 16), (3.0, 70)):
        limit = torch.tensor(radius, dtype=dtype).square()
        found = kernels.ball_query(on, queries_on, limit.to(device), count)
        assert same(found, points_plain.ball_query(points, queries, limit, count))
    for k in {1, min(size, 9)}:
        found = kernels.k_nearest(on, queries_on, k)
        assert all(map(same, found, points_plain.k_nearest(points, queries, k)))


@pytest.mark.parametrize("kind", ["random", "lattice"])
@pytest.mark.parametrize("size", [3, 33, 129])
def test_all_points_are_returned_in_order(kernels, device, size, kind):
    """count = k = N; the last size is one more than k_nearest holds in registers."""
    points = clouds(size, kind, torch.float32, batch=1)
    every = torch.tensor([size // 2])
    found = kernels.farthest_points(points.to(device), size, every.to(device))
    assert same(found, points_plain.farthest_points(points, size, every))
    found = kernels.k_nearest(points.to(device), points[:, :4].to(device), size)
    assert all(map(same, found, points_plain.k_nearest(points, points[:, :4], size)))


def test_a_large_cloud_is_processed_in_chunks(kernels, device):
    """More points than one program processes at once."""
    points = clouds(2100, "lattice", torch.float32, batch=1)
    queries = clouds(3, dtype=torch.float32, batch=1, seed=1)
    found = kernels.k_nearest(points.to(device), queries.to(device), 5)
    assert all(map(same, found, points_plain.k_nearest(points, queries, 5)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [1, 2, 5, 64])
def test_neighbors_in_feature_space_equal_plain(kernels, device, width, dtype):
    generator = torch.Generator().manual_seed(width)
    features = torch.randn(1, 40, width, generator=generator, dtype=torch.float64).to(dtype)
    found = kernels.k_nearest(features.to(device), features.to(device), 7)
    assert all(map(same, found, points_plain.k_nearest(features, features, 7)))
    assert torch.equal(found[0][0, :, 0].cpu(), torch.arange(40))  # each finds itself


@pytest.mark.parametrize("batch", [1, 3])
def test_clouds_of_a_batch_are_independent(kernels, device, batch):
    points = clouds(50, batch=batch)
    queries = clouds(1, batch=batch, seed=1)
    start, limit = torch.arange(batch), torch.tensor(0.2, dtype=torch.float64)
    on, queries_on = points.to(device), queries.to(device)
    found = kernels.farthest_points(on, 9, start.to(device))
    assert same(found, points_plain.farthest_points(points, 9, start))
    found = kernels.ball_query(on, queries_on, limit.to(device), 9)
    assert same(found, points_plain.ball_query(points, queries, limit, 9))
    found = kernels.k_nearest(on, queries_on, 9)
    assert all(map(same, found, points_plain.k_nearest(points, queries, 9)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_points_exactly_on_the_sphere_are_inside_the_ball(kernels, device, dtype):
    exact = torch.tensor(0.7, dtype=dtype)
    points = torch.zeros(1, 3, 3, dtype=dtype)
    points[0, :, 1] = torch.stack([torch.nextafter(exact, exact + 9) * 1.0001, exact, -exact])
    center = torch.zeros(1, 1, 3, dtype=dtype, device=device)
    limit = exact.square().to(device)
    assert kernels.ball_query(points.to(device), center, limit, 3).tolist() == [[[1, 2, 1]]]


def test_an_empty_ball_gets_the_nearest_point(kernels, device):
    points = torch.tensor([[[5.0, 0, 0], [2.0, 0, 0], [-2.0, 0, 0]]], device=device)
    centers = torch.tensor([[[0.0, 0, 0], [5.0, 0, 0]]], device=device)  # one empty, one not
    found = kernels.ball_query(points, centers, torch.ones((), device=device), 4)
    assert found.tolist() == [[[1, 1, 1, 1], [0, 0, 0, 0]]]


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")  # numpy's, interpreting
def test_points_at_infinite_distance_by_overflow_come_last(kernels, device):
    points = torch.tensor([[[3e38, 0, 0], [-3e38, 0, 0], [1.0, 0, 0]]], device=device)
    index, distance = kernels.k_nearest(points, torch.zeros(1, 1, 3, device=device), 3)
    assert index.tolist() == [[[2, 0, 1]]]
    assert distance.tolist() == [[[1.0, torch.inf, torch.inf]]]


def test_no_queries_and_no_clouds_give_empty_results(kernels, device):
    points, limit = clouds(5).to(device), torch.ones((), dtype=torch.float64, device=device)
    nobody = torch.zeros(0, dtype=torch.int64, device=device)
    assert kernels.ball_query(points, points[:, :0], limit, 4).shape == (2, 0, 4)
    assert kernels.k_nearest(points, points[:, :0], 4)[0].shape == (2, 0, 4)
    assert kernels.farthest_points(points[:0], 4, nobody).shape == (0, 4)
    assert kernels.sum_rows(points[:0], nobody.view(0, 5), 3).shape == (0, 3, 3)
    assert not kernels.sum_rows(points[:, :0], nobody.view(2, 0), 3).any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("total", "width"), [(1, 3), (50, 16), (70, 130)])
def test_row_sums_equal_gradients_of_an_embedding(kernels, device, total, width, dtype):
    """The same sums in the same order as on a CPU, so they are equal bit by bit."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(3, total, width, generator=generator, dtype=dtype, requires_grad=True)
    index = torch.randint(0, total, (3, 90), generator=generator)
    grad = torch.randn(3, 90, width, generator=generator, dtype=dtype)
    (expected,) = torch.autograd.grad(points_plain.gather(features, index), features, grad)
    assert same(kernels.sum_rows(grad.to(device), index.to(device), total), expected)


def test_gradients_of_gather_equal_finite_differences(kernels, device):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 3, 2, generator=generator, dtype=torch.float64).to(device)
    features.requires_grad_()
    index = torch.randint(0, 3, (2, 2, 2), generator=generator).to(device)

    def gather(rows):
        return _Gather.apply(rows, index, kernels.sum_rows)

    assert torch.autograd.gradcheck(gather, features)
    assert torch.autograd.gradgradcheck(gather, features)


def test_results_are_deterministic(kernels, device):
    points = clouds(90, dtype=torch.float32).to(device)
    rows, index = points[:, :70].contiguous(), torch.arange(140, device=device).view(2, 70) % 6
    results = [
        [*kernels.k_nearest(points, points[:, :9], 5), kernels.sum_rows(rows, index, 6)]
        for _ in range(3)
    ]
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))


# --- the auction


def assert_near_the_optimum(auction, x, y, device):
    least, _ = earth_movers_distance(x, y, "exact")
    assignment, proven = auction(x.to(device), y.to(device), 0.01)
    assert proven.all()
    assert_bijection(assignment.cpu())
    matched = y.gather(1, assignment.cpu()[..., None].expand(-1, -1, 3))
    distance = (x - matched).norm(dim=2).mean(dim=1)
    assert (least * (1 - 1e-6) - 1e-11 <= distance).all()
    assert (distance <= 1.01 * least + 1e-11).all()
    return assignment


@pytest.mark.parametrize("pair", QUICK)
@pytest.mark.parametrize("n", [1, 2, 3, 17, 64, pytest.param(200, marks=pytest.mark.slow)])
def test_auction_is_within_one_percent_of_the_optimum(auction, device, pair, n):
    x, y = tensors(pair(np.random.default_rng(QUICK[pair].get(n, n)), n))
    assert_near_the_optimum(auction, x, y, device)


def test_float32_clouds_of_different_scales_in_one_batch(auction, device):
    scales = torch.tensor([1e-6, 1.0, 1e6])[:, None, None]
    pairs = [tensors(near(np.random.default_rng(seed), 12), torch.float32) for seed in range(3)]
    x, y = (torch.cat(parts) * scales for parts in zip(*pairs, strict=True))
    together = assert_near_the_optimum(auction, x, y, device)
    for b in range(3):  # independent of the batch and deterministic
        alone = assert_near_the_optimum(auction, x[b : b + 1], y[b : b + 1], device)
        assert torch.equal(together[b], alone[0])


def test_a_shuffled_cloud_is_at_distance_zero(auction, device):
    rng = torch.Generator().manual_seed(0)
    x, order = torch.randn(1, 100, 3, generator=rng), torch.randperm(100, generator=rng)
    assignment = assert_near_the_optimum(auction, x, x[:, order], device)
    assert torch.equal(order[assignment[0].cpu()], torch.arange(100))


def test_a_cloud_of_coincident_points(auction, device):
    x = torch.full((2, 30, 3), 0.3)
    x[1, 7] = 0.5
    assert_near_the_optimum(auction, x, x.flip(1), device)


def test_an_empty_batch_gives_empty_results(auction, device):
    assignment, proven = auction(*torch.zeros(2, 0, 5, 3, device=device), 0.01)
    assert assignment.shape == (0, 5)
    assert proven.shape == (0,)


def test_the_auction_reports_unproven_matchings(auction, device):
    """No matching can be proven to be better than the best one."""
    x, y = (cloud.to(device) for cloud in tensors(near(np.random.default_rng(0), 5)))
    assert not auction(x, y, -0.5)[1].any()


# --- public functions on a GPU; without one, whether the kernels compile


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch found no CUDA device")
def test_public_point_operations_are_the_same_on_a_gpu():
    points, queries = clouds(300, dtype=torch.float32), clouds(50, dtype=torch.float32, seed=1)
    features = torch.randn(2, 300, 5, requires_grad=True)
    results = []
    for place in ("cpu", "cuda"):
        a, b = points.to(place), queries.to(place)
        index, distance = ops.k_nearest(a, b, 9)
        gathered = ops.gather(features.to(place), index)
        (grad,) = torch.autograd.grad(gathered.square().sum(), features)
        balls = ops.ball_query(a, b, 0.3, 7)
        results.append([index, distance, gathered, grad, balls, ops.farthest_points(a, 20)])
    assert all(map(same, *results))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch found no CUDA device")
def test_the_public_distance_on_a_gpu():
    pairs = [tensors(pair(np.random.default_rng(1), 500), torch.float32) for pair in (near, far)]
    x, y = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    least, _ = earth_movers_distance(x, y, "exact")
    x_on = x.cuda().requires_grad_()
    distance, assignment = earth_movers_distance(x_on, y.cuda())
    distance.sum().backward()
    assert_bijection(assignment.cpu())
    assert (least * (1 - 1e-6) <= distance.cpu()).all()
    assert (distance.cpu() <= 1.01 * least).all()
    torch.testing.assert_close(x_on.grad.norm(dim=2), torch.full((2, 500), 1 / 500).cuda())


SIGNATURES = {
    "_farthest": ("* *i64 *i64 i32 i32", {"BLOCK": 1024}, 4),
    "_balls": ("* * * *i64 i32 i32 i32", {"ROWS": 8, "CHUNK": 128, "SLOTS": 32}, 4),
    "_nearest": ("* * *i64 * i32 i32 i32 i32", {"ROWS": 4, "CHUNK": 1024, "SLOTS": 32}, 8),
    "_sums": ("* *i64 *i64 * i32 i32 i32", {"TARGETS": 16, "COLUMNS": 64}, 4),
}


@pytest.mark.skipif(INTERPRETED, reason="the interpreter compiles nothing")
@pytest.mark.parametrize(("number", "architecture"), [("fp32", 80), ("fp32", 90), ("fp64", 90)])
@pytest.mark.parametrize("name", SIGNATURES)
def test_point_kernels_compile_without_fused_arithmetic(
    name, number, architecture, tmp_path, monkeypatch
):
    from pointcmt.training.ops import points_triton

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    types, constants, warps = SIGNATURES[name]
    types = [f"*{number}" if kind == "*" else kind for kind in types.split()]
    options = {"num_warps": warps, **points_triton.ROUNDED_TWICE}
    kernel = getattr(points_triton, name)
    # Triton compiles arguments of value 1 into the kernel.
    for sizes in types, [1 if kind == "i32" else kind for kind in types]:
        made = compile_kernel(kernel, sizes, constants, architecture, options)
        assert made["cubin"]
        assert not re.search(r"\bfma\.|\.ftz", made["ptx"])


@pytest.mark.skipif(INTERPRETED, reason="the interpreter compiles nothing")
@pytest.mark.parametrize("architecture", [80, 90])
@pytest.mark.parametrize("lanes", [1, 64, 256])
def test_auction_kernels_compile(lanes, architecture, tmp_path, monkeypatch):
    from pointcmt.training.ops import emd_triton

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    blocks = {"ROWS": emd_triton.BIDDERS, "LANES": lanes}
    types = [*["*fp32"] * 3, *["*i32"] * 3, "*fp32", "*i32", "i32", "i32"]
    options = {"num_warps": max(1, lanes // 16), "num_stages": 1, "enable_fp_fusion": True}
    assert compile_kernel(emd_triton._bid, types, blocks, architecture, options)["cubin"]
    types = ["*fp64", "*fp64", "*fp32", "*i32", "*fp64", "*fp64", "*i32", "i32"]
    options = {"num_warps": 8, "enable_fp_fusion": True}
    made = compile_kernel(emd_triton._prove, types, blocks, architecture, options)
    assert set(re.findall(r"sqrt\.[\w.]+", made["ptx"])) == {"sqrt.rn.f64"}


def compile_kernel(kernel, types, constants, architecture, options):
    """The stages of its compilation by name, for an NVIDIA GPU that need not be present.

    types: the types of arguments not in constants, or the known value of an argument.
    """
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    given = dict(zip(kernel.arg_names, [*types, *constants.values()], strict=True))
    signature = {name: k if isinstance(k, str) else "constexpr" for name, k in given.items()}
    indexed = {(i,): k for i, k in enumerate(given.values()) if not isinstance(k, str)}
    source = ASTSource(kernel, signature, indexed)
    target = GPUTarget("cuda", architecture, 32)
    return triton.compile(source, target=target, options=options).asm
