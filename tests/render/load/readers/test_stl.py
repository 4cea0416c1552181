"""STL, binary and ASCII: three vertices per facet, in order; truncated files are refused."""

from pathlib import Path

import numpy as np
import pytest
import trimesh

from pointcmt.errors import Reason, ShapeRefused
from pointcmt.render.load.readers.stl import read_stl

ASCII = """solid a vertex of names
  facet normal 0 0 1
    outer loop
      vertex 0 0 0
      vertex 1e0 0 0
      vertex 0 .1 0
    endloop
  endfacet
endsolid a
"""


def read(data: bytes | str) -> np.ndarray:
    """The triangles [F,3,3] of a file."""
    mesh = read_stl(Path("mesh.stl"), data.encode() if isinstance(data, str) else data)
    assert mesh.faces.tolist() == np.arange(len(mesh.vertices)).reshape(-1, 3).tolist()
    return mesh.vertices[mesh.faces]


def refusal(data: bytes | str) -> Reason:
    with pytest.raises(ShapeRefused) as refused:
        read(data)
    return refused.value.reason


def binary(triangles: np.ndarray, header: bytes = b"") -> bytes:
    facets = np.zeros((len(triangles), 50), np.uint8)
    corners = triangles.astype("<f4").reshape(len(triangles), 9)
    facets[:, 12:48] = corners.view(np.uint8).reshape(len(triangles), 36)
    return header.ljust(80) + len(triangles).to_bytes(4, "little") + facets.tobytes()


TRIANGLES = np.random.default_rng(0).normal(size=(7, 3, 3)).astype(np.float32)


def test_binary_files_are_read():
    assert (read(binary(TRIANGLES)) == TRIANGLES).all()


def test_binary_files_that_begin_with_solid_are_read():
    assert (read(binary(TRIANGLES, b"solid facet endsolid")) == TRIANGLES).all()


@pytest.mark.parametrize(
    "text",
    [
        ASCII,
        ASCII.upper(),
        ASCII.replace("\n", "\r\n"),
        ASCII.replace("\n", "\r"),
        ASCII.replace("a vertex of names", ""),
        ASCII.replace("facet normal 0 0 1", "facet normal nan 0 1"),
        "\n  " + ASCII + "solid empty\nendsolid\n",
    ],
)
def test_ascii_files_are_read(text):
    assert read(text).tolist() == [[[0, 0, 0], [1, 0, 0], [0, 0.1, 0]]]


def test_several_solids_in_one_file_are_read():
    assert read(ASCII + ASCII.replace("1e0", "2"))[:, 1, 0].tolist() == [1, 2]


@pytest.mark.parametrize("kind", ["stl", "stl_ascii"])
def test_agrees_with_trimesh(tmp_path, kind):
    sphere = trimesh.creation.icosphere(subdivisions=2)
    sphere.export(tmp_path / "m.stl", file_type=kind)
    assert np.allclose(read((tmp_path / "m.stl").read_bytes()), sphere.triangles, atol=1e-6)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"short", Reason.TRUNCATED),
        (binary(TRIANGLES)[:-1], Reason.TRUNCATED),
        (binary(TRIANGLES, b"solid")[:-1], Reason.TRUNCATED),
        (binary(TRIANGLES) + b"\0\1" * 25, Reason.COUNT_MISMATCH),
        (binary(TRIANGLES[:0]), Reason.NO_FACES),
        ("solid\nendsolid\n", Reason.NO_FACES),
        (ASCII.replace("endsolid a\n", ""), Reason.TRUNCATED),
        (ASCII[:100], Reason.TRUNCATED),
        (ASCII[: ASCII.index("endloop")], Reason.TRUNCATED),
        (ASCII.replace("    endloop\n", ""), Reason.BAD_SYNTAX),
        (ASCII.replace("      vertex 0 0 0\n", ""), Reason.BAD_SYNTAX),
        (ASCII.replace("endloop", "vertex 1 1 1\nendloop"), Reason.BAD_SYNTAX),
        (ASCII.replace("vertex 0 0 0", "vertex 0 0"), Reason.BAD_SYNTAX),
        (ASCII.replace("vertex 0 0 0", "vertex 0 0 x"), Reason.BAD_SYNTAX),
        (ASCII.replace("  facet", "endsolid\n  facet"), Reason.BAD_SYNTAX),
    ],
)
def test_invalid_files_are_refused_with_a_reason(data, reason):
    assert refusal(data) is reason
