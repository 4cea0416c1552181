"""Augmentations of packed scenes: axioms, and closed forms or independent references."""

import math

import numpy as np
import pytest
import scipy.interpolate
import scipy.ndimage
import torch

from pointcmt.training.ops import augment_scenes
from pointcmt.training.ops.augment_scenes import (
    add_color_noise,
    choose_points,
    distort,
    jitter,
    mix_samples,
    move,
    random_sizes,
    random_turns,
    shift_color,
    stretch_contrast,
)

WAVES = ((0.2, 0.4), (0.8, 1.6))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def packed(samples=3, each=40):
    """Points in a room of 4 m and their samples."""
    points = torch.rand(samples * each, 3, generator=generator(5)) * 4
    return points, torch.arange(samples).repeat_interleave(each)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("angle", [math.pi, math.pi / 64])
def test_turns_are_rotations_about_their_axis_up_to_the_angle(axis, angle):
    matrices = random_turns(400, axis, angle, 1.0, generator()).double()
    identity = torch.eye(3, dtype=torch.float64).expand_as(matrices)
    torch.testing.assert_close(matrices @ matrices.mT, identity, rtol=0, atol=1e-6)
    assert (torch.linalg.det(matrices) > 0.999).all()
    assert torch.equal(matrices[:, axis], identity[:, axis])
    one, two = [other for other in range(3) if other != axis]
    found = torch.atan2(matrices[:, one, two], matrices[:, one, one])
    assert found.abs().max() <= angle * (1 + 1e-6)
    assert found.min() < -0.97 * angle
    assert found.max() > 0.97 * angle
    assert abs(found.mean()) < 0.1 * angle


def test_turns_happen_with_their_probability_and_else_change_nothing():
    matrices = random_turns(1000, 0, 1.0, 0.3, generator())
    still = (matrices == torch.eye(3)).flatten(1).all(dim=1)
    assert 640 < still.sum() < 760
    assert (random_turns(9, 2, 1.0, 0.0, generator()) == torch.eye(3)).all()


def test_sizes_mirror_x_and_y_and_scale_all_axes_alike():
    matrices = random_sizes(400, 0.5, (0.9, 1.1), generator())
    values = matrices.diagonal(dim1=1, dim2=2)
    assert torch.equal(torch.diag_embed(values), matrices)
    factor = values[:, 2]
    assert torch.equal(values.abs(), factor[:, None].expand(-1, 3))
    assert 0.9 <= factor.min() < 0.91
    assert 1.09 < factor.max() <= 1.1
    assert ((values[:, :2] < 0).float().mean(dim=0) - 0.5).abs().max() < 0.1
    assert (random_sizes(9, 0.0, (1.0, 1.0), generator()) == torch.eye(3)).all()


def test_each_sample_moves_as_a_whole_in_any_precision():
    """Distances within a sample are kept; autocast, which rounds matrix products, is not used."""
    points, batch = packed()
    matrices = random_turns(3, 2, math.pi, 1.0, generator())
    with torch.autocast("cpu", torch.bfloat16):
        moved = move(points, batch, matrices)
    for sample in range(3):
        own = batch == sample
        expected = points[own].double() @ matrices[sample].double()
        torch.testing.assert_close(moved[own].double(), expected, rtol=0, atol=1e-6)
        before, after = (torch.cdist(p[own].double(), p[own].double()) for p in (points, moved))
        torch.testing.assert_close(before, after, rtol=0, atol=1e-5)


def test_points_are_left_out_of_some_samples_and_of_each_the_same_share():
    batch = torch.arange(200).repeat_interleave(10)
    kept = choose_points(batch, 200, 0.25, 0.3, generator())
    counts = batch[kept].bincount(minlength=200)
    assert set(counts.tolist()) == {7, 10}  # int(10 · 0.75)
    assert 40 < (counts == 7).sum() < 80
    assert len({tuple(row.tolist()) for row in kept.view(200, 10)[counts == 7]}) > 20
    assert choose_points(batch, 200, 0.25, 0.0, generator()).all()
    assert choose_points(torch.arange(5), 5, 0.9, 1.0, generator()).all()  # one point each remains


def test_noise_is_bounded_and_follows_from_the_generator():
    points = torch.zeros(20_000, 3)
    moved = jitter(points, 0.005, generator())
    assert moved.abs().max() <= 0.02
    assert moved.std().item() == pytest.approx(0.005, rel=0.02)
    assert torch.equal(moved, jitter(points, 0.005, generator()))
    assert not torch.equal(moved, jitter(points, 0.005, generator(1)))


