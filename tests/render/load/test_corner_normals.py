"""Normals by a crease angle, against a plain loop over their definition; notes on missing ones."""

from dataclasses import replace

import numpy as np
import pytest

from pointcmt.geometry import face_normals, normalize
from pointcmt.render.load.corner_normals import crease_normals, for_shading
from pointcmt.render.load.meshes import load_mesh
from pointcmt.shapes import Mesh, UnitMesh
from tests.render import shapes


def plain(mesh, angle):
    """The definition: one corner at a time, over all faces with a vertex at its place."""
    normals, corners = face_normals(mesh), mesh.vertices[mesh.faces]
    found = np.zeros((len(mesh.faces), 3, 3))
    for face, corner in np.ndindex(len(mesh.faces), 3):
        for other, which in np.argwhere((corners == corners[face, corner]).all(axis=2)):
            cosine = normals[face] @ normals[other]
            if (other, which) == (face, corner) or cosine > np.cos(np.radians(angle)):
                at, along, back = (corners[other, (which + k) % 3] for k in range(3))
                sides = [side / np.linalg.norm(side) for side in (along - at, back - at)]
                found[face, corner] += (
                    np.arccos(np.clip(sides[0] @ sides[1], -1, 1)) * normals[other]
                )
    return found / np.linalg.norm(found, axis=2, keepdims=True)


def bumpy(seed=0):
    """A closed, consistently wound surface with soft and sharp edges, without shared vertices."""
    ball = shapes.sphere(6)
    rng = np.random.default_rng(seed)
    places = np.unique(ball.vertices.round(9), axis=0)
    nearest = np.linalg.norm(ball.vertices[:, None] - places, axis=2).argmin(axis=1)
    vertices = (places * rng.uniform(0.5, 1, (len(places), 1)))[nearest]
    faces = ball.faces[face_normals(UnitMesh(vertices, ball.faces)).any(axis=1)]
    return UnitMesh(vertices[faces.ravel()], np.arange(faces.size).reshape(-1, 3))


def turned_around(mesh, some):
    """The mesh with the winding of some faces [F] reversed."""
    return UnitMesh(mesh.vertices, np.where(some[:, None], mesh.faces[:, ::-1], mesh.faces))


@pytest.mark.parametrize("angle", [0, 20, 45, 90, 180])
def test_normals_are_the_mean_by_angle_of_the_faces_within_the_crease_angle(angle):
    mesh = bumpy()
    found = crease_normals(mesh, angle)
    np.testing.assert_allclose(found, plain(mesh, angle), atol=1e-6)
    if angle == 0:
        np.testing.assert_allclose(found, face_normals(mesh)[:, None].repeat(3, axis=1), atol=1e-6)


@pytest.mark.parametrize("angle", [20, 60])
def test_faces_wound_the_other_way_round_do_not_matter(angle):
    mesh = bumpy(1)
    some = np.random.default_rng(2).random(len(mesh.faces)) < 0.4
    found = crease_normals(turned_around(mesh, some), angle)
    found[some] = -found[some, ::-1]
    np.testing.assert_allclose(found, crease_normals(mesh, angle), atol=1e-6)


def test_normals_are_on_the_side_of_their_face():
    mesh = bumpy(3)
    some = np.random.default_rng(4).random(len(mesh.faces)) < 0.5
    mesh = turned_around(mesh, some)
    found = crease_normals(mesh, 180)
    assert (np.einsum("fci,fi->fc", found, face_normals(mesh)) >= 0).all()


def test_a_cylinder_is_smooth_around_and_sharp_at_its_ends():
    """Also if every face has vertices of its own, as in STL files."""
    azimuth = np.linspace(0, 2 * np.pi, 25)[:-1]
    ring = np.stack([np.cos(azimuth), np.sin(azimuth)], axis=1) * 0.6
    vertices = np.concatenate([np.column_stack([ring, np.full(24, z)]) for z in (-0.7, 0.7)])
    here, there = np.arange(24), np.roll(np.arange(24), -1)
    side = [np.stack([here, there, there + 24], 1), np.stack([here, there + 24, here + 24], 1)]
    caps = [np.stack([0 * here[1:-1], there[1:-1], here[1:-1]], 1)]
    caps += [24 + cap[:, ::-1] for cap in caps]
    faces = np.concatenate([*side, *caps])
    for separate in (False, True):
        own = np.arange(faces.size).reshape(-1, 3)
        mesh = UnitMesh(*((vertices[faces.ravel()], own) if separate else (vertices, faces)))
        found = crease_normals(mesh, 40)
        round_ = vertices[faces[:48]] * (1, 1, 0) / 0.6
        np.testing.assert_allclose(found[:48], round_, atol=1e-6)
        np.testing.assert_allclose(np.abs(found[48:]), np.broadcast_to((0, 0, 1), (44, 3, 3)))


