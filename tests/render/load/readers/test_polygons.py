"""Triangulation: triangles cover their polygon, keep its orientation, and keep the order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointcmt.render.load.readers.polygons import triangulate


def cut(*polygons: list[tuple[float, ...]]) -> list[np.ndarray]:
    """Triangles [n,3,3] of each polygon."""
    points = np.array([p if len(p) == 3 else (*p, 0.0) for poly in polygons for p in poly], float)
    sizes = np.array([len(p) for p in polygons], np.int32)
    corners = np.arange(len(points), dtype=np.int32)
    triangles, polygon = triangulate(points, corners, sizes)
    assert (np.diff(polygon) >= 0).all()
    return [points[triangles[polygon == i]] for i in range(len(polygons))]


def area_vectors(triangles: np.ndarray) -> np.ndarray:
    return np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]) / 2


SQUARE = [(0, 0), (1, 0), (1, 1), (0, 1)]
NOTCHED = [(0, 0), (4, 0), (4, 4), (2, 1), (0, 4)]
ARROW = [(0, 0), (2, 1), (0, 2), (0.5, 1)]


def test_triangles_and_convex_polygons_become_fans():
    points = np.zeros((5, 3))
    points[:, :2] = [(0, 0), (1, 0), (2, 1), (1, 2), (0, 1)]
    corners = np.array([4, 0, 1, 0, 1, 2, 3, 4], np.int32)
    triangles, polygon = triangulate(points, corners, np.array([3, 5], np.int32))
    assert corners[triangles].tolist() == [[4, 0, 1], [0, 1, 2], [0, 2, 3], [0, 3, 4]]
    assert polygon.tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize("turn", range(5))
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("shape", [SQUARE, NOTCHED, ARROW])
def test_concave_polygons_are_covered_without_overlap(shape, turn, flip):
    polygon = shape[turn % len(shape) :] + shape[: turn % len(shape)]
    polygon = polygon[::-1] if flip else polygon
    (triangles,) = cut(polygon)
    areas = area_vectors(triangles)[:, 2]
    x, y = np.array(polygon).T
    expected = (x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2
    assert areas.sum() == pytest.approx(expected)
    assert (areas * expected >= 0).all()  # all are oriented like the polygon, so none overlap


@given(st.integers(3, 40), st.integers(0, 10**6))
@settings(max_examples=200, deadline=None)
def test_star_shaped_polygons_in_any_plane_are_covered(corners, seed):
    rng = np.random.default_rng(seed)
    angle = (np.arange(corners) + rng.uniform(0, 0.8, corners)) * (2 * np.pi / corners)
    outline = np.stack([np.cos(angle), np.sin(angle)], axis=1) * rng.uniform(0.2, 1, (corners, 1))
    frame = np.linalg.qr(rng.normal(size=(3, 3)))[0][:2] * 10.0 ** rng.integers(-150, 150)
    plane = outline @ frame
    (triangles,) = cut([tuple(p) for p in plane])
    scale = np.abs(plane).max()
    areas = area_vectors(triangles / scale)
    closed = np.stack([plane, np.roll(plane, -1, axis=0)]) / scale
    expected = np.cross(closed[0], closed[1]).sum(axis=0) / 2
    assert np.allclose(areas.sum(axis=0), expected, atol=1e-9)
    assert np.linalg.norm(areas, axis=1).sum() == pytest.approx(np.linalg.norm(expected))


def test_order_is_kept_between_polygons_of_all_kinds():
    kinds = [SQUARE, NOTCHED, [(0, 0), (1, 0)], [(0, 0)], [(0, 0), (1, 0), (0, 1)], ARROW]
    assert [len(triangles) for triangles in cut(*kinds)] == [2, 3, 0, 0, 1, 2]


def test_polygons_that_cannot_be_triangulated_become_fans():
    bow_tie = [(0, 0), (1, 1), (1, 0), (0, 1), (0.5, 2)]
    flat = [(0, 0), (1, 0), (2, 0), (3, 0)]
    point = [(5, 5)] * 5
    wild = [(0, 0), (np.nan, 0), (1, 1), (0, np.inf), (0, 1)]
    assert [len(triangles) for triangles in cut(bow_tie, flat, point, wild)] == [3, 2, 3, 3]
