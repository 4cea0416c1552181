"""PLY in all encodings: polygons in place, colors and texture coordinates as written."""

from pathlib import Path

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pointcmt.errors import Reason, ShapeRefused
from pointcmt.render.load.readers.ply import read_ply
from pointcmt.shapes import Mesh

FORMATS = ["ascii", "binary_little_endian", "binary_big_endian"]
TYPES = {"float": "f4", "double": "f8", "uchar": "u1", "int": "i4", "ushort": "u2", "char": "i1"}
CORNERS = [(0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)]
XYZ = ["double x", "double y", "double z"]
INDICES = ["list uchar int vertex_indices"]


def ply(form: str, *elements: tuple[str, list[str], list[tuple]], comments: str = "") -> bytes:
    """A file of elements (name, properties, rows); a list's value is a list."""
    header = f"ply\nformat {form} 1.0\n{comments}"
    body = b""
    for name, properties, rows in elements:
        header += f"element {name} {len(rows)}\n"
        header += "".join(f"property {text}\n" for text in properties)
        for row in rows:
            for text, value in zip(properties, row, strict=True):
                words = text.split()
                listed = words[0] == "list"
                numbers = [(words[1], len(value))] if listed else []
                numbers += [(words[-2], one) for one in (value if listed else [value])]
                for kind, number in numbers:
                    if form == "ascii":
                        body += f"{number!r} ".encode()
                    else:
                        order = "<" if "little" in form else ">"
                        body += np.array(number, order + TYPES[kind]).tobytes()
            body += b"\n" if form == "ascii" else b""
    return header.encode() + b"end_header\n" + body


def read(data: bytes, path: Path = Path("nowhere/mesh.ply")) -> Mesh:
    return read_ply(path, data)


def refusal(data: bytes) -> ShapeRefused:
    with pytest.raises(ShapeRefused) as refused:
        read(data)
    return refused.value


@st.composite
def geometry(draw):
    count = draw(st.integers(3, 8))
    coordinate = st.floats(-1e300, 1e300)
    vertices = draw(st.lists(st.tuples(*3 * [coordinate]), min_size=count, max_size=count))
    corner = st.integers(0, count - 1)
    return vertices, draw(
        st.lists(st.lists(corner, min_size=3, max_size=3), min_size=1, max_size=9)
    )


@pytest.mark.parametrize("form", FORMATS)
@given(case=geometry())
@settings(max_examples=50, deadline=None)
def test_triangles_are_read_exactly(form, case):
    vertices, faces = case
    rows = [(list(face),) for face in faces]
    mesh = read(ply(form, ("vertex", XYZ, vertices), ("face", INDICES, rows)))
    assert mesh.vertices.tobytes() == np.array(vertices).tobytes()
    assert mesh.faces.tolist() == faces


@pytest.mark.parametrize("form", FORMATS)
def test_polygons_of_mixed_sizes_keep_their_order(form):
    points = [*CORNERS, (1.0, 1.0, 0.0), (0.4, 0.3, 0.0)]
    faces = [[0, 1, 2], [0, 1, 3, 2], [1, 2], [2, 1, 0], [0, 1, 3, 2, 4], [3, 2, 1]]
    mesh = read(ply(form, ("vertex", XYZ, points), ("face", INDICES, [(f,) for f in faces])))
    assert mesh.faces[:4].tolist() == [[0, 1, 2], [0, 1, 3], [0, 3, 2], [2, 1, 0]]
    assert mesh.faces[-1].tolist() == [3, 2, 1]
    assert len(mesh.faces) == 8
    assert mesh.notes == ("1 faces with fewer than 3 corners skipped",)


