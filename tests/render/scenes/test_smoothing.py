"""Smoothing depth: planes stay where they are, noise shrinks, edges and gaps stay."""

import numpy as np
import pytest

from pointcmt.render.scenes.smoothing import RADIUS, smoothed_depth
from pointcmt.render.scenes.visibility import tolerance


def plane(slope, height=40, width=50):
    """The depth of a plane about 2 m away that is turned from the camera."""
    row, column = np.mgrid[:height, :width]
    return (1 / (0.5 + slope * (column - width / 2) + 0.5 * slope * row)).astype(np.float32)


def reference(depth):
    """The definition, pixel by pixel."""
    out = np.zeros(depth.shape)
    height, width = depth.shape
    for row, column in np.argwhere(depth > 0):
        z = float(depth[row, column])
        found = [1 / z]
        for down in range(RADIUS + 1):
            for right in range(-RADIUS, RADIUS + 1):
                rows, columns = (row - down, row + down), (column - right, column + right)
                inside = min(*rows, *columns) >= 0 and max(rows) < height and max(columns) < width
                if (down == 0 and right <= 0) or not inside:
                    continue
                pair = [float(depth[r, c]) for r, c in zip(rows, columns, strict=True)]
                if min(pair) > 0 and abs(2 / (1 / pair[0] + 1 / pair[1]) - z) <= tolerance(z):
                    found += [1 / each for each in pair]
        out[row, column] = 1 / np.mean(found)
    return out


def test_it_is_the_mean_inverse_depth_of_agreeing_pairs():
    rng = np.random.default_rng(0)
    depth = rng.uniform(1.9, 2.1, (14, 17)).astype(np.float32)
    depth[rng.random(depth.shape) < 0.2] = 0
    depth[:, 9:] *= 1.5
    assert np.allclose(smoothed_depth(depth), reference(depth), rtol=1e-6, atol=0)


@pytest.mark.parametrize("slope", [0.0, 0.001, 0.008])
def test_planes_stay_and_noise_on_them_shrinks(slope):
    exact = plane(slope)
    assert np.allclose(smoothed_depth(exact), exact, rtol=1e-6, atol=0)
    noise = np.random.default_rng(1).normal(0, 0.006, exact.shape).astype(np.float32)
    inner = slice(RADIUS, -RADIUS), slice(RADIUS, -RADIUS)
    left = (smoothed_depth(exact + noise) - exact)[inner]
    assert left.std() < 0.25 * 0.006
    assert abs(left.mean()) < 0.0002


def test_steps_and_gaps_stay():
    depth = np.full((20, 30), 2.0, np.float32)
    depth[:, 15:] = 2.2
    depth[5, 5] = 0
    assert np.array_equal(smoothed_depth(depth), depth)
