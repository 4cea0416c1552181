"""Projection: index maps against brute force, and gradients only to the nearest points."""

import numpy as np
import pytest
import torch

from pointcmt.cameras import find_rig
from pointcmt.correspondences import pixels_to_points
from pointcmt.errors import UsageError
from pointcmt.training.ops.projection import (
    fill_holes,
    fit_grid,
    foreground,
    gather_map,
    index_map,
    nearest_points_plain,
    project,
    splat_map,
    splat_radius,
)

GRID, RADIUS = (24, 32), 1.8  # rows and columns of the map


def scene(shapes=2, views=3, points=150, seed=0):
    """uv [B,V,N,2] f64 over the map and beyond its borders, visible [B,V,N]."""
    rng = np.random.default_rng(seed)
    uv = torch.from_numpy(rng.uniform(-4, GRID[::-1], (shapes, views, points, 2)) * [1.1, 1.2])
    return uv, torch.from_numpy(rng.random((shapes, views, points)) < 0.6)


def brute_force(uv, visible, radius, k):
    """[V,N,2], [V,N] → [V,h,w,k]: every distance, a stable sort."""
    index = np.full((len(uv), *GRID, k), -1)
    for view, row, column in np.ndindex(len(uv), *GRID):
        here = np.array([column + 0.5, row + 0.5])
        away = np.linalg.norm(uv[view] - here, axis=1)
        away = np.where(visible[view] & (away <= radius), away, np.inf)
        best = np.argsort(away, kind="stable")[:k]
        index[view, row, column] = np.where(np.isfinite(away[best]), best, -1)
    return index


@pytest.mark.parametrize("k", [1, 3])
def test_the_index_map_equals_brute_force(k):
    uv, visible = scene()
    found = index_map(uv, visible, GRID, RADIUS, k)
    for shape in range(2):
        expected = brute_force(uv[shape].numpy(), visible[shape].numpy(), RADIUS, k)
        np.testing.assert_array_equal(found[shape], expected)
    assert 0.05 < (found[..., 0] < 0).float().mean() < 0.95


@pytest.mark.parametrize("k", [1, 2, 4])
def test_compiled_and_plain_agree_also_on_ties(k):
    uv, visible = scene(points=300)
    uv = (2 * uv).round() / 2  # on a lattice: ties, and points on the circle itself
    for radius in (0.5, 1.0, RADIUS, 40.0):
        found = index_map(uv, visible, GRID, radius, k)
        plain = nearest_points_plain(uv.flatten(0, 1), visible.flatten(0, 1), GRID, radius, k)
        assert torch.equal(found.flatten(0, 1), plain)
    twice = torch.tensor([[[[3.5, 2.5]] * 4]], dtype=torch.float64)
    seen = torch.tensor([[[False, True, True, True]]])
    assert index_map(twice, seen, GRID, 1.0, 4)[0, 0, 2, 3].tolist() == [1, 2, 3, -1]


def test_hidden_points_are_never_in_the_map():
    uv, visible = scene()
    alone = index_map(uv, visible, GRID, RADIUS, 2)
    uv = torch.where(visible[..., None], uv, torch.full_like(uv, GRID[0] / 2 - 0.5))  # on a center
    crowded = index_map(uv, visible, GRID, RADIUS, 2)
    assert torch.equal(crowded, alone)
    chosen = crowded.clamp(min=0).flatten(2)
    assert visible.gather(2, chosen)[crowded.flatten(2) >= 0].all()


def test_views_without_visible_points_have_empty_maps():
    uv, visible = scene()
    assert (index_map(uv, torch.zeros_like(visible), GRID, RADIUS) == -1).all()
    assert (nearest_points_plain(uv[0], torch.zeros_like(visible[0]), GRID, RADIUS) == -1).all()


def test_results_do_not_depend_on_the_number_of_threads():
    uv, visible = scene(shapes=4)
    found = index_map(uv, visible, GRID, RADIUS)
    try:
        torch.set_num_threads(3)
        assert torch.equal(index_map(uv, visible, GRID, RADIUS), found)
    finally:
        torch.set_num_threads(1)


def test_projection_equals_cameras_and_correspondences():
    camera = find_rig("circle12").cameras(48)[[0, 3, 5]]
    rng = np.random.default_rng(0)
    points, visible = rng.normal(size=(200, 3)) * 0.4, rng.random((3, 200)) < 0.5
    tensors = [torch.from_numpy(a)[None] for a in (points, camera.K, camera.world_to_camera)]
    uv, depth = project(*tensors)
    wanted = camera.project(points)
    np.testing.assert_allclose(uv[0], wanted[0], rtol=1e-12)
    np.testing.assert_allclose(depth[0], wanted[1], rtol=1e-12)
    seen = torch.from_numpy(visible)[None]
    found = index_map(uv, seen, (48, 48), 2.0)[0, ..., 0]
    np.testing.assert_array_equal(found, pixels_to_points(points, visible, camera, 2.0))


