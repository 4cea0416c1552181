"""The earth mover's distance: proven bounds against scipy's optimum, gradients, hard clouds."""

import sys

import numpy as np
import pytest
import torch

from pointcmt.errors import DependencyError, UsageError
from pointcmt.training.ops.emd import SOLVERS, earth_movers_distance
from pointcmt.training.ops.emd_auction import FINEST, LANES, auction

BIJECTIONS = ("auction", "exact", "sliced")


def sphere(rng, n):
    points = rng.normal(size=(n, 3))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def near(rng, n):
    return sphere(rng, n), sphere(rng, n)


def far(rng, n):
    return sphere(rng, n), rng.uniform(-1, 1, (n, 3)) * (0.3, 0.5, 1.5)


def apart(rng, n):
    return sphere(rng, n), sphere(rng, n) + 1e3


def clustered(rng, n):
    """Tight clusters of unequal sizes, so that some points must move between clusters."""
    centers = rng.normal(size=(6, 3))
    return tuple(centers[rng.integers(0, 6, n)] + 0.01 * rng.normal(size=(n, 3)) for _ in "xy")


def duplicate(rng, n):
    """Few distinct points, each many times: more duplicates than a shortlist holds."""
    return tuple(sphere(rng, 4)[rng.integers(0, 4, n)] for _ in "xy")


def collinear(rng, n):
    return tuple(np.outer(rng.uniform(size=n), (1, 2, 3)) for _ in "xy")


def grid(rng, n):
    """Points on a grid, with many ties."""
    return tuple(rng.integers(0, 5, (n, 3)).astype(float) for _ in "xy")


PAIRS = (near, far, apart, clustered, duplicate, collinear, grid)


def tensors(pair, dtype=torch.float64):
    return tuple(torch.from_numpy(np.ascontiguousarray(cloud)).to(dtype)[None] for cloud in pair)


def assert_bijection(assignment):
    expected = torch.arange(assignment.shape[1]).expand_as(assignment)
    assert assignment.dtype == torch.int64
    assert torch.equal(assignment.sort(dim=1).values, expected)


# --- the auction's guarantee


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("n", [1, 2, 3, 17, 64, 256, pytest.param(1024, marks=pytest.mark.slow)])
def test_auction_is_within_one_percent_of_the_optimum(pair, n):
    x, y = tensors(pair(np.random.default_rng(n), n))
    least, _ = earth_movers_distance(x, y, "exact")
    distance, assignment = earth_movers_distance(x, y)
    assert_bijection(assignment)
    assert least * (1 - 1e-12) <= distance <= 1.01 * least
    matched = (x[0] - y[0, assignment[0]]).norm(dim=1).mean()
    torch.testing.assert_close(distance[0], matched)


def test_auction_is_within_one_percent_at_4096():
    x, y = tensors(near(np.random.default_rng(0), 4096), torch.float32)
    least, _ = earth_movers_distance(x, y, "exact")
    distance, assignment = earth_movers_distance(x, y)
    assert_bijection(assignment)
    assert least * (1 - 1e-6) <= distance <= 1.01 * least


