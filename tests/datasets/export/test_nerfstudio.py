"""nerfstudio's datasets, read as nerfstudio_dataparser.py does: json, images, points by open3d."""

import numpy as np
import open3d
import pytest
from PIL import Image

import pointcmt as pc
from tests.datasets.export.conftest import transforms


def parse(folder):
    """What nerfstudio's parser takes from a folder, with float64 for its float32."""
    meta = transforms(folder)
    assert meta["camera_model"] == "OPENCV"
    assert meta["orientation_override"] == "none"
    frames = sorted(meta["frames"], key=lambda frame: frame["file_path"])
    assert frames == meta["frames"]
    fixed = {key: meta.get(key) for key in ("fl_x", "fl_y", "cx", "cy", "w", "h")}
    cameras = [
        {key: frame[key] if value is None else value for key, value in fixed.items()}
        | {"camera_to_world": np.array(frame["transform_matrix"])[:3]}
        for frame in frames
    ]
    cloud = open3d.io.read_point_cloud(str(folder / meta["ply_file_path"]))
    transform = np.array(meta["applied_transform"])
    points = np.asarray(cloud.points)
    images = [np.asarray(Image.open(folder / frame["file_path"])) for frame in frames]
    depths = [np.asarray(Image.open(folder / frame["depth_file_path"])) for frame in frames]
    scale = meta["depth_unit_scale_factor"]  # of the command line, which says the same
    return {
        "cameras": cameras,
        "points": points @ transform[:, :3].T + transform[:, 3],
        "colors": np.asarray(cloud.colors),
        "images": images,
        "depths": [depth * np.float32(scale) for depth in depths],
        "distortion": [meta[key] for key in ("k1", "k2", "p1", "p2")],
    }


@pytest.mark.parametrize("kind", ["meshes", "clouds", "lenses"])
def test_what_nerfstudio_reads_is_what_the_store_holds(kind, request, tmp_path):
    store = request.getfixturevalue(kind)
    assert pc.export(store, "nerfstudio", tmp_path / "out").done == len(store)
    for shape in store:
        data = parse(tmp_path / "out" / shape.id)
        np.testing.assert_array_equal(data["images"], shape.rgb)
        np.testing.assert_array_equal(data["depths"], shape.depth)
        np.testing.assert_array_equal(data["points"], shape.points)
        assert data["distortion"] == [0, 0, 0, 0]
        assert len(data["colors"]) == len(shape.points)
        for view, camera in enumerate(data["cameras"]):
            own = shape.camera[view]
            lens = own.K[0, 0], own.K[1, 1], own.K[0, 2], own.K[1, 2], own.width, own.height
            assert tuple(camera[key] for key in ("fl_x", "fl_y", "cx", "cy", "w", "h")) == lens
            np.testing.assert_allclose(camera["camera_to_world"][:, 3], own.center, atol=1e-15)
            # Rays as nerfstudio's Cameras make them: through pixel centers, y up, along -z.
            row, column = 5, 17
            x, y = (column + 0.5 - lens[2]) / lens[0], (row + 0.5 - lens[3]) / lens[1]
            ray = camera["camera_to_world"][:, :3] @ [x, -y, -1]
            depth = shape.depth[view].astype(np.float64)
            ends = own.unproject([[column + 0.5, row + 0.5]], [2.5])[0]
            np.testing.assert_allclose(own.center + 2.5 * ray, ends, atol=1e-14)
            surface = np.argwhere(depth > 0)
            if len(surface):  # points of the image lie on the surface that the store unprojects
                row, column = surface[len(surface) // 2]
                x, y = (column + 0.5 - lens[2]) / lens[0], (row + 0.5 - lens[3]) / lens[1]
                ray = camera["camera_to_world"][:, :3] @ [x, -y, -1]
                there = own.unproject([[column + 0.5, row + 0.5]], [depth[row, column]])[0]
                here = camera["camera_to_world"][:, 3] + depth[row, column] * ray
                np.testing.assert_allclose(here, there, atol=1e-14)


def test_points_fall_on_pixels_of_their_color(meshes, tmp_path):
    """What splatting begins with: each point has about the color of the pixels that show it."""
    pc.export(meshes, "nerfstudio", tmp_path / "out")
    errors = []
    for shape in meshes:
        data = parse(tmp_path / "out" / shape.id)
        for view, image in enumerate(data["images"]):
            uv, _ = shape.camera[view].project(data["points"])
            seen = shape.visible[view]
            column, row = np.floor(uv[seen]).astype(int).T
            errors.append(np.abs(image[row, column] / 255 - data["colors"][seen]).mean(axis=1))
    assert np.median(np.concatenate(errors)) < 0.1
