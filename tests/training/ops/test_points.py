"""Point operations: compiled against plain, and both against their definitions."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pointcmt.errors import UsageError
from pointcmt.training import ops
from pointcmt.training.ops import points_plain

SIZES = (1, 2, 3, 7, 255, 256, 257, 1000)
KINDS = ("random", "duplicates", "clustered", "equal", "lattice")
DTYPES = (torch.float32, torch.float64)


def clouds(size, kind="random", dtype=torch.float64, batch=2, seed=0):
    """Points [batch,size,3] roughly in the unit cube."""
    generator = torch.Generator().manual_seed(seed + size)
    points = torch.rand(batch, size, 3, generator=generator, dtype=torch.float64)
    if kind == "duplicates":
        points = points[:, torch.randint(0, size, (size,), generator=generator) // 3]
    elif kind == "clustered":
        points = (points * 4).floor() / 4 + points * 1e-6
    elif kind == "equal":
        points = points[:, :1].repeat(1, size, 1)
    elif kind == "lattice":  # many exact ties, in float32 too
        points = (points * 4).floor() / 4
    return points.to(dtype)


def squared(points, queries):
    """Squared distances [M,N] of one cloud in numpy, summed over axes in order."""
    difference = (queries[:, None] - points[None]) ** 2
    return np.add.accumulate(difference, axis=-1)[..., -1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_compiled_equals_plain_bit_by_bit(size, kind, dtype):
    points, queries = clouds(size, kind, dtype), clouds(40, kind, dtype, seed=1)
    start = torch.tensor([0, size - 1])
    expected = points_plain.farthest_points(points, size, start)
    assert torch.equal(ops.farthest_points(points, size, start), expected)
    for radius in (0.0, 0.05, 0.25, 3.0):
        limit = torch.tensor(radius, dtype=dtype).square()
        for count in (1, 16, size + 3):
            expected = points_plain.ball_query(points, queries, limit, count)
            assert torch.equal(ops.ball_query(points, queries, radius, count), expected)
    for k in {1, min(size, 3), min(size, 20), size}:
        assert_plain_neighbors(points, queries, k)


def assert_plain_neighbors(points, queries, k):
    found, expected = (run(points, queries, k) for run in (ops.k_nearest, points_plain.k_nearest))
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_trees_find_what_the_definition_says(kind, dtype):
    """Many leaves, more equal distances than are sorted at once, clouds apart from the queries."""
    points = clouds(1500, kind, dtype, batch=1)
    others = clouds(300, kind, dtype, batch=1, seed=1)
    for queries in (points, others, others + 3):
        for k in (1, 3, 7, 200):
            assert_plain_neighbors(points, queries, k)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_farthest_points_of_large_clouds_are_those_of_the_definition(kind, dtype):
    size = ops.points.LARGE + 77
    points = clouds(size, kind, dtype)
    start = torch.tensor([0, size - 1])
    expected = points_plain.farthest_points(points, 300, start)
    assert torch.equal(ops.farthest_points(points, 300, start), expected)


def test_points_of_large_clouds_at_infinite_distance_come_first():
    points = torch.rand(1, ops.points.LARGE, 3)
    points[0, 4000], points[0, 70] = 3e38, -3e38
    found = ops.farthest_points(points, 4)
    assert torch.equal(found, points_plain.farthest_points(points, 4, torch.zeros(1).long()))
    assert found[0, :2].tolist() == [0, 70]  # the first of those at infinite distance


def test_queries_of_a_single_cloud_are_shared_by_threads():
    points, before = clouds(300, batch=1), torch.get_num_threads()
    queries = clouds(2 * ops.points.MANY + 5, batch=1, seed=1)
    expected = ops.k_nearest(points, queries, 5)
    try:
        torch.set_num_threads(2)
        found = ops.k_nearest(points, queries, 5)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


@pytest.mark.parametrize("width", [1, 2, 4, 5, 64, 67])
def test_neighbors_in_feature_space_are_the_nearest(width):
    generator = torch.Generator().manual_seed(width)
    features = torch.randn(2, 300, width, generator=generator, dtype=torch.float64)
    found, expected = (
        run(features, features, 20) for run in (ops.k_nearest, points_plain.k_nearest)
    )
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])
    assert torch.equal(found[0][..., 0], torch.arange(300).expand(2, -1))  # each finds itself
    assert not found[1][..., 0].any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 3, 7, 300])
def test_each_next_point_is_the_farthest(size, kind):
    points = clouds(size, kind)
    chosen = ops.farthest_points(points, size, start=size // 2).numpy()
    for cloud, order in zip(points.numpy(), chosen, strict=True):
        assert order[0] == size // 2
        distance = squared(cloud, cloud)
        for step in range(1, size):
            nearest = distance[order[:step]].min(axis=0)
            assert order[step] == np.flatnonzero(nearest == nearest.max())[0]


def test_farthest_points_are_distinct_and_shorter_results_are_prefixes():
    points = clouds(500)
    long = ops.farthest_points(points, 500)
    assert torch.equal(long.sort(dim=1).values, torch.arange(500).expand(2, -1))
    for count in (1, 64, 128):
        assert torch.equal(ops.farthest_points(points, count), long[:, :count])


def test_farthest_points_of_coincident_points_repeat_the_lowest_index():
    assert not ops.farthest_points(clouds(9, "equal"), 9).any()
    chosen = ops.farthest_points(clouds(9, "equal"), 9, start=5)
    assert chosen.tolist() == [[5] + [0] * 8] * 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("radius", [0.0, 0.1, 0.25, 9.0])
def test_ball_query_returns_the_first_points_inside(kind, radius):
    points, centers = clouds(300, kind), clouds(50, kind, seed=1)
    index = ops.ball_query(points, centers, radius, 8).numpy()
    for cloud, middle, rows in zip(points.numpy(), centers.numpy(), index, strict=True):
        distance = squared(cloud, middle)
        for row, away in zip(rows, distance, strict=True):
            inside = np.flatnonzero(away <= radius * radius)[:8]
            if len(inside) == 0:
                inside = np.array([away.argmin()])
            assert row.tolist() == [*inside, *[inside[0]] * (8 - len(inside))]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("radius", [0.1, 0.2, 0.5, 0.7])
def test_points_exactly_on_the_sphere_are_inside_the_ball(dtype, radius):
    exact = torch.tensor(radius, dtype=dtype)
    beyond = torch.nextafter(exact, exact.new_tensor(9.0))
    for axis in range(3):
        points = torch.zeros(1, 3, 3, dtype=dtype)
        points[0, :, axis] = torch.stack([beyond * 1.0001, exact, -exact])
        center = torch.zeros(1, 1, 3, dtype=dtype)
        assert ops.ball_query(points, center, radius, 3).tolist() == [[[1, 2, 1]]]


def test_an_empty_ball_gets_the_nearest_point():
    points = torch.tensor([[[5.0, 0, 0], [2.0, 0, 0], [-2.0, 0, 0]]])
    assert ops.ball_query(points, torch.zeros(1, 1, 3), 1.0, 4).tolist() == [[[1, 1, 1, 1]]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 7, 600])
def test_nearest_points_are_the_first_of_a_stable_sort(size, kind):
    points, queries = clouds(size, kind), clouds(30, kind, seed=1)
    k = min(size, 11)
    index, distance = ops.k_nearest(points, queries, k)
    for b in range(2):
        expected = squared(points[b].numpy(), queries[b].numpy())
        order = expected.argsort(axis=1, kind="stable")[:, :k]
        np.testing.assert_array_equal(index[b], order)
        np.testing.assert_array_equal(distance[b], np.take_along_axis(expected, order, axis=1))


def test_points_at_infinite_distance_by_overflow_come_last():
    points = torch.tensor([[[3e38, 0, 0], [-3e38, 0, 0], [1.0, 0, 0]]])
    index, distance = ops.k_nearest(points, torch.zeros(1, 1, 3), 3)
    assert index.tolist() == [[[2, 0, 1]]]
    assert distance.tolist() == [[[1.0, torch.inf, torch.inf]]]


@pytest.mark.parametrize("size", [1, 2, 3, 50])
def test_interpolation_weights_are_inverse_squared_distances(size):
    points, queries = clouds(size), clouds(30, seed=1)
    index, weight = ops.three_nearest_weights(points, queries)
    assert index.shape == weight.shape == (2, 30, 3)
    torch.testing.assert_close(weight.sum(dim=-1), torch.ones(2, 30, dtype=torch.float64))
    k = min(size, 3)
    nearest, distance = ops.k_nearest(points, queries, k)
    assert torch.equal(index[..., :k], nearest)
    assert torch.equal(index[..., k:], nearest[..., :1].expand(-1, -1, 3 - k))
    assert not weight[..., k:].any()
    ratio = weight[..., :1] / weight[..., :k]
    torch.testing.assert_close(ratio, (distance + 1e-8) / (distance[..., :1] + 1e-8))


def test_interpolating_at_a_point_gives_nearly_its_feature():
    points = clouds(50)
    index, weight = ops.three_nearest_weights(points, points)
    features = torch.randn(2, 50, 6, dtype=torch.float64)
    found = (ops.gather(features, index) * weight[..., None]).sum(dim=2)
    others = 1e-8 / ops.k_nearest(points, points, 3)[1][..., 1:]  # their weights, at most
    allowed = 2 * features.abs().max() * others.sum(dim=-1, keepdim=True)
    assert ((found - features).abs() <= allowed + 1e-15).all()


def test_permuted_points_give_permuted_results():
    """Without ties, and with room for all points in a ball query."""
    points, queries = clouds(200), clouds(20, seed=1)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(3))
    moved, place = points[:, order], order.argsort()  # point i is now at place[i]
    plain = ops.farthest_points(points, 50, start=7)
    assert torch.equal(ops.farthest_points(moved, 50, start=int(place[7])), place[plain])
    (index, distance), again = (ops.k_nearest(p, queries, 9) for p in (points, moved))
    assert torch.equal(again[0], place[index])
    assert torch.equal(again[1], distance)
    balls, others = (ops.ball_query(p, queries, 0.4, 200) for p in (points, moved))
    for one, other in zip(balls.flatten(0, 1), others.flatten(0, 1), strict=True):
        assert set(place[one].tolist()) == set(other.tolist())


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.integers(1, 70), st.integers(1, 9), st.sampled_from(KINDS), st.floats(0, 2), st.integers(0)
)
def test_operations_on_arbitrary_clouds(size, count, kind, radius, seed):
    points, centers = clouds(size, kind, seed=seed % 999), clouds(4, kind, seed=seed % 998)
    limit = torch.tensor(radius, dtype=torch.float64).square()
    index = ops.ball_query(points, centers, radius, count)
    assert torch.equal(index, points_plain.ball_query(points, centers, limit, count))
    distance = (ops.gather(points, index) - centers[:, :, None]).square()
    inside = distance[..., 0] + distance[..., 1] + distance[..., 2] <= limit
    assert (inside.all(dim=-1) | (index == index[..., :1]).all(dim=-1)).all()


@pytest.mark.parametrize("shape", [(2,), (2, 5), (2, 3, 4), (2, 0)])
def test_gathered_rows_equal_the_indexed_ones(shape):
    features = torch.arange(2 * 6 * 3.0).view(2, 6, 3)
    index = torch.randint(0, 6, shape, generator=torch.Generator().manual_seed(0))
    for kind in (features, features.bfloat16(), features.long()):
        found = ops.gather(kind, index)
        assert found.shape == (*shape, 3)
        for b in range(2):
            assert torch.equal(found[b], kind[b][index[b]])


@pytest.mark.parametrize("shape", [(2,), (2, 5), (2, 3, 4)])
def test_gradients_of_gather_equal_finite_differences(shape):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 6, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    index = torch.randint(0, 6, shape, generator=generator)
    assert torch.autograd.gradcheck(lambda f: ops.gather(f, index), features)
    assert torch.autograd.gradgradcheck(lambda f: ops.gather(f, index), features)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_of_gather_equal_those_of_an_embedding(dtype):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(3, 50, 16, generator=generator, dtype=dtype, requires_grad=True)
    index = torch.randint(0, 50, (3, 200, 8), generator=generator)
    grad = torch.randn(3, 200, 8, 16, generator=generator, dtype=dtype)
    found, expected = (
        torch.autograd.grad(run(features, index), features, grad)[0]
        for run in (ops.gather, points_plain.gather)
    )
    assert torch.equal(found, expected)  # the same sums in the same order


def everything(points, queries):
    """All results and a gradient as one list of tensors."""
    features = torch.randn(*points.shape[:2], 5, generator=torch.Generator().manual_seed(1))
    features.requires_grad_()
    index, distance = ops.k_nearest(points, queries, 9)
    gathered = ops.gather(features, index)
    (grad,) = torch.autograd.grad(gathered.square().sum(), features)
    balls = ops.ball_query(points, queries, 0.3, 7)
    weights = ops.three_nearest_weights(points, queries)
    return [index, distance, gathered, grad, balls, *weights, ops.farthest_points(points, 20)]


@pytest.mark.parametrize("batch", [1, 2, 7, 32])
def test_results_do_not_depend_on_the_number_of_threads(batch):
    points = clouds(150, dtype=torch.float32, batch=batch)
    queries = clouds(33, dtype=torch.float32, batch=batch, seed=1)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 8, 8):
            torch.set_num_threads(threads)
            results.append(everything(points, queries))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_a_cloud_does_not_depend_on_its_batch():
    points, queries = clouds(80, batch=5), clouds(20, batch=5, seed=1)
    whole = ops.k_nearest(points, queries, 4)[0], ops.farthest_points(points, 9)
    for b in range(5):
        one, other = points[b : b + 1], queries[b : b + 1]
        assert torch.equal(ops.k_nearest(one, other, 4)[0][0], whole[0][b])
        assert torch.equal(ops.farthest_points(one, 9)[0], whole[1][b])


def test_strided_inputs_and_inputs_with_gradients_are_accepted():
    points = clouds(60)
    strided = points.mT.contiguous().mT.requires_grad_()
    assert not strided.is_contiguous()
    assert torch.equal(ops.farthest_points(strided, 30), ops.farthest_points(points, 30))
    index, distance = ops.k_nearest(strided, strided, 4)
    assert torch.equal(index, ops.k_nearest(points, points, 4)[0])
    assert not distance.requires_grad


def test_half_precision_is_computed_in_float32():
    half = clouds(60, dtype=torch.float16)
    index, distance = ops.k_nearest(half, half, 4)
    assert distance.dtype == torch.float32
    assert torch.equal(index, ops.k_nearest(half.float(), half.float(), 4)[0])


def test_no_queries_and_no_clouds_give_empty_results():
    points = clouds(5)
    assert ops.ball_query(points, points[:, :0], 1.0, 4).shape == (2, 0, 4)
    assert ops.k_nearest(points, points[:, :0], 4)[0].shape == (2, 0, 4)
    assert ops.three_nearest_weights(points, points[:, :0])[1].shape == (2, 0, 3)
    assert ops.farthest_points(points[:0], 4).shape == (0, 4)
    assert ops.ball_query(points[:0], points[:0], 1.0, 4).shape == (0, 5, 4)


POINTS = clouds(5)
NAN = torch.full_like(POINTS, torch.nan)
LONG = POINTS.long()
INDEX = torch.zeros(2, 4, dtype=torch.int64)
MISTAKES = {
    "farthest: more than there are": (lambda: ops.farthest_points(POINTS, 6), "count is 6"),
    "farthest: none": (lambda: ops.farthest_points(POINTS, 0), "count is 0"),
    "farthest: start": (lambda: ops.farthest_points(POINTS, 2, 5), "start is 5"),
    "farthest: negative start": (lambda: ops.farthest_points(POINTS, 2, -1), "start is -1"),
    "farthest: one start too many": (
        lambda: ops.farthest_points(POINTS, 2, torch.zeros(3, dtype=torch.int64)),
        "each of the 2 clouds",
    ),
    "farthest: start of floats": (lambda: ops.farthest_points(POINTS, 2, torch.zeros(2)), "int64"),
    "farthest: shape": (lambda: ops.farthest_points(POINTS[0], 2), r"\[5, 3\]"),
    "farthest: width": (lambda: ops.farthest_points(POINTS[..., :2], 2), r"\[B, N, 3\]"),
    "farthest: no points": (lambda: ops.farthest_points(POINTS[:, :0], 1), "no points"),
    "farthest: nan": (lambda: ops.farthest_points(NAN, 2), "NaN"),
    "farthest: infinite": (lambda: ops.farthest_points(POINTS / 0, 2), "infinite"),
    "farthest: integers": (lambda: ops.farthest_points(LONG, 2), r"\.float\(\)"),
    "ball: radius": (lambda: ops.ball_query(POINTS, POINTS, -1.0, 2), "radius -1"),
    "ball: nan radius": (lambda: ops.ball_query(POINTS, POINTS, torch.nan, 2), "radius nan"),
    "ball: infinite radius": (lambda: ops.ball_query(POINTS, POINTS, torch.inf, 2), "radius inf"),
    "ball: count": (lambda: ops.ball_query(POINTS, POINTS, 1.0, 0), "count is 0"),
    "ball: clouds": (lambda: ops.ball_query(POINTS, POINTS[:1], 1.0, 2), "number of clouds"),
    "ball: nan center": (lambda: ops.ball_query(POINTS, NAN, 1.0, 2), "centers"),
    "ball: dtype": (lambda: ops.ball_query(POINTS, POINTS.float(), 1.0, 2), "float32"),
    "ball: width": (lambda: ops.ball_query(POINTS[..., :2], POINTS, 1.0, 2), r"\[B, N, 3\]"),
    "nearest: too many": (lambda: ops.k_nearest(POINTS, POINTS, 6), "k is 6"),
    "nearest: none": (lambda: ops.k_nearest(POINTS, POINTS, 0), "k is 0"),
    "nearest: axes": (lambda: ops.k_nearest(POINTS, POINTS[..., :2], 1), "clouds and axes"),
    "nearest: clouds": (lambda: ops.k_nearest(POINTS[:1], POINTS, 1), "number of clouds"),
    "nearest: no axes": (lambda: ops.k_nearest(POINTS[..., :0], POINTS, 1), r"\[B, N, D\]"),
    "weights: width": (
        lambda: ops.three_nearest_weights(POINTS, POINTS[..., :2]),
        r"queries as \[B, M, 3\]",
    ),
    "weights: nan": (lambda: ops.three_nearest_weights(POINTS, NAN), "queries"),
    "gather: shape": (lambda: ops.gather(POINTS[0], INDEX), r"\[B, N, D\]"),
    "gather: clouds": (lambda: ops.gather(POINTS, INDEX[:1]), "incompatible shapes"),
    "gather: dtype": (lambda: ops.gather(POINTS, INDEX.int()), r"\.long\(\)"),
    "gather: beyond": (lambda: ops.gather(POINTS, INDEX + 5), "index is 5"),
    "gather: negative": (lambda: ops.gather(POINTS, INDEX - 1), "index is -1"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_invalid_arguments_are_reported_with_place_and_fix(mistake):
    call, text = MISTAKES[mistake]
    with pytest.raises(UsageError, match=text) as caught:
        call()
    assert caught.value.where
    assert caught.value.fix
