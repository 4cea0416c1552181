"""`load_mesh` on good and bad files: a valid mesh, or a refusal with the right reason."""

import base64
import json
import os
import socket
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from pointcmt.errors import DependencyError, Reason, ShapeRefused
from pointcmt.extras import install
from pointcmt.render.load import meshes
from pointcmt.render.load.meshes import load_mesh
from pointcmt.shapes import Mesh

OFF = b"OFF\n4 4 0\n0 0 0\n1 0 0\n0 1 0\n0 0 1\n3 0 2 1\n3 0 1 3\n3 1 2 3\n3 2 0 3\n"
OBJ = (
    b"mtllib m.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nv 0.25 0.25 1e0 1 0 0\nvt 0 0\nvt 1 0\nusemtl m\n"
    b"f 1 3 2\nf 1/1 2/2 4/1\nf -3//1 3 -1\nf 3 1 2 4\n"
)
PLY = (
    b"ply\nformat ascii 1.0\nelement vertex 4\nproperty float x\nproperty float y\n"
    b"property float z\nproperty uchar red\nproperty uchar green\nproperty uchar blue\n"
    b"element face 2\nproperty list uchar int vertex_indices\nend_header\n"
    b"0 0 0 255 0 0\n1 0 0 0 255 0\n0 1 0 0 0 255\n0 0 1 9 9 9\n3 0 1 2\n4 0 1 3 2\n"
)
STL = (
    b"solid a\nfacet normal 0 0 1\nouter loop\nvertex 0 0 0\nvertex 1 0 0\nvertex 0 1 0\n"
    b"endloop\nendfacet\nendsolid a\n"
)


def refusal(path: Path) -> ShapeRefused:
    with pytest.raises(ShapeRefused) as refused:
        load_mesh(path)
    return refused.value


def as_json(glb: bytes) -> bytes:
    """The JSON of a GLB, with its binary chunk as a data URI."""
    size = struct.unpack_from("<I", glb, 12)[0]
    tree, binary = json.loads(glb[20 : 20 + size]), glb[28 + size :]
    tree["buffers"][0]["uri"] = f"data:;base64,{base64.b64encode(binary).decode()}"
    return json.dumps(tree).encode()


def seeds() -> dict[str, list[bytes]]:
    """Small valid files by suffix."""
    tetrahedron = trimesh.creation.icosahedron()
    return {
        ".off": [OFF, OFF.replace(b"3 0 2 1\n", b"3 0 2 1 255 0 0\n"), b" ".join(OFF.split())],
        ".obj": [OBJ],
        ".ply": [PLY, tetrahedron.export(file_type="ply")],
        ".stl": [STL, tetrahedron.export(file_type="stl")],
        ".glb": [tetrahedron.export(file_type="glb")],
        ".gltf": [as_json(tetrahedron.export(file_type="glb"))],
    }


SEEDS = seeds()


@pytest.mark.parametrize("suffix", SEEDS)
def test_every_format_is_recognized_by_its_suffix(tmp_path, suffix):
    for content in SEEDS[suffix]:
        for written in (suffix, suffix.upper()):
            path = tmp_path / f"mesh{written}"
            path.write_bytes(content)
            mesh = load_mesh(path)
            assert len(mesh.faces) >= 1


# Files that are not meshes


@pytest.mark.parametrize("suffix", [*SEEDS, ".x"])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", Reason.EMPTY_FILE),
        (b" \r\n\t\n", Reason.EMPTY_FILE),
        (b"\0" * 100, Reason.EMPTY_FILE),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", Reason.LFS_POINTER),
        (b"<!DOCTYPE html>\n<html><body>404</body></html>", Reason.HTML_PAGE),
        (b"\xef\xbb\xbf \n<html lang='en'>", Reason.HTML_PAGE),
        (b"\x1f\x8b\x08\0\0\0", Reason.UNKNOWN_FORMAT),
        (b"PK\x03\x04\0\0", Reason.UNKNOWN_FORMAT),
    ],
)
def test_other_file_types_are_recognized_by_their_content(tmp_path, suffix, content, reason):
    path = tmp_path / f"mesh{suffix}"
    path.write_bytes(content)
    assert refusal(path).reason is reason


@pytest.mark.parametrize("suffix", SEEDS)
def test_binary_junk_is_refused(tmp_path, suffix):
    path = tmp_path / f"mesh{suffix}"
    path.write_bytes(np.random.default_rng(0).integers(0, 256, 5000, np.uint8).tobytes())
    expected = {".stl": Reason.TRUNCATED}  # an STL header may hold anything, and so may its count
    assert refusal(path).reason is expected.get(suffix, Reason.UNKNOWN_FORMAT)


