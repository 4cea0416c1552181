"""OFF in every layout: the vertices and faces are exactly the file's, or the file is refused."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointcmt.errors import Reason, ShapeError, ShapeRefused
from pointcmt.render.load.readers import GRAY
from pointcmt.render.load.readers.off import read_off
from pointcmt.shapes import Mesh

CORNERS = "0 0 0\n1 0 0\n0 1 0\n"
TRIANGLE = f"OFF\n3 1 0\n{CORNERS}3 0 1 2\n"


def read(text: str | bytes) -> Mesh:
    return read_off(Path("mesh.off"), text if isinstance(text, bytes) else text.encode())


def refusal(text: str | bytes) -> ShapeRefused:
    with pytest.raises(ShapeRefused) as refused:
        read(text)
    return refused.value


def slow_read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and faces of a file of triangles, with nothing but `split`, `float` and `int`."""
    words = re.sub(r"^OFF", "", path.read_text()).split()
    vertices, faces = int(words[0]), int(words[1])
    numbers = [float(word) for word in words[3 : 3 + 3 * vertices]]
    indices = [int(word) for word in words[3 + 3 * vertices :]]
    assert set(indices[::4]) == {3}
    assert len(indices) == 4 * faces
    return np.array(numbers).reshape(-1, 3), np.array(indices).reshape(-1, 4)[:, 1:]


def test_real_meshes_are_read_exactly(real_data):
    paths = sorted(real_data.glob("ModelNet*/*/*/*.off"))
    assert len(paths) >= 10
    for path in paths:
        mesh = read_off(path, path.read_bytes())
        vertices, faces = slow_read(path)
        assert mesh.vertices.tobytes() == vertices.tobytes()
        assert (mesh.faces == faces).all()
        assert mesh.notes == ()


LAYOUTS = {
    "tidy": TRIANGLE,
    "glued header": TRIANGLE.replace("OFF\n", "OFF"),
    "header on one line": TRIANGLE.replace("OFF\n", "OFF "),
    "no keyword": TRIANGLE.removeprefix("OFF\n"),
    "lower case": TRIANGLE.replace("OFF", "off"),
    "one line": " ".join(TRIANGLE.split()),
    "one word a line": "\n".join(TRIANGLE.split()),
    "CRLF": TRIANGLE.replace("\n", "\r\n"),
    "CR": TRIANGLE.replace("\n", "\r"),
    "tabs and blank lines": TRIANGLE.replace(" ", "\t \t").replace("\n", "\n\n \n"),
    "comments": "# a\n" + TRIANGLE.replace("\n", " # 1 2 3\n#\n"),
    "comment glued": TRIANGLE.replace("\n", "#x\n"),
    "counts split": TRIANGLE.replace("3 1 0", "3\n1\n0"),
    "no edge count": TRIANGLE.replace("3 1 0", "3 1"),
    "no edge count, one line": " ".join(TRIANGLE.replace("3 1 0", "3 1").split()),
    "byte order mark": "\ufeff" + TRIANGLE,
    "no last line end": TRIANGLE.rstrip(),
    "binary zeros behind": TRIANGLE + "\0\0",
}


@pytest.mark.parametrize("text", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_layouts(text):
    mesh = read(text)
    assert mesh.vertices.tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0]]
    assert mesh.faces.tolist() == [[0, 1, 2]]
    assert mesh.faces.dtype == np.int32
    assert mesh.notes == ()


@st.composite
def off_files(draw):
    """(text in a random layout, vertices, polygons)"""
    count = draw(st.integers(1, 12))
    coordinates = st.floats(allow_nan=False, allow_infinity=False)
    vertices = draw(st.lists(st.tuples(*3 * [coordinates]), min_size=count, max_size=count))
    corner = st.integers(0, count - 1)
    polygons = draw(st.lists(st.lists(corner, min_size=3, max_size=3), min_size=1, max_size=12))
    words = [f"{count}", f"{len(polygons)}", "0"]
    words += [repr(value) for vertex in vertices for value in vertex]
    words += [str(number) for polygon in polygons for number in (len(polygon), *polygon)]
    gap = st.sampled_from([" ", "\t", "  ", "\n", "\r\n", "\r", "\n\n", " # 7 8\n", "\n#\n"])
    text = draw(st.sampled_from(["OFF", "OFF ", "OFF\n", "# hello\nOFF\n", "NOT"]))
    text = text.replace("NOT", "")
    return text + "".join(word + draw(gap) for word in words), vertices, polygons


