"""Which frames of a recording are stored: the sharpest of those that show the same place."""

from dataclasses import replace

import numpy as np

from pointcmt.render.scenes.config import SceneConfig
from pointcmt.render.scenes.frames import choose_frames, sharpness, spread
from pointcmt.scenes import Frame, Image


def frame(number, x=0.0, yaw=0.0, noise=1.0):
    pose = np.eye(4)
    pose[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    pose[0, 3] = x
    rng = np.random.default_rng(number)
    color = (128 + noise * rng.integers(-50, 50, (8, 10, 3))).astype(np.uint8)
    return Frame(number, np.eye(3), pose, lambda: Image(color, np.ones((8, 10), np.float32)))


def numbers(recording, **settings):
    found, refused = choose_frames(recording, replace(SceneConfig(), **settings))
    assert refused == []
    return [each.frame.number for each in found]


def test_a_group_ends_when_the_camera_has_moved_or_turned_enough():
    moving = [frame(i, x=0.1 * i, noise=i == 0 or i % 3 == 0) for i in range(10)]
    assert numbers(moving) == [0, 3, 6, 9]  # 0.3 m apart: 0.2 m is too little
    turning = [frame(i, yaw=np.radians(5 * i), noise=i % 3 == 0) for i in range(7)]
    assert numbers(turning) == [0, 3, 6]


def test_the_sharpest_frame_of_a_group_is_stored():
    still = [frame(i, noise=noise) for i, noise in enumerate((0.2, 0.5, 1.0, 0.1))]
    assert numbers(still) == [2]


def test_sharpness_is_that_of_edges_and_not_of_slopes():
    slope = np.repeat(np.arange(10, dtype=np.uint8)[None, :, None] * 20, 8, axis=0)
    assert sharpness(np.repeat(slope, 3, axis=2)) == 0
    checkered = 255 * (np.indices((8, 10)).sum(axis=0) % 2).astype(np.uint8)
    assert sharpness(np.repeat(checkered[..., None], 3, axis=2)) == (4 * 255) ** 2


def test_of_too_many_groups_evenly_spaced_ones_are_stored():
    far = [frame(i, x=float(i)) for i in range(11)]
    assert numbers(far, frames=3) == [0, 5, 10]
    assert numbers(far, frames=11) == list(range(11))
    assert numbers(far, frames=1) == [0]


def test_spread_takes_both_ends():
    assert spread(3, 5) == [0, 1, 2]
    assert spread(101, 3) == [0, 50, 100]
    assert spread(0, 3) == []