@pytest.mark.parametrize("name", ["mesh", "mesh.txt", "mesh.fbx", ".off"])
def test_unknown_suffixes_are_refused(tmp_path, name):
    (tmp_path / name).write_bytes(OFF)
    refused = refusal(tmp_path / name)
    assert refused.reason is Reason.UNKNOWN_FORMAT
    assert ".off, .obj, .ply, .stl, .glb, .gltf" in refused.detail


def test_missing_files_are_refused(tmp_path):
    (tmp_path / "file").write_text("")
    os.symlink(tmp_path / "gone.off", tmp_path / "link.off")
    for name in ("missing.off", "file/mesh.off", "link.off"):
        assert refusal(tmp_path / name).reason is Reason.MISSING_FILE


def test_special_files_are_refused_without_waiting(tmp_path):
    (tmp_path / "folder.off").mkdir()
    os.mkfifo(tmp_path / "pipe.off")
    os.symlink("/dev/zero", tmp_path / "zero.off")
    os.symlink(tmp_path / "ring.off", tmp_path / "ring.off")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s.off"))
        for name in ("folder.off", "pipe.off", "zero.off", "ring.off", "s.off", "nul\0.off"):
            assert refusal(tmp_path / name).reason is Reason.UNREADABLE_FILE, name


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_files_without_permission_are_refused(tmp_path):
    path = tmp_path / "mesh.off"
    path.write_bytes(OFF)
    path.chmod(0)
    assert refusal(path).reason is Reason.UNREADABLE_FILE


def test_huge_files_are_refused_by_size(tmp_path):
    path = tmp_path / "mesh.off"
    with path.open("wb") as file:
        file.truncate(5 << 30)  # a sparse file, which takes no space on the disk
    assert refusal(path).reason is Reason.TOO_LARGE


# Refusals


def test_vertices_that_are_not_finite_are_refused(tmp_path):
    for word in (b"nan", b"inf", b"-inf", b"1e999"):
        path = tmp_path / "mesh.off"
        path.write_bytes(OFF.replace(b"0 0 1", b"0 0 " + word))
        refused = refusal(path)
        assert refused.reason is Reason.NOT_FINITE
        assert "first 3" in refused.detail


def test_too_many_faces_are_refused(tmp_path, monkeypatch):
    for module in ("meshes", "readers.off", "readers.obj", "readers.ply", "readers.stl"):
        monkeypatch.setattr(f"pointcmt.render.load.{module}.MAX_FACES", 1)
    monkeypatch.setattr("pointcmt.render.load.readers.ply_elements.MAX_FACES", 1)
    monkeypatch.setattr("pointcmt.render.load.readers.glb.scene.MAX_FACES", 10)
    for suffix, contents in SEEDS.items():
        path = tmp_path / f"mesh{suffix}"
        path.write_bytes(contents[-1])
        assert refusal(path).reason is Reason.TOO_LARGE, suffix


def test_a_lack_of_memory_is_a_refusal(tmp_path, monkeypatch):
    def fail(path: Path, data: bytes, normals: bool) -> Mesh:
        raise MemoryError

    path = tmp_path / "mesh.off"
    path.write_bytes(OFF)
    monkeypatch.setattr(meshes, "_reader", lambda path, folder: fail)
    assert refusal(path).reason is Reason.TOO_LARGE


def test_an_invalid_mesh_from_a_reader_is_refused_with_its_reason(tmp_path, monkeypatch):
    def read(path: Path, data: bytes, normals: bool) -> Mesh:
        return Mesh(np.eye(3), [[0, 1, 3]])

    path = tmp_path / "mesh.off"
    path.write_bytes(OFF)
    monkeypatch.setattr(meshes, "_reader", lambda path, folder: read)
    assert refusal(path).reason is Reason.BAD_INDEX
    assert refusal(path).detail == "faces use vertices 0 to 3 of 3"


def test_notes_are_few_and_distinct(tmp_path):
    path = tmp_path / "mesh.obj"
    uses = b"".join(b"usemtl m%d\nf 1 2 3\n" % (i % 50) for i in range(100))
    path.write_bytes(b"v 0 0 0\nv 1 0 0\nv 0 1 0\n" + uses)
    notes = load_mesh(path).notes
    assert len(notes) == len(set(notes)) == 20
    assert notes[-1] == "and 31 more"


# Damage


@pytest.mark.parametrize("suffix", SEEDS)
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_damaged_files_are_read_or_refused(tmp_path_factory, suffix, data):
    content = bytearray(data.draw(st.sampled_from(SEEDS[suffix])))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content)))
        patch = data.draw(
            st.binary(max_size=4) | st.sampled_from([b"-1 ", b"nan", b"\n", b"9" * 20])
        )
        removed = data.draw(st.integers(0, 4) | st.just(len(content)))
        content[at : at + removed] = patch
    path = tmp_path_factory.getbasetemp() / f"damaged{suffix}"
    path.write_bytes(content)
    try:
        load_mesh(path)
        reason = None
    except ShapeRefused as refused:
        reason = refused.reason
    assert reason is not Reason.INTERNAL_ERROR