@pytest.mark.parametrize("form", FORMATS)
def test_other_elements_and_properties_are_skipped(form):
    vertices = [(c[0], 7, c[1], [1, 2], c[2]) for c in CORNERS]
    properties = ["float x", "uchar quality", "float y", "list char int tags", "float z"]
    face = ["uchar flags", "list uchar int vertex_index", "list uchar float weights", "int part"]
    mesh = read(
        ply(
            form,
            ("camera", ["float a", "list int ushort b"], [(1.5, [1, 2, 3])]),
            ("vertex", properties, vertices),
            ("empty", [], []),
            ("face", face, [(1, [0, 1, 2], [0.5], 3), (1, [2, 1, 0], [0.5, 0.5], 3)]),
            ("edge", ["int vertex1", "int vertex2"], [(0, 1)]),
        )
    )
    assert mesh.vertices.tolist() == [list(corner) for corner in CORNERS]
    assert mesh.faces.tolist() == [[0, 1, 2], [2, 1, 0]]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    ("kind", "white"), [("uchar", 255), ("ushort", 65535), ("float", 1.0), ("float", 255.0)]
)
def test_colors_are_read(form, kind, white):
    colors = [(white, 0, 0), (0, white, 0), (white, white, white)]
    names = [f"{kind} {name}" for name in ("red", "green", "blue")]
    rows = [(*corner, *color) for corner, color in zip(CORNERS, colors, strict=True)]
    faces = [([0, 1, 2], *colors[0]), ([0, 1, 2, 1], *colors[1])]
    mesh = read(ply(form, ("vertex", XYZ + names, rows), ("face", INDICES + names, faces)))
    assert mesh.vertex_colors is not None
    assert mesh.vertex_colors.tolist() == [[1, 0, 0], [0, 1, 0], [1, 1, 1]]
    assert mesh.face_colors is not None
    assert mesh.face_colors.tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 0]]


def textured(names: list[str], tmp_path: Path, comment: str = "t.png") -> Mesh:
    Image.new("RGB", (2, 2), (255, 0, 0)).save(tmp_path / "t.png")
    rows = [(*corner, corner[0], corner[1]) for corner in CORNERS]
    properties = XYZ + [f"double {name}" for name in names]
    data = ply(
        "ascii",
        ("vertex", properties, rows),
        ("face", INDICES, [([2, 0, 1],)]),
        comments=f"comment TextureFile {comment}\n",
    )
    return read(data, tmp_path / "mesh.ply")


@pytest.mark.parametrize("names", [["s", "t"], ["u", "v"], ["texture_u", "texture_v"]])
def test_texture_coordinates_of_vertices_are_read(tmp_path, names):
    mesh = textured(names, tmp_path)
    assert mesh.uv is not None
    assert mesh.uv.tolist() == [[[0, 1], [0, 0], [1, 0]]]
    assert mesh.face_material is not None
    assert mesh.face_material.tolist() == [0]
    texture = mesh.materials[0].texture
    assert texture is not None
    assert (texture == (255, 0, 0)).all()


def test_texture_coordinates_and_numbers_of_corners_are_read(tmp_path):
    for name, color in (("a.png", (255, 0, 0)), ("b.png", (0, 255, 0))):
        Image.new("RGB", (2, 2), color).save(tmp_path / name)
    faces = [([0, 1, 2], [0.0, 0.0, 1.0, 0.0, 0.0, 1.0], 1), ([0, 1, 2], 6 * [0.5], 0)]
    data = ply(
        "binary_little_endian",
        ("vertex", XYZ, CORNERS),
        ("face", [*INDICES, "list uchar float texcoord", "int texnumber"], faces),
        comments="comment TextureFile a.png\ncomment TextureFile b.png\n",
    )
    mesh = read(data, tmp_path / "mesh.ply")
    assert mesh.uv is not None
    assert mesh.uv.tolist() == [[[0, 0], [1, 0], [0, 1]], 3 * [[0.5, 0.5]]]
    assert mesh.face_material is not None
    assert mesh.face_material.tolist() == [1, 0]


def test_textures_outside_of_the_directory_are_not_read(tmp_path):
    (tmp_path / "model").mkdir()
    Image.new("RGB", (2, 2)).save(tmp_path / "secret.png")
    mesh = textured(["s", "t"], tmp_path / "model", "../secret.png")
    assert mesh.materials == ()
    assert mesh.notes == ("texture ../secret.png is outside the model's folder and is ignored",)


@pytest.mark.parametrize("encoding", ["ascii", "binary"])
def test_agrees_with_trimesh_on_triangles(tmp_path, encoding):
    sphere = trimesh.creation.icosphere(subdivisions=2)
    sphere.export(tmp_path / "m.ply", encoding=encoding)
    mesh = read((tmp_path / "m.ply").read_bytes())
    assert np.allclose(mesh.vertices, sphere.vertices, atol=1e-6)
    assert (mesh.faces == sphere.faces).all()


