"""Normals of vertices in OBJ, PLY, OFF and STL files: read on request, never refused."""

import struct

import numpy as np
import pytest
import trimesh

from pointcmt.render.load.meshes import load_mesh

BALL = trimesh.creation.icosphere(1)
RNG = np.random.default_rng(7)
# Of any length and direction: unlike the positions, and unlike the faces'.
NORMALS = RNG.normal(size=(len(BALL.vertices), 3)) * RNG.uniform(0.1, 10, (len(BALL.vertices), 1))


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def written(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def row(*values):
    return " ".join(repr(float(value)) for value in np.hstack(values))


def off(keyword="NOFF", normals=NORMALS, extra=()):
    lines = [keyword, f"{len(BALL.vertices)} {len(BALL.faces)} 0"]
    lines += [row(v, n, extra) for v, n in zip(BALL.vertices, normals, strict=True)]
    lines += [f"3 {a} {b} {c}" for a, b, c in BALL.faces]
    return "\n".join(lines) + "\n"


def ply(normals=NORMALS, form="ascii", kind="float"):
    head = ["ply", f"format {form} 1.0", f"element vertex {len(normals)}"]
    head += [f"property {kind} {name}" for name in ("x", "y", "z", "nx", "ny", "nz")]
    head += [f"element face {len(BALL.faces)}", "property list uchar int vertex_indices"]
    head = "\n".join([*head, "end_header\n"]).encode()
    table = np.hstack([BALL.vertices, normals])
    if form == "ascii":
        lines = [row(values) for values in table] + [f"3 {a} {b} {c}" for a, b, c in BALL.faces]
        return head + "\n".join(lines).encode() + b"\n"
    order = "<" if "little" in form else ">"
    faces = b"".join(struct.pack(f"{order}B3i", 3, *face) for face in BALL.faces.tolist())
    return head + table.astype(f"{order}f{8 if kind == 'double' else 4}").tobytes() + faces


def obj(corner="{v}//{n}", normals=NORMALS, faces=BALL.faces):
    lines = [f"v {row(v)}" for v in BALL.vertices] + ["vt 0 0"] + [f"vn {row(n)}" for n in normals]
    for face in faces:
        lines.append("f " + " ".join(corner.format(v=v + 1, n=v + 1, t=1) for v in face))
    return "\n".join(lines) + "\n"


FILES = {
    "a.off": off(),
    "colored.off": off("CNOFF", extra=(0.5, 0.5, 0.5, 1)),
    "a.ply": ply(),
    "binary.ply": ply(form="binary_little_endian", kind="double"),
    "big.ply": ply(form="binary_big_endian"),
    "a.obj": obj(),
    "textured.obj": obj("{v}/{t}/{n}"),
}


@pytest.mark.parametrize("name", FILES)
def test_normals_are_read_on_request_and_everything_else_is_the_same(tmp_path, name):
    path = written(tmp_path / name, FILES[name])
    flat, mesh = load_mesh(path), load_mesh(path, normals=True)
    assert flat.corner_normals is None
    np.testing.assert_allclose(mesh.corner_normals, unit(NORMALS)[mesh.faces], atol=1e-6)
    for field in ("vertices", "faces", "face_material", "uv", "vertex_colors", "face_colors"):
        left, right = getattr(flat, field), getattr(mesh, field)
        assert (left is None) == (right is None)
        np.testing.assert_array_equal(left, right)
    assert mesh.notes == flat.notes


@pytest.mark.parametrize("make", [off, ply, obj])
def test_normals_that_are_zero_or_not_finite_are_missing(tmp_path, make):
    normals = NORMALS.copy()
    normals[:4] = [[0, 0, 0], [np.nan, 0, 1], [np.inf, 0, 0], [1e-320, 0, 0]]
    normals[4:6] = [[1e200, 0, 1e200], [-3e-200, 0, 0]]
    if make is not off:
        normals[6] = -0.0
    path = written(tmp_path / f"a.{make.__name__}", make(normals=normals))
    mesh = load_mesh(path, normals=True)
    found = np.zeros_like(normals)
    found[mesh.faces] = mesh.corner_normals
    assert not found[:3].any()
    np.testing.assert_allclose(found[4:6], [[0.5**0.5, 0, 0.5**0.5], [-1, 0, 0]], atol=1e-6)
    np.testing.assert_allclose(found[7:], unit(normals[7:]), atol=1e-6)


def test_normals_that_an_off_header_does_not_declare_are_known_by_their_length(tmp_path):
    note = "extra numbers after vertices taken as their normals (the header says OFF)"
    path = written(tmp_path / "a.off", off("OFF", unit(NORMALS)))
    mesh = load_mesh(path, normals=True)
    np.testing.assert_allclose(mesh.corner_normals, unit(NORMALS)[mesh.faces], atol=1e-6)
    assert mesh.notes == (note,)
    assert mesh.vertex_colors is None
    path = written(tmp_path / "colors.off", off("OFF", np.abs(NORMALS) / 20))
    mesh = load_mesh(path, normals=True)
    assert mesh.corner_normals is None
    assert mesh.vertex_colors is not None


@pytest.mark.parametrize("make", [off, ply, obj])
def test_a_file_whose_normals_are_all_zero_has_none(tmp_path, make):
    path = written(tmp_path / f"a.{make.__name__}", make(normals=0 * NORMALS))
    assert load_mesh(path, normals=True).corner_normals is None


OBJ = """v 0 0 0
v 1 0 0
v 0 1 0
v 1 1 0
v 2 0 0
vt 0 0
vn 0 0 1
"""
Z, X, Y, NONE = [0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0, 0]


@pytest.mark.parametrize(
    ("text", "expected", "notes"),
    [
        ("vn 1 0 0\nf 1//-1 2//-2 3//1\n", [[X, Z, Z]], ()),
        ("f 1//-1 2//1 3//2\nvn 1 0 0\nf 1//-1 2//-2 3//2\n", [[Z, Z, X], [X, Z, X]], ()),
        ("f 1/1/1 2/1 3\n", [[Z, NONE, NONE]], ()),
        ("f 1//1 2//9 3//0\n", [[Z, NONE, NONE]], ("invalid normal indices of 2 corners ignored",)),
        ("f 1//1 2//-2 3\n", [[Z, NONE, NONE]], ("invalid normal indices of 1 corners ignored",)),
        ("vn 1 0\nvn a b c\nvn 0 2 0\nf 1//2 2//3 3//4\n", [[NONE, NONE, Y]], ()),
        ("vn 5 0 0\nf 1//2 2//1 4//1 3//1\n", [[X, Z, Z], [X, Z, Z]], ()),
        ("vn 9 0 0 # more\nf 1//2 \\\n 2//1 \\\n3//1 # f 1//1 2//1 3//1\n", [[X, Z, Z]], ()),
        ("vn 9 \\\n 0 0\nvn 0 3 0\nusemtl vn 1 0 0\nf 1//2 2//3 3//1\n", [[X, Y, Z]], ()),
        ("# vn 1 0 0 \\\nvn 0 1 0\nl 1 2 \\\nvn 9 9 9\nf 1//2 2//1 3//1\n", [[Y, Z, Z]], ()),
        ("v 3 3 3 # \\\nvn 0 1 0\nvt 0 # \\\nf 1//2 2//1 3//1\n", [[Y, Z, Z]], ()),
        ("f\\\n 1//1 2//1 3//1\nf 1 2\nf 2//1 4//1\nf 3 2//1 4\n", [[Z] * 3, [NONE, Z, NONE]], ()),
    ],
)  # fmt: skip
def test_indices_of_obj_normals_are_read_as_those_of_vertices(tmp_path, text, expected, notes):
    path = written(tmp_path / "a.obj", OBJ + text)
    flat, mesh = load_mesh(path), load_mesh(path, normals=True)
    np.testing.assert_array_equal(mesh.faces, flat.faces)
    np.testing.assert_array_equal(mesh.corner_normals, expected)
    assert set(mesh.notes) - set(flat.notes) == set(notes)


def test_lines_end_alike_in_both_passes_over_an_obj_file(tmp_path):
    """The second pass finds the corners of the first: normals equal positions in random layouts."""
    rng = np.random.default_rng(3)
    breaks = [" ", "  ", "\t", " \\\n ", " \\\r\n", "\\\n"]
    # A backslash after a comment joins lines in some statements; it is not used after those.
    ends = ["\n", "\r\n", "\r", "\n\n", " # f 1//1 2//1 3//1\n", " # \\\n", "\n# vn 1 1 1\n"]
    others = [
        "s off",
        "g a",
        "usemtl f",
        "mtllib x",
        "o f 1 2 3",
        "l 1 2",
        "p 1",
        "vp 1 2",
        "vnx 1",
    ]
    for case in range(30):
        points = unit(rng.normal(size=(12, 3)))
        statements = []
        for point in points.tolist():
            statements += [["v", *map(repr, point)], ["vn", *map(repr, point)], ["vt", "0", "1"]]
        for size in rng.integers(2, 6, 8):
            chosen = rng.integers(0, 12, size)
            back = rng.random(size) < 0.5
            corners = [k - 12 if b else k + 1 for k, b in zip(chosen.tolist(), back, strict=True)]
            statements.append(["f", *(f"{k}//{k}" for k in corners)])
        statements.append(["f", "1//1", "2//2", "3//3"])
        text = ""
        for words in statements:
            if rng.random() < 0.2:
                text += str(rng.choice(others)) + str(rng.choice(ends[:5]))
            joined = words[0]
            for word in words[1:]:
                joined += str(rng.choice(breaks[:4] if word == words[1] else breaks[:5])) + word
            text += joined + str(rng.choice(ends[:5] if words[0] == "vn" else ends))
        path = written(tmp_path / f"{case}.obj", text)
        flat, mesh = load_mesh(path), load_mesh(path, normals=True)
        np.testing.assert_array_equal(flat.faces, mesh.faces)
        np.testing.assert_allclose(mesh.corner_normals, mesh.vertices[mesh.faces], atol=1e-6)


def test_normals_of_facets_in_stl_files_are_not_those_of_vertices(tmp_path):
    path = tmp_path / "a.stl"
    BALL.export(path)
    assert load_mesh(path, normals=True).corner_normals is None


def test_a_real_obj_with_normals_agrees_with_trimesh(real_data):
    path = real_data / "textured/fuze/fuze.obj"
    mesh = load_mesh(path, normals=True)
    theirs = trimesh.load(path, process=False, maintain_order=True)
    np.testing.assert_allclose(mesh.vertices[mesh.faces], theirs.triangles, atol=1e-6)
    given = unit(theirs.vertex_normals)[theirs.faces]  # 2π long in the file
    np.testing.assert_allclose(mesh.corner_normals, given, atol=1e-4)
