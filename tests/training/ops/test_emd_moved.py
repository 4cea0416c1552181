"""The earth mover's distance of clouds with many equally good matchings, such as moved lines."""

import sys

import numpy as np
import pytest

from pointcmt.training.ops.emd import MOST_BIDS, earth_movers_distance, match_by_projection
from pointcmt.training.ops.emd_auction import auction
from tests.training.ops.test_emd import assert_bijection, far, sphere, tensors


def moved_line(n, shift):
    """A line of points at a distance of 1 / n, and the same line moved by some of these steps."""
    x = np.zeros((n, 3))
    x[:, 0] = np.arange(n) / n
    return x, x + np.array(shift) / n


@pytest.mark.parametrize("shift", [(1, 0, 0), (-3, 0, 0), (1, 1, 0), (0.5, 0, 0.5)])
def test_a_moved_line_is_matched_within_few_bids(shift):
    n = 512
    x, y = moved_line(n, shift)
    bids = auction(np.ascontiguousarray(x.T), np.ascontiguousarray(y.T), 0.01, MOST_BIDS * n)[3]
    assert bids <= MOST_BIDS * n + 1  # without the limit: over 600 n for the first shift
    distance, assignment = earth_movers_distance(*tensors((x, y)))
    assert_bijection(assignment)
    expected = np.linalg.norm(shift) / n  # no matching is shorter than the distance of the means
    assert expected * (1 - 1e-9) <= float(distance) <= 1.01 * expected


def test_an_auction_that_was_given_up_says_so():
    x, y = moved_line(256, (1, 0, 0))
    _, total, _, bids = auction(np.ascontiguousarray(x.T), np.ascontiguousarray(y.T), 0.01, 1000)
    assert np.isinf(total)
    assert bids == 1001


def test_matchings_by_projection_are_proven():
    rng = np.random.default_rng(0)
    cloud = sphere(rng, 100)
    order = rng.permutation(100)
    for x, y in (
        (cloud, (cloud + np.array([0.1, -0.2, 0.3]))[order]),  # moved
        (np.outer(rng.uniform(size=100), (1, 2, 3)), np.outer(rng.uniform(size=100), (1, 2, 3))),
        moved_line(100, (0, 0, 2)),  # across itself, where all projections on the shift are equal
        (cloud, cloud[order]),  # at distance 0
    ):
        found = match_by_projection(x, y, 0.01)
        least = float(earth_movers_distance(*tensors((x, y)), "exact")[0])
        assert sorted(found) == list(range(100))
        total = np.linalg.norm(x - y[found], axis=1).mean()
        assert least - 1e-9 <= total <= 1.01 * least + 1e-9
    assert match_by_projection(*far(rng, 100), 0.01) is None


@pytest.mark.parametrize("scipy", [True, False])
def test_clouds_without_any_quick_proof_are_matched_exactly(scipy, monkeypatch):
    """With no bids allowed, and no proof by projection; without scipy the auction goes on."""
    monkeypatch.setattr("pointcmt.training.ops.emd.MOST_BIDS", 0)
    if not scipy:
        monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    x, y = tensors(far(np.random.default_rng(1), 60))
    distance, assignment = earth_movers_distance(x, y)
    assert_bijection(assignment)
    monkeypatch.undo()
    least = earth_movers_distance(x, y, "exact")[0]
    assert float(distance) <= float(least) * (1 + 1e-12 if scipy else 1.01)
