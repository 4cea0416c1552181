"""`transforms.json`: its conventions, its variants, and what is refused."""

import json

import numpy as np
import pytest
from PIL import Image

import pointcmt as pc
from pointcmt.errors import Reason
from tests.render.load.scenes import recordings as r
from tests.render.load.scenes import rooms
from tests.render.load.scenes.test_frames import check, load, refusal
from tests.stores import render_toy


def test_frames_may_have_lenses_of_their_own(tmp_path):
    def change(table):
        for key in ("fl_x", "fl_y", "cx", "cy", "w", "h"):
            for frame in table["frames"]:
                frame[key] = table[key]
            del table[key]

    check(load(r.write_transforms(tmp_path / "room", change)))


@pytest.mark.parametrize("key", ["depth_unit_scale_factor", "integer_depth_scale"])
def test_the_unit_of_depth_is_read(tmp_path, key):
    check(load(r.write_transforms(tmp_path / "room", unit=0.0002, **{key: 0.0002})), step=0.0005)


def test_applied_scale_is_undone(tmp_path):
    """Depth images keep the unit of the sensor when poses are scaled."""
    check(load(r.write_transforms(tmp_path / "room", scale=0.25, applied_scale=0.25)))


def test_a_larger_color_image_has_the_intrinsics(tmp_path):
    def change(table):
        for key in ("fl_x", "fl_y", "cx", "cy", "w", "h"):
            table[key] *= 2

    root = r.write_transforms(tmp_path / "room", change)
    for index in range(4):
        double = rooms.show(index, np.diag([2, 2, 1]) @ rooms.K, (128, 96))
        Image.fromarray(double.color).save(root / f"color/{index:05}.png")
    check(load(root))


def test_the_field_of_view_may_be_an_angle(tmp_path):
    angle = 2 * np.arctan(32 / 55)

    def change(table):
        for key in ("fl_x", "fl_y", "cx", "cy"):
            del table[key]
        table["camera_angle_x"] = angle

    frame = load(r.write_transforms(tmp_path / "room", change)).frames[0]
    np.testing.assert_allclose(frame.K, [[55, 0, 32], [0, 55, 24], [0, 0, 1]], atol=1e-9)


def test_intrinsics_of_scene_json_have_the_same_pixel_centers(tmp_path):
    root = r.write_transforms(tmp_path / "room", fl_x=1000.0)
    own = [rooms.K[at] for at in ((0, 0), (1, 1), (0, 2), (1, 2))]
    (root / "scene.json").write_text(json.dumps({"K": own}))
    check(load(root))


def test_names_without_suffix_and_with_backslashes_are_found(tmp_path):
    def change(table):
        for frame in table["frames"]:
            frame["file_path"] = frame["file_path"].removesuffix(".png").replace("/", "\\")

    check(load(r.write_transforms(tmp_path / "room", change)))


def test_frames_without_depth_are_left_out(tmp_path):
    def change(table):
        del table["frames"][1]["depth_file_path"]

    scene = load(r.write_transforms(tmp_path / "room", change))
    assert [frame.number for frame in scene.frames] == [0, 2, 3]
    assert any("1 frames left out" in note for note in scene.notes)


@pytest.mark.parametrize(
    ("change", "reason", "message"),
    [
        ({"k1": 0.1}, Reason.BAD_SYNTAX, "undistort"),
        ({"camera_model": "OPENCV_FISHEYE"}, Reason.BAD_SYNTAX, "OPENCV_FISHEYE"),
        ({"frames": 3}, Reason.BAD_SYNTAX, "list of frames"),
        ({"frames": [3]}, Reason.BAD_SYNTAX, "must be an object"),
        ({"frames": []}, Reason.MISSING_FILE, "depth_file_path"),
        ({"applied_scale": 0}, Reason.BAD_SYNTAX, "applied_scale"),
        ({"fl_x": "wide"}, Reason.BAD_SYNTAX, "finite number"),
        ({"fl_x": -5}, Reason.BAD_SYNTAX, "do not fit"),
        ({"w": 0}, Reason.BAD_SYNTAX, "w and h"),
        ({"h": 99}, Reason.BAD_SYNTAX, "do not fit"),
        ({"integer_depth_scale": -1}, Reason.BAD_SYNTAX, "unit of depth"),
    ],
)
def test_invalid_tables_are_refused(tmp_path, change, reason, message):
    refused = refusal(r.write_transforms(tmp_path / "room", lambda table: table.update(change)))
    assert refused.reason == reason
    assert message in refused.detail


@pytest.mark.parametrize(
    ("key", "value"),
    [("transform_matrix", [[1, 2]]), ("transform_matrix", "x"), ("file_path", 3)],
)
def test_invalid_frames_are_refused(tmp_path, key, value):
    def change(table):
        table["frames"][2][key] = value

    refused = refusal(r.write_transforms(tmp_path / "room", change))
    assert refused.reason == Reason.BAD_SYNTAX
    assert "frame 2" in refused.detail


def test_an_export_of_a_store_is_read_back(tmp_path):
    """The same cameras, images and depths, whoever wrote the file."""
    store = pc.open_store(render_toy(tmp_path / "S", limit=1).path)
    pc.export(store, "nerfstudio", tmp_path / "out")
    folder, shape = tmp_path / "out" / store[0].id, store[0]
    scene = load(folder)
    assert len(scene.frames) == len(shape.rgb)
    for view, frame in enumerate(scene.frames):
        camera, image = shape.camera[view], frame.read()
        np.testing.assert_allclose(frame.K, camera.K, rtol=1e-12)
        own = np.linalg.inv(frame.camera_to_world)
        np.testing.assert_allclose(own, camera.world_to_camera, atol=1e-12)
        np.testing.assert_array_equal(image.color, shape.rgb[view])
        np.testing.assert_allclose(image.depth, shape.depth[view], rtol=1e-6)