def test_pixels_have_their_points_feature_and_send_it_the_gradient():
    uv, visible = scene()
    index = index_map(uv, visible, GRID, RADIUS)[..., 0]
    features = torch.randn(2, 150, 5, dtype=torch.float64, requires_grad=True)
    found = gather_map(features, index)
    for shape in range(2):
        shown = index[shape] >= 0
        assert torch.equal(found[shape][shown], features[shape][index[shape][shown]])
        assert (found[shape][~shown] == 0).all()
    weight = torch.randn_like(found)
    (grad,) = torch.autograd.grad((found * weight).sum(), features)
    expected = torch.zeros_like(features)
    for place in np.ndindex(*index.shape):
        if index[place] >= 0:
            expected[place[0], index[place]] += weight[place].detach()
    torch.testing.assert_close(grad, expected, rtol=1e-12, atol=1e-12)
    winners = torch.zeros(2, 150, dtype=torch.bool)
    for shape in range(2):
        winners[shape, index[shape][index[shape] >= 0]] = True
    assert torch.equal((grad != 0).any(dim=-1), winners)  # exactly these, including the first point
    assert not winners.all()


def test_half_precision_features_stay_in_half_precision():
    uv, visible = scene()
    index = index_map(uv, visible, GRID, RADIUS)[..., 0]
    features = torch.randn(2, 150, 5)
    found = gather_map(features.bfloat16(), index)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, gather_map(features, index).bfloat16())


def test_a_soft_splat_is_a_weighted_mean_of_the_nearest_points():
    uv, visible = scene()
    index = index_map(uv, visible, GRID, RADIUS, 3)
    features = torch.randn(2, 150, 5, dtype=torch.float64, requires_grad=True)
    found = splat_map(features, index, uv, RADIUS)
    expected = torch.zeros_like(found)
    for shape, view, row, column in np.ndindex(*index.shape[:-1]):
        chosen = [i for i in index[shape, view, row, column].tolist() if i >= 0]
        if chosen:
            here = torch.tensor([column + 0.5, row + 0.5], dtype=torch.float64)
            away = (uv[shape, view, chosen] - here).norm(dim=1)
            weight = torch.exp(-((away / (RADIUS / 2)) ** 2) / 2)
            mean = (weight[:, None] * features[shape, chosen]).sum(0) / weight.sum()
            expected[shape, view, row, column] = mean
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    grads = [torch.autograd.grad(r.square().sum(), features)[0] for r in (found, expected)]
    torch.testing.assert_close(*grads, rtol=1e-9, atol=1e-12)
    alone = splat_map(features, index[..., :1], uv, RADIUS)
    torch.testing.assert_close(alone, gather_map(features, index[..., 0]))


@pytest.fixture(scope="module")
def rendered(toy_store):
    """uv, visible and depth of toy shapes: 256 points, 6 views of 32²."""
    rows = slice(0, 20)
    arrays = (toy_store.read(name, rows) for name in ("points", "K", "world_to_camera"))
    uv, _ = project(*(torch.from_numpy(a) for a in arrays))
    visible, depth = toy_store.visible(rows), toy_store.depth(rows)
    return uv, torch.from_numpy(visible), torch.from_numpy(depth)


def test_the_default_radius_leaves_few_holes_in_rendered_shapes(rendered):
    uv, visible, depth = rendered
    for points, size in ((256, 32), (256, 16), (128, 32)):
        grid = (size, size)
        covered = foreground(depth, grid)
        scaled, seen = uv[:, :, :points] * (size / 32), visible[:, :, :points]
        index = index_map(scaled, seen, grid, splat_radius(points, grid))[..., 0]
        holes = ((index < 0) & covered).sum() / covered.sum()
        assert holes < 0.05
        smaller = index_map(scaled, seen, grid, splat_radius(points, grid) / 2)[..., 0]
        assert ((smaller < 0) & covered).sum() / covered.sum() > 0.1


def test_filled_maps_cover_the_rendered_shape_and_nothing_else(rendered):
    uv, visible, depth = rendered
    grid, radius = (32, 32), 0.75
    covered = foreground(depth, grid)
    assert torch.equal(covered, depth > 0)
    index = index_map(uv, visible, grid, radius)
    filled = fill_holes(index, uv, visible, covered, radius)[..., 0]
    hole = covered & (index[..., 0] < 0)
    assert hole.float().mean() > 0.02
    assert torch.equal(filled[covered & ~hole], index[..., 0][covered & ~hole])
    assert (filled[~covered] == -1).all()
    assert (filled[hole] >= 0).float().mean() > 0.95  # the others are far from any visible point
    wide = index_map(uv, visible, grid, 4 * radius)[..., 0]
    assert torch.equal(filled[hole], wide[hole])


def test_a_map_pixel_is_foreground_if_half_of_it_is_covered():
    depth = torch.zeros(1, 1, 4, 6)
    depth[0, 0, 0, :2] = depth[0, 0, 2, 2] = 2.0
    found = foreground(depth, (2, 3))
    assert found.tolist() == [[[[True, False, False], [False, False, False]]]]


def test_a_map_larger_than_the_image_is_refused():
    with pytest.raises(UsageError, match="64² pixels is larger than the images of 32²") as caught:
        foreground(torch.zeros(1, 1, 32, 32), (64, 64))
    assert caught.value.fix
    with pytest.raises(UsageError, match="48 × 32 pixels is larger than the images of 40 × 30"):
        foreground(torch.zeros(1, 1, 30, 40), (32, 48))


@pytest.mark.parametrize(
    ("size", "image", "multiple", "grid"),
    [
        (56, (224, 224), 2, (56, 56)),
        (56, (240, 320), 2, (42, 56)),
        (56, (320, 240), 2, (56, 42)),
        (448, (530, 730), 14, (322, 448)),  # 325.3: nearest to 23 patches
        (32, (8, 320), 4, (4, 32)),  # one at least
    ],
)
def test_grids_keep_the_aspect_ratio_of_images(size, image, multiple, grid):
    assert fit_grid(size, image, multiple) == grid
