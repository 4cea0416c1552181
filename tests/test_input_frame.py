"""Frames of a network's input: closed forms from the source's own coordinates."""

import numpy as np
import pytest

from pointcmt.errors import StoreError, UsageError
from pointcmt.geometry import normalize_cloud
from pointcmt.input_frame import AS_STORED, InputFrame, frame_of, parse_frame, place
from pointcmt.shapes import Cloud

POINTS = np.random.default_rng(0).normal(size=(2, 300, 3)) * [3, 1, 2] + [5, -40, 0.3]


def pc_normalize(points):
    """The normalization of PointNet++'s loaders, in float64."""
    points = points - points.mean(axis=0)
    return points / np.sqrt((points**2).sum(axis=1)).max()


def stored(up):
    """Both clouds as a store holds them, and their source_to_world."""
    made = [normalize_cloud(Cloud(points), up) for points in POINTS]
    points = np.stack([cloud.points for cloud, _ in made]).astype(np.float32)
    return points, np.stack([moved for _, moved in made])


def test_the_default_is_the_stored_frame_itself():
    points, moved = stored("y")
    assert place(points, AS_STORED, moved) is points


@pytest.mark.parametrize("up", ["x", "y", "z"])
def test_every_frame_follows_from_the_coordinates_of_the_file(up):
    points, moved = stored(up)
    middle = (POINTS.min(axis=1) + POINTS.max(axis=1))[:, None] / 2
    centered = POINTS - middle
    radius = np.linalg.norm(centered, axis=2).max(axis=1)[:, None, None]
    expected = {
        ("none", "none"): POINTS,
        ("none", "farthest"): POINTS / np.linalg.norm(POINTS, axis=2).max(axis=1)[:, None, None],
        ("centroid", "none"): POINTS - POINTS.mean(axis=1, keepdims=True),
        ("centroid", "farthest"): np.stack([pc_normalize(cloud) for cloud in POINTS]),
        ("bounds", "none"): centered,
        ("bounds", "farthest"): centered / radius,
    }
    for (center, scale), values in expected.items():
        found = place(points, InputFrame(up, center, scale), moved)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, values, rtol=1e-6, atol=1e-6 * np.abs(values).max())


def test_y_up_undoes_the_turn_of_a_source_whose_y_points_up():
    points, _ = stored("z")
    x, y, z = np.moveaxis(points, 2, 0)
    found = place(points, InputFrame("y"))
    np.testing.assert_array_equal(found, np.stack([x, z, -y], axis=2))


def test_a_mean_is_that_of_the_points_given():
    points, moved = stored("y")
    found = place(points[:, :64], InputFrame("y", "centroid"), moved)
    for cloud, source in zip(found, POINTS, strict=True):
        np.testing.assert_allclose(cloud, pc_normalize(source[:64]), atol=1e-6)


def test_a_single_point_lies_at_the_origin():
    points, _ = stored("y")
    assert not place(points[:, :1], InputFrame("y", "centroid")).any()


def test_frames_are_read_from_text_and_from_a_stores_root():
    assert parse_frame("y,centroid,none") == InputFrame("y", "centroid", "none")
    assert parse_frame("y") == InputFrame("y")
    for text in ("", "w", "y,middle", "y,centroid,farthest,none"):
        with pytest.raises(UsageError, match="a frame cannot have") as caught:
            parse_frame(text)
        assert caught.value.where == "--frame"
        assert "UP,CENTER,SCALE" in caught.value.fix
    frame = InputFrame("x", "none", "none")
    assert frame_of({"input": frame.as_json()}) == frame
    assert frame_of({}) is None
    for damaged in ({"up": "w"}, {"down": "z"}, "y", 3):
        with pytest.raises(StoreError, match="unknown frame"):
            frame_of({"input": damaged})