def test_elastic_distortions_equal_those_of_scipy():
    """The same noise, blurred and interpolated in float64, as in MinkowskiEngine's example."""
    points, batch = packed(1, 500)
    found = distort(points, batch, 1, WAVES, 1.0, generator())
    rng = generator()
    torch.rand(1, generator=rng)  # whether it happens
    expected = points.double().numpy()
    for cell, factor in WAVES:
        low, high = expected.min(axis=0), expected.max(axis=0)
        corners = ((high - low) // cell).astype(int) + 3
        noise = torch.randn(3, *corners, generator=rng).double().numpy()
        for _ in range(2):
            for axis in (1, 2, 3):
                noise = scipy.ndimage.convolve1d(noise, np.ones(3) / 3, axis, mode="constant")
        axes = [low[i] + cell * (np.arange(corners[i]) - 1) for i in range(3)]
        interpolate = scipy.interpolate.RegularGridInterpolator(axes, np.moveaxis(noise, 0, -1))
        expected = expected + factor * interpolate(expected)
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=2e-5)
    assert np.abs(expected - points.numpy()).max() > 0.1


def test_elastic_distortions_are_smooth_and_of_each_sample_alone():
    points, _ = packed(1, 2000)
    points = torch.cat([points, points + 1e-4, points])
    batch = torch.arange(3).repeat_interleave(2000)
    moved = distort(points, batch, 3, WAVES, 1.0, generator())
    shift = (moved - points).view(3, 2000, 3)
    assert 0.1 < shift.std() < 0.3  # two noises of 0.11 · 0.4 and 0.11 · 1.6, and fewer at the edge
    assert (shift[0] - shift[2]).abs().max() > 0.1  # each sample has its own noise
    together = torch.cat([points[:2000], points[2000:4000]])
    shift = distort(together, torch.zeros(4000).long(), 1, WAVES, 1.0, generator()) - together
    assert (shift[:2000] - shift[2000:]).abs().max() < 2e-3  # 0.1 mm apart, moved alike
    some = distort(points, batch, 3, WAVES, 0.5, generator())
    still = (some == points).view(3, -1).all(dim=1)
    assert 0 < still.sum() < 3
    assert torch.equal(distort(points, batch, 3, WAVES, 0.0, generator()), points)
    assert torch.equal(distort(points, batch, 3, WAVES, 1.0, generator()), moved)


def test_contrast_is_stretched_towards_the_whole_range():
    """A known blend: the draws of a generator in the same order."""
    points, batch = packed(2, 50)
    color = points / 20 - torch.tensor([0.1, 0.0, 0.2])
    color[:, 2] = 0.3  # a channel of one value
    found = stretch_contrast(color, batch, 2, 1.0, generator())
    rng = generator()
    torch.rand(2, generator=rng)
    blends = torch.rand(2, generator=rng)
    for sample, blend in enumerate(blends):
        own = color[batch == sample, :2].double()
        low, high = own.amin(dim=0), own.amax(dim=0)
        expected = (1 - blend) * own + blend * ((own - low) / (high - low) - 0.5)
        changed = found[batch == sample].double()
        torch.testing.assert_close(changed[:, :2], expected, rtol=0, atol=1e-6)
    assert torch.equal(found[:, 2], color[:, 2])
    assert torch.equal(stretch_contrast(color, batch, 2, 0.0, generator()), color)


def test_colors_shift_by_sample_and_stay_in_range():
    batch = torch.arange(200).repeat_interleave(5)
    color = torch.zeros(1000, 3)
    shifted = shift_color(color, batch, 200, 0.05, 0.95, generator())
    values = shifted.view(200, 5, 3)
    assert torch.equal(values, values[:, :1].expand(-1, 5, -1))
    assert 0.04 < shifted.abs().max() <= 0.05
    assert 1 <= (values[:, 0] == 0).all(dim=1).sum() < 25
    assert torch.equal(shift_color(color, batch, 200, 0.05, 0.0, generator()), color)
    assert shift_color(color + 0.5, batch, 200, 0.05, 1.0, generator()).max() == 0.5


def test_color_noise_is_of_each_point_and_stays_in_range():
    batch = torch.arange(200).repeat_interleave(50)
    color = torch.zeros(10_000, 3)
    noisy = add_color_noise(color, batch, 200, 0.05, 0.95, generator()).view(200, 50, 3)
    still = (noisy == 0).flatten(1).all(dim=1)
    assert 1 <= still.sum() < 25
    assert noisy[~still].std().item() == pytest.approx(0.05, rel=0.02)
    assert torch.equal(add_color_noise(color, batch, 200, 0.05, 0.0, generator()), color)
    bright = add_color_noise(color + 0.5, batch, 200, 0.2, 1.0, generator())
    assert -0.5 <= bright.min() < bright.max() == 0.5


def test_samples_are_mixed_in_pairs_or_not_at_all():
    batch = torch.arange(5).repeat_interleave(3)
    mixed = mix_samples(batch, 1.0, generator())
    assert mixed.tolist() == [0] * 6 + [1] * 6 + [2] * 3
    drawn = [len(mix_samples(batch, 0.8, generator(seed)).unique()) for seed in range(200)]
    assert set(drawn) == {3, 5}
    assert 140 < drawn.count(3) < 180
    assert mix_samples(batch, 0.0, generator()) is batch


def test_rows_of_samples_may_be_empty():
    rows = augment_scenes._rows(torch.tensor([0, 0, 2]), 4)
    assert rows == [slice(0, 2), slice(2, 2), slice(2, 3), slice(3, 3)]
