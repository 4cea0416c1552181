"""Normals of vertices in glTF files, placed with their nodes, joints and morph targets."""

from pathlib import Path

import numpy as np
import pytest

from pointcmt.render.load.readers.glb.scene import read_glb
from tests.render.load.readers.glb.geometry import (
    FIRST,
    JOINTS,
    OUTWARD,
    SECOND,
    TETRAHEDRON,
    WEIGHTS,
    local_matrix,
    skin,
)
from tests.render.load.readers.glb_files import (
    FLOAT,
    POINTS,
    SIGNED_BYTE,
    SIGNED_SHORT,
    Builder,
)

NORMALS = np.array([[0.6, 0, 0.8], [0, -0.6, 0.8], [0.48, 0.64, 0.6]])
PLACED = {"translation": [1, 2, 3], "rotation": [0.6, 0, 0, 0.8], "scale": [1, 2, 5]}


def read(build, normals=True):
    return read_glb(Path("nowhere/mesh.glb"), build.bytes(), normals)


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def triangle(normals=NORMALS, kind=FLOAT, points=POINTS, faces=((0, 1, 2),), **more):
    """A file of one triangle with normals."""
    build = Builder()
    attributes = {"NORMAL": build.accessor(normals, kind, normalized=kind != FLOAT)}
    mesh = build.mesh(build.primitive(points, faces, attributes=attributes))
    build.node(mesh=mesh, **more)
    return build


@pytest.mark.parametrize(
    ("kind", "white", "error"),
    [(FLOAT, 1, 1e-7), (SIGNED_BYTE, 127, 1e-2), (SIGNED_SHORT, 32767, 1e-4)],
)
def test_normals_are_read_on_request_as_floats_or_quantized(kind, white, error):
    stored = NORMALS if kind == FLOAT else np.rint(NORMALS * white)
    build = triangle(stored, kind)
    np.testing.assert_allclose(read(build).corner_normals, [NORMALS], atol=error)
    np.testing.assert_allclose(read(build).corner_normals, [unit(stored)], atol=1e-6)
    assert read(build, normals=False).corner_normals is None


@pytest.mark.parametrize("mirror", [1, -1])
def test_nodes_turn_normals_by_the_inverse_transpose(mirror):
    scale = [mirror * PLACED["scale"][0], *PLACED["scale"][1:]]
    build = triangle(**{**PLACED, "scale": scale})
    turn = np.linalg.inv(local_matrix({**PLACED, "scale": scale})[:3, :3])
    expected = unit(NORMALS @ turn)
    order = [0, 1, 2] if mirror > 0 else [0, 2, 1]  # mirroring turns the face around
    mesh = read(build)
    np.testing.assert_allclose(mesh.corner_normals[0], expected[order], atol=1e-6)
    assert mesh.faces.tolist() == [order]


def test_normals_stay_perpendicular_to_a_squeezed_surface():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(30, 3))
    faces = np.arange(30).reshape(-1, 3)
    a, b, c = points[faces].transpose(1, 0, 2)
    own = np.cross(b - a, c - a).repeat(3, axis=0)
    matrix = np.eye(4)
    matrix[:3, :3] = rng.normal(size=(3, 3)) * (1, 10, 0.01)
    mesh = read(triangle(unit(own), points=points, faces=faces, matrix=matrix.T.ravel().tolist()))
    corners = mesh.vertices[mesh.faces]
    edges = unit(corners[:, 1:] - corners[:, :1])
    assert np.abs(np.einsum("fei,fci->fec", edges, mesh.corner_normals)).max() < 1e-3
    sides = np.cross(edges[:, 0], edges[:, 1])
    # A mirroring matrix turns faces around, so normals stay on the outside.
    assert (np.einsum("fi,fci->fc", sides, mesh.corner_normals) > 0).all()


def test_a_node_that_flattens_its_mesh_has_normals_across():
    mesh = read(triangle(scale=[1, 1, 0]))
    np.testing.assert_allclose(mesh.corner_normals, [[[0, 0, 1]] * 3])
    assert not np.isnan(read(triangle(scale=[0, 0, 0])).vertices).any()


def test_instances_turn_normals_too():
    build = triangle()
    half = np.sqrt(0.5)
    turns = build.accessor([[0, 0, 0, 1], [0, 0, half, half]])
    build.tree["nodes"][0]["extensions"] = {
        "EXT_mesh_gpu_instancing": {"attributes": {"ROTATION": turns}}
    }
    found = read(build).corner_normals
    quarter = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    np.testing.assert_allclose(found, [NORMALS, NORMALS @ quarter.T], atol=1e-6)


def test_morph_targets_move_normals():
    build = Builder()
    attributes = {"NORMAL": build.accessor(NORMALS)}
    change = np.array([[0, 2, 0], [0, 0, 0], [1, 0, -3]])
    targets = [{"NORMAL": build.accessor(change)}, {"POSITION": build.accessor(change)}]
    mesh = build.mesh(build.primitive(attributes=attributes, targets=targets), weights=[0.5, 0.25])
    build.node(mesh=mesh)
    np.testing.assert_allclose(read(build).corner_normals, [unit(NORMALS + change / 2)], atol=1e-6)


def test_joints_turn_normals_by_the_inverse_transpose_of_their_blend():
    build, primitive, matrices = skin()
    normals = unit(TETRAHEDRON - np.mean(TETRAHEDRON, axis=0))
    primitive["attributes"]["NORMAL"] = build.accessor(normals)
    expected = []
    for normal, joints, weights in zip(normals, JOINTS, WEIGHTS, strict=True):
        blend = sum(w * matrices[j][:3, :3] for j, w in zip(joints, weights, strict=True))
        expected.append(unit(np.linalg.inv(blend).T @ normal))
    assert FIRST["scale"] != SECOND.get("scale")
    found = read(build).corner_normals
    np.testing.assert_allclose(found, np.array(expected)[np.array(OUTWARD)], atol=1e-6)


def test_a_primitive_that_uses_few_of_many_vertices_has_their_normals():
    build = triangle(NORMALS[[0, 1, 2, 0, 1]], points=np.eye(5, 3), faces=[(4, 2, 0)])
    np.testing.assert_allclose(read(build).corner_normals, [NORMALS[[1, 2, 0]]], atol=1e-6)


def test_primitives_without_normals_have_zeros_beside_others():
    build = triangle()
    build.node(mesh=build.mesh(build.primitive()))
    mesh = read(build)
    np.testing.assert_allclose(mesh.corner_normals, [NORMALS, 0 * NORMALS], atol=1e-7)


@pytest.mark.parametrize(
    ("normals", "noted"),
    [
        (NORMALS[:2], True),
        (NORMALS[:, :2], True),
        (np.full((3, 3), np.nan), False),
        (np.zeros((3, 3)), False),
    ],
)
def test_normals_that_cannot_be_used_are_missing(normals, noted):
    mesh = read(triangle(normals))
    assert mesh.corner_normals is None
    assert any("NORMAL" in note for note in mesh.notes) == noted
    assert read(triangle(normals), normals=False).notes == ()
