"""Real recordings: the depth of a frame, moved into another one, agrees with its depth.

The figures were measured once by an independent script: the median difference is 0.6, 1.2, 3.7 and
7.6 mm at gaps of 1, 10, 40 and 100 frames, and 69 % of a frame is seen 100 frames later.
"""

import numpy as np
import pytest

from pointcmt.cameras import Camera
from pointcmt.datasets.sources.frames import list_frames
from pointcmt.render.load.scenes.frames import load_frames
from tests.render.load.scenes.rooms import back_projected


@pytest.fixture(scope="module")
def scenes(real_data):
    root = real_data / "frames"
    if not root.is_dir():
        pytest.skip("no recordings here: POINTCMT_TEST_DATA has no folder frames")
    return {record.id: load_frames(record, root) for record in list_frames("frames", root).shapes}


def compare(first, second):
    """The median difference in meters of a frame's depth from another's, and the share compared."""
    image, other = first.read(), second.read()
    points, _ = back_projected(image, first)
    H, W = other.depth.shape
    uv, z = Camera(second.K, np.linalg.inv(second.camera_to_world), W, H).project(points)
    column, row = np.floor(uv).astype(int).T
    inside = (z > 0) & (column >= 0) & (column < W) & (row >= 0) & (row < H)
    there = other.depth[row[inside], column[inside]]
    error = abs(z[inside] - there)[there > 0]
    near = error < 0.05  # surfaces that are not hidden by others
    return float(np.median(error[near])), float(near.sum() / len(points))


@pytest.mark.parametrize(
    ("gap", "most", "overlap"),
    [(1, 0.0008, 0.98), (10, 0.0015, 0.9), (40, 0.004, 0.6), (100, 0.009, 0.4)],
)
def test_depth_agrees_between_the_frames_of_the_living_room(scenes, gap, most, overlap):
    scene = scenes["icl_livingroom1_micro"]
    assert len(scene.frames) == 211
    found = [compare(scene.frames[i], scene.frames[i + gap]) for i in (0, 50, 100)]
    assert np.median([error for error, _ in found]) < most
    assert np.median([share for _, share in found]) > overlap


def test_noisy_frames_agree_within_their_noise(scenes):
    scene = scenes["redwood_rgbd5"]
    assert len(scene.frames) == 5
    for first, second in zip(scene.frames, scene.frames[1:], strict=False):
        error, share = compare(first, second)
        assert error < 0.008
        assert share > 0.8


def test_the_scenes_stand_upright(scenes):
    """Cameras are carried above the floor, and their images' up is roughly the world's."""
    for scene in scenes.values():
        assert any("first camera" in note for note in scene.notes)
        for frame in scene.frames[::20]:
            pose = scene.source_to_world @ frame.camera_to_world
            assert -pose[2, 1] > 0.7
            assert 0 < pose[2, 3] < 3
