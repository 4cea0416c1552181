"""Axioms of cameras and rigs: rigid, centered, what is projected comes back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointcmt.cameras import RIGS, Camera, find_rig, look_at, pixel_centers
from pointcmt.errors import UsageError

ALL_RIGS = [*RIGS, "fibonacci1", "fibonacci37"]
REACH = {"simpleview6": 0.98}  # by name, where a rig does not see the sphere to its rim
NUMBER = st.floats(-5, 5)


def camera(position, target=(0.0, 0.0, 0.0), up=(0.0, 0.0, 1.0), size=64, focal=80.0):
    K = np.array([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]])
    return Camera(K, look_at(position, target, up), size, size)


@pytest.mark.parametrize("name", ALL_RIGS)
def test_every_view_of_a_rig_sees_the_whole_unit_sphere(name):
    cameras = find_rig(name).cameras(224)
    rng = np.random.default_rng(0)
    sphere = rng.normal(size=(4000, 3))
    sphere *= REACH.get(name, 1.0) / np.linalg.norm(sphere, axis=1, keepdims=True)
    uv, depth = cameras.project(sphere)
    assert depth.min() > 0
    assert uv.min() >= 0
    assert uv.max() <= 224
    assert np.ptp(uv[0], axis=0).min() > 0.9 * 224  # and fills the image


@pytest.mark.parametrize("name", ALL_RIGS)
def test_poses_are_rigid_and_look_at_the_origin(name):
    cameras = find_rig(name).cameras(100)
    rotation = cameras.world_to_camera[:, :3, :3]
    np.testing.assert_allclose(rotation @ rotation.swapaxes(1, 2) - np.eye(3), 0, atol=1e-12)
    assert np.all(np.linalg.det(rotation) > 0.999)
    uv, depth = cameras.project(np.zeros((1, 3)))
    np.testing.assert_allclose(uv[:, 0], 50, atol=1e-9)
    np.testing.assert_allclose(depth[:, 0], np.linalg.norm(cameras.center, axis=1), atol=1e-12)


@pytest.mark.parametrize(
    ("name", "count"),
    [("circle12", 12), ("dodeca20", 20), ("ortho6", 6), ("mvnet12", 12), ("simpleview6", 6)],
)
def test_named_rigs_have_their_views_and_no_two_are_alike(name, count):
    cameras = find_rig(name).cameras(64)
    assert len(cameras) == count
    apart = np.linalg.norm(cameras.center[:, None] - cameras.center[None], axis=2)
    assert apart[~np.eye(count, dtype=bool)].min() > 0.5


def test_rigs_have_the_elevations_of_their_definition():
    def elevations(name):
        center = find_rig(name).cameras(64).center
        return np.degrees(np.arcsin(center[:, 2] / np.linalg.norm(center, axis=1)))

    np.testing.assert_allclose(elevations("circle12"), 30)
    np.testing.assert_allclose(sorted(elevations("mvnet12")), [-20] * 2 + [20] * 8 + [60] * 2)
    axes = find_rig("ortho6").cameras(64).center / 3
    expected = [[0, -1, 0], [0, 1, 0], [-1, 0, 0], [1, 0, 0], [0, 0, 1], [0, 0, -1]]
    np.testing.assert_allclose(axes, expected, atol=1e-12)


def test_up_is_up_and_right_is_right_in_the_image():
    uv, _ = camera((0, -3, 0)).project(np.array([[0, 0, 0.5], [0.5, 0, 0]]))
    assert uv[0, 1] < 32  # higher in the world is a smaller row
    assert uv[1, 0] > 32  # seen from -Y, +X is to the right
    uv, _ = camera((0, 0, 3)).project(np.array([[0, 0.5, 0]]))
    assert uv[0, 1] < 32  # looking straight down, +Y is up


def test_a_pixels_centre_is_half_a_pixel_in():
    one = camera((0, -3, 0), size=4, focal=6.0)
    uv, _ = one.project(one.unproject(pixel_centers(4, 4).reshape(-1, 2), np.full(16, 3.0)))
    np.testing.assert_allclose(uv[0], [0.5, 0.5], atol=1e-12)
    np.testing.assert_allclose(uv[-1], [3.5, 3.5], atol=1e-12)
    np.testing.assert_array_equal(np.floor(uv).reshape(4, 4, 2)[2, 1], [1, 2])


@settings(deadline=None)
@given(st.tuples(NUMBER, NUMBER, NUMBER), st.lists(st.tuples(NUMBER, NUMBER, NUMBER), min_size=1))
def test_unproject_inverts_project(position, points):
    if np.linalg.norm(position) < 1e-3:
        position = (0.0, 0.0, 4.0)
    one, points = camera(position), np.array(points)
    uv, depth = one.project(points)
    ahead = depth > 1e-2
    np.testing.assert_allclose(one.unproject(uv[ahead], depth[ahead]), points[ahead], atol=1e-8)


def test_a_batch_is_its_cameras_one_by_one():
    cameras = find_rig("dodeca20").cameras(64)
    points = np.random.default_rng(1).normal(size=(50, 3))
    uv, depth = cameras.project(points)
    for view in range(20):
        one_uv, one_depth = cameras[view].project(points)
        np.testing.assert_allclose(uv[view], one_uv, atol=1e-9)
        np.testing.assert_allclose(depth[view], one_depth, atol=1e-12)
        np.testing.assert_allclose(cameras.center[view], cameras[view].center)


@pytest.mark.parametrize(
    ("name", "says"),
    [("dodecca20", "dodeca20"), ("fibonacci0", "1 to"), ("fibonacci9999", "1 to"), ("x", "known")],
)
def test_an_unknown_rig_is_refused_with_a_suggestion(name, says):
    with pytest.raises(UsageError, match=says):
        find_rig(name)


def test_a_rig_from_toml(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        "distance = 4.0\nfov = 30\n"
        "[[views]]\nazimuth = 90\nelevation = 10\n"
        "[[views]]\nposition = [0, 0, -5]\nup = [1, 0, 0]\n"
    )
    rig = find_rig(str(path))
    assert rig.name == "mine"
    assert [view.fov for view in rig.views] == [30, 30]
    centers = rig.cameras(8).center
    np.testing.assert_allclose(np.linalg.norm(centers, axis=1), [4, 5])
    np.testing.assert_allclose(centers[1], [0, 0, -5], atol=1e-12)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("views = 3", "must have 1 to"),
        ("[[views]]\nazimut = 3", "azimuth"),
        ("[[views]]\nazimuth = 'north'", "number"),
        ("[[views]]\nelevation = inf", "finite"),
        ("[[views]]\nposition = [1, 2]", "three numbers"),
        ("[[views]]\nposition = [0, 0, 0]", "own position"),
        ("[[views]]\nposition = [0, 0, 3]\nazimuth = 1", "'azimuth' cannot be combined"),
        ("[[views]]\nfov = 200", "degrees"),
        ("[[views]]\ndistance = -1", "greater than 0"),
        ("[[views]]\nup = [0, 0, 0]", "zero vector"),
        ("not toml", "cannot be read"),
    ],
)
def test_a_broken_rig_file_says_what_is_wrong(tmp_path, text, says):
    path = tmp_path / "rig.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=says):
        find_rig(str(path))


def test_a_missing_rig_file_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="no such rig file"):
        find_rig(str(tmp_path / "none.toml"))
