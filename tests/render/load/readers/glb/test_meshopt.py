"""Views compressed by meshopt: every encoding, streams of the reference encoder, invalid ones."""

import base64
import json
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from pointcmt.errors import Reason, ShapeRefused
from pointcmt.render.load.meshes import load_mesh
from pointcmt.render.load.readers.glb.meshopt import Packed, unpack
from tests.render.load.readers.glb.meshopt_files import (
    compress_attributes,
    compress_indices,
    compress_triangles,
)
from tests.render.load.readers.glb_files import SHORT, Builder, picture

# Made by meshoptimizer 1.3's own encoder from the arrays of `grid`, below.
STREAMS = {
    "version 0": (
        "oP8AyMjIyMjIyIjIyMjIyMjIiMjIyMjIyMiIyMjIyMjIyIjIyMjIyMjIiMjIyMjIyMiIyMjIyMjIyIjIyMjIyMjIVQII"
        "wggDwgjCCAMDwgjCCAMDwgjCCAMDVQAAwADIwADAAMjIwADAAMjIwADAAMjIRAAAgACAAAAA/QAAP/9K3o0GmnM9h5RD"
        "5GrLuh2S3pq0EixGW1PXhyZ2xos7xo1WZ9qfohsfQ8uXglguWfoGcHzm8qOXqQAAAq8DBFAiNhAwIWBUMEEEMBBANCMQ"
        "ZUAwAhIUAgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
    ),
    "version 1": (
        "oW6lABkreS8Z6zmvGSt5LxnrOa8ZK3kvGes5rxkreS8Z6zmvGSt5LxnrOa8ZK3kvGes5rxkreS8Z6zmvGSt5LxnrOQAA"
        "ARkBASt5AQEvGQEB6zn8AP4lsdkdzf4nREpislWmr3G3b9OqCSptciqUxDP9n7omnbldVK3Q0w4Q3qZUQfQpM4MDOEKV"
        "iXbUWQAAAdoDMBMjECARMDKLKEimA0+IFWEDAwAAAAAAAAAAAAAAAAAAAAAAAAAAAABiAg=="
    ),
    "triangles": (
        "4f4eEA4QDhAOEA4QDhAO/h4fDx8PHw8fDx8PHw//Hh8PHw8fDx8PHw8fD/8eHw8fDx8PHw8fDx8P/x4fDx8PHw8fDx8P"
        "Hw//Hh8PHw8fDx8PHw8fD/8eHw8fDx8PHw8fDx8PDxDfAg0QDRANEA0QDRANEN8NEA0QDRANEA0QDRANEN8NEA0QDRAN"
        "EA0QDRANEN8NEA0QDRANEA0QDRANEN8NEA0QDRANEA0QDRANEN8NEA0QDRANEA0QDRANEAB2h1ZneKmGZYlomAFpAAA="
    ),
    "indices": "0QAgGiAaIBogGiAaIBogGiAaIBogGiAaIBogGiAaIBogGiAaIBogGiAaIBogGiAaIAAAAAA=",
}
# The values before they were compressed with a filter by the same encoder, and a step of precision.
FILTERED: dict[tuple[str, int], tuple[str, Any, float]] = {
    ("OCTAHEDRAL", 4): (
        "oAE/AAAAa6VbAT8AAAD9SUYAAT8AAAD9gD8AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAANgB/fw==",
        [[0.6, 0, 0.8, 1], [0, -1, 0, 0], [-0.48, 0.6, -0.64, 0.5], [0, 0, -1, 0.25]],
        2 / 127,
    ),
    ("OCTAHEDRAL", 8): (
        "oAE/AAAA2WloAT8AAAAFCxoBLwAAAHl2AT8AAAAPGgQAAAEgAAAAAT8AAAD9gD8AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABt"
        "AwAA/wf/fw==",
        [[0.6, 0, 0.8, 1], [0, -1, 0, 0], [-0.48, 0.6, -0.64, 0.5], [0, 0, -1, 0.25]],
        2 / 2047,
    ),
    ("QUATERNION", 8): (
        "oAE/AAAAbd/4AT8AAAAMFwQBDwAAALKxAQ8AAAALDAEPAAAAsrEBDwAAAAsMAQ4AAAAFAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
        "AAAAAAAAAAAAAP8H",
        [[0, 0, 0, 1], [0.6, 0, 0, 0.8], [0.5, -0.5, -0.5, -0.5], [0, 0.96, -0.28, 0]],
        2 / 2047,
    ),
    ("EXPONENTIAL", 8): (
        "oAEPAAAAcs4BPwAAAE+wCwEYAAAAAT8AAAAEGB0BPwAAAHX7LgEPAAAAk6oBBgAAAAE/AAAAE05KAAAAAAAAAAAAAAAAAAAA"
        "AAAAAAAAAAAAAAAA8gAgAPM=",
        [[0, 1], [-2.5, 1e-3], [12345, -7e8], [0.333, 1e20]],
        0,
    ),
    ("COLOR", 4): (
        "oAE/AAAAgDPNAT8AAAAEmGYBMAAAAH4BPwAAAL2MywAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABAf8H/",
        [[1, 0, 0, 1], [0, 0.5, 1, 0.25], [0.2, 0.4, 0.6, 0.8], [1, 1, 1, 0]],
        3 / 255,
    ),
    ("COLOR", 8): (
        "oAEPAAAAzM0BPwAAAAgDEgE/AAAABGdmAT8AAAAdCAgBEAAAAAEwAAAACAEvAAAAzMsBPwAAAAkICwAAAAAAAAAAAAAAAAAA"
        "AAAAAAAAAAAAAAAE/wcB/P8P",
        [[1, 0, 0, 1], [0, 0.5, 1, 0.25], [0.2, 0.4, 0.6, 0.8], [1, 1, 1, 0]],
        3 / 4095,
    ),
}


