"""Headings as bins and residuals."""

import math

import pytest
import torch

from pointcmt.training.ops.detection.bins import from_bins, to_bins


def test_bins_are_those_of_votenets_formula():
    """class = ⌊((a + π/12) mod 2π) / (π/6)⌋, residual = the rest - (class · π/6 + π/12)."""
    yaw = torch.linspace(-9, 9, 1001, dtype=torch.float64)
    bins, residual = to_bins(yaw, 12)
    for angle, found, rest in zip(yaw.tolist(), bins.tolist(), residual.tolist(), strict=True):
        shifted = (angle + math.pi / 12) % (2 * math.pi)
        expected = math.floor(shifted / (math.pi / 6))
        assert found == expected
        turn = shifted - (expected * math.pi / 6 + math.pi / 12)
        assert rest == pytest.approx(turn / (math.pi / 12), abs=1e-12)
    assert bins.unique().tolist() == [*range(12)]
    assert residual.abs().max() <= 1


@pytest.mark.parametrize("count", [2, 4, 12])
def test_bins_give_the_heading_back(count):
    yaw = torch.linspace(-7, 7, 1001, dtype=torch.float64)
    back = from_bins(*to_bins(yaw, count), count)
    torch.testing.assert_close(back.cos(), yaw.cos(), rtol=0, atol=1e-12)
    torch.testing.assert_close(back.sin(), yaw.sin(), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("heading", "expected"), [((0, 1), 3), ((1, 0), 0), ((0, -1), 9), ((-1, 0), 6)]
)
def test_sun_rgbds_quadrants_are_the_middles_of_bins(heading, expected):
    """Labels hold the heading as a vector; the yaw is atan2(y, x)."""
    yaw = torch.tensor([math.atan2(heading[1], heading[0])], dtype=torch.float64)
    bins, residual = to_bins(yaw, 12)
    assert bins.item() == expected
    assert residual.item() == pytest.approx(0, abs=1e-12)
    back = from_bins(bins, residual, 12).item()
    assert (math.cos(back), math.sin(back)) == pytest.approx(heading, abs=1e-12)


def test_a_whole_turn_by_rounding_is_in_the_last_bin():
    almost = torch.tensor([-math.pi / 12 - 1e-9], dtype=torch.float32)
    bins, residual = to_bins(almost, 12)
    assert bins.item() in (0, 11)
    assert residual.abs().item() == pytest.approx(1, abs=1e-5)


def test_a_single_bin_has_no_headings():
    bins, residual = to_bins(torch.tensor([0.0, 1.0, -2.0]), 1)
    assert bins.tolist() == [0, 0, 0]
    assert residual.tolist() == from_bins(bins, torch.ones(3), 1).tolist() == [0, 0, 0]
