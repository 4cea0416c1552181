"""Harmless irregularities of mesh files are noted, harmful ones refused: both sides of a line."""

import re
import struct

import numpy as np
import pytest
import trimesh

from pointcmt.errors import Reason, ShapeRefused
from pointcmt.geometry import normalize
from pointcmt.render.load.meshes import load_mesh

BOX = trimesh.creation.box()
V, F = len(BOX.vertices), len(BOX.faces)
RNG = np.random.default_rng(5)
COLORS = RNG.integers(0, 256, (V, 3))
OPAQUE = np.full((V, 1), 255)


def written(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refusal(path):
    with pytest.raises(ShapeRefused) as refused:
        load_mesh(path)
    return refused.value


def off(vertices, *columns, keyword="OFF", faces=BOX.faces):
    """columns: of numbers after each vertex, as lists of text."""
    rows = [
        " ".join([*map(repr, map(float, vertex)), *map(str, np.ravel([c[i] for c in columns]))])
        for i, vertex in enumerate(vertices)
    ]
    rows += [f"3 {a} {b} {c}" for a, b, c in faces.tolist()]
    return f"{keyword}\n{len(vertices)} {len(faces)} 0\n" + "\n".join(rows) + "\n"


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ((COLORS,), COLORS / 255),
        ((np.hstack([COLORS, OPAQUE]),), COLORS / 255),
        ((COLORS / 255,), COLORS / 255),
        ((np.hstack([COLORS / 255, np.ones((V, 1))]),), COLORS / 255),
        ((np.tile([255, 0, 0], (V, 1)),), np.tile([1.0, 0, 0], (V, 1))),
        ((np.tile([1, 0, 0], (V, 1)),), np.tile([1.0, 0, 0], (V, 1))),
    ],
    ids=["rgb", "rgba", "rgb to 1", "rgba to 1", "red", "red to 1"],
)
def test_colors_under_a_plain_off_header_are_read(tmp_path, columns, expected, separate):
    """The same as under COFF, and with empty lines and comments between."""
    text = off(BOX.vertices, *columns)
    if separate:
        text = text.replace("\n3 ", "\n\n# a face\n3 ")
    mesh = load_mesh(written(tmp_path / "a.off", text))
    np.testing.assert_allclose(mesh.vertex_colors, expected, atol=1e-6)
    np.testing.assert_array_equal(mesh.vertices, BOX.vertices)
    np.testing.assert_array_equal(mesh.faces, BOX.faces)
    assert mesh.notes == (
        "extra numbers after vertices taken as their colors (the header says OFF)",
    )
    declared = load_mesh(written(tmp_path / "b.off", off(BOX.vertices, *columns, keyword="COFF")))
    np.testing.assert_array_equal(mesh.vertex_colors, declared.vertex_colors)
    assert declared.notes == ()


@pytest.mark.parametrize(
    "columns",
    [
        (np.round(BOX.vertex_normals, 6),),
        (np.abs(np.round(BOX.vertex_normals, 6)),),
        (RNG.random((V, 1)),),
        (RNG.random((V, 2)),),
        (COLORS * 2,),
        (COLORS - 255,),
        (RNG.random((V, 5)),),
    ],
    ids=["normals", "positive normals", "one", "two", "above 255", "negative", "five"],
)
def test_other_numbers_after_vertices_are_no_colors(tmp_path, columns):
    mesh = load_mesh(written(tmp_path / "a.off", off(BOX.vertices, *columns)))
    assert mesh.vertex_colors is None
    np.testing.assert_array_equal(mesh.vertices, BOX.vertices)
    assert mesh.notes == (f"{V * columns[0].shape[1]} extra numbers after vertices ignored",)


def test_colors_of_some_vertices_alone_are_no_colors(tmp_path):
    text = off(BOX.vertices, COLORS).splitlines()
    text[4] = " ".join(text[4].split()[:3])
    mesh = load_mesh(written(tmp_path / "a.off", "\n".join(text)))
    assert mesh.vertex_colors is None
    assert mesh.notes == (f"{3 * (V - 1)} extra numbers after vertices ignored",)


# Vertices that no face uses


def ply(vertices, faces, binary):
    order = "binary_little_endian" if binary else "ascii"
    header = f"ply\nformat {order} 1.0\nelement vertex {len(vertices)}\n"
    header += "".join(f"property float {axis}\n" for axis in "xyz")
    header += f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    if binary:
        rows = b"".join(struct.pack("<Biii", 3, *face) for face in faces.tolist())
        return header.encode() + vertices.astype("<f4").tobytes() + rows
    lines = [" ".join(map(repr, v)) for v in vertices.tolist()]
    lines += [f"3 {a} {b} {c}" for a, b, c in faces.tolist()]
    return header + "\n".join(lines) + "\n"


