"""Clouds drawn as discs, against a plain reference that tries every point at every pixel."""

import numpy as np
import pytest

from pointcmt.cameras import Rig, View, find_rig, pixel_centers
from pointcmt.render.config import RenderConfig, fit
from pointcmt.render.draw.splatter import draw_cloud, splat, visible_points
from pointcmt.render.load.normals import complete_normals, estimate_normals
from pointcmt.shapes import Cloud
from pointcmt.srgb import to_linear, to_srgb

INSIDE = Rig("inside", (View((0.1, 0.2, 0.3), target=(1.0, 0.0, 0.0), fov=120.0),))


def sphere(count, seed=0):
    """Points uniform on the unit sphere."""
    points = np.random.default_rng(seed).normal(size=(count, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    return points.astype(np.float32).astype(np.float64)


def ball(count, seed=0):
    """Points in the unit ball, some of them duplicated."""
    rng = np.random.default_rng(seed)
    points = sphere(count, seed) * rng.random((count, 1))
    points[count // 2 :: 7] = points[: len(points[count // 2 :: 7])]
    return points


def cloud(points, normals=None, **more):
    return Cloud(points, points.copy() if normals is None else normals, **more)


def config(rig, size=40, splat=2.0, **more):
    return fit(RenderConfig(rig, size=size, splat=splat, **more), "cloud")


def draw(shape, settings):
    camera = settings.rig.cameras(settings.size)
    return draw_cloud(shape, splat(shape.points, camera, settings.splat), camera, settings)


def plain_splat(points, camera, radius):
    """For each pixel, the nearest point among all whose center lies within the radius."""
    index = np.full((len(camera), camera.height, camera.width), -1, np.int32)
    depth = np.zeros(index.shape, np.float32)
    centers = pixel_centers(camera.width, camera.height)
    x, y, z = points.T
    for view in range(len(camera)):
        p = camera.K[view] @ camera.world_to_camera[view, :3]
        reach = p[2, 0] * x + p[2, 1] * y + p[2, 2] * z + p[2, 3]
        u = (p[0, 0] * x + p[0, 1] * y + p[0, 2] * z + p[0, 3]) / reach
        v = (p[1, 0] * x + p[1, 1] * y + p[1, 2] * z + p[1, 3]) / reach
        for row in range(camera.height):
            across = (centers[row, :, 0, None] - u) ** 2 + (centers[row, :, 1, None] - v) ** 2
            covered = (across <= radius**2) & (reach >= 1e-6)
            nearest = np.where(covered, reach, np.inf)
            shown = covered.any(axis=1)
            index[view, row] = np.where(shown, nearest.argmin(axis=1), -1)  # the first of equals
            depth[view, row] = np.where(shown, nearest.min(axis=1), 0)
    return index, depth


RIGS = [find_rig("fibonacci5"), find_rig("simpleview6"), INSIDE]


@pytest.mark.parametrize("radius", [1.0, 1.7, 3.0])
@pytest.mark.parametrize("rig", RIGS, ids=lambda rig: rig.name)
def test_every_pixel_shows_the_nearest_point_that_covers_its_center(rig, radius):
    camera = rig.cameras(40)
    for points in (ball(400), np.round(ball(400, 1) * 4) / 4):  # the second cloud has many ties
        index, depth = splat(points, camera, radius)
        expected_index, expected_depth = plain_splat(points, camera, radius)
        np.testing.assert_array_equal(index, expected_index)
        np.testing.assert_array_equal(depth, expected_depth)


def test_points_beside_and_behind_the_camera_are_not_drawn():
    camera = INSIDE.cameras(32)
    at, behind = camera.center[0], camera.unproject([[[16.0, 16.0]]], [[-0.5]])[0]
    beside = at + camera.world_to_camera[0, 0, :3] * 0.3
    index, depth = splat(np.stack([at, behind[0], beside]), camera, 3.0)
    assert np.all(index == -1)
    assert not depth.any()


def test_the_order_of_points_only_changes_their_ids():
    points, camera = sphere(500), find_rig("fibonacci5").cameras(40)
    order = np.random.default_rng(0).permutation(500)
    index, depth = splat(points, camera, 2.0)
    shuffled, same = splat(points[order], camera, 2.0)
    np.testing.assert_array_equal(depth, same)
    np.testing.assert_array_equal(np.where(shuffled < 0, -1, order[shuffled]), index)


# Visibility


def see(shape, rig, size, radius):
    """Return the visibility of all points, and the splats."""
    camera = rig.cameras(size)
    splats = splat(shape.points, camera, radius)
    everything = np.arange(len(shape.points), dtype=np.int32)
    return visible_points(shape, everything, splats, camera), splats, camera


def plain_visible(shape, camera, index):
    seen = np.zeros((len(camera), len(shape.points)), bool)
    for view in range(len(camera)):
        uv, depth = camera[view].project(shape.points)
        for point, ((u, v), reach) in enumerate(zip(uv, depth, strict=True)):
            if reach > 1e-6 and 0 <= u < camera.width and 0 <= v < camera.width:
                shown = index[view, int(v), int(u)]
                away = np.dot(shape.points[shown] - shape.points[point], shape.normals[point])
                pixel = reach / camera.K[view, 0, 0]
                seen[view, point] = reach - depth[shown] <= pixel or abs(away) <= pixel
    return seen


@pytest.mark.parametrize("rig", RIGS, ids=lambda rig: rig.name)
def test_visible_points_are_on_the_surface_their_pixel_shows(rig):
    shape = cloud(ball(600), sphere(600, 2))
    visible, splats, camera = see(shape, rig, 40, 2.0)
    np.testing.assert_array_equal(visible, plain_visible(shape, camera, splats.face_index))
    assert 0.05 < visible.mean() < 0.9


def test_visible_points_lie_on_their_own_disc_or_a_neighbors():
    shape = cloud(sphere(600))
    visible, splats, camera = see(shape, find_rig("fibonacci5"), 40, 2.0)
    own = 0
    for view in range(len(camera)):
        uv, _ = camera[view].project(shape.points)
        column, row = np.floor(uv[visible[view]]).astype(int).T
        shown = splats.face_index[view, row, column]
        away = np.linalg.norm(uv[shown] - np.stack([column, row], axis=1) - 0.5, axis=1)
        assert away.max() <= 2.0
        own += np.sum(shown == np.flatnonzero(visible[view]))
        column, row = np.floor(uv).astype(int).T
        mine = splats.face_index[view, row, column] == np.arange(600)
        assert np.all(visible[view, mine])  # a point shown on its own pixel is visible
    assert own > 100


def test_on_a_dense_sphere_the_side_that_faces_the_camera_is_visible():
    shape = cloud(sphere(50_000))
    visible, _, camera = see(shape, find_rig("fibonacci12"), 224, 3.0)
    toward = camera.center[:, None] - shape.points
    facing = (toward * shape.points).sum(axis=2) / np.linalg.norm(toward, axis=2)
    clear = np.abs(facing) > 0.2  # not seen nearly edge-on
    assert np.all(visible[clear & (facing > 0)])
    assert np.mean(visible[clear & (facing < 0)]) < 0.005  # through gaps between the discs


def test_a_closed_wall_hides_what_is_behind_it():
    side = np.linspace(-0.7, 0.7, 150)
    x, z = (a.ravel() for a in np.meshgrid(side, side))
    wall = np.stack([x, np.full_like(x, -0.1), z], axis=1)
    hidden = sphere(50) * 0.3 * [1, 0, 1] + [0, 0.3, 0]
    points = np.concatenate([wall, hidden])
    shape = cloud(points, np.tile([0.0, 1, 0], (len(points), 1)))
    visible, _, _ = see(shape, find_rig("ortho6"), 96, 1.5)
    assert visible[0, : len(wall)].all()  # the first view is from -Y
    assert not visible[0, len(wall) :].any()
    assert visible[1, len(wall) :].all()


# Color


def test_colors_of_a_cloud_are_drawn_unshaded():
    rng = np.random.default_rng(0)
    own = rng.integers(0, 256, (300, 3))
    shape = cloud(sphere(300), colors=(own / 255).astype(np.float32))
    views = draw(shape, config(find_rig("fibonacci5"), background=(1, 2, 3), layers=("albedo",)))
    covered = views.face_index >= 0
    np.testing.assert_array_equal(views.rgb[covered], own[views.face_index[covered]])
    np.testing.assert_array_equal(views.layers["albedo"][covered], views.rgb[covered])
    assert np.all(views.rgb[~covered] == [1, 2, 3])
    assert not views.layers["albedo"][~covered].any()


@pytest.mark.parametrize("light", ["camera", "world"])
def test_points_without_colors_are_gray_and_lit_like_meshes(light):
    shape = cloud(sphere(300))
    settings = config(find_rig("fibonacci5"), light=light, layers=("normal",))
    views, camera = draw(shape, settings), settings.rig.cameras(settings.size)
    view, row, column = np.nonzero(views.face_index >= 0)
    point = views.face_index[view, row, column]
    away = shape.points[point] - camera.center[view]
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    normal = shape.normals[point]
    facing = (normal * away).sum(axis=1, keepdims=True)
    normal = np.where(facing > 0, -normal, normal)
    turn = camera.world_to_camera[view, :3, :3]
    key = np.array((-0.36, -0.48, 0.80))
    if light == "camera":
        key = np.einsum("nji,j->ni", turn, (-0.40, -0.55, -0.733))
    ahead = np.abs(facing[:, 0])
    if light == "world":  # along an axis, from both sides
        ahead = np.abs(normal @ (0.48, -0.64, 0.60))
    lit = 0.12 + 0.26 * ahead + 0.52 * np.maximum((normal * key).sum(axis=1), 0)
    expected = 255 * to_srgb((0.02 + 0.98 * to_linear(0.75)) * lit)
    away = np.abs(views.rgb[view, row, column] - expected[:, None])
    assert away.max() <= 1
    local = np.einsum("nij,nj->ni", turn, normal)
    np.testing.assert_allclose(
        views.layers["normal"][view, row, column], 128 + 127 * local, atol=0.5 + 1e-9
    )


def test_the_sign_of_normals_does_not_change_images():
    points = sphere(300)
    sign = np.where(np.random.default_rng(0).random((300, 1)) < 0.5, -1, 1)
    settings = config(find_rig("fibonacci5"), layers=("albedo", "normal"))
    one, other = draw(cloud(points), settings), draw(cloud(points, points * sign), settings)
    np.testing.assert_array_equal(one.rgb, other.rgb)
    np.testing.assert_array_equal(one.layers["normal"], other.layers["normal"])


# Normals


def test_normals_are_those_of_the_plane_through_the_neighbors():
    points = sphere(3000)
    assert (estimate_normals(points) * points).sum(axis=1).min() > 0.99  # and point outwards
    rng = np.random.default_rng(0)
    plane = np.stack([*rng.uniform(-0.5, 0.5, (2, 200)), np.full(200, 0.25)], axis=1)
    np.testing.assert_allclose(estimate_normals(plane), np.tile([0, 0, 1], (200, 1)), atol=1e-6)


@pytest.mark.parametrize(
    "points",
    [
        np.array([[-1.0, 0, 0], [1, 0, 0]]),
        np.linspace(-1, 1, 50)[:, None] * [[0.6, 0.8, 0]],
        np.repeat([[0.1, 0.2, 0.3], [-0.1, 0.2, 0.3]], 20, axis=0),
        np.array([[0.0, 0, 1], [0, 0, -1], [0, 1, 0]]),
    ],
    ids=["two points", "a line", "two places", "three points"],
)
def test_normals_have_unit_length_for_any_points(points):
    normals = complete_normals(Cloud(points, np.zeros_like(points))).normals
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-12)


def test_unit_normals_of_the_file_are_kept():
    points = sphere(500)
    given = np.roll(points, 1, axis=1) * 1.004  # as rounded in a file
    given[:40] = 1.0
    given[40:50] = 0.0
    done = complete_normals(Cloud(points, given))
    np.testing.assert_allclose(done.normals[50:], np.roll(points, 1, axis=1)[50:], atol=1e-6)
    np.testing.assert_array_equal(done.normals[:50], estimate_normals(points)[:50])
    assert done.notes == ("50 normals are not unit vectors: estimated instead",)
    assert complete_normals(Cloud(points, np.zeros_like(points))).notes == ()