TRIANGLE = ply("ascii", ("vertex", XYZ, CORNERS), ("face", INDICES, [([0, 1, 2],)]))
BINARY = ply("binary_little_endian", ("vertex", XYZ, CORNERS), ("face", INDICES, [([0, 1, 2],)]))


@pytest.mark.parametrize("end", [b"\r\n", b"\r"])
def test_all_line_ends_of_the_header_are_read(end):
    header, body = BINARY.split(b"end_header\n")
    data = header.replace(b"\n", end) + b"end_header" + end + body
    assert read(data).vertices.tolist() == [list(corner) for corner in CORNERS]


def test_strange_header_lines_are_noted():
    mesh = read(TRIANGLE.replace(b"element vertex", b"Created by x\nobj_info y\nelement vertex"))
    assert mesh.notes == ("header line ignored: Created by x",)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"plx\n", Reason.UNKNOWN_FORMAT),
        (TRIANGLE.replace(b"element face 1", b"element tristrips 1"), Reason.UNKNOWN_FORMAT),
        (TRIANGLE[:60], Reason.TRUNCATED),
        (TRIANGLE[:-8], Reason.TRUNCATED),
        (TRIANGLE[:-30], Reason.TRUNCATED),
        (BINARY[:-1], Reason.TRUNCATED),
        (BINARY[:-14], Reason.TRUNCATED),
        (BINARY.replace(b"face 1", b"face 2"), Reason.TRUNCATED),
        (TRIANGLE.replace(b"vertex 3", b"vertex 9999999999999"), Reason.TRUNCATED),
        (BINARY.replace(b"face 1", b"face 9999999999999"), Reason.TRUNCATED),
        (TRIANGLE + b"1", Reason.COUNT_MISMATCH),
        (BINARY + b"1" * 50, Reason.COUNT_MISMATCH),
        (TRIANGLE.replace(b"face 1", b"face 0"), Reason.NO_FACES),
        (ply("ascii", ("vertex", XYZ, CORNERS)), Reason.NO_FACES),
        (TRIANGLE.replace(b"0 1 2 \n", b"0 1 3 \n"), Reason.BAD_INDEX),
        (TRIANGLE.replace(b"0 1 2 \n", b"0 1 -1 \n"), Reason.BAD_INDEX),
        (TRIANGLE.replace(b"0 1 2 \n", b"0 1 1.5 \n"), Reason.BAD_INDEX),
        (TRIANGLE.replace(b"0 1 2 \n", b"0 1 nan \n"), Reason.BAD_INDEX),
        (TRIANGLE.replace(b"0 1 2 \n", b"0 1 x \n"), Reason.BAD_SYNTAX),
        (TRIANGLE.replace(b"3 0 1 2 \n", b"-1\n"), Reason.BAD_SYNTAX),
        (TRIANGLE.replace(b"3 0 1 2 \n", b"0\n"), Reason.BAD_SYNTAX),
        (TRIANGLE.replace(b"ascii", b"morse"), Reason.BAD_SYNTAX),
        (TRIANGLE.replace(b"format ascii 1.0\n", b""), Reason.BAD_SYNTAX),
        (TRIANGLE.replace(b"vertex 3", b"vertex x"), Reason.BAD_SYNTAX),
        (TRIANGLE.replace(b"vertex 3", b"vertex -3"), Reason.BAD_SYNTAX),
        (TRIANGLE.replace(b"double x", b"quad x"), Reason.BAD_SYNTAX),
        (TRIANGLE.replace(b"double x", b"double w"), Reason.BAD_SYNTAX),
        (TRIANGLE.replace(b"vertex_indices", b"colors"), Reason.BAD_SYNTAX),
        (TRIANGLE.replace(b"element vertex 3\n", b""), Reason.BAD_SYNTAX),
        (TRIANGLE.replace(b"list uchar", b"list float"), Reason.BAD_SYNTAX),
        (
            b"ply\nformat ascii 1.0\nelement vertex 0\nelement face 1\nend_header\n",
            Reason.BAD_SYNTAX,
        ),
    ],
)
def test_invalid_files_are_refused_with_a_reason(data, reason):
    assert refusal(data).reason is reason