def grid() -> dict[str, np.ndarray]:
    """8 by 8 vertices, the triangles between them, and a sequence of their indices."""
    x, y = np.arange(64) % 8, np.arange(64) // 8
    points = np.stack([100 * x, 100 * y, x * x * y * 37 % 977, 0 * x], axis=1).astype("<u2")
    corners = [8 * row + column for row in range(7) for column in range(7)]
    faces = [[(a, a + 1, a + 8), (a + 8, a + 1, a + 9)] for a in corners]
    sequence = [[8 * row + column, 8 * row + column + 8] for row in range(3) for column in range(8)]
    return {
        "version 0": points,
        "version 1": points,
        "triangles": np.array(faces, "<u2").reshape(-1, 3),
        "indices": np.array(sequence, "<u4").reshape(-1, 1),
    }


def decompressed(data: bytes, mode: str, count: int, stride: int, name: str = "NONE") -> bytes:
    layout = Packed.of({"mode": mode, "filter": name, "count": count, "byteStride": stride})
    return bytes(unpack(memoryview(data), layout))


@pytest.mark.parametrize("name", ["version 0", "version 1", "triangles", "indices"])
def test_streams_of_the_reference_encoder_are_decompressed_exactly(name):
    expected, data = grid()[name], base64.b64decode(STREAMS[name])
    if name.startswith("version"):
        assert decompressed(data, "ATTRIBUTES", 64, 8) == expected.tobytes()
        return
    stride = expected.dtype.itemsize
    mode = "TRIANGLES" if name == "triangles" else "INDICES"
    found = np.frombuffer(decompressed(data, mode, expected.size, stride), expected.dtype)
    rows = found.reshape(expected.shape)
    # The encoder may begin a triangle with another corner.
    turned = [np.roll(rows, turn, axis=1) for turn in range(expected.shape[1])]
    assert np.any([(rows == expected).all(axis=1) for rows in turned], axis=0).all()