@given(off_files())
@settings(max_examples=300, deadline=None)
def test_any_layout_is_read_exactly(case):
    text, vertices, polygons = case
    mesh = read(text)
    assert mesh.vertices.tobytes() == np.array(vertices).tobytes()
    assert mesh.faces.tolist() == polygons


def test_polygons_are_cut_in_place():
    square = "0 0 0\n1 0 0\n1 1 0\n0 1 0\n.4 .5 0\n"
    mesh = read(f"OFF\n5 4 0\n{square}3 0 1 2\n4 0 1 2 3\n5 0 1 2 3 4\n3 3 2 1\n")
    assert mesh.faces[:3].tolist() == [[0, 1, 2], [0, 1, 2], [0, 2, 3]]
    assert mesh.faces[-1].tolist() == [3, 2, 1]
    assert len(mesh.faces) == 7


def test_points_and_lines_are_skipped_and_noted():
    mesh = read(f"OFF\n3 3 0\n{CORNERS}2 0 1\n3 0 1 2\n1 2\n")
    assert mesh.faces.tolist() == [[0, 1, 2]]
    assert mesh.notes == ("2 faces with fewer than 3 corners skipped",)


def test_degenerate_faces_and_unused_vertices_stay():
    mesh = read(f"OFF\n4 2 0\n{CORNERS}9 9 9\n3 0 0 0\n3 0 1 2\n")
    assert mesh.faces.tolist() == [[0, 0, 0], [0, 1, 2]]
    assert len(mesh.vertices) == 4


@pytest.mark.parametrize("scale", [1, 255])
def test_face_colors(scale):
    def spec(*values):
        return " ".join(f"{value * scale:g}" for value in values)

    text = f"OFF\n3 3 0\n{CORNERS}3 0 1 2 {spec(1, 0, 0.2)}\n3 0 1 2\n3 0 2 1 {spec(0, 1, 0, 1)}\n"
    colors = read(text).face_colors
    assert colors is not None
    assert colors.tolist() == pytest.approx(np.array([[1, 0, 0.2], 3 * [GRAY], [0, 1, 0]]))


def test_color_map_indices_are_noted():
    mesh = read(f"OFF\n3 2 0\n{CORNERS}3 0 1 2 7\n3 0 1 2 1\n")
    assert mesh.face_colors is None
    assert mesh.notes == ("color map indices of 2 faces ignored",)


def test_colors_that_look_like_faces_are_colors():
    mesh = read(f"OFF\n3 2 0\n{CORNERS}3 0 1 2 4\n3 0 1 2\n")  # as tokens: a triangle and a quad
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 1, 2]]


@pytest.mark.parametrize("alpha", ["", " 255"])
@pytest.mark.parametrize("prefix", ["C", "NC", "STCN"])
def test_vertex_colors(alpha, prefix):
    rows = ["0 0 0", "1 0 0", "0 1 0"]
    colors = ["255 0 0", "0 51 0", "0 0 0"]
    normal, place = " 0 0 1" * ("N" in prefix), " .5 .5" * ("ST" in prefix)
    lines = [
        f"{row}{normal} {color}{alpha}{place}" for row, color in zip(rows, colors, strict=True)
    ]
    mesh = read(f"{prefix}OFF\n3 1 0\n" + "\n".join(lines) + "\n3 0 1 2\n")
    assert mesh.vertices.tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0]]
    assert mesh.vertex_colors is not None
    assert mesh.vertex_colors.tolist() == pytest.approx(
        np.array([[1, 0, 0], [0, 0.2, 0], [0, 0, 0]])
    )


