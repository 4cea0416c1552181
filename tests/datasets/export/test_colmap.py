"""COLMAP's models, binary and text, read by pycolmap: cameras, tracks and colors of the store."""

import numpy as np
import pycolmap
import pytest
from PIL import Image

import pointcmt as pc
from pointcmt.datasets.export.colmap import quaternion

FORMS = [False, True]


@pytest.fixture(params=["meshes", "clouds", "lenses"])
def store(request):
    return request.getfixturevalue(request.param)


def read(folder):
    return pycolmap.Reconstruction(str(folder / "sparse/0"))


@pytest.mark.parametrize("text", FORMS)
def test_cameras_are_the_stored_ones(store, tmp_path, text):
    assert pc.export(store, "colmap", tmp_path / "out", text=text).done == len(store)
    for shape in store:
        folder = tmp_path / "out" / shape.id
        files = {path.suffix for path in (folder / "sparse/0").iterdir()}
        assert files == {".txt" if text else ".bin"}
        model = read(folder)
        assert len(model.images) == len(model.reg_image_ids()) == len(shape.rgb)
        assert len(model.cameras) == len(np.unique(shape.camera.K, axis=0))
        for view, number in enumerate(sorted(model.images)):
            image, own = model.images[number], shape.camera[view]
            camera = model.cameras[image.camera_id]
            assert camera.model_name == "PINHOLE"
            assert (camera.width, camera.height) == (own.width, own.height)
            np.testing.assert_array_equal(camera.calibration_matrix(), own.K)
            pose = image.cam_from_world().matrix()
            np.testing.assert_allclose(pose, own.world_to_camera[:3], rtol=0, atol=2e-15)
            np.testing.assert_array_equal(pose[:, 3], own.world_to_camera[:3, 3])
            np.testing.assert_allclose(image.projection_center(), own.center, atol=2e-15)
            with Image.open(folder / "images" / image.name) as pixels:
                np.testing.assert_array_equal(np.asarray(pixels), shape.rgb[view])


@pytest.mark.parametrize("text", FORMS)
def test_points_and_tracks_are_the_visible_ones(store, tmp_path, text):
    pc.export(store, "colmap", tmp_path / "out", text=text)
    for shape in store:
        model = read(tmp_path / "out" / shape.id)
        seen = np.flatnonzero(shape.visible.any(axis=0))
        assert sorted(model.points3D) == [point + 1 for point in seen]
        found = np.zeros_like(shape.visible)
        for number, point in model.points3D.items():
            np.testing.assert_array_equal(point.xyz, shape.points[number - 1])
            assert point.error == 0
            for element in point.track.elements:
                found[element.image_id - 1, number - 1] = True
                image = model.images[element.image_id]
                assert image.points2D[element.point2D_idx].point3D_id == number
        np.testing.assert_array_equal(found, shape.visible)
        uv, _ = shape.camera.project(shape.points)
        for number, image in model.images.items():
            ids = [keypoint.point3D_id - 1 for keypoint in image.points2D]
            assert ids == list(np.flatnonzero(shape.visible[number - 1]))
            for point, keypoint in zip(ids, image.points2D, strict=True):
                np.testing.assert_array_equal(keypoint.xy, uv[number - 1, point])
                again = image.project_point(shape.points[point].astype(np.float64))
                np.testing.assert_allclose(again, keypoint.xy, rtol=0, atol=1e-12)
        assert model.compute_mean_reprojection_error() < 1e-12


def test_text_and_binary_say_the_same(meshes, tmp_path):
    for text in FORMS:
        pc.export(meshes, "colmap", tmp_path / str(text), text=text)
    for shape in meshes:
        binary, plain = (read(tmp_path / str(text) / shape.id) for text in FORMS)
        assert sorted(binary.points3D) == sorted(plain.points3D)
        for number, point in binary.points3D.items():
            np.testing.assert_array_equal(point.xyz, plain.points3D[number].xyz)
            np.testing.assert_array_equal(point.color, plain.points3D[number].color)
        for number, image in binary.images.items():
            pose = image.cam_from_world().matrix()
            np.testing.assert_array_equal(pose, plain.images[number].cam_from_world().matrix())


def test_colors_are_those_of_the_ply_file(meshes, tmp_path):
    import trimesh

    pc.export(meshes, "colmap", tmp_path / "colmap")
    pc.export(meshes, "ply", tmp_path / "ply")
    for shape in meshes:
        colors = np.asarray(trimesh.load(tmp_path / "ply" / f"{shape.id}.ply").colors)
        for number, point in read(tmp_path / "colmap" / shape.id).points3D.items():
            np.testing.assert_array_equal(point.color, colors[number - 1, :3])


def test_the_center_of_the_first_pixel_is_at_one_half(meshes, tmp_path):
    """COLMAP's convention and a store's are the same: nothing is shifted by half a pixel."""
    pc.export(meshes, "colmap", tmp_path / "out", limit=1)
    (folder,) = (tmp_path / "out").glob("*/*")
    model, shape = read(folder), meshes[f"{folder.parent.name}/{folder.name}"]
    for view, depth in enumerate(shape.depth):
        image = model.images[view + 1]
        camera, pose = model.cameras[image.camera_id], image.cam_from_world()
        for row, column in np.argwhere(depth > 0)[::50]:
            center = np.array([column + 0.5, row + 0.5])
            ray = np.append(camera.cam_from_img(center), 1.0)
            point = pose.inverse() * (ray * depth[row, column])
            own = shape.camera[view].unproject([center], [depth[row, column]])[0]
            np.testing.assert_allclose(point, own, rtol=0, atol=1e-14)


def test_pycolmap_writes_the_same_files_again(meshes, tmp_path):
    """Byte for byte, but for its order of images and points, which it keeps in hash tables."""
    pc.export(meshes, "colmap", tmp_path / "out", limit=1)
    (folder,) = (tmp_path / "out").glob("*/*/sparse/0")
    pycolmap.Reconstruction(str(folder)).write_binary(str(tmp_path))
    for name in ("cameras.bin", "images.bin", "points3D.bin"):
        ours, theirs = (folder / name).read_bytes(), (tmp_path / name).read_bytes()
        assert len(ours) == len(theirs)
        assert sorted(ours) == sorted(theirs)
    assert (folder / "cameras.bin").read_bytes() == (tmp_path / "cameras.bin").read_bytes()


def test_quaternions_of_every_kind_of_rotation():
    chance = np.random.default_rng(0)
    turns = [np.diag(signs) for signs in ([1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1])]
    turns += [np.linalg.qr(chance.normal(size=(3, 3)))[0] for _ in range(500)]
    for turn in turns:
        rotation = np.array(turn * np.linalg.det(turn), np.float64)
        w, x, y, z = quaternion(rotation)
        assert w >= 0
        back = pycolmap.Rotation3d(np.array([x, y, z, w])).matrix()
        np.testing.assert_allclose(back, rotation, rtol=0, atol=2e-15)
