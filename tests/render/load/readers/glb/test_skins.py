"""GLB skins and morph targets against plain loops over the specification's formulas."""

from typing import Any

import numpy as np
import pytest

from pointcmt.errors import Reason, ShapeRefused
from tests.render.load.readers.glb.geometry import (
    FIRST,
    JOINTS,
    OUTWARD,
    TETRAHEDRON,
    WEIGHTS,
    local_matrix,
    signed_volume,
    skin,
    skinned,
    stored_weights,
    transformed,
)
from tests.render.load.readers.glb_files import (
    BYTE,
    FLOAT,
    POINTS,
    SHORT,
    Builder,
    simple,
)


@pytest.mark.parametrize("kind", [FLOAT, BYTE, SHORT])
@pytest.mark.parametrize("bound", [False, True])
def test_a_skinned_mesh_is_placed_by_its_joints_not_its_node(kind, bound):
    inverse = [np.linalg.inv(local_matrix(FIRST)), local_matrix({"translation": [1, 2, 3]})]
    build, _, matrices = skin(kind, inverse if bound else None)
    read = build.read()
    white = {FLOAT: 1, BYTE: 255, SHORT: 65535}[kind]
    expected = skinned(TETRAHEDRON, matrices, JOINTS, stored_weights(white) / white)
    assert np.allclose(read.vertices, expected, rtol=0, atol=1e-12)
    # The mirroring of its node does not count.
    assert read.faces.tolist() == [list(face) for face in OUTWARD]
    assert read.notes == ()


def test_several_sets_of_joints_are_summed():
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
def test_mirroring_joints_keep_the_outside_of_surfaces(sign):
    build, _, _ = skin(inverse=[np.diag([sign, 1.0, 1, 1])] * 2)
    build.tree["nodes"][0] = {}  # the determinant of the first joint decides
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


def test_missing_joints_are_refused():
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
def test_morph_targets_use_the_weights_of_the_node_or_the_mesh(of_mesh, of_node):
    build, _ = morphing(**({} if of_mesh is None else {"weights": of_mesh}))
    if of_node is not None:
        build.tree["nodes"][0]["weights"] = of_node
    read = build.read()
    assert np.array_equal(read.vertices, morphed(of_node or of_mesh or [0, 0, 0]))
    assert read.notes == ()


def test_morph_targets_may_be_sparse_or_lack_positions():
    build, primitive = morphing(weights=[1, 1, 1])
    sparse = build.sparse(4, [1, 3], DELTAS[0][[1, 3]])
    primitive["targets"][:2] = [{"POSITION": sparse}, {"NORMAL": 0}]
    expected = TETRAHEDRON + DELTAS[2]
    expected[[1, 3]] += DELTAS[0][[1, 3]]
    read = build.read()
    assert np.array_equal(read.vertices, expected)
    assert read.notes == ()


def test_morph_targets_apply_before_joints():
    build, primitive, matrices = skin(weights=[0.5])
    primitive["targets"] = [{"POSITION": build.accessor(DELTAS[0])}]
    expected = skinned(TETRAHEDRON + 0.5 * DELTAS[0], matrices, JOINTS, WEIGHTS)
    assert np.allclose(build.read().vertices, expected, rtol=0, atol=1e-12)


def test_morph_targets_of_other_attributes_are_noted():
    build, primitive = morphing(weights=[1, 0, 0])
    primitive["targets"][0]["COLOR_0"] = 0
    primitive["targets"][1]["TEXCOORD_0"] = 0
    assert build.read().notes == ("morph targets of COLOR_0 are not applied",)


def test_morph_weights_of_the_wrong_number_are_noted():
    build, _ = morphing(weights=[1, 1])
    read = build.read()
    assert np.array_equal(read.vertices, morphed([1, 1, 0]))
    assert read.notes == ("2 weights for 3 morph targets",)
