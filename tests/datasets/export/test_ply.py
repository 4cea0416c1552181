"""PLY files, read by trimesh and by open3d; the colors held against a plain loop."""

import numpy as np
import open3d
import pytest
import trimesh

import pointcmt as pc
from pointcmt.datasets.export.shapes import UNSEEN, point_colors
from pointcmt.srgb import to_linear, to_srgb


def plain_colors(shape):
    """The rule of docs/export.md, point by point; None for points without a view to sample."""
    found = []
    for point in range(len(shape.points)):
        own, other = [], []
        for view in np.flatnonzero(shape.visible[:, point]):
            uv, _ = shape.camera[view].project(shape.points[point : point + 1])
            column, row = int(uv[0, 0]), int(uv[0, 1])
            face = shape.face_index[view, row, column]
            linear = to_linear(shape.rgb[view, row, column] / 255)
            if face == shape.point_face[point]:
                own.append(linear)
            elif face >= 0:
                other.append(linear)
        used = own or other
        found.append(np.rint(255 * to_srgb(np.mean(used, axis=0))) if used else None)
    return found


@pytest.mark.parametrize("kind", ["meshes", "clouds", "lenses"])
def test_points_normals_and_colors(kind, request, tmp_path):
    store = request.getfixturevalue(kind)
    done = pc.export(store, "ply", tmp_path / "out", workers=2)
    assert (done.done, done.failures) == (len(store), ())
    unseen = 0
    for shape in store:
        path = tmp_path / "out" / f"{shape.id}.ply"
        cloud = open3d.io.read_point_cloud(str(path))
        np.testing.assert_array_equal(np.asarray(cloud.points), shape.points)
        np.testing.assert_array_equal(np.asarray(cloud.normals), shape.normals)
        read = trimesh.load(path)
        np.testing.assert_array_equal(read.vertices, shape.points)
        colors = np.asarray(read.colors)[:, :3]
        np.testing.assert_array_equal(np.rint(np.asarray(cloud.colors) * 255), colors)
        data = read.metadata["_ply_raw"]["vertex"]["data"]
        np.testing.assert_array_equal(data["views"], shape.visible.sum(axis=0))
        np.testing.assert_array_equal(data["face"], shape.point_face)
        if "part" in store.specs:
            np.testing.assert_array_equal(data["part"], shape.read("part"))
        expected = plain_colors(shape)
        known = np.array([color is not None for color in expected])
        unseen += np.sum(~known)
        for point, color in enumerate(expected):
            if color is None:
                away = np.linalg.norm(shape.points[known] - shape.points[point], axis=1)
                color = colors[np.flatnonzero(known)[np.argmin(away)]]
            assert np.abs(colors[point] - color.astype(int)).max() <= 1, (shape.id, point)
    assert unseen > 0 or kind != "meshes"  # the rule for them is tested, too


def test_a_shape_that_no_view_shows_is_gray(meshes):
    shape = meshes[0]
    nothing = np.zeros_like(shape.visible)
    images = shape.rgb, shape.face_index
    colors = point_colors(shape.points, shape.point_face, nothing, shape.camera, images)
    assert (colors == UNSEEN).all()


def test_a_point_on_the_border_of_an_image_has_a_pixel(meshes):
    """Visibility of a stranger's store may say anything: colors are sampled inside of images."""
    shape = meshes[0]
    everything = np.ones_like(shape.visible)
    far = shape.points * np.float32(3)
    images = shape.rgb, shape.face_index
    colors = point_colors(far, shape.point_face, everything, shape.camera, images)
    assert colors.shape == (len(far), 3)
