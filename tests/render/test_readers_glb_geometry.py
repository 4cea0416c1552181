"""GLB geometry against plain loops over the specification's formulas, all in float64."""

import itertools
from typing import Any

import numpy as np
import pytest

from pointcmt.errors import Reason, ShapeRefused
from pointcmt.shapes import Mesh
from tests.render.glb_files import (
    BYTE,
    FLOAT,
    INT,
    POINTS,
    SHORT,
    SIGNED_BYTE,
    SIGNED_SHORT,
    Builder,
    picture,
    simple,
)

TETRAHEDRON = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float64)
OUTWARD = [(0, 2, 1), (0, 1, 3), (0, 3, 2), (1, 2, 3)]  # counterclockwise from outside
LIST, STRIP, FAN = 4, 5, 6


def triangles(mode: int, corners: list[int]) -> list[tuple[int, ...]]:
    """Section 3.7.2.1 of the specification, word by word."""
    if mode == LIST:
        return [(corners[i], corners[i + 1], corners[i + 2]) for i in range(0, len(corners), 3)]
    found = []
    for i in range(len(corners) - 2):
        if mode == STRIP:
            found.append((corners[i], corners[i + 1 + i % 2], corners[i + 2 - i % 2]))
        else:
            found.append((corners[i + 1], corners[i + 2], corners[0]))
    return found


def turned(triangle: Any) -> tuple[Any, ...]:
    """A triangle from its smallest corner on; the same for all three ways to begin it."""
    corners = [tuple(corner) if np.ndim(corner) else corner for corner in triangle]
    return min(tuple(corners[first:] + corners[:first]) for first in range(3))


def shown(mesh: Mesh) -> list[tuple[Any, ...]]:
    return [turned(triangle) for triangle in mesh.vertices[mesh.faces].tolist()]


def signed_volume(mesh: Mesh) -> float:
    return float(np.linalg.det(mesh.vertices[mesh.faces]).sum() / 6)


def local_matrix(node: dict[str, Any]) -> np.ndarray:
    """Translation · rotation · scale, each a matrix of its own."""
    move, scale = np.eye(4), np.diag([*node.get("scale", (1, 1, 1)), 1])
    move[:3, 3] = node.get("translation", (0, 0, 0))
    *axis, w = node.get("rotation", (0, 0, 0, 1))
    rotation = np.eye(4)
    for column in range(3):  # q v q*, by Rodrigues
        v = np.eye(3)[column]
        t = 2 * np.cross(axis, v)
        rotation[:3, column] = v + w * t + np.cross(axis, t)
    return move @ rotation @ scale


def transformed(points: Any, matrix: np.ndarray) -> np.ndarray:
    return np.array([(matrix @ [*point, 1])[:3] for point in np.asarray(points, np.float64)])


# Modes


@pytest.mark.parametrize("mode", [LIST, STRIP, FAN])
@pytest.mark.parametrize("kind", [None, BYTE, SHORT, INT])
@pytest.mark.parametrize("count", [3, 6, 9, 12])
def test_lists_strips_and_fans(mode, kind, count):
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
def test_strips_and_fans_of_two_corners_are_nothing(mode):
    build = Builder()
    short = {"attributes": {"POSITION": build.accessor(POINTS[:2])}, "mode": mode}
    build.node(mesh=build.mesh(short, build.primitive()))
    assert len(build.read().faces) == 1


# Mirrored nodes


@pytest.mark.parametrize("signs", list(itertools.product([1, -1], repeat=3)))
@pytest.mark.parametrize("of", ["parent", "child", "both"])
@pytest.mark.parametrize("size", [1, 1e-120])
def test_surfaces_keep_their_outside_in_mirrored_nodes(signs, of, size):
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


