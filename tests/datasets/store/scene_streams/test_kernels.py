"""The compiled parts against plain numpy."""

import numpy as np
import pytest

from pointcmt.datasets.store.scene_streams.overlaps import frame_overlaps
from pointcmt.datasets.store.scene_streams.surroundings import near_visible
from pointcmt.datasets.store.scene_streams.voxels import Voxels, find_crop


def clustered(count, seed=0):
    """Points in clusters around the origin, some of them equal."""
    rng = np.random.default_rng(seed)
    points = rng.normal(scale=0.02, size=(count, 3)) + rng.uniform(-0.3, 0.3, (count, 3)).round(1)
    points[count // 2 :: 50] = points[0]
    return points.astype(np.float32)


@pytest.mark.parametrize(("frames", "count"), [(1, 7), (3, 64), (70, 1001)])
def test_overlaps_equal_their_definition(frames, count):
    visible = np.random.default_rng(frames).random((frames, count)) < 0.2
    visible[0] = False
    found = frame_overlaps(np.packbits(visible, axis=1))
    for a in range(frames):
        for b in range(frames):
            least = min(visible[a].sum(), visible[b].sum())
            expected = (visible[a] & visible[b]).sum() / least if least else 0
            assert found[a, b] == expected


@pytest.mark.parametrize(("frames", "radius"), [(1, 0.05), (5, 0.01), (70, 0.03)])
def test_points_near_visible_ones_equal_brute_force(frames, radius):
    points = clustered(600)
    visible = np.random.default_rng(1).random((frames, 600)) < 0.02
    near = near_visible(points, np.packbits(visible, axis=1), radius)
    exact = points.astype(np.float64)
    close = ((exact[:, None] - exact) ** 2).sum(axis=-1) <= radius**2
    expected = (close[None] & visible[:, None]).any(axis=-1)
    assert np.array_equal(near, np.packbits(expected, axis=1))
    assert visible.sum() < expected.sum() < visible.size


def test_no_points_are_near_none():
    none = near_visible(np.zeros((0, 3), np.float32), np.zeros((3, 0), np.uint8), 0.05)
    assert none.shape == (3, 0)


@pytest.mark.parametrize("size", [0.001, 0.05, 5])
@pytest.mark.parametrize("count", [1, 100, 5000])
def test_voxels_equal_those_of_numpy(size, count):
    points = clustered(count)
    places = np.floor(points.astype(np.float64) / size).astype(int)
    expected, first, inverse = np.unique(places, axis=0, return_index=True, return_inverse=True)
    voxels = Voxels.of(points, size)
    assert np.array_equal(voxels.places, expected)
    assert np.array_equal(voxels.first_points(np.arange(len(voxels))), first)
    assert np.array_equal(voxels.of_points(), inverse.ravel())
    assert np.array_equal(voxels.order, np.argsort(inverse.ravel(), kind="stable"))


def test_no_points_have_no_voxels():
    voxels = Voxels.of(np.zeros((0, 3), np.float32), 0.05)
    assert (len(voxels), len(voxels.of_points())) == (0, 0)
    assert len(voxels.first_points(np.arange(0))) == 0


def test_a_random_point_of_each_voxel_is_drawn_evenly():
    points = clustered(2000)
    voxels = Voxels.of(points, 0.1)
    rng, every = np.random.default_rng(0), np.arange(len(voxels))
    draws = np.array([voxels.random_points(every, rng) for _ in range(400)])
    assert (voxels.of_points()[draws] == np.arange(len(voxels))).all()
    four = int(np.argmax(np.diff(voxels.starts) == 4))
    own = np.flatnonzero(voxels.of_points() == four)
    counts = np.bincount(draws[:, four], minlength=2000)
    assert counts[own].sum() == 400
    assert (np.abs(counts[own] - 100) < 45).all()  # five standard deviations


def test_the_nearest_voxels_equal_a_stable_sort():
    rng = np.random.default_rng(0)
    points = rng.integers(-9, 9, (900, 3)).astype(np.float32)  # many at the same distance
    voxels = Voxels.of(points, 1.0)
    places = np.unique(points.astype(int), axis=0)
    for count in (1, 2, 50, len(places)):
        center = int(rng.integers(len(places)))
        away = ((places - places[center]) ** 2).sum(axis=1)
        expected = np.sort(np.argsort(away, kind="stable")[:count])
        assert np.array_equal(voxels.nearest(places[center], count), expected)


@pytest.mark.parametrize("count", [1, 40, 300, 5000])
def test_a_crop_is_found_from_the_points_around_its_center(count):
    points = clustered(3000)
    whole = Voxels.of(points, 0.03)
    for center in (0, 1234, 2999):
        inside, voxels, kept = find_crop(points, 0.03, center, count)
        place = whole.places[whole.of_points()[center]]
        away = ((whole.places - place) ** 2).sum(axis=1)
        expected = np.sort(np.argsort(away, kind="stable")[:count])
        assert np.array_equal(voxels.places[kept], whole.places[expected])
        first = inside[voxels.first_points(kept)]
        assert np.array_equal(first, whole.first_points(expected))
        sizes = np.diff(voxels.starts)[kept]
        assert np.array_equal(sizes, np.diff(whole.starts)[expected])
    assert (len(inside) < len(points)) == (count < len(whole))
