"""Point ↔ pixel ↔ pixel against brute force and against the analytic map of a box."""

import numpy as np

from pointcmt.cameras import find_rig, pixel_centers
from pointcmt.correspondences import match_pixels, pixels_to_points, points_to_pixels

PIXEL = 3.6 / (0.5 * 128 / np.tan(np.radians(20)))  # world units, at the far side of the box


def cloud(count=300, views=3, size=48):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(count, 3))
    points /= 1.2 * np.linalg.norm(points, axis=1, keepdims=True)
    cameras = find_rig("circle12").cameras(size)[[0, 3, 5][:views]]
    return points, rng.random((views, count)) < 0.6, cameras


def test_points_map_to_the_pixels_that_contain_their_projection():
    points, visible, cameras = cloud()
    uv, pixel = points_to_pixels(points, visible, cameras)
    np.testing.assert_allclose(uv, cameras.project(points)[0])
    assert np.all(pixel[~visible] == -1)
    row, column = pixel[visible].T
    u, v = uv[visible].T
    assert np.all((row <= v) & (v < row + 1) & (column <= u) & (u < column + 1))


def test_pixels_get_the_nearest_visible_point_like_brute_force():
    points, visible, cameras = cloud()
    index = pixels_to_points(points, visible, cameras, radius=2.5)
    uv, _ = cameras.project(points)
    centers = pixel_centers(48, 48).reshape(-1, 2)
    for view in range(3):
        away = np.linalg.norm(centers[:, None] - uv[view], axis=2)
        away[:, ~visible[view]] = np.inf
        expected = np.where(away.min(axis=1) <= 2.5, away.argmin(axis=1), -1)
        np.testing.assert_array_equal(index[view].ravel(), expected)
    assert np.any(index >= 0)


def test_with_depth_no_background_pixel_gets_a_point():
    points, visible, cameras = cloud()
    depth = np.random.default_rng(1).uniform(0.5, 3, (3, 48, 48))
    depth[:, ::2] = 0
    _, plain = points_to_pixels(points, visible, cameras)
    _, pixel = points_to_pixels(points, visible, cameras, depth)
    on_background = visible & (plain[..., 0] % 2 == 0)
    assert np.any(on_background)
    np.testing.assert_array_equal(pixel, np.where(on_background[..., None], -1, plain))
    index = pixels_to_points(points, visible, cameras, depth=depth)
    expected = np.where(depth == 0, -1, pixels_to_points(points, visible, cameras))
    np.testing.assert_array_equal(index, expected)


def box_depth(camera, half):
    """Depth of an axis-aligned box [-half, half]³ by the slab method, 0 = background."""
    centers = pixel_centers(camera.width, camera.height).reshape(-1, 2)
    ray = camera.unproject(centers, np.ones(len(centers))) - camera.center  # length 1 = depth 1
    with np.errstate(divide="ignore"):
        near, far = (-half - camera.center) / ray, (half - camera.center) / ray
    enter = np.minimum(near, far).max(axis=1)
    leave = np.maximum(near, far).min(axis=1)
    return np.where(enter < leave, enter, 0).reshape(camera.height, camera.width), ray


def box_truth(first, second, half):
    """Analytic map: where each pixel's point on the box projects, and whether the box hides it."""
    depth, ray = box_depth(first, half)
    points = first.center + ray * depth.reshape(-1, 1)
    uv, _ = second.project(points)
    toward = points - second.center
    with np.errstate(divide="ignore", invalid="ignore"):
        near, far = (-half - second.center) / toward, (half - second.center) / toward
    enter = np.minimum(near, far).max(axis=1)  # 1 = at the point itself
    shows = (depth.ravel() > 0) & (enter > 1 - 1e-6)
    shape = depth.shape
    return uv.reshape(*shape, 2), shows.reshape(shape), points.reshape(*shape, 3)


def distance_to_visible_faces(points, camera, half):
    """From points [n,3] on the box to the nearest of its faces that the camera sees."""
    nearest = np.full(len(points), np.inf)
    for axis in range(3):
        for side in (-half, half):
            if camera.center[axis] / side > 1:
                foot = np.clip(points, -half, half)
                foot[:, axis] = side
                nearest = np.minimum(nearest, np.linalg.norm(points - foot, axis=1))
    return nearest


def test_matches_on_a_box_agree_with_the_analytic_map():
    cameras = find_rig("circle12").cameras(128)
    half = 1 / np.sqrt(3)
    for other in (1, 2, 3):
        pair = cameras[0], cameras[other]
        depths = box_depth(pair[0], half)[0], box_depth(pair[1], half)[0]
        uv, valid = match_pixels(depths, pair)
        truth, shows, points = box_truth(*pair, half)
        np.testing.assert_allclose(uv[valid], truth[valid], atol=1e-6)
        # Never farther from visible faces than the width of a pixel.
        hidden = points[valid & ~shows]
        assert distance_to_visible_faces(hidden, pair[1], half).max(initial=0) < 1.5 * PIXEL
        assert valid[shows].mean() > 0.97


def test_forward_then_backward_is_the_identity():
    cameras = find_rig("circle12").cameras(96)
    half = 1 / np.sqrt(3)
    depth = [box_depth(cameras[i], half)[0] for i in range(2)]
    uv, valid = match_pixels((depth[0], depth[1]), (cameras[0], cameras[1]))
    _, reach = cameras[1].project(
        cameras[0].unproject(pixel_centers(96, 96)[valid], depth[0][valid])
    )
    back, _ = cameras[0].project(cameras[1].unproject(uv[valid], reach))
    np.testing.assert_allclose(back, pixel_centers(96, 96)[valid], atol=1e-9)


def test_a_view_matches_itself_exactly():
    camera = find_rig("circle12").cameras(64)[0]
    depth, _ = box_depth(camera, 0.5)
    uv, valid = match_pixels((depth, depth), (camera, camera))
    np.testing.assert_array_equal(valid, depth > 0)
    np.testing.assert_allclose(uv[valid], pixel_centers(64, 64)[valid], atol=1e-9)