@pytest.mark.parametrize(("name", "stride"), FILTERED)
def test_filters_restore_the_values_of_the_reference_encoder(name, stride):
    text, expected, step = FILTERED[name, stride]
    kinds = {"COLOR": {4: "<u1", 8: "<u2"}, "EXPONENTIAL": {8: "<f4"}}
    kind = kinds.get(name, {4: "<i1", 8: "<i2"})[stride]
    stored = np.frombuffer(
        decompressed(base64.b64decode(text), "ATTRIBUTES", 4, stride, name), kind
    ).reshape(4, -1)
    if name == "EXPONENTIAL":
        assert np.allclose(stored, expected, rtol=2**-14, atol=0)
    else:
        values = stored / np.iinfo(kind).max
        axes = slice(0, 3) if name == "OCTAHEDRAL" else slice(None)
        assert np.abs(values - expected)[:, axes].max() <= step


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("count", "stride"),
    [(0, 4), (1, 4), (15, 8), (16, 12), (17, 4), (257, 16), (700, 64), (40, 256)],
)
@pytest.mark.parametrize("version", [0, 1])
def test_attributes_in_any_encoding_are_decompressed_exactly(count, stride, version, seed):
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, [1, 2, 8, 256][seed], (count, stride)).cumsum(axis=0).astype(np.uint8)
    rows[:, 1 : 1 + seed] = 7
    modes = [0, 1, *(turn << 4 | 2 for turn in range(16))] if version else [0]
    channels = bytes(int(rng.choice(modes)) for _ in range(stride // 4))
    data = compress_attributes(rows, version, channels, rng)
    assert decompressed(data, "ATTRIBUTES", count, stride) == rows.tobytes()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["grid", "ordered", "random", "restarted"])
@pytest.mark.parametrize("stride", [2, 4])
def test_triangles_in_any_encoding_are_decompressed_exactly(kind, stride, seed):
    rng = np.random.default_rng(seed)
    faces = {
        "grid": grid()["triangles"],
        "ordered": np.arange(90).reshape(-1, 3),
        "random": rng.integers(0, 40, (80, 3)),
        "restarted": np.tile(np.arange(12).reshape(-1, 3), (8, 1)),
    }[kind].astype(f"<u{stride}")
    data = compress_triangles(faces, rng)
    assert decompressed(data, "TRIANGLES", faces.size, stride) == faces.tobytes()


@pytest.mark.parametrize("stride", [2, 4])
def test_indices_in_any_encoding_are_decompressed_exactly(stride):
    rng = np.random.default_rng(0)
    indices = rng.integers(0, 2 ** (16 if stride == 2 else 28), 500).astype(f"<u{stride}")
    data = compress_indices(indices, rng)
    assert decompressed(data, "INDICES", 500, stride) == indices.tobytes()


@pytest.mark.parametrize("name", ["version 0", "version 1", "triangles", "indices"])
def test_damaged_streams_are_refused_or_decompressed_to_something_of_the_size(name):
    expected, data = grid()[name], base64.b64decode(STREAMS[name])
    mode = {"triangles": "TRIANGLES", "indices": "INDICES"}.get(name, "ATTRIBUTES")
    stride = 8 if mode == "ATTRIBUTES" else expected.dtype.itemsize
    count = expected.nbytes // stride
    rng = np.random.default_rng(0)
    for length in range(len(data)):
        with pytest.raises(ShapeRefused) as refused:
            decompressed(data[:length], mode, count, stride)
        assert refused.value.reason is Reason.BAD_SYNTAX
    for _ in range(300):
        damaged = bytearray(data)
        for place in rng.integers(0, len(data), 3):
            damaged[place] = rng.integers(256)
        with suppress(ShapeRefused):  # any other error fails
            assert len(decompressed(bytes(damaged), mode, count, stride)) == expected.nbytes


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"byteStride": 6}, Reason.BAD_SYNTAX),
        ({"byteStride": 0, "count": 0}, Reason.BAD_SYNTAX),
        ({"byteStride": 260}, Reason.BAD_SYNTAX),
        ({"mode": "TRIANGLES", "byteStride": 8}, Reason.BAD_SYNTAX),
        ({"mode": "NEW"}, Reason.BAD_SYNTAX),
        ({"filter": "NEW"}, Reason.BAD_SYNTAX),
        ({"filter": "QUATERNION", "byteStride": 4}, Reason.BAD_SYNTAX),
        ({"count": 2}, Reason.BAD_SYNTAX),
        ({"count": 10**12}, Reason.TOO_LARGE),
        ({"byteLength": 5}, Reason.BAD_SYNTAX),
        ({"byteOffset": 10**6}, Reason.TRUNCATED),
        ({"buffer": 1}, Reason.MISSING_FILE),
    ],
)
def test_descriptions_that_do_not_fit_are_refused(fields, reason):
    build = compressed()
    view = build.tree["bufferViews"][0]["extensions"]["EXT_meshopt_compression"]
    view.update(fields)
    with pytest.raises(ShapeRefused) as refused:
        build.read()
    assert refused.value.reason is reason


