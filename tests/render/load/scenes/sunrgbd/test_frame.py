"""Boxes and cameras of SUN RGB-D in this project's conventions."""

import math

import numpy as np
import pytest

from pointcmt.errors import ShapeRefused
from pointcmt.render.load.scenes.sunrgbd.frame import RawBox, convert_boxes, make_frame
from tests.fake_sunrgbd import rotation

CENTER, HALF = (1.0, 2.0, 3.0), (0.3, 0.4, 0.5)  # half sizes: across the heading, along it, up


def corners(box):
    """The corners [8,3] of a box of this project."""
    center, (dx, dy, dz), yaw = box[:3], box[3:6] / 2, box[6]
    own = np.array([[x, y, z] for x in (-dx, dx) for y in (-dy, dy) for z in (-dz, dz)])
    turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    return own @ turn.T + center


def corners_of_votenet(raw):
    """Corners as VoteNet makes them: sunrgbd_data.py:281 and model_util_sunrgbd.py:83.

    Its heading is -atan2(y, x); the box is turned by the negative of that, with the length
    (coeffs[1]) along the first axis.
    """
    heading = -math.atan2(raw.heading[1], raw.heading[0])
    width, length, height = (2 * abs(size) for size in raw.half_sizes)
    x = [length / 2, length / 2, -length / 2, -length / 2] * 2
    y = [width / 2, -width / 2, -width / 2, width / 2] * 2
    z = [height / 2] * 4 + [-height / 2] * 4
    cos, sin = math.cos(-heading), math.sin(-heading)
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    return (turn @ np.array([x, y, z])).T + raw.center


@pytest.mark.parametrize(
    ("heading", "yaw"),
    [
        ((1, 0), 0),
        ((0, 1), 90),
        ((-1, 0), 180),
        ((0, -1), -90),
        ((2, 1), math.degrees(math.atan2(1, 2))),
        ((-1, 1), 135),
        ((-1, -1), -135),
        ((1, -1), -45),
    ],
)
def test_headings_of_all_quadrants(heading, yaw):
    raw = RawBox("bed", CENTER, HALF, heading)
    boxes, notes = convert_boxes([raw])
    assert np.allclose(boxes.boxes, [[*CENTER, 0.8, 0.6, 1.0, math.radians(yaw)]])
    assert notes == ()
    ours, theirs = corners(boxes.boxes[0].astype(np.float64)), corners_of_votenet(raw)
    distance = np.linalg.norm(ours[:, None] - theirs[None], axis=2)
    assert distance.min(axis=0).max() < 1e-6
    assert distance.min(axis=1).max() < 1e-6
    front = np.array([math.cos(math.radians(yaw)), math.sin(math.radians(yaw))])
    assert np.allclose(front, np.array(heading) / np.hypot(*heading))


def test_half_sizes_may_be_negative():
    boxes, _ = convert_boxes([RawBox("bed", CENTER, (-0.3, 0.4, -0.5), (0, 1))])
    assert np.allclose(boxes.boxes[0, 3:6], [0.8, 0.6, 1.0])


def test_only_the_ten_classes_are_kept_in_order():
    names = ["sofa", "lamp", "bed", "Chair", "chair", "bathtub"]
    boxes, notes = convert_boxes(RawBox(name, CENTER, HALF, (0, 1)) for name in names)
    assert boxes.label.tolist() == [2, 0, 3, 9]
    assert boxes.instance.tolist() == [-1] * 4
    assert notes == ()


@pytest.mark.parametrize(
    "raw",
    [
        RawBox("bed", (1, 2, math.nan), HALF, (0, 1)),
        RawBox("bed", CENTER, (0, 1, 1), (0, 1)),
        RawBox("bed", CENTER, (math.inf, 1, 1), (0, 1)),
        RawBox("bed", CENTER, (math.nan, 1, 1), (0, 1)),
        RawBox("bed", CENTER, HALF, (0, 0)),
        RawBox("bed", CENTER, HALF, (math.nan, 1)),
    ],
)
def test_boxes_without_position_size_or_heading_are_left_out_and_noted(raw):
    boxes, [note] = convert_boxes([raw, RawBox("bed", CENTER, HALF, (0, 1))])
    assert len(boxes) == 1
    assert note.startswith("1 boxes were left out")


def test_pixels_count_from_one_in_the_release_and_centers_are_half_numbers_here():
    K = np.array([[500.0, 0, 320], [0, 510, 240], [0, 0, 1]])
    frame = make_frame(K, np.eye(3), None)
    assert np.allclose(frame.K, [[500, 0, 319.5], [0, 510, 239.5], [0, 0, 1]])
    assert np.array_equal(K[:, 2], [320, 240, 1])  # the argument is not changed


def test_the_camera_looks_forward_and_rtilt_tilts_it():
    level = make_frame(np.eye(3), np.eye(3), None).camera_to_world
    assert np.allclose(level[:3, :3] @ [0, 0, 1], [0, 1, 0])  # the view direction: forward
    assert np.allclose(level[:3, :3] @ [0, 1, 0], [0, 0, -1])  # down in the image: down
    tilted = make_frame(np.eye(3), rotation(pitch=0.3, roll=0), None).camera_to_world
    assert np.allclose(tilted[:3, :3] @ [0, 0, 1], [0, np.cos(0.3), -np.sin(0.3)])


@pytest.mark.parametrize(
    ("K", "tilt"),
    [
        (np.eye(3) * np.nan, np.eye(3)),
        (np.diag([0.0, 1, 1]), np.eye(3)),
        (np.diag([-1.0, 1, 1]), np.eye(3)),
        (np.eye(3), np.zeros((3, 3))),
        (np.eye(3), np.diag([1.0, 1, -1])),
    ],
)
def test_invalid_cameras_are_refused(K, tilt):
    with pytest.raises(ShapeRefused, match="K or Rtilt"):
        make_frame(K, tilt, None)
