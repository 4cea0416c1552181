"""CMPG and its boxes, against the spec's formulas written out with numpy."""

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from pointcmt.training.networks.generator import PointGenerator, matched_distance, scale

NORMS = ("unitbox", "pointcmt")


def clouds(seed, B=3, N=40):
    generator = torch.Generator().manual_seed(seed)
    stretch = torch.rand(B, 1, 3, generator=generator, dtype=torch.float64) * 3
    return torch.randn(B, N, 3, generator=generator, dtype=torch.float64) * stretch + 5


def boxed(cloud, norm):
    """One cloud [N, 3] by the spec: a centered unit box, or the reference code's slip."""
    low, high = cloud.min(axis=0), cloud.max(axis=0)
    longest = (high - low).max()
    margin = longest - (high - low)
    corner = low - margin / 2 if norm == "unitbox" else (low - margin) / 2
    return cloud / longest + (-0.5 - corner / longest)


@pytest.mark.parametrize("norm", NORMS)
def test_boxes_follow_their_formula(norm):
    x = clouds(0)
    expected = np.stack([boxed(cloud, norm) for cloud in x.numpy()])
    np.testing.assert_allclose(scale(x, norm).numpy(), expected, atol=1e-12)


def test_the_unit_box_is_centred_and_its_longest_side_one():
    x = scale(clouds(1), "unitbox")
    low, high = x.amin(dim=1), x.amax(dim=1)
    torch.testing.assert_close(
        low + high, torch.zeros(3, 3, dtype=torch.float64), atol=1e-12, rtol=0
    )
    torch.testing.assert_close((high - low).amax(dim=1), torch.ones(3, dtype=torch.float64))
    moved = scale(clouds(1) * 7 - 2, "unitbox")
    torch.testing.assert_close(moved, x)


def test_the_references_box_is_off_by_half_of_its_scaled_corner():
    x = clouds(2)
    low, high = x.amin(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)
    off = low / (2 * (high - low).amax(dim=2, keepdim=True))
    torch.testing.assert_close(scale(x, "pointcmt"), scale(x, "unitbox") + off)


@pytest.mark.parametrize("norm", NORMS)
def test_a_cloud_of_one_place_stays_finite(norm):
    x = torch.full((2, 5, 3), 0.25, requires_grad=True)
    y = scale(x, norm)
    assert torch.isfinite(y).all()
    y.sum().backward()
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("norm", NORMS)
def test_matching_is_the_mean_distance_of_the_best_assignment(norm):
    x, y = clouds(3), clouds(4)
    expected = []
    for one, other in zip(x.numpy(), y.numpy(), strict=True):
        cost = cdist(boxed(one, norm), boxed(other, norm))
        expected.append(cost[linear_sum_assignment(cost)].mean())
    found = matched_distance(x, y, norm, "exact")
    assert found.item() == pytest.approx(np.mean(expected), rel=1e-5)  # it computes in float32


def test_gradients_reach_the_first_cloud_through_its_box():
    x = clouds(5, B=2, N=8).float().requires_grad_()
    y = clouds(6, B=2, N=8).float()
    matched_distance(x, y, "unitbox", "exact").backward()
    step = 1e-3
    for b, n, axis in ((0, 0, 0), (1, 5, 2), (0, 7, 1)):
        ends = []
        for sign in (1, -1):
            moved = x.detach().clone()
            moved[b, n, axis] += sign * step
            ends.append(matched_distance(moved, y, "unitbox", "exact").item())
        assert x.grad[b, n, axis].item() == pytest.approx(
            (ends[0] - ends[1]) / (2 * step), abs=2e-3
        )


def test_the_generator_is_dropout_and_one_linear_layer():
    generator = PointGenerator(64).eval()
    assert [name for name, _ in generator.named_parameters()] == ["decode.weight"]
    feature = torch.randn(4, 512)
    expected = (feature @ generator.decode.weight.T).reshape(4, 64, 3)
    torch.testing.assert_close(generator(feature), expected)
    torch.manual_seed(0)
    dropped = generator.train()(torch.ones(1, 512))
    torch.manual_seed(0)
    mask = torch.nn.functional.dropout(torch.ones(1, 512), 0.5)
    torch.testing.assert_close(dropped, (mask @ generator.decode.weight.T).reshape(1, 64, 3))
