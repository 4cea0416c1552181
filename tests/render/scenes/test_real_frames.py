"""A store of real recordings: the depth of its frames, its points and its pixels agree.

`benchmarks/frames.py` measures all frames. Images are halved, as by default, which costs 0.3 mm.
"""

import shutil

import numpy as np
import pytest

from pointcmt.cameras import pixel_centers
from pointcmt.datasets.sources.frames import list_frames
from pointcmt.datasets.store.verify import verify
from pointcmt.render.scenes.visibility import tolerance
from tests.stores import render_scenes

NUMBERS = (0, 1, 10, 40, 100)  # frames of the living room that are stored
LIVING_ROOM, NOISY = 0, 1


@pytest.fixture(scope="module")
def store(real_data, tmp_path_factory):
    """Some frames of the living room, and the five noisy ones."""
    source, root = real_data / "frames", tmp_path_factory.mktemp("frames")
    if not source.is_dir():
        pytest.skip("no recordings here: POINTCMT_TEST_DATA has no folder frames")
    shutil.copytree(source / "redwood_rgbd5", root / "redwood_rgbd5")
    room = "icl_livingroom1_micro"
    for name in ("image", "depth"):
        (root / room / name).mkdir(parents=True)
        images = sorted((source / room / name).iterdir())
        for number in NUMBERS:
            shutil.copy(images[number], root / room / name)
    for name in ("trajectory.log", "camera_intrinsic.json"):
        shutil.copy(source / room / name, root / room)
    every = {"frames": len(NUMBERS), "distance": 0.0}  # nothing is left out
    return render_scenes(list_frames("frames", root), root / "S", points=1 << 16, **every)


def depth_at(store, scene, view, points):
    """Of points: their depth in a frame, and the depth stored at their pixel, 0 = outside."""
    depth = store.depth(scene, view)
    uv, z = store.camera(scene, view).project(points)
    inside = (z > 0) & (uv >= 0).all(axis=-1) & (uv < [320, 240]).all(axis=-1)
    column, row = np.where(inside[:, None], uv, 0).astype(int).T
    return z, np.where(inside, depth[row, column], 0)


def moved_depth_error(store, scene, first, second):
    """The median difference in meters of a frame's depth from another's."""
    depth = store.depth(scene, first)
    uv = pixel_centers(320, 240)[depth > 0]
    points = store.camera(scene, first).unproject(uv, depth[depth > 0])
    z, there = depth_at(store, scene, second, points)
    error = np.abs(z - there)[there > 0]
    return np.median(error[error < 0.05])  # nearly the same surface


def test_depth_agrees_between_frames_of_the_store(store):
    assert store.read("frame", LIVING_ROOM).tolist() == list(NUMBERS)
    for view, most in enumerate((0.0014, 0.002, 0.004, 0.009), 1):
        assert moved_depth_error(store, LIVING_ROOM, 0, view) < most
    for view in range(4):
        assert moved_depth_error(store, NOISY, view, view + 1) < 0.008


@pytest.mark.parametrize(("scene", "most"), [(LIVING_ROOM, 0.006), (NOISY, 0.008)])
def test_visible_points_lie_on_the_measured_surface(store, scene, most):
    points, visible = store.read("points", scene), store.visible(scene)
    assert visible.any(axis=0).mean() > 0.98  # the points are fused from these frames
    for view, seen in enumerate(visible):
        z, there = depth_at(store, scene, view, points[seen])
        assert (np.abs(z - there) <= tolerance(z) + 1e-6).all()
        assert np.median(np.abs(z - there)) < most


@pytest.mark.parametrize(("scene", "share"), [(LIVING_ROOM, 0.9), (NOISY, 0.99)])
def test_pixels_of_the_same_point_show_the_same_place(store, scene, share):
    points, visible = store.read("points", scene), store.visible(scene)
    for view in range(1, 5):
        both = points[visible[0] & visible[view]]
        assert len(both) > 5000
        first, second = store.camera(scene, 0), store.camera(scene, view)
        _, there = depth_at(store, scene, 0, both)
        place = first.unproject(first.project(both)[0], there)  # by the first frame's depth alone
        z, there = depth_at(store, scene, view, place)
        assert np.mean(np.abs(z - there) <= tolerance(z)) > 0.97
        apart = second.project(place)[0] - second.project(both)[0]
        assert np.mean(np.linalg.norm(apart, axis=-1) < 2) > share


def test_the_store_is_sound(store):
    assert verify(store.path).ok