def test_a_small_stream_cannot_ask_for_gigabytes():
    build = compressed()
    view = build.tree["bufferViews"][0]
    view["byteLength"] = 256 * 50_000_000
    view["extensions"]["EXT_meshopt_compression"].update(count=50_000_000, byteStride=256)
    with pytest.raises(ShapeRefused) as refused:
        build.read()
    assert refused.value.reason is Reason.TOO_LARGE


def compressed(
    extension: str = "EXT_meshopt_compression", fallback: dict[str, Any] | None = None
) -> Builder:
    """The grid, textured; all but the image is compressed, and only that is in the file."""
    build, arrays = Builder(), grid()
    rng, views = np.random.default_rng(0), []
    points = arrays["version 0"]
    version = int(extension.startswith("KHR"))
    uv = np.ascontiguousarray(points[:, :2] * 90)
    for rows, stride, data in (
        (points, 8, base64.b64decode(STREAMS[f"version {version}"])),
        (uv, 4, compress_attributes(uv.view(np.uint8).reshape(64, 4), version, b"\0", rng)),
        (arrays["triangles"], 2, compress_triangles(arrays["triangles"], rng)),
    ):
        start = len(build.binary)
        build.view(data)
        packed = {"buffer": 0, "byteOffset": start, "byteLength": len(data), "byteStride": stride}
        packed |= {
            "count": rows.nbytes // stride,
            "mode": "TRIANGLES" if stride == 2 else "ATTRIBUTES",
        }
        views.append({"buffer": 1, "byteLength": rows.nbytes, "extensions": {extension: packed}})
        if stride > 2:
            views[-1]["byteStride"] = stride
    image = build.view(picture((9, 8, 7)))
    build.tree["bufferViews"] = [*views, build.tree["bufferViews"][image]]
    build.tree["buffers"] = [{"byteLength": len(build.binary)}, fallback or {"byteLength": 10**5}]
    build.tree["extensionsRequired"] = [extension, "KHR_mesh_quantization"]
    common = {"componentType": SHORT, "count": 64}
    position = build.declared(bufferView=0, type="VEC3", **common)
    coordinates = build.declared(bufferView=1, type="VEC2", normalized=True, **common)
    indices = build.declared(bufferView=2, type="SCALAR", componentType=SHORT, count=98 * 3)
    primitive = {"attributes": {"POSITION": position, "TEXCOORD_0": coordinates}, "material": 0}
    build.node(mesh=build.mesh({**primitive, "indices": indices}))
    build.tree["images"] = [{"bufferView": 3}]
    build.tree["textures"] = [{"source": 0}]
    build.tree["materials"] = [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}]
    return build


@pytest.mark.parametrize(
    ("extension", "fallback"),
    [
        ("EXT_meshopt_compression", None),
        ("KHR_meshopt_compression", None),
        (
            "EXT_meshopt_compression",
            {"byteLength": 1, "extensions": {"EXT_meshopt_compression": {"fallback": True}}},
        ),
        ("EXT_meshopt_compression", {"byteLength": 1, "uri": "is not read.bin"}),
    ],
)
def test_a_compressed_file_is_read_without_its_fallback(tmp_path, extension, fallback):
    (tmp_path / "mesh.glb").write_bytes(compressed(extension, fallback).bytes())
    mesh, arrays = load_mesh(tmp_path / "mesh.glb"), grid()
    assert mesh.notes == ()
    assert mesh.vertices.tolist() == arrays["version 0"][:, :3].tolist()
    assert mesh.faces.tolist() == arrays["triangles"].tolist()
    assert mesh.uv is not None
    uv = arrays["version 0"][:, :2] * 90 / 65535
    assert np.allclose(mesh.uv, (uv * (1, -1) + (0, 1))[mesh.faces], atol=1e-6)


def test_in_a_gltf_file_the_first_buffer_may_be_the_placeholder(tmp_path):
    build = compressed()
    (tmp_path / "data.bin").write_bytes(build.binary)
    build.tree["buffers"] = [{"byteLength": 10**5}, {"uri": "data.bin", "byteLength": 1}]
    for view in build.tree["bufferViews"]:
        view["buffer"] = 1 - view["buffer"]
        for packed in view.get("extensions", {}).values():
            packed["buffer"] = 1
    path = tmp_path / "mesh.gltf"
    path.write_text(json.dumps(build.tree))
    assert len(load_mesh(path).faces) == 98