def obj(vertices, faces):
    lines = [f"v {x} {y} {z}" for x, y, z in vertices.tolist()]
    return "\n".join([*lines, *(f"f {a} {b} {c}" for a, b, c in (faces + 1).tolist())]) + "\n"


WRITERS = {
    "a.off": lambda v, f: off(v, faces=f),
    "a.obj": obj,
    "a.ply": lambda v, f: ply(v, f, False),
    "b.ply": lambda v, f: ply(v, f, True),
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_vertices_that_are_not_finite_are_fine_if_no_face_uses_them(tmp_path, name, value):
    vertices = np.insert(BOX.vertices, [0, V], [value, value, 0], axis=0)  # first and last
    faces = BOX.faces.astype(np.int32) + 1
    mesh = load_mesh(written(tmp_path / name, WRITERS[name](vertices, faces)))
    np.testing.assert_array_equal(mesh.faces, faces)
    np.testing.assert_array_equal(mesh.vertices[1:-1], BOX.vertices)
    assert mesh.vertices[[0, -1]].tolist() == [[0, 0, 0]] * 2
    assert mesh.notes == ("2 vertices that no face uses are not finite: set to 0",)
    unit, _ = normalize(mesh, "y")
    assert np.linalg.norm(unit.vertices, axis=1).max() == pytest.approx(1)
    faces[3, 1] = 0  # now one is used
    refused = refusal(written(tmp_path / name, WRITERS[name](vertices, faces)))
    assert refused.reason is Reason.NOT_FINITE
    assert "vertices are not finite, first 0" in refused.detail


def test_a_polygon_of_two_corners_uses_nothing(tmp_path):
    text = off(np.vstack([BOX.vertices, [[np.nan] * 3]]), faces=BOX.faces)
    text = text.replace(f"{V + 1} {F} 0", f"{V + 1} {F + 1} 0") + f"2 0 {V}\n"
    mesh = load_mesh(written(tmp_path / "a.off", text))
    assert len(mesh.faces) == F
    assert "1 vertices that no face uses are not finite: set to 0" in mesh.notes


def test_a_glb_file_with_an_unused_vertex(tmp_path):
    data = bytearray(BOX.export(file_type="glb"))
    mesh = load_mesh(written(tmp_path / "a.glb", bytes(data)))
    vertices = mesh.vertices.astype("<f4").tobytes()
    at = bytes(data).index(vertices)
    data[at + 12 : at + 16] = struct.pack("<f", np.nan)
    assert refusal(written(tmp_path / "b.glb", bytes(data))).reason is Reason.NOT_FINITE
    indices = re.search(re.escape(mesh.faces.astype("<u4").tobytes()), bytes(data))
    assert indices is not None
    faces = np.where(mesh.faces == 1, 0, mesh.faces)
    data[indices.start() : indices.end()] = faces.astype("<u4").tobytes()
    found = load_mesh(written(tmp_path / "c.glb", bytes(data)))
    np.testing.assert_array_equal(found.faces, faces)
    assert found.notes == ("1 vertices that no face uses are not finite: set to 0",)


# Bytes after the end

STL = BOX.export(file_type="stl")
ENDS = {b"\0": True, b"0123456789": True, b"x" * 49: True, bytes(4096): True, b"\r\n": True}
ENDS |= {b"x" * 50: False, b"\0\1" * 300: False}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("name", ["a.stl", "b.stl", "b.ply"])
def test_a_few_bytes_after_the_end_of_a_binary_file_are_noted(tmp_path, name, end):
    whole = ply(BOX.vertices, BOX.faces, True) if name == "b.ply" else STL
    if name == "b.stl":
        whole = b"solid box".ljust(80, b"\0") + whole[80:]
    expected = load_mesh(written(tmp_path / name, whole))
    path = written(tmp_path / name, whole + end)
    if not ENDS[end]:
        refused = refusal(path)
        assert refused.reason is Reason.COUNT_MISMATCH
        return
    mesh = load_mesh(path)
    np.testing.assert_array_equal(mesh.vertices, expected.vertices)
    np.testing.assert_array_equal(mesh.faces, expected.faces)
    blank = name == "b.ply" and not end.strip(b" \t\r\n\0")  # as before: no reason for a note
    said = (f"{len(end)} bytes after the end of the data ignored",)
    assert mesh.notes == (() if blank else said)


def test_a_missing_facet_is_no_trailing_byte(tmp_path):
    assert refusal(written(tmp_path / "a.stl", STL[:-1])).reason is Reason.TRUNCATED
    more = STL + STL[84:134]  # a facet that is not counted
    assert refusal(written(tmp_path / "b.stl", more)).reason is Reason.COUNT_MISMATCH