def test_a_moebius_strip_and_faces_without_area_have_unit_normals_or_none():
    turn = np.linspace(0, 2 * np.pi, 33)[:-1]
    rims = []
    for side in (-0.3, 0.3):
        radius = 0.6 + side * np.cos(turn / 2)
        rims.append(
            np.stack(
                [radius * np.cos(turn), radius * np.sin(turn), side * np.sin(turn / 2)], axis=1
            )
        )
    here, there = np.arange(31), np.arange(1, 32)
    faces = [np.stack([here, there, there + 32], 1), np.stack([here, there + 32, here + 32], 1)]
    seam = [[31, 32, 0], [31, 0, 63]]
    faces = np.concatenate([*faces, seam, [[5, 5, 5], [5, 6, 5]]])
    found = crease_normals(UnitMesh(np.concatenate(rims), faces), 60)
    length = np.linalg.norm(found, axis=2)
    np.testing.assert_allclose(length[:-2], 1, atol=1e-6)
    assert not length[-2:].any()


def test_where_thousands_of_faces_meet_none_is_compared():
    count = 2000
    azimuth = np.linspace(0, 2 * np.pi, count, endpoint=False)
    rim = np.stack([np.cos(azimuth), np.sin(azimuth), 0 * azimuth], axis=1) * 0.8
    here = np.arange(count)
    faces = np.stack([here, np.roll(here, -1), np.full(count, count)], axis=1)
    found = crease_normals(UnitMesh(np.vstack([rim, [(0, 0, 0.5)]]), faces), 40)
    assert not found[:, 2].any()
    np.testing.assert_allclose(np.linalg.norm(found[:, :2], axis=2), 1, atol=1e-6)


def test_a_mesh_without_normals_is_flat_with_a_note_and_one_with_normals_keeps_them():
    mesh = shapes.box()
    assert for_shading(mesh, "flat", None) is mesh
    flat = for_shading(mesh, "smooth", None)
    assert flat.corner_normals is None
    assert len(flat.notes) == 1
    assert "--crease-angle" in flat.notes[0]
    made = for_shading(mesh, "smooth", 100.0)
    np.testing.assert_array_equal(made.corner_normals, crease_normals(mesh, 100))
    assert made.notes == ()
    assert for_shading(made, "smooth", 10.0) is made
    assert for_shading(made, "flat", None).corner_normals is None
    normals = made.corner_normals.copy()
    normals[3, 1:] = 0
    partly = for_shading(replace(mesh, corner_normals=normals), "smooth", None)
    assert partly.notes == ("2 of 36 corners have no vertex normal and get their face's",)


def test_real_meshes_of_any_winding_have_normals_near_their_faces(real_data):
    for path in sorted(real_data.glob("ModelNet40/airplane/train/*.off"))[:2]:
        mesh, _ = normalize(load_mesh(path), "z")
        found, own = crease_normals(mesh, 40), face_normals(mesh)
        some = own.any(axis=1)
        length = np.linalg.norm(found[some], axis=2)
        assert ((np.abs(length - 1) < 1e-5) | (length == 0)).all()
        cosine = np.einsum("fci,fi->fc", found[some], own[some])[length > 0]
        assert cosine.min() > np.cos(np.radians(40)) - 1e-6


def test_positions_decide_which_vertices_are_one_even_if_a_zero_is_negative():
    corners = [
        [0.0, 0, 0],
        [0.5, 0, 0],
        [0, 0.5, 0.2],
        [-0.0, 0, -0.0],
        [0, 0.5, 0.2],
        [-0.5, 0, 0.3],
    ]
    mesh = UnitMesh(corners, [[0, 1, 2], [3, 4, 5]])
    found = crease_normals(mesh, 90)
    np.testing.assert_allclose(found[0, 0], found[1, 0])
    assert abs(found[0, 0] @ face_normals(mesh)[0]) < 0.999
    apart = crease_normals(
        UnitMesh(np.array(corners) + np.arange(6)[:, None] * 1e-6, mesh.faces), 90
    )
    np.testing.assert_allclose(apart[0, 0], apart[0, 1])


def test_the_source_of_a_mesh_may_be_anything():
    """Vertices that no face uses do not count."""
    mesh = Mesh([[9, 9, 9], [0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0.5]], [[1, 2, 3], [2, 4, 3]])
    unit, _ = normalize(mesh, "z")
    np.testing.assert_allclose(crease_normals(unit, 60), plain(unit, 60), atol=1e-6)
