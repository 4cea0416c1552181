"""Voxel order: every prefix of a scene's points is spread evenly over the scene."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from pointcmt.render.scenes.order import FINEST, LEVELS, voxel_order


def cloud(count, seed=0, spread=3.0):
    """Points on a floor (two thirds of them) and above it."""
    points = np.random.default_rng(seed).uniform(-spread, spread, (count, 3))
    points[: 2 * count // 3, 2] = 0
    return np.random.default_rng(seed + 1).permutation(points)


def test_every_point_occurs_once():
    order = voxel_order(cloud(5000))
    assert sorted(order) == list(range(5000))


@pytest.mark.parametrize("level", range(LEVELS))
def test_a_prefix_has_a_point_in_every_voxel_of_its_level_and_few_have_more(level):
    points = cloud(20000)
    order = voxel_order(points)
    sizes = [FINEST * 2 ** (LEVELS - 1 - step) for step in range(LEVELS)]
    voxels = {tuple(v) for v in np.floor(points / sizes[level]).astype(int)}
    chosen = [tuple(v) for v in np.floor(points[order[: len(voxels)]] / sizes[level]).astype(int)]
    assert len(set(chosen)) == len(chosen) == len(voxels)


def test_the_point_of_a_voxel_is_the_one_nearest_to_its_middle():
    points = np.array([[0.1, 0.1, 0.1], [0.39, 0.41, 0.4], [0.7, 0.7, 0.7], [-0.4, 0.4, 0.4]])
    assert set(voxel_order(points)[:2].tolist()) == {1, 3}


def test_prefixes_are_more_even_than_a_random_choice():
    points = cloud(20000)
    order = voxel_order(points)
    for count in (100, 1000, 5000):
        gaps = cKDTree(points[order[:count]]).query(points)[0].max()
        assert gaps < 0.75 * cKDTree(points[:count]).query(points)[0].max()


def test_equal_points_and_places_far_away_keep_their_order():
    same = np.zeros((5, 3))
    assert sorted(voxel_order(same).tolist()) == [0, 1, 2, 3, 4]
    far = cloud(1000) + np.array([5000.0, -5000.0, 100.0])
    assert sorted(voxel_order(far).tolist()) == list(range(1000))


def test_the_order_depends_on_nothing_else():
    points = cloud(3000)
    assert np.array_equal(voxel_order(points), voxel_order(points.copy()))
    assert np.array_equal(
        voxel_order(points.astype(np.float32)), voxel_order(points.astype(np.float32))
    )


def test_one_point_and_none():
    assert voxel_order(np.zeros((1, 3))).tolist() == [0]
    assert voxel_order(np.zeros((0, 3))).tolist() == []
