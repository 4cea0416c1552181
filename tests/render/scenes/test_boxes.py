"""Which boxes are stored: enough points on the instance, and enough of its surface seen."""

from dataclasses import replace

import numpy as np
import pytest

from pointcmt.errors import ShapeError
from pointcmt.render.scenes.config import SceneConfig, scene_schema
from pointcmt.render.scenes.rows import make_row
from pointcmt.scenes import Boxes
from pointcmt.shapes import Mesh
from tests.render.scenes import box_room

CONFIG = SceneConfig(frames=4, height=60, width=80, boxes=4, voxel=0.05)
LEFT_OUT = "1 box is left out: the frames hardly show its instance"


def row(scene):
    return make_row(scene, scene_schema(CONFIG, 1, True, True), CONFIG)


def block_over(area):
    """The block of the room, which is instance 7, with a level part of this size 1 m below the
    floor that nobody sees; the floor is instance -1."""
    corners = np.array([[x, y, z] for z in (0, 1) for y in (0, 1) for x in (0, 1)])
    block = box_room.BLOCK[0] + corners * (box_room.BLOCK[1] - box_room.BLOCK[0])
    quads = [(4, 5, 7, 6), (0, 1, 5, 4), (2, 6, 7, 3), (0, 4, 6, 2), (1, 3, 7, 5)]
    quads += [(8, 9, 11, 10), (12, 13, 15, 14)]
    level = (corners[:4] - (0.5, 0.5, 0)) * (2, 2, 1)
    below = level * np.sqrt(area) / 2 - (0, 0, 1)
    vertices = np.concatenate([block, below, 50 * level])
    faces = [t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))]
    return Mesh(vertices, faces), np.repeat(np.array([7, 7, 7, 7, 7, 7, -1], np.int32), 2)


@pytest.mark.parametrize(("area", "kept"), [(0.01, 1), (100.0, 0)])
def test_boxes_of_instances_that_are_hardly_seen_are_left_out(area, kept):
    mesh, instance = block_over(area)
    found = row(replace(box_room.scene(), mesh=mesh, face_instance=instance))
    assert int(found.arrays["box_count"]) == kept
    assert (LEFT_OUT in found.notes) == (not kept)
    assert int(row(replace(box_room.scene(), mesh=mesh)).arrays["box_count"]) == 1  # not known


def test_boxes_of_instances_with_too_few_points_are_left_out():
    boxes = np.repeat(box_room.boxes().boxes, 3, axis=0)
    for hidden, note in (
        ((99,), LEFT_OUT),
        ((99, 98), "2 boxes are left out: the frames hardly show their instances"),
    ):
        count = 1 + len(hidden)
        instances = np.array([7, *hidden], np.int32)
        several = Boxes(boxes[:count], np.zeros(count, np.int16), instances)
        found = row(replace(box_room.scene(), boxes=several))
        assert found.arrays["box_instance"][:2].tolist() == [7, -1]
        assert note in found.notes


def test_instances_are_given_for_every_face():
    mesh, instance = block_over(1.0)
    for wrong in (instance[1:], instance.astype(np.int64)):
        with pytest.raises(ShapeError, match="face_instance must be int32"):
            replace(box_room.scene(), mesh=mesh, face_instance=wrong)
    with pytest.raises(ShapeError, match="face_instance must be int32"):
        replace(box_room.scene(), face_instance=instance)