def test_far_clouds_at_4096_are_within_the_kernels_own_bound():
    """scipy takes half a minute here; the next test checks the bound on smaller clouds."""
    x, y = far(np.random.default_rng(0), 4096)
    taken, total, bound, _ = auction(x.T.copy(), y.T.copy(), 0.01, sys.maxsize)
    assert sorted(taken) == list(range(4096))
    assert total == pytest.approx(np.linalg.norm(x - y[taken], axis=1).sum())
    assert bound <= total <= 1.01 * bound


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("tolerance", [0.1, 1e-3, 0.0])
def test_the_kernels_bound_is_below_the_optimum(pair, tolerance):
    n = 100
    x, y = pair(np.random.default_rng(5), n)
    padded = np.zeros((3, -(-n // LANES) * LANES))
    padded[:, :n] = y.T
    taken, total, bound, _ = auction(np.ascontiguousarray(x.T), padded, tolerance, sys.maxsize)
    least = n * float(earth_movers_distance(*tensors((x, y)), "exact")[0])
    extent = np.concatenate([x, y]).max() - np.concatenate([x, y]).min()
    assert sorted(taken) == list(range(n))
    assert bound <= least * (1 + 1e-9)
    assert least * (1 - 1e-9) <= total <= (1 + tolerance) * least + 2 * n * FINEST * extent


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("pair", PAIRS)
def test_the_distance_scales_with_the_clouds(pair, scale):
    x, y = tensors(pair(np.random.default_rng(3), 128))
    distance, _ = earth_movers_distance(x, y)
    scaled, _ = earth_movers_distance(scale * x, scale * y)
    torch.testing.assert_close(scaled, scale * distance, rtol=0.01, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [1, 2, 100, 1000])
def test_a_shuffled_cloud_is_at_distance_zero(n, dtype):
    rng = torch.Generator().manual_seed(n)
    x = torch.randn(2, n, 3, generator=rng, dtype=dtype)
    order = torch.randperm(n, generator=rng)
    distance, assignment = earth_movers_distance(x, x[:, order])
    assert (distance <= 1e-11).all()  # the floor of distances
    assert torch.equal(order[assignment], torch.arange(n).expand(2, n))


def test_a_cloud_with_duplicates_is_at_distance_zero_from_itself():
    x, _ = tensors(grid(np.random.default_rng(0), 500))
    distance, assignment = earth_movers_distance(x, x.flip(1))
    assert_bijection(assignment)
    assert float(distance) <= 1e-11


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_cloud_of_coincident_points(solver):
    x = torch.full((1, 300, 3), 0.3, requires_grad=True)
    y = torch.full((1, 300, 3), 0.3, requires_grad=True)
    distance, assignment = earth_movers_distance(x, y, solver)
    distance.sum().backward()
    assert float(distance.detach()) <= 1e-11
    assert not x.grad.any()
    assert not y.grad.any()
    if solver in BIJECTIONS:
        assert_bijection(assignment)


def test_clouds_with_two_distinct_points():
    x, y = torch.zeros(1, 2000, 3), torch.ones(1, 2000, 3)
    x[:, :500] = 1
    distance, _ = earth_movers_distance(x, y)
    torch.testing.assert_close(distance, torch.tensor([0.75 * 3**0.5]))


# --- symmetries


@pytest.mark.parametrize("pair", PAIRS)
def test_the_distance_is_symmetric(pair):
    x, y = tensors(pair(np.random.default_rng(1), 200))
    there, back = earth_movers_distance(x, y)[0], earth_movers_distance(y, x)[0]
    torch.testing.assert_close(there, back, rtol=0.01, atol=0)  # both in [1, 1.01] × the optimum


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_distance_ignores_order_and_translation(solver):
    x, y = tensors(near(np.random.default_rng(2), 100))
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    distance, _ = earth_movers_distance(x, y, solver)
    rtol = 0.01 if solver == "auction" else 1e-9
    shuffled, _ = earth_movers_distance(x[:, order], y, solver)
    torch.testing.assert_close(shuffled, distance, rtol=rtol, atol=0)
    moved, _ = earth_movers_distance(x + 7, y + 7, solver)
    torch.testing.assert_close(moved, distance, rtol=rtol, atol=0)


@pytest.mark.parametrize("solver", SOLVERS)
def test_clouds_of_a_batch_are_independent(solver):
    pairs = [tensors(pair(np.random.default_rng(4), 60)) for pair in (near, far, clustered)]
    x, y = (torch.cat(clouds) for clouds in zip(*pairs, strict=True))
    distance, assignment = earth_movers_distance(x, y, solver)
    for b, (one, other) in enumerate(pairs):
        alone, its_assignment = earth_movers_distance(one, other, solver)
        torch.testing.assert_close(distance[b], alone[0])
        assert torch.equal(assignment[b], its_assignment[0])


def test_results_do_not_depend_on_the_number_of_threads():
    rng = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 7, 150, 3, generator=rng)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5, 1):
            torch.set_num_threads(threads)
            results.append(earth_movers_distance(x, y)[1])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(result, results[0]) for result in results)