def test_normals_and_texture_coordinates_are_passed_over():
    lines = [f"{row} 0 0 1 .5 .5" for row in CORNERS.splitlines()]
    mesh = read("STNOFF\n3 1 0\n" + " ".join(lines) + " 3 0 1 2")
    assert mesh.vertices.tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0]]


def test_more_numbers_on_vertex_lines_than_declared_are_noted():
    mesh = read("OFF\n3 1 0\n0 0 0 9\n1 0 0 9\n0 1 0 9\n3 0 1 2\n")
    assert mesh.vertices.tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0]]
    assert mesh.notes == ("3 extra numbers after vertices ignored",)


@pytest.mark.parametrize(
    ("text", "reason", "says"),
    [
        ("OFF", Reason.TRUNCATED, "header"),
        ("OFF\n3", Reason.TRUNCATED, "header"),
        (TRIANGLE[:-4], Reason.TRUNCATED, "3 vertices and 1 faces"),
        (TRIANGLE[:20], Reason.TRUNCATED, "cannot hold"),
        (f"OFF\n3 2 0\n{CORNERS}3 0 1 2 255 0 0\n3 0", Reason.TRUNCATED, "line 7"),
        ("OFF\n353535235358 6 0\n" + CORNERS, Reason.TRUNCATED, "cannot hold"),
        (f"OFF\n3 {10**30} 0\n{CORNERS}3 0 1 2", Reason.TRUNCATED, "cannot hold"),
        (f"OFF\n3 1 0\n{CORNERS}999999999 0 1 2", Reason.TRUNCATED, "3 vertices"),
        (TRIANGLE + "3 0 1 2\n", Reason.COUNT_MISMATCH, "line 7"),
        (TRIANGLE.encode() + b"\xff", Reason.COUNT_MISMATCH, "extra numbers after the declared"),
        ("OFF\n-3 1 0\n" + CORNERS, Reason.BAD_SYNTAX, "negative"),
        ("OFF\nthree 1 0\n" + CORNERS, Reason.BAD_SYNTAX, "'three'"),
        (TRIANGLE.replace("1 0 0", "1 0,5 0"), Reason.BAD_SYNTAX, "line 4: '0,5'"),
        (TRIANGLE.replace("3 0 1 2", "3 0 1 2.5"), Reason.BAD_SYNTAX, "line 6: '2.5'"),
        (TRIANGLE.replace("3 0 1 2", "0 0 1 2"), Reason.BAD_SYNTAX, "line 6: a face with '0'"),
        (
            TRIANGLE.replace("0 1 2", "0 1 3"),
            Reason.BAD_INDEX,
            "face 0 (from 0) uses vertex 3, but there are only 3",
        ),
        (TRIANGLE.replace("0 1 2", "0 1 -1"), Reason.BAD_INDEX, "vertex -1"),
        (TRIANGLE.replace("0 1 2", f"0 1 {2**40}"), Reason.BAD_INDEX, "but there are only 3"),
        ("OFF\n3 0 0\n" + CORNERS, Reason.NO_FACES, "0 faces"),
        ("4OFF\n3 1 0\n", Reason.UNKNOWN_FORMAT, "convert"),
        ("nOFF\n3\n3 1 0\n", Reason.UNKNOWN_FORMAT, "convert"),
        ("OFF BINARY\n", Reason.UNKNOWN_FORMAT, "BINARY"),
        ("solid x\n", Reason.UNKNOWN_FORMAT, "'solid'"),
        ("#" * 100_000, Reason.UNKNOWN_FORMAT, "no header"),
    ],
)
def test_refusals(text, reason, says):
    refused = refusal(text)
    assert refused.reason is reason
    assert says in refused.detail


def test_every_truncation_between_words_is_noticed():
    words = TRIANGLE.split()
    for count in range(1, len(words)):
        assert refusal(" ".join(words[:count])).reason is Reason.TRUNCATED


def test_numbers_that_are_not_finite_are_refused_by_the_mesh():
    with pytest.raises(ShapeError, match="1 vertices are not finite, first 1: 1 nan 0"):
        read(TRIANGLE.replace("1 0 0", "1 nan 0"))