def test_one_mesh_may_stand_plain_and_mirrored():
    build = Builder()
    mesh = build.mesh(build.primitive(TETRAHEDRON, OUTWARD))
    build.node(mesh=mesh, translation=[5, 0, 0])
    build.node(mesh=mesh, matrix=np.diag([-1.0, 1, 1, 1]).ravel().tolist())
    build.node(mesh=mesh, matrix=np.diag([1.0, 1, 0, 1]).ravel().tolist())  # flat: as it is
    read = build.read()
    assert read.faces[:4].tolist() == [list(face) for face in OUTWARD]
    assert [turned(face) for face in (read.faces[4:8] - 4).tolist()] == [
        turned(face[::-1]) for face in OUTWARD
    ]
    assert (read.faces[8:] - 8).tolist() == [list(face) for face in OUTWARD]


def test_corners_keep_their_coordinates_and_colors_in_mirrored_nodes():
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


# Skins


def skinned(
    points: np.ndarray, matrices: list[np.ndarray], joints: Any, weights: Any
) -> np.ndarray:
    """Each point by the sum of its joints' matrices times their weights."""
    moved = []
    for point, own, shares in zip(points, joints, weights, strict=True):
        total = np.zeros(4)
        for joint, share in zip(own, shares, strict=True):
            total += share * (matrices[int(joint)] @ [*point, 1])
        moved.append(total[:3])
    return np.array(moved)


JOINTS = np.array([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [1, 1, 0, 0]])
WEIGHTS = np.array([[0.5, 0.5, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0], [0.25, 0.75, 0, 0]])
FIRST = {"translation": [1, 0, 0], "rotation": [0, 0, 0.6, 0.8], "scale": [1, 2, 1]}
SECOND = {"translation": [0, 3, 0], "rotation": [0.6, 0, 0, 0.8]}


def stored_weights(white: int) -> np.ndarray:
    """WEIGHTS as numbers whose sum is `white` in each row, as the specification demands."""
    if white == 1:
        return WEIGHTS
    values = np.floor(WEIGHTS * white)
    values[:, 0] += white - values.sum(axis=1)
    return values


def skin(
    kind: int = FLOAT, inverse: Any = None, **more: Any
) -> tuple[Builder, dict[str, Any], list[np.ndarray]]:
    """A skinned tetrahedron, its primitive, and the matrices of its joints in the scene."""
    build = Builder()
    white = {FLOAT: 1, BYTE: 255, SHORT: 65535}[kind]
    values = stored_weights(white)
    attributes = {
        "JOINTS_0": build.accessor(JOINTS, BYTE),
        "WEIGHTS_0": build.accessor(values, kind, normalized=kind != FLOAT),
    }
    primitive = build.primitive(TETRAHEDRON, OUTWARD, attributes=attributes)
    mesh = build.mesh(primitive)
    second = build.node(**SECOND)
    first = build.node(children=[second], **FIRST)
    own = build.node(mesh=mesh, skin=0, translation=[50, 0, 0], scale=[-9, 9, 9], **more)
    build.node(children=[first, own], translation=[0, 0, 7])
    build.tree["skins"] = [{"joints": [first, second]}]
    root = local_matrix({"translation": [0, 0, 7]})
    one = root @ local_matrix(FIRST)
    matrices = [one, one @ local_matrix(SECOND)]
    if inverse is not None:
        columns = [matrix.T.ravel() for matrix in inverse]
        build.tree["skins"][0]["inverseBindMatrices"] = build.accessor(columns)
        matrices = [m @ i.astype("<f4") for m, i in zip(matrices, inverse, strict=True)]
    return build, primitive, matrices


@pytest.mark.parametrize("kind", [FLOAT, BYTE, SHORT])
@pytest.mark.parametrize("bound", [False, True])
def test_joints_place_a_skinned_mesh_and_its_node_does_not(kind, bound):
    inverse = [np.linalg.inv(local_matrix(FIRST)), local_matrix({"translation": [1, 2, 3]})]
    build, _, matrices = skin(kind, inverse if bound else None)
    read = build.read()
    white = {FLOAT: 1, BYTE: 255, SHORT: 65535}[kind]
    expected = skinned(TETRAHEDRON, matrices, JOINTS, stored_weights(white) / white)
    assert np.allclose(read.vertices, expected, rtol=0, atol=1e-12)
    assert read.faces.tolist() == [list(face) for face in OUTWARD]  # its node's mirror counts not
    assert read.notes == ()