# Real files

REFUSED = {
    "assimp/OBJ/number_formats.obj": Reason.BAD_SYNTAX,  # 3.1+e2
    "assimp/OBJ/point_cloud.obj": Reason.NO_FACES,
    "assimp/OBJ/testline.obj": Reason.NO_FACES,
    "assimp/OBJ/testpoints.obj": Reason.NO_FACES,
    "assimp/OFF/invalid.off": Reason.BAD_SYNTAX,  # a face of 0 corners
    "assimp/PLY/issue623.ply": Reason.NO_FACES,
    "assimp/PLY/points.ply": Reason.NO_FACES,
    "assimp/PLY/pond.0.ply": Reason.NO_FACES,
    "assimp/invalid/OutOfMemory.off": Reason.TRUNCATED,
    "assimp/invalid/crash-30d6d0f7c529b3b66b4131700b7a4580cd7082df.ply": Reason.BAD_SYNTAX,
    "assimp/invalid/empty.obj": Reason.EMPTY_FILE,
    "assimp/invalid/empty.off": Reason.EMPTY_FILE,
    "assimp/invalid/empty.ply": Reason.EMPTY_FILE,
    "assimp/invalid/malformed.obj": Reason.BAD_INDEX,
    "assimp/invalid/malformed2.obj": Reason.BAD_SYNTAX,  # an f without corners
    "tinyobjloader/invalid-face-definition.obj": Reason.NO_FACES,  # of 1 and 2 corners
    "tinyobjloader/invalid-relative-texture-index.obj": Reason.BAD_INDEX,
    "tinyobjloader/invalid-relative-vertex-index.obj": Reason.BAD_INDEX,
    "tinyobjloader/issue-140-zero-face-idx.obj": Reason.BAD_INDEX,
    "tinyobjloader/issue-356-leading-spaces-newmtl.obj": Reason.NO_FACES,
    "tinyobjloader/line-prim.obj": Reason.NO_FACES,
    "tinyobjloader/points-prim.obj": Reason.NO_FACES,
    "tinyobjloader/test-nan.obj": Reason.NOT_FINITE,
}
FACES = {  # some are read
    "assimp/OBJ/box_longline.obj": 944,
    "assimp/OBJ/box_UTF16BE.obj": 12,
    "assimp/OBJ/concave_polygon.obj": 64,
    "assimp/OBJ/regr01.obj": 2710,
    "assimp/OBJ/spider.obj": 1368,
    "assimp/OFF/Wuson.off": 3732,
    "assimp/PLY/Wuson.ply": 3732,
    "assimp/PLY/cube_binary.ply": 12,
    "assimp/PLY/cube_binary_header_with_RN_newline.ply": 12,
    "assimp/PLY/cube_binary_starts_with_nl.ply": 12,
    "assimp/STL/Spider_ascii.stl": 1368,
    "assimp/STL/Spider_binary.stl": 1368,
    "assimp/STL/triangle_with_two_solids.stl": 2,
    "tinyobjloader/cornell_box.obj": 36,
    "tinyobjloader/issue-319-002.obj": 14,
    "tinyobjloader/mtl filename with whitespace issue46.obj": 12,
    "pytorch3d/missing_usemtl/cow.obj": 5856,
}


def test_odd_meshes_are_read_or_refused_with_the_right_reason(real_data):
    root = real_data / "odd_meshes"
    suffixes = (".off", ".obj", ".ply", ".stl", ".glb")
    paths = [path for path in sorted(root.rglob("*")) if path.suffix.lower() in suffixes]
    assert len(paths) >= 100
    outcomes = {}
    for path in paths:
        try:
            mesh = load_mesh(path)
            outcomes[path.relative_to(root).as_posix()] = len(mesh.faces)
        except ShapeRefused as refused:
            outcomes[path.relative_to(root).as_posix()] = refused.reason
    assert {name: found for name, found in outcomes.items() if isinstance(found, Reason)} == REFUSED
    assert {name: outcomes[name] for name in FACES} == FACES


def test_a_missing_library_is_not_blamed_on_the_file(tmp_path, monkeypatch):
    (tmp_path / "triangle.off").write_text("OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n")
    monkeypatch.setitem(
        sys.modules, "pointcmt.render.load.readers.off", None
    )  # as if not installed
    with pytest.raises(DependencyError) as raised:
        load_mesh(tmp_path / "triangle.off")
    assert raised.value.fix == install("render")
