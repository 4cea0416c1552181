"""Instances of nodes, and nodes that are hidden."""

from typing import Any

import numpy as np
import pytest

from pointcmt.errors import Reason, ShapeRefused
from tests.render.load.readers.glb.geometry import (
    OUTWARD,
    TETRAHEDRON,
    local_matrix,
    shown,
    signed_volume,
    transformed,
)
from tests.render.load.readers.glb_files import (
    BYTE,
    FLOAT,
    POINTS,
    SIGNED_BYTE,
    SIGNED_SHORT,
    Builder,
    simple,
)

HALF = np.sqrt(0.5)
MOVES = [[0, 0, 0], [5, 0, 0], [0, 7, 1]]
TURNS = [[0, 0, 0, 1], [0, 0, HALF, HALF], [HALF, 0, 0, HALF]]
SCALES = [[1, 1, 1], [2, 1, 1], [1, 1, 3]]


def instances(build: Builder, **attributes: Any) -> dict[str, Any]:
    return {"EXT_mesh_gpu_instancing": {"attributes": attributes}}


@pytest.mark.parametrize(("kind", "white"), [(FLOAT, 1), (SIGNED_BYTE, 127), (SIGNED_SHORT, 32767)])
def test_instances_are_placed_by_translation_rotation_and_scale(kind, white):
    build = Builder()
    mesh = build.mesh(build.primitive(TETRAHEDRON, OUTWARD))
    turns = np.rint(np.array(TURNS) * white) if white > 1 else TURNS
    attributes = {
        "TRANSLATION": build.accessor(MOVES),
        "ROTATION": build.accessor(turns, kind, normalized=kind != FLOAT),
        "SCALE": build.accessor(SCALES),
        "_ID": build.accessor([1, 2, 3]),
    }
    own = {"translation": [0, 0, 100], "scale": [2, 2, 2]}
    build.node(mesh=mesh, extensions=instances(build, **attributes), **own)
    read = build.read()
    stored = np.array(turns) / white
    expected = []
    for move, turn, scale in zip(MOVES, stored, SCALES, strict=True):
        place = {"translation": move, "rotation": turn, "scale": scale}
        expected.append(transformed(TETRAHEDRON, local_matrix(own) @ local_matrix(place)))
    assert np.allclose(read.vertices, np.concatenate(expected), atol=1e-4)
    assert len(read.faces) == 12


def test_instances_without_some_attributes_keep_the_defaults():
    build = simple()
    build.tree["nodes"][0]["extensions"] = instances(build, TRANSLATION=build.accessor(MOVES))
    assert build.read().vertices.reshape(3, 3, 3)[1].tolist() == [[5, 0, 0], [6, 0, 0], [5, 1, 0]]
    build.tree["nodes"][0]["extensions"] = instances(build)
    assert build.read().vertices.tolist() == POINTS


def test_mirrored_instances_keep_their_outside():
    build = Builder()
    mesh = build.mesh(build.primitive(TETRAHEDRON, OUTWARD))
    scales = build.accessor([[1, 1, 1], [-1, 1, 1], [-1, -1, 1]])
    build.node(mesh=mesh, extensions=instances(build, SCALE=scales))
    read = build.read()
    assert signed_volume(read) == pytest.approx(3 / 6)


@pytest.mark.parametrize(
    "attributes",
    [
        {"TRANSLATION": [[0, 0, 0]], "SCALE": [[1, 1, 1], [2, 2, 2]]},
        {"ROTATION": [[0, 0, 0]]},
        {"TRANSLATION": [[0, 0]]},
    ],
)
def test_instances_that_do_not_fit_are_refused(attributes):
    build = simple()
    found = {name: build.accessor(values) for name, values in attributes.items()}
    build.tree["nodes"][0]["extensions"] = instances(build, **found)
    with pytest.raises(ShapeRefused) as refused:
        build.read()
    assert refused.value.reason is Reason.BAD_SYNTAX


def test_millions_of_instances_are_refused_before_they_are_made():
    build = simple()
    many = build.declared(componentType=BYTE, count=50_000_000, type="VEC3")
    build.tree["nodes"][0]["extensions"] = instances(build, TRANSLATION=many)
    with pytest.raises(ShapeRefused) as refused:
        build.read()
    assert refused.value.reason is Reason.TOO_LARGE


def test_hidden_nodes_hide_their_children():
    build = Builder()
    mesh = build.mesh(build.primitive())
    hidden = {"KHR_node_visibility": {"visible": False}}
    child = build.node(mesh=mesh, extensions={"KHR_node_visibility": {"visible": True}})
    build.node(mesh=mesh, children=[child], extensions=hidden)
    build.node(mesh=mesh, translation=[0, 0, 9], extensions={"KHR_node_visibility": {}})
    assert shown(build.read()) == [((0, 0, 9), (1, 0, 9), (0, 1, 9))]