@pytest.mark.parametrize("solver", SOLVERS)
def test_empty_batches_and_single_points(solver):
    distance, assignment = earth_movers_distance(torch.zeros(0, 5, 3), torch.zeros(0, 5, 3), solver)
    assert distance.shape == (0,)
    assert assignment.shape == (0, 5)
    x, y = torch.zeros(2, 1, 3), torch.tensor([[[3.0, 4.0, 0.0]], [[0.0, 0.0, 2.0]]])
    distance, assignment = earth_movers_distance(x, y, solver)
    assert not assignment.any()
    if solver != "sliced":
        expected = torch.tensor([5.0, 2.0]) * (2 if solver == "chamfer" else 1)
        torch.testing.assert_close(distance, expected)


# --- the other solvers


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("n", [2, 20, 200])
def test_distances_of_solvers_are_ordered(pair, n):
    x, y = tensors(pair(np.random.default_rng(n), n))
    results = {solver: earth_movers_distance(x, y, solver) for solver in SOLVERS}
    least = results["exact"][0] * (1 + 1e-9)
    assert results["exact"][0] <= results["sinkhorn"][0] * (1 + 1e-9) + 1e-9
    # The entropies of a matching and of the uniform plan differ by ln n.
    blur = 0.01 * torch.cdist(x[0], y[0]).mean() * np.log(n)
    assert results["sinkhorn"][0] <= least + blur
    assert results["sliced"][0] <= least
    assert results["chamfer"][0] <= 2 * least
    assert_bijection(results["sliced"][1])
    its_matching = (x[0] - y[0, results["sliced"][1][0]]).norm(dim=1).mean()
    assert results["exact"][0] <= its_matching * (1 + 1e-9)


@pytest.mark.parametrize("pair", [near, far])
@pytest.mark.parametrize("n", [5, 30])
def test_sinkhorn_is_near_the_optimum_for_small_clouds(pair, n):
    x, y = tensors(pair(np.random.default_rng(n), n))
    least, _ = earth_movers_distance(x, y, "exact")
    assert least <= earth_movers_distance(x, y, "sinkhorn")[0] <= 1.03 * least


def test_chamfer_finds_nearest_neighbors():
    x, y = tensors(near(np.random.default_rng(0), 50))
    distance, assignment = earth_movers_distance(x, y, "chamfer")
    table = (x[0, :, None] - y[0, None]).norm(dim=-1)
    assert torch.equal(assignment[0], table.argmin(dim=1))
    expected = table.min(dim=1).values.mean() + table.min(dim=0).values.mean()
    torch.testing.assert_close(distance[0], expected)


def test_the_sliced_distance_is_half_of_a_translation():
    """E|cos| over the sphere is 1/2; 128 directions are within a tenth of it."""
    x, _ = tensors(near(np.random.default_rng(0), 50))
    distance, assignment = earth_movers_distance(x, x + torch.tensor([0.0, 0.0, 2.0]), "sliced")
    assert float(distance) == pytest.approx(1, rel=0.1)
    assert torch.equal(assignment[0], torch.arange(50))


# --- gradients


@pytest.mark.parametrize("solver", ["auction", "exact", "sliced", "chamfer"])
def test_gradients_equal_finite_differences(solver):
    """Without ties: y is x moved by less than the distance between points."""
    rng = torch.Generator().manual_seed(1)
    corners = torch.cartesian_prod(*[torch.arange(2.0, dtype=torch.float64)] * 3)
    x = torch.stack([corners, 2 * corners])
    x = x + 0.1 * torch.rand(x.shape, generator=rng, dtype=torch.float64)
    y = x.flip(1) + 0.1 * torch.rand(x.shape, generator=rng, dtype=torch.float64)
    x.requires_grad_()
    y.requires_grad_()
    assert torch.autograd.gradcheck(lambda x, y: earth_movers_distance(x, y, solver)[0], (x, y))


