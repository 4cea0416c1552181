"""Readers take time and memory in proportion to the file, whatever its header declares.

Each file is at most a few megabytes, and once took seconds to hours, or gigabytes.
"""

import os
import time
import tracemalloc
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest

from pointcmt.errors import MOST_DETAIL, Reason, ShapeRefused
from pointcmt.render.load.clouds import CloudLoader
from pointcmt.render.load.files import few_notes
from pointcmt.render.load.meshes import load_mesh
from pointcmt.render.load.readers.numpy_files import read_npy
from pointcmt.render.load.readers.obj import read_obj
from pointcmt.render.load.readers.off import read_off
from pointcmt.render.load.readers.ply import read_ply
from pointcmt.render.load.readers.points import read_text
from pointcmt.render.load.readers.polygons import triangulate

pytestmark = pytest.mark.timeout(120)
NOWHERE = Path("nowhere/mesh")
SQUARE = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\n"


@pytest.fixture(scope="module", autouse=True)
def warm():
    """Compile the readers before anything is timed."""
    triangulate(np.eye(4, 3), np.arange(4, dtype=np.int32), np.array([4], np.int32))
    read_obj(NOWHERE, f"{SQUARE}f 1 2 3 4\n".encode())
    read_text(b"1 2 3\n")
    read_off(NOWHERE, b"OFF 3 1 0 0 0 0 1 0 0 0 1 0 3 0 1 2")


@contextmanager
def within(seconds, megabytes=None):
    if megabytes is not None:  # slows Python down
        tracemalloc.start()
    began = time.monotonic()
    try:
        yield
        assert time.monotonic() - began < seconds
        if megabytes is not None:
            assert tracemalloc.get_traced_memory()[1] < megabytes << 20
    finally:
        tracemalloc.stop()


def refusal(read, *arguments):
    with pytest.raises(ShapeRefused) as refused:
        read(*arguments)
    assert len(refused.value.detail) <= MOST_DETAIL
    return refused.value


def header(*lines, form="ascii"):
    return "\n".join(["ply", f"format {form} 1.0", *lines, "end_header", ""]).encode()


@pytest.mark.parametrize("form", ["ascii", "binary_little_endian"])
@pytest.mark.parametrize("word", ["property char a", "element face 1"])
def test_ply_headers_with_tens_of_thousands_of_elements(form, word):
    data = header("element vertex 1", *[word] * 64_000, form=form)
    with within(2):
        assert refusal(read_ply, NOWHERE, data).reason is Reason.TOO_LARGE


def test_ply_headers_with_many_properties_are_read():
    names = ["x", "y", "z", *(f"f_rest_{i}" for i in range(900))]
    data = header(
        "element vertex 3",
        *(f"property float {name}" for name in names),
        "element face 1",
        "property list uchar int vertex_indices",
    )
    rows = np.zeros((3, len(names)), int)
    rows[:, :3] = np.eye(3)
    body = "".join(" ".join(map(str, row)) + "\n" for row in rows)
    mesh = read_ply(NOWHERE, data + body.encode() + b"3 0 1 2\n")
    np.testing.assert_array_equal(mesh.vertices, np.eye(3))


def test_ply_headers_with_thousands_of_textures(tmp_path):
    uv = "property list uchar float texcoord"
    faces = ("element face 1", "property list uchar int vertex_indices", uv)
    vertices = ("element vertex 3", *(f"property float {axis}" for axis in "xyz"))
    textures = [f"comment TextureFile t{i}.png" for i in range(20_000)]
    data = header(*textures, *vertices, *faces) + b"0 0 0\n1 0 0\n0 1 0\n3 0 1 2 6 0 0 1 0 0 1\n"
    with within(2):
        mesh = read_ply(tmp_path / "a.ply", data)
    assert "19900 more textures are ignored" in mesh.notes


@pytest.mark.parametrize("form", ["off", "obj"])
def test_concave_polygons_with_a_hundred_thousand_corners(form):
    """Ear clipping searches the whole polygon for each corner."""
    count = 100_000
    x = np.arange(count)
    points = np.stack([(x * 7919 % count) / count, (x % 3) / 3, 0 * x], axis=1)
    lines = [" ".join(map(repr, row)) for row in points.tolist()]
    if form == "off":
        text = f"OFF {count} 1 0\n" + "\n".join(lines) + f"\n{count} " + " ".join(map(str, x))
        read = read_off
    else:
        text = "".join(f"v {line}\n" for line in lines) + "f " + " ".join(map(str, x + 1)) + "\n"
        read = read_obj
    with within(5):
        refused = refusal(read, NOWHERE, text.encode())
    assert refused.reason is Reason.TOO_LARGE
    assert "concave polygon with 100000 corners" in refused.detail


def test_convex_polygons_with_a_million_corners_become_fans():
    angle = np.linspace(0, 2 * np.pi, 1_000_000, endpoint=False)
    vertices = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    corners = np.arange(len(angle), dtype=np.int32)
    with within(5):
        triangles, polygon = triangulate(vertices, corners, np.array([len(angle)], np.int32))
    assert len(triangles) == len(angle) - 2
    assert not polygon.any()