def test_several_sets_of_joints_add_up():
    build, primitive, matrices = skin()
    more = np.array([[1, 0, 0, 0]] * 4)
    primitive["attributes"] |= {
        "WEIGHTS_0": build.accessor(WEIGHTS / 2),
        "JOINTS_1": build.accessor(more, SHORT),
        "WEIGHTS_1": build.accessor(np.array([[0.25, 0, 0.25, 0]] * 4)),
    }
    expected = skinned(
        TETRAHEDRON,
        matrices,
        np.hstack([JOINTS, more]),
        np.hstack([WEIGHTS / 2, [[0.25, 0, 0.25, 0]] * 4]),
    )
    assert np.allclose(build.read().vertices, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("sign", [1, -1])
def test_joints_that_mirror_keep_the_outside_out(sign):
    build, _, _ = skin(inverse=[np.diag([sign, 1.0, 1, 1])] * 2)
    build.tree["nodes"][0] = {}  # both joints move as one, by the determinant of the first
    assert signed_volume(build.read()) == pytest.approx(2 / 6)


def test_weights_that_do_not_sum_to_one_are_scaled_and_noted():
    build, primitive, matrices = skin()
    wrong = WEIGHTS * [[2], [0.5], [0], [1]]
    primitive["attributes"]["WEIGHTS_0"] = build.accessor(wrong)
    read = build.read()
    assert np.allclose(read.vertices, skinned(TETRAHEDRON, matrices, JOINTS, WEIGHTS), atol=1e-12)
    assert read.notes == ("joint weights do not sum to 1: rescaled",)


def test_a_skin_without_joints_in_the_mesh_is_noted():
    build = simple()
    build.tree["nodes"][0] |= {"skin": 0, "translation": [5, 0, 0]}
    build.tree["skins"] = [{"joints": [0]}]
    read = build.read()
    assert read.vertices.tolist() == [[x + 5, y, z] for x, y, z in POINTS]
    assert read.notes == ("a skin is ignored: its mesh has no JOINTS_0 and WEIGHTS_0",)


def test_joints_without_a_skin_change_nothing():
    build, _, _ = skin()
    del build.tree["nodes"][2]["skin"]
    matrix = local_matrix({"translation": [0, 0, 7]})
    own = local_matrix({"translation": [50, 0, 0], "scale": [-9, 9, 9]})
    assert np.allclose(build.read().vertices, transformed(TETRAHEDRON, matrix @ own))


def test_joints_that_are_not_there():
    build, _, _ = skin()
    build.tree["skins"][0]["joints"].pop()
    with pytest.raises(ShapeRefused) as refused:
        build.read()
    assert refused.value.reason is Reason.BAD_INDEX


# Morph targets

DELTAS = [TETRAHEDRON[::-1] * [1, 2, 3], np.full((4, 3), 0.5), TETRAHEDRON * -0.25]


def morphing(**more: Any) -> tuple[Builder, dict[str, Any]]:
    build = Builder()
    primitive = build.primitive(TETRAHEDRON, OUTWARD)
    primitive["targets"] = [{"POSITION": build.accessor(delta)} for delta in DELTAS]
    build.node(mesh=build.mesh(primitive, **more))
    return build, primitive


def morphed(weights: list[float]) -> np.ndarray:
    points = TETRAHEDRON.copy()
    for weight, delta in zip(weights, DELTAS, strict=True):
        points += weight * delta
    return points


@pytest.mark.parametrize(
    ("of_mesh", "of_node"),
    [([0.5, 0, 2], None), ([0.5, 0, 2], [0, 1, 0]), (None, [-1, 0.25, 3]), (None, None)],
)
def test_morph_targets_by_the_weights_of_the_node_or_the_mesh(of_mesh, of_node):
    build, _ = morphing(**({} if of_mesh is None else {"weights": of_mesh}))
    if of_node is not None:
        build.tree["nodes"][0]["weights"] = of_node
    read = build.read()
    assert np.array_equal(read.vertices, morphed(of_node or of_mesh or [0, 0, 0]))
    assert read.notes == ()


def test_targets_without_positions_and_sparse_ones():
    build, primitive = morphing(weights=[1, 1, 1])
    sparse = build.sparse(4, [1, 3], DELTAS[0][[1, 3]])
    primitive["targets"][:2] = [{"POSITION": sparse}, {"NORMAL": 0}]
    expected = TETRAHEDRON + DELTAS[2]
    expected[[1, 3]] += DELTAS[0][[1, 3]]
    read = build.read()
    assert np.array_equal(read.vertices, expected)
    assert read.notes == ()


def test_targets_move_points_before_their_joints_do():
    build, primitive, matrices = skin(weights=[0.5])
    primitive["targets"] = [{"POSITION": build.accessor(DELTAS[0])}]
    expected = skinned(TETRAHEDRON + 0.5 * DELTAS[0], matrices, JOINTS, WEIGHTS)
    assert np.allclose(build.read().vertices, expected, rtol=0, atol=1e-12)


def test_what_targets_do_beside_positions_is_noted():
    build, primitive = morphing(weights=[1, 0, 0])
    primitive["targets"][0]["COLOR_0"] = 0
    primitive["targets"][1]["TEXCOORD_0"] = 0
    assert build.read().notes == ("morph targets of COLOR_0 are not applied",)


def test_weights_that_do_not_fit_are_noted():
    build, _ = morphing(weights=[1, 1])
    read = build.read()
    assert np.array_equal(read.vertices, morphed([1, 1, 0]))
    assert read.notes == ("2 weights for 3 morph targets",)


# Accessors


def test_sparse_positions_and_indices():
    build = Builder()
    base = build.accessor(TETRAHEDRON)
    view = build.tree["accessors"][base]["bufferView"]
    position = build.sparse(4, [2], [[7, 8, 9]], bufferView=view)
    indices = build.accessor(np.ravel(OUTWARD), SHORT)
    build.tree["accessors"][indices]["sparse"] = {
        "count": 2,
        "indices": {
            "bufferView": build.view(np.array([0, 11], "<u2").tobytes()),
            "componentType": SHORT,
        },
        "values": {"bufferView": build.view(np.array([3, 3], "<u2").tobytes())},
    }
    build.node(
        mesh=build.mesh({"attributes": {"POSITION": position}, "indices": indices}),
    )
    read = build.read()
    expected = TETRAHEDRON.copy()
    expected[2] = [7, 8, 9]
    assert read.vertices.tolist() == expected.tolist()
    assert read.faces.ravel().tolist() == [3, *np.ravel(OUTWARD)[1:-1].tolist(), 3]


def test_sparse_items_of_a_part_of_the_vertices():
    build = Builder()
    position = build.sparse(1000, [1, 500, 999], [[1, 0, 0], [0, 1, 0], [0, 0, 1]])
    indices = build.accessor([999, 500, 7, 500, 1, 999], SHORT)
    build.node(mesh=build.mesh({"attributes": {"POSITION": position}, "indices": indices}))
    read = build.read()
    x, y, z, zero = [1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]
    assert read.vertices[read.faces].tolist() == [[z, y, zero], [y, x, z]]


@pytest.mark.parametrize("items", [[2, 1], [1, 1], [1, 4]])
def test_sparse_items_out_of_order_are_refused(items):
    build = Builder()
    position = build.sparse(4, items, [[1, 2, 3]] * len(items))
    build.node(mesh=build.mesh({"attributes": {"POSITION": position}, "mode": STRIP}))
    with pytest.raises(ShapeRefused) as refused:
        build.read()
    assert refused.value.reason is Reason.BAD_INDEX


@pytest.mark.parametrize(
    ("kind", "white"), [(SIGNED_BYTE, 127), (BYTE, 255), (SIGNED_SHORT, 32767), (SHORT, 65535)]
)
@pytest.mark.parametrize("normalized", [False, True])
def test_quantized_positions(kind, white, normalized):
    low = -white - 1 if kind in (SIGNED_BYTE, SIGNED_SHORT) else 0
    values = np.array([[0, white, low], [white, 0, 0], [1, 2, 3]])
    build = Builder()
    position = build.accessor(values, kind, normalized=normalized)
    build.node(mesh=build.mesh({"attributes": {"POSITION": position}}), scale=[2, 2, 2])
    build.tree["extensionsRequired"] = ["KHR_mesh_quantization"]
    expected = [[max(v / white, -1) for v in row] for row in values] if normalized else values
    assert np.array_equal(build.read().vertices, 2 * np.array(expected, np.float64))


def test_interleaved_vertices():
    build = Builder()
    rows = np.hstack([TETRAHEDRON, np.arange(8).reshape(4, 2)]).astype("<f4")
    view = build.view(rows.tobytes())
    build.tree["bufferViews"][view]["byteStride"] = 20
    common = {"bufferView": view, "componentType": FLOAT, "count": 4}
    position = build.declared(type="VEC3", **common)
    indices = build.accessor(np.ravel(OUTWARD), BYTE)
    build.node(mesh=build.mesh({"attributes": {"POSITION": position}, "indices": indices}))
    assert build.read().vertices.tolist() == TETRAHEDRON.tolist()


def test_primitives_of_one_pool_of_vertices_take_what_they_use():
    build = Builder()
    pool = np.random.default_rng(0).random((1000, 3)).astype(np.float32)
    colors = np.random.default_rng(1).random((1000, 3)).astype(np.float32)
    attributes = {"POSITION": build.accessor(pool), "COLOR_0": build.accessor(colors)}
    corners = [[5, 900, 7], [900, 3, 999]]
    build.node(
        mesh=build.mesh(
            *({"attributes": attributes, "indices": build.accessor(c, SHORT)} for c in corners)
        )
    )
    whole = Builder()
    attributes = {"POSITION": whole.accessor(pool), "COLOR_0": whole.accessor(colors)}
    indices = whole.accessor(np.resize(corners, 1002), SHORT)
    whole.node(mesh=whole.mesh({"attributes": attributes, "indices": indices}))
    read, expected = build.read(), whole.read()
    assert len(read.vertices) == 6
    assert read.vertices[read.faces].tolist() == pool[corners].astype(np.float64).tolist()
    assert read.vertex_colors is not None
    assert expected.vertex_colors is not None
    assert np.array_equal(
        read.vertex_colors[read.faces], expected.vertex_colors[expected.faces[:2]]
    )


@pytest.mark.parametrize("name", ["TEXCOORD_0", "COLOR_0"])
def test_looks_that_do_not_fit_their_vertices_are_noted(name):
    build = Builder()
    width = 2 if name == "TEXCOORD_0" else 3
    build.node(
        mesh=build.mesh(build.primitive(attributes={name: build.accessor(np.ones((5, width)))}))
    )
    read = build.read()
    assert read.vertices.tolist() == POINTS
    assert read.notes == (f"{name} has 5 VEC{width} for 3 vertices: ignored",)


@pytest.mark.parametrize("name", ["EXT_mesh_gpu_instancing", "KHR_node_visibility"])
def test_extensions_that_change_the_shape_are_noted(name):
    build = simple()
    build.tree["nodes"][0]["extensions"] = {name: {}}
    assert build.read().notes == (f"{name} of a node is ignored",)
