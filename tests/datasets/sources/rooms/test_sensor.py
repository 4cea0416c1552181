"""The depth camera's noise: its spread by distance, its range, and what it loses."""

import numpy as np
import pytest

from pointcmt.cameras import Camera, look_at
from pointcmt.datasets.sources.toy.rooms.sensor import Sensor, jitter_poses, sample_sensor

SIZE = (240, 320)
CAMERA = Camera(np.array([[275.0, 0, 160], [0, 275, 120], [0, 0, 1]]), np.eye(4), 320, 240)


def wall(z):
    """The depth of a wall at z that faces the camera."""
    return np.full(SIZE, float(z))


@pytest.mark.parametrize("z", [0.5, 1.0, 2.0, 4.0, 5.9])
def test_the_noise_grows_with_the_square_of_the_distance(z):
    measured = sample_sensor(wall(z), CAMERA, 0)
    kept = measured[measured > 0].astype(np.float64) - z
    expected = 0.0012 + 0.0019 * (z - 0.4) ** 2
    assert abs(kept.mean()) < 5 * expected / np.sqrt(kept.size)
    assert kept.std() == pytest.approx(expected, rel=0.02)


def test_one_pixel_in_a_thousand_is_lost():
    lost = (sample_sensor(wall(2), CAMERA, 1) == 0).mean()
    assert 0.0007 < lost < 0.0013


@pytest.mark.parametrize("z", [0.0, 0.39, 6.01, 20.0])
def test_nothing_is_measured_outside_the_range(z):
    assert (sample_sensor(wall(z), CAMERA, 0) == 0).all()


def test_the_same_seed_gives_the_same_bytes():
    one, again, other = (sample_sensor(wall(2), CAMERA, seed) for seed in (4, 4, 5))
    assert one.dtype == np.float32
    assert one.tobytes() == again.tobytes()
    assert one.tobytes() != other.tobytes()


def test_three_pixels_at_a_jump_in_depth_are_lost():
    depth = wall(2)
    depth[:, 200:] = 3.0
    depth[100:, :50] = 2.5
    measured = sample_sensor(depth, CAMERA, 0, Sensor(holes=0.0))
    lost = np.zeros(SIZE, bool)
    lost[:, 198:201] = True
    lost[100:, 48:51] = True
    lost[98:101, :50] = True
    assert ((measured == 0) == lost).all()


@pytest.mark.parametrize(("angle", "kept"), [(0, True), (60, True), (72, True), (78, False)])
def test_grazing_surfaces_are_lost(angle, kept):
    """A plane tilted about the image's vertical axis, seen in the middle of the image."""
    slope = np.tan(np.radians(angle))
    u = (np.arange(320) + 0.5 - 160) / 275
    depth = np.broadcast_to(2.0 / (1 - slope * u), SIZE).copy()
    depth[(depth < 0.4) | (depth > 6)] = 0
    measured = sample_sensor(depth, CAMERA, 0, Sensor(holes=0.0))
    middle = measured[100:140, 158:163]
    assert ((middle > 0) == kept).all()


def test_poses_move_by_2_mm_and_turn_by_a_tenth_of_a_degree():
    exact = np.tile(look_at((1, 2, 3), (0, 0, 0), (0, 0, 1)), (4000, 1, 1))
    noisy = jitter_poses(exact, 7)
    error = noisy @ np.linalg.inv(exact)
    rotation = error[:, :3, :3]
    assert np.abs(rotation @ rotation.swapaxes(1, 2) - np.eye(3)).max() < 1e-12
    assert error[:, :3, 3].std(axis=0) == pytest.approx([0.002] * 3, rel=0.05)
    turn = np.stack([rotation[:, 2, 1], rotation[:, 0, 2], rotation[:, 1, 0]], axis=1)
    assert np.degrees(turn.std(axis=0)) == pytest.approx([0.1] * 3, rel=0.05)
    assert (jitter_poses(exact, 7) == noisy).all()
    assert (jitter_poses(exact, 8) != noisy).any()