def test_many_materials_whose_faces_have_no_texture_coordinates(tmp_path):
    """Each material used to be copied, and all faces searched, once per material."""
    count = 20_000
    (tmp_path / "t.ppm").write_bytes(b"P6 1 1 255\n\xff\x00\x00")
    library = "".join(f"newmtl m{i}\nmap_Kd t.ppm\n" for i in range(count))
    (tmp_path / "a.mtl").write_text(library)
    uses = "".join(f"usemtl m{i}\nf 1 2 3\nf 1/1 2/1 3/1\n" for i in range(count))
    text = f"mtllib a.mtl\n{SQUARE}vt 0 0\n{uses}"
    with within(20):
        mesh = read_obj(tmp_path / "a.obj", text.encode())
    names = [mesh.materials[i].name for i in mesh.face_material]
    assert names == [f"m{i // 2}" for i in range(2 * count)]
    textured = [mesh.materials[i].texture is not None for i in mesh.face_material]
    assert textured == [False, True] * count


def test_megabytes_of_text_in_one_material_line(tmp_path):
    options = "-clamp on " * 400_000
    (tmp_path / "a.mtl").write_text(f"newmtl m\nmap_Kd {options}t.png\nKd 1 0 0\n")
    (tmp_path / "a.obj").write_text(f"mtllib a.mtl\n{SQUARE}usemtl m\nf 1 2 3 4\n")
    with within(5):
        mesh = load_mesh(tmp_path / "a.obj")
    assert mesh.materials[0].color == (1, 0, 0)
    assert any("material statement ignored" in note for note in mesh.notes)


def test_a_material_file_of_only_line_ends(tmp_path):
    """A list of its lines took thirty times its size."""
    (tmp_path / "a.mtl").write_text("newmtl m\nKd 1 0 0\n" + "a\n" * 200_000)
    (tmp_path / "a.obj").write_text(f"mtllib a.mtl\n{SQUARE}usemtl m\nf 1 2 3 4\n")
    with within(20, 5):  # its bytes, and its text
        mesh = load_mesh(tmp_path / "a.obj")
    assert mesh.materials[0].color == (1, 0, 0)


def test_a_large_directory_with_missing_files_is_listed_once(tmp_path, monkeypatch):
    """Not once per missing name; later changes are noticed."""
    for i in range(2_000):
        (tmp_path / f"model{i:05d}.mtl").touch()
    (tmp_path / "here.mtl").write_text("newmtl m\nKd 1 0 0\n")
    os.utime(tmp_path, (1e9, 1e9))
    text = f"mtllib missing.mtl\n{SQUARE}usemtl m\nf 1 2 3 4\n".encode()
    listed, listdir = [], os.listdir
    monkeypatch.setattr(os, "listdir", lambda folder: listed.append(folder) or listdir(folder))
    for i in range(500):
        read_obj(tmp_path / f"model{i}.obj", text)
    assert len(listed) == 1
    other_case = f"mtllib Here.MTL\n{SQUARE}usemtl m\nf 1 2 3 4\n".encode()
    assert read_obj(tmp_path / "a.obj", other_case).materials[0].color == (1, 0, 0)
    (tmp_path / "MISSING.mtl").write_text("newmtl m\nKd 0 1 0\n")
    assert read_obj(tmp_path / "a.obj", text).materials[0].color == (0, 1, 0)
    (tmp_path / "MISSING.mtl").unlink()
    assert read_obj(tmp_path / "a.obj", text).materials == ()


def test_line_ends_in_a_cloud_take_no_memory():
    data = " ".join(map(str, range(16))).encode() + b"\n" * 2_000_000
    with within(5, 40):  # 2,000,000 rows of 16 numbers would be 244
        assert read_text(data).shape == (1, 16)
    full = b"1 2 3\n" * 1000 + b"4 5 6"
    assert read_text(full).shape == (1001, 3)
    assert read_text(b"7").shape == (1, 1)
    assert read_text(b"1\n" * 999).shape == (999, 1)


@pytest.mark.parametrize(
    "shape", ["(-1, -3)", "(10**18, 3)", "(1000000000000000000, 3)", "(1, -3)", "(" * 5000]
)
def test_npy_headers_with_false_sizes_are_refused(shape):
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode()
    data = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(24)
    with within(2):
        reason = refusal(read_npy, data).reason
    assert reason in (Reason.BAD_SYNTAX, Reason.TRUNCATED, Reason.COUNT_MISMATCH)


def test_missing_rows_of_hdf5_files_are_refused(tmp_path):
    from pointcmt.datasets.store.schema import ShapeRecord

    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("data", (1, 80_000_000, 3), "f4")  # 1 GB of fill values in 2 KB
    loader = CloudLoader("scanobjectnn", tmp_path)
    with within(2):
        reason = refusal(loader.load, ShapeRecord("a/0", None, "train", "a.h5#0")).reason
    assert reason is Reason.TRUNCATED


def test_a_header_with_endless_numbers_is_refused_with_a_short_message():
    digits = "9" * 4000
    for read, text in (
        (read_off, f"OFF {digits} {digits} 0\n"),
        (read_obj, f"v {'x' * 1_000_000}\n"),
        (
            read_ply,
            header(f"element vertex {digits}", "property float x", "element face 1").decode(),
        ),
    ):
        refusal(read, NOWHERE, text.encode())


def test_notes_are_short():
    assert [len(note) for note in few_notes(("x" * 10_000_000, "short"))] == [MOST_DETAIL, 5]
