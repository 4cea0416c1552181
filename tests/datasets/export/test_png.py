"""PNG files and transforms.json, read by Pillow, trimesh and plain json: the store's own values."""

import math

import numpy as np
import pytest
import trimesh
from PIL import Image

import pointcmt as pc
from tests.datasets.export.conftest import transforms

KINDS = ["meshes", "clouds", "lenses"]


@pytest.fixture(params=KINDS)
def exported(request, tmp_path):
    """(a shape, its folder)"""
    store = request.getfixturevalue(request.param)
    done = pc.export(store, "png", tmp_path / "out")
    assert (done.done, done.planned, done.failures) == (len(store), len(store), ())
    return store[-1], tmp_path / "out" / store[-1].id


def image(path):
    with Image.open(path) as opened:
        opened.load()
        return opened.mode, np.asarray(opened)


def test_images_are_the_stored_ones(exported):
    shape, folder = exported
    table = transforms(folder)
    assert len(table["frames"]) == len(shape.rgb)
    for view, frame in enumerate(table["frames"]):
        mode, rgb = image(folder / frame["file_path"])
        assert mode == "RGB"
        np.testing.assert_array_equal(rgb, shape.rgb[view])
        mode, depth = image(folder / frame["depth_path"])
        assert mode.startswith("I;16")
        assert depth.dtype == np.uint16
        np.testing.assert_array_equal(depth, shape.read("depth")[view])
        world = depth * np.float32(table["integer_depth_scale"])
        np.testing.assert_array_equal(world, shape.depth[view])
        mode, mask = image(folder / frame["mask_path"])
        assert mode == "L"
        np.testing.assert_array_equal(mask, np.where(shape.face_index[view] >= 0, 255, 0))
        for layer in shape.store.schema.layers:
            _, pixels = image(folder / frame[f"{layer}_path"])
            np.testing.assert_array_equal(pixels, shape.read(layer)[view])
    with np.load(folder / "arrays.npz") as arrays:
        assert "part" in arrays or "part" not in shape.store.specs
        for name in arrays:
            expected = shape.visible if name == "visible" else shape.read(name)
            np.testing.assert_array_equal(arrays[name], expected)


def test_cameras_are_the_stored_ones(exported):
    """The matrices are equal to the last bit, those with OpenGL's axes up to rounding."""
    shape, folder = exported
    table = transforms(folder)
    for view, frame in enumerate(table["frames"]):
        camera = shape.camera[view]
        np.testing.assert_array_equal(frame["K"], camera.K)
        np.testing.assert_array_equal(frame["world_to_camera"], camera.world_to_camera)
        own = {**table, **frame}
        K = [[own["fl_x"], 0, own["cx"]], [0, own["fl_y"], own["cy"]], [0, 0, 1]]
        np.testing.assert_array_equal(K, camera.K)
        assert (own["w"], own["h"]) == (camera.width, camera.height)
        fov = 2 * math.atan(camera.width / 2 / camera.K[0, 0])
        assert own["camera_angle_x"] == own["camera_angle_y"] == fov
        to_world = np.array(frame["transform_matrix"])
        back = np.linalg.inv(to_world @ np.diag([1, -1, -1, 1]))
        np.testing.assert_allclose(back, camera.world_to_camera, rtol=0, atol=4e-15)


def test_lenses_are_named_once_if_all_views_share_one(meshes, lenses, tmp_path):
    for store, per_view in ((meshes, False), (lenses, True)):
        pc.export(store, "png", tmp_path / str(per_view), limit=1)
        (place,) = (tmp_path / str(per_view)).glob("*/*/transforms.json")
        table = transforms(place.parent)
        assert ("fl_x" in table) != per_view
        assert all(("fl_x" in frame) == per_view for frame in table["frames"])


def test_points_reproject_into_the_pixels_that_show_them(meshes, tmp_path):
    """With what an independent reader of transforms.json has: OpenGL's cameras, z backward.

    The pixel of a visible point mostly shows its face; where it does, the pixel's center lies on
    the plane of the face.
    """
    pc.export(meshes, "png", tmp_path / "out")
    own, all_seen = 0, 0
    for shape in meshes:
        folder = tmp_path / "out" / shape.id
        table, cloud = transforms(folder), trimesh.load(folder / "points.ply")
        points, normals = cloud.vertices, shape.normals
        arrays = np.load(folder / "arrays.npz")
        for view, frame in enumerate(table["frames"]):
            to_world = np.array(frame["transform_matrix"])
            local = np.c_[points, np.ones(len(points))] @ np.linalg.inv(to_world).T
            u = table["cx"] + table["fl_x"] * local[:, 0] / -local[:, 2]
            v = table["cy"] - table["fl_y"] * local[:, 1] / -local[:, 2]
            uv, depth = shape.camera[view].project(shape.points)
            np.testing.assert_allclose(np.c_[u, v, -local[:, 2]], np.c_[uv, depth], atol=1e-10)
            seen = np.flatnonzero(arrays["visible"][view])
            row, column = np.floor(np.c_[v, u][seen]).astype(int).T
            same = arrays["face_index"][view, row, column] == arrays["point_face"][seen]
            own, all_seen = own + same.sum(), all_seen + len(seen)
            seen, row, column = seen[same], row[same], column[same]
            steps = image(folder / frame["depth_path"])[1][row, column]
            depth = steps * table["integer_depth_scale"]
            x = (column + 0.5 - table["cx"]) / table["fl_x"] * depth
            y = -(row + 0.5 - table["cy"]) / table["fl_y"] * depth
            there = np.c_[x, y, -depth] @ to_world[:3, :3].T + to_world[:3, 3]
            away = np.abs(np.sum(normals[seen] * (there - points[seen]), axis=1))
            assert len(away) == 0 or away.max() < 1e-4
    assert own > 0.5 * all_seen > 500


def test_the_file_says_what_shape_it_is(meshes, tmp_path):
    pc.export(meshes, "png", tmp_path / "out", shapes=[meshes[2].id])
    table = transforms(tmp_path / "out" / meshes[2].id)
    assert (table["id"], table["class"]) == (meshes[2].id, meshes[2].class_name)
    assert (table["label"], table["split"]) == (meshes[2].label, meshes[2].split)
    np.testing.assert_array_equal(table["source_to_world"], meshes[2].source_to_world)
    scale, offset = table["scale"], np.array(table["offset"])
    inside = meshes[2].points * scale + offset  # instant-ngp's unit cube
    assert inside.min() >= 0
    assert inside.max() <= 1


def test_a_store_without_correspondences_is_exported_without_them(tmp_path):
    from tests.stores import render_toy

    store = pc.open_store(render_toy(tmp_path / "S", limit=1, correspondences=False).path)
    pc.export(store, "png", tmp_path / "out")
    folder = tmp_path / "out" / store[0].id
    assert set(np.load(folder / "arrays.npz")) == {"face_index", "point_face", "part"}
    assert "red" not in (folder / "points.ply").read_bytes().split(b"end_header")[0].decode()
    with pytest.raises(pc.StoreError, match="ply needs correspondences") as error:
        pc.export(store, "ply", tmp_path / "other")
    assert "build-correspondences" in error.value.fix
    assert not (tmp_path / "other").exists()
