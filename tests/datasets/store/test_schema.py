"""Encodings of a store: outcomes, visibility and depth."""

import json

import numpy as np

from pointcmt.datasets.store.documents import Outcome, decode_outcome, encode_outcome
from pointcmt.datasets.store.schema import (
    depth_scale,
    pack_visible,
    quantize_depth,
    unpack_visible,
)
from pointcmt.errors import Reason


def test_outcomes_survive_json():
    how = {"sha256": "ff", "faces": 3, "backend": "egl", "backend_reason": "requested: a GPU"}
    outcome = Outcome("a", "failed", Reason.BAD_INDEX, "9", **how, seconds=1.5, notes=("odd",))
    assert decode_outcome(json.loads(json.dumps(encode_outcome(outcome)))) == outcome


def test_visibility_packs_and_unpacks_any_number_of_points():
    rng = np.random.default_rng(0)
    for points in (1, 7, 8, 9, 2048):
        visible = rng.random((3, points)) < 0.5
        packed = pack_visible(visible)
        assert packed.shape == (3, -(-points // 8))
        np.testing.assert_array_equal(unpack_visible(packed, points), visible)
        np.testing.assert_array_equal(unpack_visible(packed, 1), visible[:, :1])


def test_depth_is_quantized_within_half_a_step_and_never_to_background():
    depth = np.array([0.0, 1e-9, 1.0, 3.99, 4.0])
    scale = depth_scale(4.0)
    stored = quantize_depth(depth, scale)
    np.testing.assert_array_equal(stored > 0, depth > 0)
    assert np.abs(stored * scale - depth)[2:].max() <= scale / 2 + 1e-12
