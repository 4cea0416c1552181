"""GLB accessors: sparse, quantized, interleaved and shared vertices."""

import numpy as np
import pytest

from pointcmt.errors import Reason, ShapeRefused
from tests.render.load.readers.glb.geometry import OUTWARD, STRIP, TETRAHEDRON
from tests.render.load.readers.glb_files import (
    BYTE,
    FLOAT,
    POINTS,
    SHORT,
    SIGNED_BYTE,
    SIGNED_SHORT,
    Builder,
)


def test_sparse_positions_and_indices_are_replaced():
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


def test_sparse_items_apply_to_part_of_the_vertices():
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
def test_quantized_positions_are_decoded(kind, white, normalized):
    low = -white - 1 if kind in (SIGNED_BYTE, SIGNED_SHORT) else 0
    values = np.array([[0, white, low], [white, 0, 0], [1, 2, 3]])
    build = Builder()
    position = build.accessor(values, kind, normalized=normalized)
    build.node(mesh=build.mesh({"attributes": {"POSITION": position}}), scale=[2, 2, 2])
    build.tree["extensionsRequired"] = ["KHR_mesh_quantization"]
    expected = [[max(v / white, -1) for v in row] for row in values] if normalized else values
    assert np.array_equal(build.read().vertices, 2 * np.array(expected, np.float64))


def test_interleaved_vertices_are_read():
    build = Builder()
    rows = np.hstack([TETRAHEDRON, np.arange(8).reshape(4, 2)]).astype("<f4")
    view = build.view(rows.tobytes())
    build.tree["bufferViews"][view]["byteStride"] = 20
    common = {"bufferView": view, "componentType": FLOAT, "count": 4}
    position = build.declared(type="VEC3", **common)
    indices = build.accessor(np.ravel(OUTWARD), BYTE)
    build.node(mesh=build.mesh({"attributes": {"POSITION": position}, "indices": indices}))
    assert build.read().vertices.tolist() == TETRAHEDRON.tolist()


def test_primitives_take_only_the_vertices_they_use_from_a_shared_pool():
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
def test_colors_and_coordinates_that_do_not_match_the_vertices_are_noted(name):
    build = Builder()
    width = 2 if name == "TEXCOORD_0" else 3
    build.node(
        mesh=build.mesh(build.primitive(attributes={name: build.accessor(np.ones((5, width)))}))
    )
    read = build.read()
    assert read.vertices.tolist() == POINTS
    assert read.notes == (f"{name} has 5 VEC{width} for 3 vertices: ignored",)
