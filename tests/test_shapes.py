"""Meshes and clouds validate their arrays, and keep valid arrays without copying."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from pointcmt.errors import PointcmtError, Reason, ShapeError
from pointcmt.geometry import normalize
from pointcmt.render.draw.raycaster import RayCaster
from pointcmt.shapes import Cloud, Material, Mesh, UnitMesh

CORNERS = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])


def triangle(faces=((0, 1, 2),), **more):
    return Mesh(CORNERS, faces, **more)


def test_valid_arrays_are_kept_without_a_copy():
    faces, uv = np.array([[0, 1, 2]], np.int32), np.zeros((1, 3, 2), np.float32)
    mesh = Mesh(CORNERS, faces, uv=uv)
    assert np.shares_memory(mesh.vertices, CORNERS)
    assert np.shares_memory(mesh.faces, faces)
    assert np.shares_memory(mesh.uv, uv)


@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.uint64, np.int16])
def test_arrays_are_converted_to_the_stored_dtypes(kind):
    mesh = Mesh(
        CORNERS.astype(np.float16),
        np.array([[0, 1, 2]], kind),
        materials=[Material()],
        face_material=[0],
        vertex_colors=np.array([[255, 0, 51]] * 3, np.uint8),
        face_part=[7],
    )
    kinds = [mesh.vertices, mesh.faces, mesh.face_material, mesh.vertex_colors, mesh.face_part]
    assert [each.dtype.name for each in kinds] == ["float64", "int32", "int32", "float32", "uint8"]
    np.testing.assert_array_equal(mesh.vertex_colors[0], np.float32([1, 0, 0.2]))
    assert mesh.vertices.flags.c_contiguous
    assert Mesh(np.asfortranarray(CORNERS), [[0, 1, 2]]).vertices.flags.c_contiguous


BAD = {
    "no faces": ({"faces": np.zeros((0, 3), int)}, Reason.NO_FACES, "the mesh has no faces"),
    "an empty list": ({"faces": []}, Reason.NO_FACES, "the mesh has no faces"),
    "an index too high": ({"faces": [[0, 1, 3]]}, Reason.BAD_INDEX, "vertices 0 to 3 of 3"),
    "an index below 0": ({"faces": [[0, 1, -1]]}, Reason.BAD_INDEX, "vertices -1 to 1 of 3"),
    "an index of 2^32": ({"faces": [[0, 1, 2**32]]}, Reason.BAD_INDEX, "not fit into int32"),
    "quads": ({"faces": [[0, 1, 2, 0]]}, Reason.COUNT_MISMATCH, "shape [any, 3], not [1, 4]"),
    "floats": ({"faces": [[0.0, 1, 2]]}, Reason.BAD_SYNTAX, "faces must be integers, not float64"),
    "truth values": ({"faces": [[True] * 3]}, Reason.BAD_SYNTAX, "integers, not bool"),
    "ragged rows": ({"faces": [[0, 1, 2], [0]]}, Reason.BAD_SYNTAX, "not an array"),
    "uv per vertex": ({"uv": np.zeros((3, 2))}, Reason.COUNT_MISMATCH, "shape [1, 3, 2]"),
    "uv": ({"uv": np.full((1, 3, 2), np.inf)}, Reason.NOT_FINITE, "are not finite, first 0"),
    "too few colors": ({"vertex_colors": np.zeros((2, 3))}, Reason.COUNT_MISMATCH, "[3, 3]"),
    "NaN colors": ({"face_colors": [[0, np.nan, 0]]}, Reason.NOT_FINITE, "colors are not finite"),
    "colors to 255": ({"face_colors": [[0, 255.0, 0]]}, Reason.BAD_SYNTAX, "expected 0 to 1"),
    "no material": ({"face_material": [0]}, Reason.BAD_INDEX, "materials that do not exist"),
    "part 256": ({"face_part": [256]}, Reason.BAD_INDEX, "not fit into uint8"),
}


@pytest.mark.parametrize("name", BAD)
def test_an_invalid_mesh_is_refused_with_the_argument_name(name):
    arguments, reason, says = BAD[name]
    with pytest.raises(ShapeError) as raised:
        triangle(**arguments)
    assert raised.value.reason is reason
    assert says in raised.value.what
    assert f"  where: {next(iter(arguments))}=" in str(raised.value)


def test_vertices_that_are_not_finite_are_counted():
    vertices = np.vstack([CORNERS, [[np.nan, 1, 2]], [[3, -np.inf, 5]]])
    with pytest.raises(ShapeError, match="2 vertices are not finite, first 3: nan 1 2"):
        Mesh(vertices, [[0, 1, 2]])
    with pytest.raises(ShapeError, match=r"vertices must have the shape \[any, 3\], not \[3, 2\]"):
        Mesh(CORNERS[:, :2], [[0, 1, 2]])
    with pytest.raises(ShapeError, match="vertices must be numbers, not <U1"):
        Mesh([["a"] * 3], [[0, 0, 0]])
    largest = np.finfo(np.float64).max  # finite, although the sum is not
    assert len(Mesh(CORNERS * largest, [[0, 1, 2]]).faces) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"color": (1, 2, 0)}, "three values from 0 to 1"),
        ({"color": (1, float("nan"), 0)}, "three values from 0 to 1"),
        ({"color": (1, 0)}, "three values from 0 to 1"),
        ({"opacity": 1.5}, "from 0 to 1, not 1.5"),
        ({"texture": np.zeros((2, 2, 3))}, "a uint8 array, not float64"),
        ({"texture": "wood.png"}, "a uint8 array, not str"),
        ({"texture": np.zeros((2, 2, 4), np.uint8)}, "[h, w, 3], not [2, 2, 4]"),
        ({"texture": np.zeros((0, 2, 3), np.uint8)}, "[h, w, 3], not [0, 2, 3]"),
        ({"wrap": ("repeat", "border")}, "two of repeat, clamp, mirror"),
        ({"wrap": ("clamp",)}, "two of repeat, clamp, mirror"),
    ],
)
def test_an_invalid_material_is_refused(arguments, says):
    with pytest.raises(ShapeError) as raised:
        Material(**arguments)
    assert says in raised.value.what
    assert raised.value.where == f"{next(iter(arguments))}="


def test_a_replaced_mesh_is_checked_again():
    with pytest.raises(ShapeError, match="shape"):
        replace(triangle(), face_part=[1, 2])


@pytest.mark.parametrize(
    ("arguments", "reason", "says"),
    [
        ({"points": np.zeros((0, 3))}, Reason.EMPTY_FILE, "the cloud has no points"),
        ({"points": CORNERS[0]}, Reason.COUNT_MISMATCH, "shape [any, 3], not [3]"),
        ({"points": CORNERS * np.nan}, Reason.NOT_FINITE, "3 points are not finite, first 0"),
        ({"normals": CORNERS[:2]}, Reason.COUNT_MISMATCH, "shape [3, 3], not [2, 3]"),
        ({"normals": CORNERS + np.inf}, Reason.NOT_FINITE, "normals are not finite"),
        ({"colors": CORNERS * 2}, Reason.BAD_SYNTAX, "from 0 to 2; expected 0 to 1"),
        ({"part": [0.0, 1, 2]}, Reason.BAD_SYNTAX, "part must be integers, not float64"),
        ({"part": [0, 1, -1]}, Reason.BAD_INDEX, "not fit into uint8"),
    ],
)
def test_an_invalid_cloud_is_refused(arguments, reason, says):
    with pytest.raises(ShapeError) as raised:
        Cloud(**{"points": CORNERS, **arguments})
    assert raised.value.reason is reason
    assert says in raised.value.what
    assert f"  where: {next(iter(arguments))}=" in str(raised.value)


def test_shape_errors_can_be_pickled():
    with pytest.raises(ShapeError) as raised:
        triangle(faces=[[0, 1, 3]])
    again = pickle.loads(pickle.dumps(raised.value))
    assert (str(again), again.reason) == (str(raised.value), Reason.BAD_INDEX)
    assert isinstance(again, PointcmtError)


def test_the_ray_caster_only_accepts_unit_meshes():
    mesh = triangle()
    with pytest.raises(TypeError, match="normalized to the unit sphere"):
        RayCaster(mesh)
    unit, _ = normalize(mesh, "z")
    assert isinstance(unit, UnitMesh)
    RayCaster(unit)


def test_the_repr_of_a_mesh_describes_its_contents():
    assert repr(triangle()) == "Mesh(3 vertices, 1 face)"
    assert repr(triangle(face_part=[0])) == "Mesh(3 vertices, 1 face, face_part)"
    assert repr(normalize(triangle(), "z")[0]) == "UnitMesh(3 vertices, 1 face)"
    assert repr(Cloud(CORNERS, colors=CORNERS)) == "Cloud(3 points, colors)"
