"""Scenes as sources return them: arrays are checked, and poses are rigid."""

import numpy as np
import pytest

from pointcmt.errors import ShapeError
from pointcmt.scenes import Boxes, Frame, Image, SceneData, ScenePoints, box_corners, is_rigid

EYE = np.eye(4)


def turned(yaw, x=0.0):
    pose = np.eye(4)
    pose[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    pose[0, 3] = x
    return pose


def image(height=3, width=4, **arrays):
    color = np.zeros((height, width, 3), np.uint8)
    return Image(color, **{"depth": np.ones((height, width), np.float32), **arrays})


@pytest.mark.parametrize("yaw", [0.0, 1.0, -3.0])
def test_rotations_and_translations_are_rigid(yaw):
    assert is_rigid(turned(yaw, 5.0))


@pytest.mark.parametrize(
    "pose",
    [
        np.full((4, 4), -np.inf),
        np.where(EYE == 1, np.nan, 0),
        np.zeros((4, 4)),
        np.diag([1.0, 1, -1, 1]),
        np.diag([1.01, 1, 1, 1]),
        np.eye(3),
        np.vstack([EYE[:3], [0, 0, 0.1, 1]]),
    ],
)
def test_poses_of_untracked_frames_and_mirror_images_are_not(pose):
    assert not is_rigid(pose)
    with pytest.raises(ShapeError, match="rigid"):
        Frame(0, np.eye(3), pose, image)
    with pytest.raises(ShapeError, match="rigid"):
        SceneData((Frame(0, np.eye(3), EYE, image),), source_to_world=pose)


def test_the_arrays_of_an_image_have_one_size():
    assert image().depth.shape == (3, 4)
    for arrays in (
        {"depth": np.ones((4, 3), np.float32)},
        {"depth": np.ones((3, 4))},
        {"semantic": np.zeros((3, 3), np.int16)},
        {"instance": np.zeros((3, 4), np.int64)},
    ):
        with pytest.raises(ShapeError):
            image(**arrays)


def test_points_have_one_value_each():
    points = np.zeros((5, 3))
    assert len(ScenePoints(points, color=np.zeros((5, 3), np.uint8))) == 5
    for arrays in (
        {"color": np.zeros((5, 3))},
        {"normals": np.zeros((4, 3), np.float32)},
        {"semantic": np.zeros((5, 1), np.int16)},
        {"instance": np.zeros(5)},
    ):
        with pytest.raises(ShapeError):
            ScenePoints(points, **arrays)
    with pytest.raises(ShapeError, match="finite"):
        ScenePoints(np.array([[0, 0, np.nan]]))


def test_boxes_have_a_volume():
    box = np.array([[0, 0, 0, 1, 2, 3, 0.5]], np.float32)
    one = np.zeros(1, np.int16), np.zeros(1, np.int32)
    assert len(Boxes(box, *one)) == 1
    assert len(Boxes.none()) == 0
    with pytest.raises(ShapeError, match="positive"):
        Boxes(box * [[1, 1, 1, 1, 0, 1, 1]], *one)
    with pytest.raises(ShapeError, match="one value per box"):
        Boxes(np.repeat(box, 2, 0), *one)


def test_a_scene_shows_something():
    with pytest.raises(ShapeError, match="neither frames nor points"):
        SceneData(())
    assert not SceneData((), ScenePoints(np.zeros((1, 3)))).has_labels
    labels = np.zeros(1, np.int16)
    assert SceneData((), ScenePoints(np.zeros((1, 3)), semantic=labels)).has_labels


def test_corners_of_a_turned_box():
    """Twice as long as wide, turned to the left: its front left corner is behind the others."""
    (found,) = box_corners(np.array([[1, 2, 5, 4, 2, 1, np.pi / 2]]))
    bottom = np.array([[0, 4, 4.5], [0, 0, 4.5], [2, 0, 4.5], [2, 4, 4.5]])
    assert found[:4] == pytest.approx(bottom)
    assert found[4:] == pytest.approx(bottom + np.array([0, 0, 1]))
