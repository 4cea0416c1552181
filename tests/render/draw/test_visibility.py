"""Visibility of points, against plain float64 ray casting and against the images."""

import numpy as np
import pytest

from pointcmt.cameras import Rig, View, find_rig
from pointcmt.geometry import face_normals, normalize, sample_points, shape_seed
from pointcmt.render.config import RenderConfig
from pointcmt.render.draw.cpu import draw_views
from pointcmt.render.draw.raycaster import RayCaster
from pointcmt.render.draw.visibility import CLEARANCE, visible_points
from pointcmt.render.load.meshes import load_mesh
from tests import reference
from tests.render import shapes

REAL = [
    "ModelNet40/airplane/train/airplane_0001.off",
    "ModelNet40/airplane/train/airplane_0002.off",  # double walls 1e-5 apart
    "ModelNet40/bathtub/train/bathtub_0002.off",  # every face twice
    "ModelNet40/bed/train/bed_0001.off",
    "ModelNet10/chair/train/chair_0001.off",
    "textured/cow/cow.obj",
]


def see(mesh, rig="dodeca20", count=1024, size=224):
    cameras = find_rig(rig).cameras(size)
    points, faces = sample_points(mesh, count, shape_seed(0, "test"))
    points = points.astype(np.float32)
    caster = RayCaster(mesh)
    return points, faces, cameras, visible_points(caster, points, faces, cameras), caster


def check_agreement(mesh, tests=3000):
    points, faces, cameras, visible, _ = see(mesh)
    rng = np.random.default_rng(0)
    view, point = rng.integers(0, len(cameras), tests), rng.integers(0, len(points), tests)
    expected = reference.visible(
        mesh.vertices,
        mesh.faces,
        points[point].astype(np.float64),
        faces[point],
        cameras.center[view],
        CLEARANCE,
    )
    assert np.mean(visible[view, point] == expected) >= 0.998


@pytest.mark.parametrize("mesh", [shapes.box(), shapes.sphere()], ids=["box", "sphere"])
def test_points_of_convex_solids_are_visible_if_their_face_faces_the_camera(mesh):
    points, faces, cameras, visible, _ = see(mesh)
    toward = cameras.center[:, None] - points[None]
    facing = (toward * face_normals(mesh)[faces]).sum(axis=2)
    clear = np.abs(facing) > 1e-4
    np.testing.assert_array_equal(visible[clear], (facing > 0)[clear])


def test_points_behind_another_part_are_hidden():
    mesh = shapes.join(shapes.box(0.2, (0, -0.6, 0)), shapes.box(0.15, (0, 0.6, 0)))
    _, faces, _, visible, _ = see(mesh, "ortho6")
    assert not np.any(visible[0, faces >= 12])  # from the front the near box hides the far one
    assert np.any(visible[1, faces >= 12])


def test_points_outside_of_the_image_are_not_visible():
    rig = Rig("near", (View((0.0, -3.0, 0.0), fov=10.0),))
    cameras = rig.cameras(64)
    mesh = shapes.wall()
    points, faces = sample_points(mesh, 500, shape_seed(0, "wall"))
    visible = visible_points(RayCaster(mesh), points.astype(np.float32), faces, cameras)
    uv, _ = cameras.project(points)
    inside = np.all((uv > 0) & (uv < 64), axis=2)
    np.testing.assert_array_equal(visible, inside)
    assert 0 < visible.sum() < 500


@pytest.mark.parametrize("name", REAL)
def test_visibility_agrees_with_float64_on_real_meshes(real_data, name):
    mesh, _ = normalize(load_mesh(real_data / name), "z")
    check_agreement(mesh, tests=min(3000, int(1.2e8 / len(mesh.faces))))


@pytest.mark.parametrize("name", REAL)
def test_away_from_edges_the_pixel_of_a_visible_point_shows_its_plane(real_data, name):
    mesh, _ = normalize(load_mesh(real_data / name), "z")
    points, faces, cameras, visible, caster = see(mesh)
    face_index = draw_views(caster, cameras, RenderConfig(find_rig("dodeca20"))).face_index
    uv, _ = cameras.project(points)
    view, point = np.nonzero(visible)
    column, row = np.floor(uv[view, point]).astype(int).T
    keep = (column > 0) & (column < 223) & (row > 0) & (row < 223)
    view, point, column, row = view[keep], point[keep], column[keep], row[keep]
    around = np.stack(
        [face_index[view, row + r, column + c] for r in (-1, 0, 1) for c in (-1, 0, 1)]
    )
    normals, corners = face_normals(mesh), mesh.vertices[mesh.faces]

    def in_plane(face, of):
        """Whether `face` lies in the plane of the faces `of`."""
        away = (corners[face] - corners[of][:, :1]) * normals[of][:, None]
        return np.abs(away.sum(axis=2)).max(axis=1) < 1e-4

    flat = np.all(around >= 0, axis=0)
    for other in around:
        flat &= in_plane(other, around[4])  # nine pixels of one plane: no silhouette, no crease
    shown = in_plane(around[4], faces[point]) | in_plane(faces[point], around[4])
    assert flat.sum() > 50
    assert np.mean(shown[flat]) >= 0.999
