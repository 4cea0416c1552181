"""Augmentations of packed scenes."""

import pytest
import torch

from pointcmt.training.ops.augment_scenes import jitter, move, random_motion, vary_color


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_motions_turn_about_the_vertical_mirror_and_scale():
    matrices = random_motion(200, 0.5, (0.9, 1.1), generator()).double()
    factor = matrices[:, 2, 2]
    assert 0.9 <= factor.min() < 0.92
    assert 1.08 < factor.max() <= 1.1
    turned = matrices / factor[:, None, None]
    identity = torch.eye(3, dtype=torch.float64).expand_as(turned)
    torch.testing.assert_close(turned @ turned.mT, identity, rtol=0, atol=1e-6)
    assert (turned[:, 2, :2] == 0).all()
    assert (turned[:, :2, 2] == 0).all()
    assert 70 < (torch.linalg.det(turned) < 0).sum() < 130  # one flip of the two
    angle = torch.atan2(turned[:, 0, 1], turned[:, 0, 0])
    assert angle.min() < -3
    assert angle.max() > 3
    upright = random_motion(50, 0.0, (1.0, 1.0), generator()).double()
    assert (torch.linalg.det(upright) > 0.999).all()


def test_each_sample_has_its_own_motion():
    points, batch = torch.randn(30, 3), torch.arange(3).repeat_interleave(10)
    matrices = random_motion(3, 0.5, (0.9, 1.1), generator())
    moved = move(points, batch, matrices)
    for point, sample, found in zip(points, batch, moved, strict=True):
        torch.testing.assert_close(found, point @ matrices[sample])


def test_noise_is_bounded_and_follows_from_the_generator():
    points = torch.zeros(20_000, 3)
    moved = jitter(points, 0.005, generator())
    assert moved.abs().max() <= 0.02
    assert moved.std().item() == pytest.approx(0.005, rel=0.02)
    assert torch.equal(moved, jitter(points, 0.005, generator()))
    assert not torch.equal(moved, jitter(points, 0.005, generator(1)))


def test_colors_shift_by_sample_and_stay_in_range():
    batch = torch.arange(2).repeat_interleave(5)
    color = torch.zeros(10, 3)
    shifted = vary_color(color, batch, 2, 0.05, 0.0, generator())
    assert len(shifted.unique(dim=0)) == 2
    assert 0 < shifted.abs().max() <= 0.05
    bright = vary_color(color + 0.5, batch, 2, 0.05, 0.2, generator())
    assert -0.5 <= bright.min() < bright.max() == 0.5
    assert torch.equal(vary_color(color, batch, 2, 0.0, 0.0, generator()), color)
