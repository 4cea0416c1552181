"""Buffers and images outside of a file: several, in URIs, never outside the model's folder."""

import base64
import json
import os
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest

from pointcmt.errors import Reason, ShapeRefused
from pointcmt.render.load.meshes import load_mesh
from pointcmt.render.load.readers.glb.budget import Budget
from pointcmt.render.load.readers.glb.scene import read_glb
from tests.render.load.readers.glb_files import POINTS, Builder, picture, simple


def refused(path: Path) -> ShapeRefused:
    with pytest.raises(ShapeRefused) as found:
        load_mesh(path)
    return found.value


def textured() -> Builder:
    build = Builder()
    uv = {"TEXCOORD_0": build.accessor([[0, 0], [1, 0], [0, 0.25]])}
    build.node(mesh=build.mesh(build.primitive(attributes=uv, material=0)))
    build.tree["textures"] = [{"source": 0}]
    build.tree["materials"] = [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}]
    return build


def test_a_gltf_file_with_several_buffers_equals_one_binary_file(tmp_path):
    """Buffers in files whose names are percent-encoded, one of them with a wrong suffix."""
    build = simple(attributes={})
    expected = build.read()
    mesh = load_mesh(build.gltf(tmp_path, 36))
    assert sorted(os.listdir(tmp_path)) == ["mesh.gltf", "part 0.bin", "part 1.bin"]
    assert mesh.vertices.tolist() == expected.vertices.tolist() == POINTS
    assert mesh.faces.tolist() == expected.faces.tolist()


def test_a_binary_file_may_have_more_buffers_than_its_own(tmp_path):
    build = simple()
    outside, inside = build.binary[36:], build.binary[:36]
    (tmp_path / "more.bin").write_bytes(outside)
    build.tree["buffers"] = [
        {"byteLength": len(inside)},
        {"byteLength": len(outside), "uri": "more.bin"},
    ]
    build.tree["bufferViews"][1].update(buffer=1, byteOffset=0)
    build.binary = inside
    (tmp_path / "mesh.glb").write_bytes(build.bytes())
    assert load_mesh(tmp_path / "mesh.glb").faces.tolist() == [[0, 1, 2]]


@pytest.mark.parametrize(
    "encode",
    [
        lambda data: "data:application/octet-stream;base64," + base64.b64encode(data).decode(),
        lambda data: "DATA:;BASE64," + quote(base64.b64encode(data).decode(), safe=""),
        lambda data: "data:application/gltf-buffer," + quote(data),
    ],
)
def test_buffers_in_data_uris_are_read(encode):
    build = simple()
    build.tree["buffers"] = [{"byteLength": len(build.binary), "uri": encode(build.binary)}]
    mesh = read_glb(Path("mesh.gltf"), json.dumps(build.tree).encode())
    assert mesh.vertices.tolist() == POINTS


@pytest.mark.parametrize(
    ("name", "uri"),
    [
        ("a b.png", "a%20b.png"),
        ("a b.png", "a b.png"),
        ("ä+#.png", "%C3%A4+%23.png"),
        ("50%25.png", "50%25.png"),  # written as it is, although it looks encoded
        ("Tex.PNG", "tex.png"),
        ("sub/t.png", "sub/t.png"),
    ],
)
def test_images_are_found_by_their_names_encoded_or_not(tmp_path, name, uri):
    build = textured()
    build.tree["images"] = [{"uri": uri}]
    path = build.gltf(tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(picture((9, 8, 7)))
    mesh = load_mesh(path)
    assert mesh.notes == ()
    assert mesh.materials[0].texture is not None
    assert mesh.materials[0].texture[0, 0].tolist() == [9, 8, 7]


@pytest.mark.parametrize(
    "uri",
    [
        "../secret",
        "..%2fsecret",
        "%2e%2e/secret",
        "sub/..%2F../secret",
        "link",
        "pipe",
        "file:///etc/passwd",
        "https://example.com/t.png",
        "%00",
        "",
    ],
)
def test_nothing_outside_of_the_models_folder_is_read(tmp_path, uri):
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(picture((1, 2, 3)))
    (folder / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(folder / "pipe")
    build = textured()
    build.tree["images"] = [{"uri": uri}]
    mesh = load_mesh(build.gltf(folder))
    assert mesh.materials[0].texture is None
    assert len(mesh.notes) == 1
    build.tree["buffers"][0]["uri"] = uri
    (folder / "mesh.gltf").write_text(json.dumps(build.tree))
    assert refused(folder / "mesh.gltf").reason is Reason.MISSING_FILE


def test_a_gltf_file_without_its_buffers_says_so(tmp_path):
    build = simple()
    path = build.gltf(tmp_path)
    (tmp_path / "part 0.bin").unlink()
    assert refused(path).detail == "its buffer part%200.bin is missing"
    del build.tree["buffers"][0]["uri"]
    path.write_text(json.dumps(build.tree))
    assert refused(path).detail == "its buffer 0 has no data"


@pytest.mark.parametrize("uri", ["data:;base64,!", "data:;base64", "data:;base64,A"])
def test_damaged_data_uris_are_refused(uri):
    build = simple()
    build.tree["buffers"] = [{"byteLength": len(build.binary), "uri": uri}]
    with pytest.raises(ShapeRefused) as found:
        read_glb(Path("mesh.gltf"), json.dumps(build.tree).encode())
    assert found.value.reason in (Reason.MISSING_FILE, Reason.TRUNCATED)


def test_an_external_buffer_that_is_too_short_is_refused(tmp_path):
    path = simple().gltf(tmp_path)
    (tmp_path / "part 0.bin").write_bytes(b"\0" * 20)
    assert refused(path).reason is Reason.TRUNCATED


def test_external_buffers_allow_for_the_memory_of_their_size(tmp_path, monkeypatch):
    """The JSON is small, and so would be the memory allowed for it alone."""
    count = 3_000
    build = Builder()
    points = np.random.default_rng(0).random((count, 3))
    faces = np.arange(count).reshape(-1, 3)
    build.node(mesh=build.mesh(build.primitive(points, faces)))
    monkeypatch.setattr("pointcmt.render.load.readers.glb.budget._ALLOWANCE", 0)
    path = build.gltf(tmp_path)
    assert len(load_mesh(path).faces) == count // 3
    with pytest.raises(ShapeRefused):
        Budget(path.stat().st_size, 10**6, 10**6).add(count // 3, count)
