"""The camera's path: in free space, closed, in the camera conventions, looking at everything."""

import numpy as np
import open3d as o3d
import pytest

from pointcmt.cameras import pixel_centers
from pointcmt.datasets.sources.toy.rooms.path import CLEARANCE, FRAMES, resize_cameras
from pointcmt.datasets.sources.toy.rooms.piece import CLASSES
from tests.datasets.sources.rooms.rooms import SEEDS, cast, own_frame, ray_scene, room, rooms


@pytest.mark.parametrize("seed", SEEDS)
def test_cameras_are_30_cm_from_every_surface(seed):
    made = room(seed)
    centers = o3d.core.Tensor(made.cameras.center.astype(np.float32))
    assert ray_scene(made).compute_distance(centers).numpy().min() >= CLEARANCE - 1e-3


@pytest.mark.parametrize("seed", SEEDS)
def test_cameras_see_a_surface_in_every_pixel(seed):
    """The shell is closed: no ray leaves the room."""
    made = room(seed)
    scene, cameras = ray_scene(made), resize_cameras(made.cameras, 32, 24)
    pixels = pixel_centers(32, 24).reshape(-1, 2)
    points = cameras.unproject(
        np.broadcast_to(pixels, (FRAMES, *pixels.shape)), np.ones(len(pixels))
    )
    depth, _ = cast(scene, cameras.center[:, None], points - cameras.center[:, None])
    assert np.isfinite(depth).all()
    assert depth.max() < 12


@pytest.mark.parametrize("seed", SEEDS)
def test_cameras_keep_the_conventions(seed):
    """OpenCV axes: rigid, upright up to the roll, at 1.2 to 1.7 m above the floor."""
    made = room(seed)
    cameras = made.cameras
    assert len(cameras) == FRAMES == 48
    assert (cameras.width, cameras.height) == (320, 240)
    assert cameras.K.dtype == cameras.world_to_camera.dtype == np.float64
    assert (cameras.K == [[275, 0, 160], [0, 275, 120], [0, 0, 1]]).all()
    rotation = cameras.world_to_camera[:, :3, :3]
    assert np.abs(rotation @ rotation.swapaxes(1, 2) - np.eye(3)).max() < 1e-9
    assert (np.linalg.det(rotation) > 0).all()
    assert (cameras.world_to_camera[:, 3] == [0, 0, 0, 1]).all()
    heights = own_frame(made, cameras.center)[:, 2]
    assert heights.min() >= 1.2 - 1e-6
    assert heights.max() <= 1.7 + 1e-6
    up = rotation @ made.room_to_world[:3, 2]  # the room's up direction in the camera
    assert (up[:, 1] < 0).all()
    roll = np.degrees(np.arctan2(up[:, 0], -up[:, 1]))
    assert np.abs(roll).max() <= 3.0 + 1e-6
    assert np.abs(roll).max() > 1.0


@pytest.mark.parametrize("seed", SEEDS)
def test_the_path_is_a_closed_loop(seed):
    """No step between frames, the one from the last to the first included, is a jump."""
    center = room(seed).cameras.center
    steps = np.linalg.norm(np.roll(center, -1, axis=0) - center, axis=1)
    assert steps.max() < 0.9
    assert steps.sum() > 1.0


@pytest.mark.parametrize("seed", SEEDS)
def test_the_camera_looks_up_once(seed):
    """In one run of frames it looks more than 20° upward, and in no other."""
    made = room(seed)
    forward = made.cameras.world_to_camera[:, 2, :3] @ made.room_to_world[:3, :3]
    rise = np.degrees(np.arcsin(forward[:, 2]))
    upward = rise > 25
    starts = (upward & ~np.roll(upward, 1)).sum()
    assert starts == 1
    assert 35 < rise.max() < 50


def test_resized_cameras_see_the_same():
    """A point has the same place in the image, in fractions of its size."""
    cameras = room(0).cameras
    small = resize_cameras(cameras, 160, 100)
    points = cameras.center[:, None] + np.random.default_rng(0).normal(size=(1, 50, 3))
    for made, expected in zip(small.project(points), cameras.project(points), strict=True):
        scale = [160 / 320, 100 / 240] if made.ndim == 3 else 1.0
        np.testing.assert_allclose(made, expected * scale, rtol=1e-9, atol=1e-9)
    assert (small.width, small.height) == (160, 100)


def test_the_cameras_see_every_class_and_seldom_bare_walls():
    """Every class has at least 0.3 % of the surface seen, over all rooms. Frames with more than
    90 % of floor, walls and ceiling are few: mostly those that look up."""
    shares, bare, structure = [], [], [CLASSES.index(n) for n in ("floor", "ceiling", "wall")]
    for made in rooms().values():
        scene, cameras = ray_scene(made), resize_cameras(made.cameras, 64, 48)[::2]
        pixels = np.broadcast_to(pixel_centers(64, 48).reshape(-1, 2), (len(cameras), 64 * 48, 2))
        points = cameras.unproject(pixels, np.ones(64 * 48))
        origin = cameras.center[:, None]
        depth, face = cast(scene, origin, points - origin)
        bare.append(np.isin(made.face_semantic[face], structure).mean(axis=1) > 0.9)
        place = np.floor((origin + depth[..., None] * (points - origin)) / 0.05).reshape(-1, 3)
        voxel = (place.astype(np.int64) + 500) @ (1, 1000, 1_000_000)
        _, first = np.unique(voxel, return_index=True)
        counts = np.bincount(made.face_semantic[face.reshape(-1)[first]], minlength=len(CLASSES))
        shares.append(counts / counts.sum())
    mean = dict(zip(CLASSES, np.mean(shares, axis=0).tolist(), strict=True))
    assert {name: share for name, share in mean.items() if share < 0.003} == {}
    assert mean["floor"] + mean["wall"] + mean["ceiling"] < 0.8
    assert np.concatenate(bare).mean() < 0.07