@pytest.mark.parametrize("solver", ["auction", "exact"])
def test_gradients_are_unit_vectors_over_n(solver):
    x, y = (cloud.requires_grad_() for cloud in tensors(far(np.random.default_rng(6), 70)))
    distance, assignment = earth_movers_distance(x, y, solver)
    distance.sum().backward()
    step = x.detach()[0] - y.detach()[0, assignment[0]]
    expected = step / step.norm(dim=1, keepdim=True) / 70
    torch.testing.assert_close(x.grad[0], expected)
    torch.testing.assert_close(y.grad[0, assignment[0]], -expected)


def test_sinkhorn_gradients_of_separated_clouds():
    """Entropy cannot blur this matching, so the gradients are those of the matching."""
    corners = torch.cartesian_prod(*[torch.arange(2.0, dtype=torch.float64)] * 3)[None]
    shift = torch.tensor([0.01, 0.0, 0.02], dtype=torch.float64)
    x, y = corners.clone().requires_grad_(), (corners + shift).requires_grad_()
    distance, assignment = earth_movers_distance(x, y, "sinkhorn")
    distance.sum().backward()
    assert torch.equal(assignment[0], torch.arange(8))
    expected = (-shift / shift.norm() / 8).expand(1, 8, 3)
    torch.testing.assert_close(x.grad, expected, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(y.grad, -expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("solver", SOLVERS)
def test_coinciding_points_have_finite_gradients(solver):
    x, _ = (cloud.requires_grad_() for cloud in tensors(near(np.random.default_rng(0), 30)))
    y = x.detach().clone().requires_grad_()
    earth_movers_distance(x, y, solver)[0].sum().backward()
    assert torch.isfinite(x.grad).all()
    assert torch.isfinite(y.grad).all()
    if solver != "sinkhorn":
        assert not x.grad.any()


def test_descent_moves_one_cloud_onto_the_other():
    x, y = tensors(far(np.random.default_rng(0), 40))
    x.requires_grad_()
    before = float(earth_movers_distance(x.detach(), y)[0])
    for _ in range(100):
        (gradient,) = torch.autograd.grad(earth_movers_distance(x, y)[0].sum(), x)
        with torch.no_grad():
            x -= 0.02 * 40 * gradient
    assert float(earth_movers_distance(x.detach(), y)[0]) < 0.05 * before


# --- errors

GOOD = torch.rand(2, 4, 3)


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (GOOD[0], GOOD[0], "x must have the shape [B, N, 3], not [4, 3]"),
        (GOOD, GOOD[..., :2], "y must have the shape [B, N, 3], not [2, 4, 2]"),
        (GOOD, GOOD[:, :3], "y is [2, 3, 3]"),
        (GOOD, GOOD[:1], "y is [1, 4, 3]"),
        (GOOD[:, :0], GOOD[:, :0], "no points"),
        (GOOD, GOOD * torch.nan, "y holds NaN"),
        (GOOD / 0, GOOD, "x holds NaN or infinite"),
        (GOOD, GOOD.double(), "y is torch.float64"),
        (GOOD.half(), GOOD.half(), "x must be float32 or float64, not torch.float16"),
        (GOOD.long(), GOOD, "x must be float32 or float64, not torch.int64"),
        (GOOD, GOOD.to("meta"), "on meta"),
    ],
)
@pytest.mark.parametrize("solver", SOLVERS)
def test_clouds_of_different_sizes_or_shapes_are_refused(x, y, said, solver):
    with pytest.raises(UsageError) as caught:
        earth_movers_distance(x, y, solver)
    assert said in caught.value.what
    assert caught.value.fix


def test_an_unknown_solver_is_refused_with_the_nearest_name():
    with pytest.raises(UsageError, match="did you mean 'sinkhorn'"):
        earth_movers_distance(GOOD, GOOD, "sinkhorm")


def test_the_exact_solver_without_scipy_is_reported(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(DependencyError, match="scipy"):
        earth_movers_distance(GOOD, GOOD, "exact")
