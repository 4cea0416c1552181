"""GLB primitives and mirrored nodes against plain loops over the specification's formulas."""

import itertools
from typing import Any

import numpy as np
import pytest

from tests.render.load.readers.glb.geometry import (
    FAN,
    LIST,
    OUTWARD,
    STRIP,
    TETRAHEDRON,
    local_matrix,
    shown,
    signed_volume,
    transformed,
    triangles,
    turned,
)
from tests.render.load.readers.glb_files import (
    BYTE,
    INT,
    POINTS,
    SHORT,
    Builder,
    picture,
)

# Modes


@pytest.mark.parametrize("mode", [LIST, STRIP, FAN])
@pytest.mark.parametrize("kind", [None, BYTE, SHORT, INT])
@pytest.mark.parametrize("count", [3, 6, 9, 12])
def test_lists_strips_and_fans_follow_the_specification(mode, kind, count):
    random = np.random.default_rng(count)
    points = random.integers(-9, 9, (count, 3)).astype(np.float64)
    build = Builder()
    primitive: dict[str, Any] = {"attributes": {"POSITION": build.accessor(points)}, "mode": mode}
    corners = list(range(count))
    if kind is not None:
        corners = random.integers(0, count, count).tolist()
        primitive["indices"] = build.accessor(corners, kind)
    build.node(mesh=build.mesh(primitive))
    mesh = build.read()
    expected = [turned(points[list(triangle)].tolist()) for triangle in triangles(mode, corners)]
    assert shown(mesh) == expected
    assert mesh.notes == ()


def test_a_fan_beside_a_list_keeps_the_files_order():
    build = Builder()
    square = [[0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]]
    fan = {"attributes": {"POSITION": build.accessor(square)}, "mode": FAN}
    build.node(mesh=build.mesh(build.primitive(), fan, build.primitive()))
    mesh = build.read()
    assert shown(mesh) == [
        turned(np.array(corners, float).tolist())
        for corners in (POINTS, square[:3], [square[0], *square[2:]], POINTS)
    ]


@pytest.mark.parametrize(
    ("mode", "kind"), [(0, "points"), (1, "lines"), (2, "lines"), (3, "lines"), (7, "primitives")]
)
def test_primitives_without_surface_are_noted(mode, kind):
    build = Builder()
    bare = {"attributes": {"POSITION": build.accessor(POINTS)}, "mode": mode}
    build.node(mesh=build.mesh(bare, build.primitive(), bare))
    mesh = build.read()
    assert len(mesh.faces) == 1
    assert len(mesh.notes) == 1
    assert mesh.notes[0].startswith(kind)
    assert mesh.notes[0].endswith("are ignored: they have no surface")


@pytest.mark.parametrize("mode", [STRIP, FAN])
def test_strips_and_fans_of_two_corners_have_no_triangles(mode):
    build = Builder()
    short = {"attributes": {"POSITION": build.accessor(POINTS[:2])}, "mode": mode}
    build.node(mesh=build.mesh(short, build.primitive()))
    assert len(build.read().faces) == 1


# Mirrored nodes


@pytest.mark.parametrize("signs", list(itertools.product([1, -1], repeat=3)))
@pytest.mark.parametrize("of", ["parent", "child", "both"])
@pytest.mark.parametrize("size", [1, 1e-120])
def test_mirrored_nodes_keep_the_outside_of_surfaces(signs, of, size):
    half = np.sqrt(0.5)
    scale = [size * sign * length for sign, length in zip(signs, (2, 3, 0.5), strict=True)]
    child = {"rotation": [half, 0, 0, half], "translation": [1, 2, 3]}
    parent = {"rotation": [0, 0.6, 0, 0.8], "translation": [-4, 0, 1]}
    if of in ("child", "both"):
        child["scale"] = scale
    if of in ("parent", "both"):
        parent["scale"] = [1, -2, 3] if of == "both" else scale
    build = Builder()
    mesh = build.mesh(build.primitive(TETRAHEDRON, OUTWARD))
    inner = build.node(mesh=mesh, **child)
    build.node(children=[inner], **parent)
    read = build.read()
    matrix = local_matrix(parent) @ local_matrix(child)
    assert np.allclose(read.vertices, transformed(TETRAHEDRON, matrix), rtol=1e-12, atol=0)
    if size == 1:
        expected = abs(np.linalg.det(matrix[:3, :3])) / 6
        assert signed_volume(read) == pytest.approx(expected, rel=1e-9)
    mirrored = np.prod(np.sign(scale)) * (-1 if of == "both" else 1) < 0
    faces = [face[::-1] for face in OUTWARD] if mirrored else OUTWARD
    assert [turned(face) for face in read.faces.tolist()] == [turned(face) for face in faces]


def test_one_mesh_can_be_used_plain_and_mirrored():
    build = Builder()
    mesh = build.mesh(build.primitive(TETRAHEDRON, OUTWARD))
    build.node(mesh=mesh, translation=[5, 0, 0])
    build.node(mesh=mesh, matrix=np.diag([-1.0, 1, 1, 1]).ravel().tolist())
    # A node that is flat in z keeps the order of corners.
    build.node(mesh=mesh, matrix=np.diag([1.0, 1, 0, 1]).ravel().tolist())
    read = build.read()
    assert read.faces[:4].tolist() == [list(face) for face in OUTWARD]
    assert [turned(face) for face in (read.faces[4:8] - 4).tolist()] == [
        turned(face[::-1]) for face in OUTWARD
    ]
    assert (read.faces[8:] - 8).tolist() == [list(face) for face in OUTWARD]


def test_mirrored_nodes_keep_coordinates_and_colors_of_corners():
    build = Builder()
    uv, colors = [[0.25, 0.5], [1, 0], [0, 0.75]], np.eye(3)
    attributes = {"TEXCOORD_0": build.accessor(uv), "COLOR_0": build.accessor(colors)}
    mesh = build.mesh(
        build.primitive(attributes=attributes, material=0),
        build.primitive(attributes={"COLOR_0": attributes["COLOR_0"]}),
    )
    build.node(mesh=mesh, scale=[-1, 1, 1])
    image = build.view(picture((9, 9, 9)))
    build.tree["materials"] = [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}]
    build.tree["textures"], build.tree["images"] = [{"source": 0}], [{"bufferView": image}]
    read = build.read()
    assert read.uv is not None
    assert read.vertex_colors is not None
    where = read.vertices[read.faces[0]].tolist()
    assert read.uv[0].tolist() == [
        [u, 1 - v] for u, v in (uv[POINTS.index([-x, y, z])] for x, y, z in where)
    ]
    assert (read.vertex_colors[read.faces[1]] > 0).tolist() == [
        (np.eye(3)[POINTS.index([-x, y, z])] > 0).tolist() for x, y, z in where
    ]
