"""Normalizing, sampling and ordering: exact where they promise it."""

import numpy as np
import pytest

from pointcmt.errors import Reason, ShapeRefused
from pointcmt.geometry import (
    choose_points,
    face_areas,
    face_normals,
    farthest_points,
    normalize,
    normalize_cloud,
    sample_points,
    sample_surface,
    shape_seed,
    spatial_order,
)
from pointcmt.shapes import Cloud, Mesh
from tests import reference

BOX = np.array([[x, y, z] for z in (0.0, 1.0) for y in (0.0, 2.0) for x in (0.0, 3.0)])
BOX_FACES = np.array(
    [
        [0, 2, 3], [0, 3, 1], [4, 5, 7], [4, 7, 6], [0, 1, 5], [0, 5, 4],
        [2, 6, 7], [2, 7, 3], [0, 4, 6], [0, 6, 2], [1, 3, 7], [1, 7, 5],
    ],
    np.int32,
)  # fmt: skip


def box(scale=1.0, offset=0.0):
    return Mesh(BOX * scale + offset, BOX_FACES)


@pytest.mark.parametrize("up", ["x", "y", "z"])
@pytest.mark.parametrize("scale", [1e-150, 1e-12, 1.0, 1e18, 1e150])
def test_normalized_meshes_touch_the_unit_sphere_at_any_scale(scale, up):
    mesh, source_to_world = normalize(box(scale), up)
    length = np.linalg.norm(mesh.vertices, axis=1)
    np.testing.assert_allclose(length, 1, atol=1e-12)  # a box's corners are all equally far
    np.testing.assert_allclose(mesh.vertices.max(axis=0), -mesh.vertices.min(axis=0), atol=1e-12)
    moved = BOX * scale @ source_to_world[:3, :3].T + source_to_world[:3, 3]
    np.testing.assert_allclose(moved, mesh.vertices, atol=1e-12)


def test_an_offset_of_ten_million_survives():
    mesh, source_to_world = normalize(box(offset=1e7), "z")
    centered, _ = normalize(box(), "z")
    np.testing.assert_allclose(mesh.vertices, centered.vertices, atol=2e-9)
    moved = (BOX + 1e7) @ source_to_world[:3, :3].T + source_to_world[:3, 3]
    np.testing.assert_allclose(moved, mesh.vertices, atol=1e-8)


def test_the_up_axis_becomes_z_without_mirroring():
    for up, axis in (("x", 0), ("y", 1), ("z", 2)):
        _, source_to_world = normalize(box(), up)
        turn = source_to_world[:3, :3] * np.linalg.norm(BOX[-1] / 2)
        np.testing.assert_allclose(turn @ np.eye(3)[axis], [0, 0, 1], atol=1e-12)
        assert np.linalg.det(turn) == pytest.approx(1)


def test_vertices_that_no_face_uses_do_not_count():
    mesh = Mesh(np.vstack([BOX, [[1e30, 0, 0]]]), BOX_FACES)
    np.testing.assert_array_equal(normalize(mesh, "z")[1], normalize(box(), "z")[1])


@pytest.mark.parametrize(
    "vertices", [np.zeros((3, 3)), np.full((3, 3), 7.5), [[0, 0, 0], [1, 1, 1], [3, 3, 3]]]
)
def test_a_surface_without_area_is_refused(vertices):
    with pytest.raises(ShapeRefused) as refused:
        normalize(Mesh(np.array(vertices, np.float64), np.array([[0, 1, 2]], np.int32)), "z")
    assert refused.value.reason is Reason.NO_AREA


def test_areas_and_normals_of_a_box():
    mesh = box()
    np.testing.assert_allclose(face_areas(mesh), [3, 3, 3, 3, 1.5, 1.5, 1.5, 1.5, 1, 1, 1, 1])
    outward = mesh.vertices[mesh.faces].mean(axis=1) - BOX.mean(axis=0)
    assert np.all((face_normals(mesh) * outward).sum(axis=1) > 0)


