"""OBJ statements: geometry exactly as written, materials per face, what is wrong is refused."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointcmt.errors import Reason, ShapeRefused
from pointcmt.render.load.readers import GRAY
from pointcmt.render.load.readers.obj import read_obj
from pointcmt.shapes import Mesh

CORNERS = "v 0 0 0\nv 1 0 0\nv 0 1 0\n"


def read(text: str | bytes, path: Path = Path("nowhere/mesh.obj")) -> Mesh:
    return read_obj(path, text if isinstance(text, bytes) else text.encode())


def refusal(text: str | bytes) -> ShapeRefused:
    with pytest.raises(ShapeRefused) as refused:
        read(text)
    return refused.value


@pytest.mark.parametrize(
    "face",
    [
        "f 1 2 3",
        "f  1\t2   3  ",
        "f 1/1 2/2 3/3",
        "f 1//1 2//2 3//3",
        "f 1/1/1 2/2/2 3/3/3",
        "f 1 2/2 3//3",
        "f -3 -2 -1",
        "f 1/-3 -2/2/1 3",
        "f 1 2 3 # comment",
        "f 1 2 \\\n 3",
        "f 1 2 \\\r\n 3",
        "f \\\n1 2 3",
        "  f 1 2 3",
        "f 1/ 2/ 3/",
    ],
)
def test_forms_of_faces(face):
    mesh = read(f"{CORNERS}vt 0 0\nvt 1 0\nvt 0 1\nvn 0 0 1\nvn 0 0 1\nvn 0 0 1\n{face}\n")
    assert mesh.vertices.tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0]]
    assert mesh.faces.tolist() == [[0, 1, 2]]


@st.composite
def obj_files(draw):
    """(text in a random layout, vertices, polygons)"""
    coordinates = st.floats(allow_nan=False, allow_infinity=False)
    gap = st.sampled_from([" ", "\t", "  ", " \\\n ", " \\\r\n"])
    end = st.sampled_from(
        ["\n", "\r\n", "\r", "\n\n", " # 1 2\n", " \n#x\n", "\ng a b\n", "\ns 1\n"]
    )
    vertices, polygons, text = [], [], ""
    for _ in range(draw(st.integers(1, 15))):
        if len(vertices) < 3 or draw(st.booleans()):
            vertex = draw(st.tuples(*3 * [coordinates]))
            vertices.append(vertex)
            words = ["v", *map(repr, vertex)]
        else:
            polygon = draw(st.lists(st.integers(0, len(vertices) - 1), min_size=3, max_size=3))
            polygons.append(polygon)
            forms = st.sampled_from(["{}", "{}//7", "{}//-1", "{}/"])
            signs = st.sampled_from([1, -len(vertices)])
            words = ["f", *(draw(forms).format(corner + draw(signs)) for corner in polygon)]
        text += "".join(word + draw(gap) for word in words[:-1]) + words[-1] + draw(end)
    return text, vertices, polygons


@given(obj_files())
@settings(max_examples=300, deadline=None)
def test_any_layout_is_read_exactly(case):
    text, vertices, polygons = case
    if not polygons:
        assert refusal(text).reason is Reason.NO_FACES
        return
    mesh = read(text)
    assert mesh.vertices.tobytes() == np.array(vertices).tobytes()
    assert mesh.faces.tolist() == polygons


def test_real_meshes_agree_with_a_slow_reader(real_data):
    paths = [*real_data.glob("textured/*/*.obj"), real_data / "odd_meshes/assimp/OBJ/regr01.obj"]
    assert len(paths) >= 4
    for path in paths:
        lines = [line.split() for line in path.read_text(encoding="latin-1").splitlines()]
        vertices = [[float(word) for word in line[1:4]] for line in lines if line[:1] == ["v"]]
        faces = [
            [int(word.split("/")[0]) - 1 for word in line[1:]]
            for line in lines
            if line[:1] == ["f"]
        ]
        mesh = read_obj(path, path.read_bytes())
        assert mesh.vertices.tobytes() == np.array(vertices).tobytes()
        if {len(face) for face in faces} == {3}:
            assert mesh.faces.tolist() == faces
        else:
            assert len(mesh.faces) == sum(len(face) - 2 for face in faces)


def test_polygons_are_cut_in_place():
    mesh = read("v 0 0 0\nv 2 0 0\nv 2 2 0\nv 1 .5 0\nv 0 2 0\nf 1 2 3\nf 1 2 3 4 5\nf 3 2 1\n")
    assert mesh.faces[0].tolist() == [0, 1, 2]
    assert mesh.faces[-1].tolist() == [2, 1, 0]
    assert len(mesh.faces) == 5


def test_faces_may_come_before_their_vertices():
    assert read(f"f 1 2 3\n{CORNERS}").faces.tolist() == [[0, 1, 2]]


def test_points_and_lines_are_skipped():
    mesh = read(f"{CORNERS}p 1\nl 1 2\nf 1 2\nf 1 2 3\nf 3\n")
    assert mesh.faces.tolist() == [[0, 1, 2]]
    assert mesh.notes == ("2 faces with fewer than 3 corners skipped",)


@pytest.mark.parametrize("white", [1, 255])
def test_vertex_colors(white):
    mesh = read(f"v 0 0 0\nv 1 0 0 {white} 0 {0.2 * white:g}\nv 0 1 0 0 {white} 0 1\nf 1 2 3\n")
    assert mesh.vertex_colors is not None
    expected = np.array([3 * [GRAY], [1, 0, 0.2], [0, 1, 0]])
    assert mesh.vertex_colors.tolist() == pytest.approx(expected)


def test_a_fourth_coordinate_is_no_color():
    mesh = read("v 0 0 0 1\nv 1 0 0 .5\nv 0 1 0 2\nf 1 2 3\n")
    assert mesh.vertex_colors is None
    assert mesh.vertices.tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0]]
    assert mesh.notes == ()


def test_other_numbers_behind_coordinates_are_noted():
    mesh = read(f"{CORNERS}v 1 2 3 4 5\nv 1 2 3 4 5 6 7 8 9\nf 1 2 3\n")
    assert mesh.notes == ("extra numbers after the coordinates of 2 vertices ignored",)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
def test_encodings(encoding):
    mesh = read(f"# Tür\n{CORNERS}g Tür\nusemtl Tür\nf 1 2 3\n".encode(encoding))
    assert mesh.faces.tolist() == [[0, 1, 2]]
    assert mesh.notes == ("material 'Tür' is not defined",)


def test_a_backslash_ends_no_comment_and_no_file():
    assert read(f"# C:\\\n{CORNERS}f 1 2 3 \\").faces.tolist() == [[0, 1, 2]]


@pytest.mark.parametrize(
    ("text", "reason", "says"),
    [
        ("", Reason.NO_FACES, "0 vertices"),
        (CORNERS, Reason.NO_FACES, "3 vertices"),
        (f"{CORNERS}f 1 2\n", Reason.NO_FACES, "3 corners"),
        (f"{CORNERS}l 1 2 3\np 1 2 3\n", Reason.NO_FACES, "no face"),
        (
            f"{CORNERS}f 1 2 4\n",
            Reason.BAD_INDEX,
            "line 4: '4' of face 1 is not one of the 3 vertices",
        ),
        (f"{CORNERS}f 1 2 3\n\nf 1 2 0\n", Reason.BAD_INDEX, "line 6: '0' of face 2"),
        (f"{CORNERS}f 1 2 -4\n", Reason.BAD_INDEX, "'-4'"),
        (f"f -1 -2 -3\n{CORNERS}", Reason.BAD_INDEX, "line 1"),
        (f"{CORNERS}f 1 2 {2**33}\n", Reason.BAD_INDEX, f"'{2**33}'"),
        (
            f"{CORNERS}vt 0 0\nf 1/1 2/1 3/2\n",
            Reason.BAD_INDEX,
            "is not one of the 1 texture coordinates",
        ),
        (f"{CORNERS}vt 0 0\nf 1/1 2/1 3/0\n", Reason.BAD_INDEX, "'3/0'"),
        (f"{CORNERS}vt 0 0\nf 1/1 2/1 3/-2\n", Reason.BAD_INDEX, "'3/-2'"),
        (f"{CORNERS}f\n", Reason.BAD_SYNTAX, "line 4: a face without corners"),
        (f"{CORNERS}f # 1 2 3\n", Reason.BAD_SYNTAX, "without corners"),
        (f"{CORNERS}f 1 2 x\n", Reason.BAD_SYNTAX, "line 4: 'x'"),
        (f"{CORNERS}f 1 2 3/1/1/1\n", Reason.BAD_SYNTAX, "'3/1/1/1'"),
        (f"{CORNERS}f 1 2 3.0\n", Reason.BAD_SYNTAX, "'3.0'"),
        (f"{CORNERS}v 1 2\nf 1 2 3\n", Reason.BAD_SYNTAX, "line 4: too few coordinates"),
        (f"{CORNERS}vt\nf 1 2 3\n", Reason.BAD_SYNTAX, "line 4: too few coordinates"),
        ("v 0 0 0\nv 1,0 0 0\n", Reason.BAD_SYNTAX, "line 2: '1,0'"),
    ],
)
def test_refusals(text, reason, says):
    refused = refusal(text)
    assert refused.reason is reason
    assert says in refused.detail


def test_texture_indices_without_any_coordinates_are_noted():
    mesh = read(f"{CORNERS}f 1/1 2/2 3/3\n")
    assert mesh.notes == ("texture indices without any texture coordinates ignored",)