def test_samples_lie_on_their_faces_and_in_proportion_to_area():
    mesh, _ = normalize(box(), "z")
    points, faces = sample_surface(mesh, 5000, np.random.default_rng(0))
    away = reference.point_triangle_distance(points, mesh.vertices[mesh.faces[faces]])
    assert away.max() < 1e-15
    share = face_areas(mesh) / face_areas(mesh).sum() * 5000
    assert np.abs(np.bincount(faces, minlength=12) - share).max() <= 1 + 1e-9


def test_faces_without_area_get_no_samples():
    faces = np.vstack([[[0, 0, 1]], BOX_FACES, [[3, 3, 3]]]).astype(np.int32)
    _, chosen = sample_surface(Mesh(BOX, faces), 2000, np.random.default_rng(0))
    assert chosen.min() >= 1
    assert chosen.max() <= 12


@pytest.mark.parametrize("count", [1, 2, 63, 64, 65, 700])
def test_farthest_points_equal_the_textbook(count):
    points = np.random.default_rng(count).normal(size=(700, 3))
    points = points[spatial_order(points / 4)]
    np.testing.assert_array_equal(
        farthest_points(points, count), reference.farthest_points(points, count)
    )


def test_farthest_points_with_twins_pick_every_place_before_a_twin():
    places = np.random.default_rng(0).normal(size=(40, 3))
    points = np.repeat(places, 3, axis=0)
    chosen = farthest_points(points, 40)
    assert len(np.unique(points[chosen], axis=0)) == 40


def test_the_first_n_points_are_evenly_spread():
    mesh, _ = normalize(box(), "z")
    points, _ = sample_points(mesh, 1024, shape_seed(0, "box"))
    random, _ = sample_surface(mesh, 1024, np.random.default_rng(0))
    for n in (16, 128, 1024):
        spread, chance = reference.nearest_gap(points[:n]), reference.nearest_gap(random[:n])
        assert spread > 3 * chance


def test_points_depend_on_seed_and_id_alone():
    mesh, _ = normalize(box(), "z")
    draw = [sample_points(mesh, 64, shape_seed(*key))[0] for key in ((0, "a"), (0, "a"), (1, "a"))]
    other = sample_points(mesh, 64, shape_seed(0, "b"))[0]
    np.testing.assert_array_equal(draw[0], draw[1])
    assert not np.array_equal(draw[0], draw[2])
    assert not np.array_equal(draw[0], other)


# Clouds


def cloud(points):
    return Cloud(np.asarray(points, np.float64), np.tile([0.0, 1, 0], (len(points), 1)))


def test_clouds_are_normalized_like_the_vertices_of_meshes():
    points = np.random.default_rng(0).normal(size=(300, 3)) * [3, 1, 2] + 50
    triangles = np.arange(300, dtype=np.int32).reshape(-1, 3)
    for up in "xyz":
        mesh, expected = normalize(Mesh(points, triangles), up)
        made, source_to_world = normalize_cloud(cloud(points), up)
        np.testing.assert_array_equal(source_to_world, expected)
        np.testing.assert_array_equal(made.points, mesh.vertices.astype(np.float32))
        turned = source_to_world[:3, 1] / np.linalg.norm(source_to_world[:3, 1])
        np.testing.assert_allclose(made.normals, np.tile(turned, (300, 1)), atol=1e-12)


def test_a_cloud_at_one_place_has_no_extent():
    with pytest.raises(ShapeRefused) as refused:
        normalize_cloud(cloud([[1.0, 2, 3]] * 5), "z")
    assert refused.value.reason is Reason.NO_AREA


def test_points_of_a_cloud_are_chosen_in_farthest_point_order():
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (700, 3))
    chosen = choose_points(points, 200)
    first = chosen[0]
    order = np.array([first, *np.delete(np.arange(700), first)])
    expected = order[reference.farthest_points(points[order], 200)]
    np.testing.assert_array_equal(chosen, expected)
    np.testing.assert_array_equal(choose_points(points, 50), chosen[:50])


def test_of_points_at_one_place_the_first_is_chosen():
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (50, 3))
    chosen = choose_points(np.concatenate([points, points[::-1], points]), 50)
    assert sorted(chosen) == list(range(50))


def test_too_few_points_are_repeated_in_their_order():
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (30, 3))
    once = choose_points(points, 30)
    np.testing.assert_array_equal(choose_points(points, 70), [*once, *once, *once[:10]])
