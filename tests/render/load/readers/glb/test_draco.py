"""Geometry compressed by Draco, made by its own encoder."""

import sys
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import trimesh

from pointcmt.errors import Reason, ShapeRefused
from pointcmt.extras import install
from pointcmt.render.load.meshes import load_mesh
from tests.render.load.readers.glb_files import BYTE, FLOAT, INT, KINDS, SHORT, Builder, picture

DracoPy = pytest.importorskip("DracoPy", reason="the extra 'draco' is not installed")
NAME = "KHR_draco_mesh_compression"
PRECISION = 8 * 2**-24  # 24 bits for a range of 2, and what float32 rounds in between
CODES = {"<f4": FLOAT, "|u1": BYTE, "<u2": SHORT, "<u4": INT}


def ball() -> tuple[np.ndarray, np.ndarray]:
    mesh = trimesh.creation.icosphere(subdivisions=2)
    return np.array(mesh.vertices, np.float32), np.array(mesh.faces, np.uint32)


def compressed(points: Any, faces: Any, attributes: dict[str, Any] | None = None) -> Builder:
    """A file of one primitive; attributes are stored in order, without a loss of precision."""
    attributes = attributes or {}
    names = dict(enumerate(attributes, start=10))
    generic = {number: attributes[name] for number, name in names.items()}
    data = DracoPy.encode(
        points, faces, quantization_bits=24, preserve_order=True, generic_attributes=generic or None
    )
    stored = DracoPy.decode(data).attributes
    place = next(one["unique_id"] for one in stored if one["attribute_type"] == 0)
    build = Builder()
    extension = {"bufferView": build.view(data), "attributes": {"POSITION": place}}
    extension["attributes"] |= {name: number for number, name in names.items()}
    values = {"POSITION": np.asarray(points, "<f4"), **attributes}
    primitive: dict[str, Any] = {
        "attributes": {
            name: build.declared(
                componentType=CODES[one.dtype.str],
                count=len(points),
                type=KINDS[one.shape[1]],
                normalized=one.dtype.kind == "u" and name[:6] != "JOINTS",
            )
            for name, one in values.items()
        },
        "indices": build.declared(componentType=INT, count=3 * len(faces), type="SCALAR"),
        "extensions": {NAME: extension},
    }
    build.node(mesh=build.mesh(primitive))
    build.tree["extensionsRequired"] = [NAME]
    return build


def first(build: Builder) -> dict[str, Any]:
    return build.tree["meshes"][0]["primitives"][0]


@pytest.mark.parametrize("level", [0, 5, 10])
def test_a_mesh_is_the_same_within_the_precision_of_the_file(level):
    """Draco may put faces and vertices into another order: the triangles must be the same."""
    points, faces = ball()
    build = compressed(points, faces)
    data = DracoPy.encode(points, faces, quantization_bits=20, compression_level=level)
    first(build)["extensions"][NAME].update(bufferView=build.view(data))
    first(build)["extensions"][NAME]["attributes"] = {
        "POSITION": DracoPy.decode(data).attributes[0]["unique_id"]
    }
    mesh = build.read()
    found, expected = mesh.vertices[mesh.faces], points[faces].astype(np.float64)
    assert found.shape == expected.shape
    centers = [corners.mean(axis=1) for corners in (found, expected)]
    nearest = np.linalg.norm(centers[0][:, None] - centers[1], axis=2).argmin(axis=1)
    assert sorted(nearest) == list(range(len(faces)))
    gap = np.linalg.norm(found[:, :, None] - expected[nearest][:, None], axis=3)
    turns = np.stack([gap[:, [0, 1, 2], np.roll([0, 1, 2], -k)] for k in range(3)], axis=1)
    assert turns.max(axis=2).min(axis=1).max() < 4 * 2**-20  # with the winding of the file


def test_attributes_are_read_by_their_names_in_the_extension():
    points, faces = ball()
    rng = np.random.default_rng(0)
    uv = rng.random((len(points), 2)).astype(np.float32)
    colors = rng.integers(0, 256, (len(points), 4)).astype(np.uint8)
    build = compressed(points, faces, {"TEXCOORD_1": uv, "COLOR_0": colors})
    first(build)["material"] = 0
    build.tree["images"] = [{"bufferView": build.view(picture((255, 255, 255)))}]
    build.tree["textures"] = [{"source": 0}]
    texture = {"index": 0, "texCoord": 1}
    build.tree["materials"] = [{"pbrMetallicRoughness": {"baseColorTexture": texture}}]
    mesh = build.read()
    assert mesh.notes == ()
    assert mesh.faces.tolist() == faces.tolist()
    assert np.abs(mesh.vertices - points).max() < PRECISION
    assert mesh.uv is not None
    assert np.allclose(mesh.uv, (uv * (1, -1) + (0, 1))[faces], atol=1e-6)
    light = colors[:, :3] / 255
    expected = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    assert mesh.vertex_colors is not None
    assert np.allclose(mesh.vertex_colors, expected, atol=1e-6)


def test_attributes_that_are_not_compressed_are_read_as_usual():
    points, faces = ball()
    build = compressed(points, faces)
    first(build)["attributes"]["COLOR_0"] = build.accessor(np.tile([1, 0, 0], (len(points), 1)))
    mesh = build.read()
    assert mesh.vertex_colors is not None
    assert mesh.vertex_colors.tolist() == [[1, 0, 0]] * len(points)


def test_skinned_and_placed_twice():
    points, faces = ball()
    joints = np.zeros((len(points), 4), np.uint8)
    weights = np.tile(np.float32([1, 0, 0, 0]), (len(points), 1))
    build = compressed(points, faces, {"JOINTS_0": joints, "WEIGHTS_0": weights})
    build.tree["nodes"][0].update(skin=0)
    build.node(mesh=0)
    joint = build.node(translation=[9, 0, 0])
    build.tree["skins"] = [{"joints": [joint]}]
    mesh = build.read()
    expected = np.concatenate([points + np.float64([9, 0, 0]), points])
    assert np.abs(mesh.vertices - expected).max() < PRECISION


def test_triangles_are_read_whatever_the_mode_says():
    points, faces = ball()
    build = compressed(points, faces)
    first(build)["mode"] = 5  # how the triangles were arranged before they were compressed
    assert build.read().faces.tolist() == faces.tolist()


def test_uncompressed_data_of_the_same_primitive_is_preferred(monkeypatch):
    """The result must not depend on whether the library is installed."""
    points, faces = ball()
    build = compressed(points * 2, faces)
    first(build)["attributes"]["POSITION"] = build.accessor(points)
    first(build)["indices"] = build.accessor(faces.ravel(), INT)
    monkeypatch.setitem(sys.modules, "DracoPy", None)
    assert np.array_equal(build.read().vertices, points)


def test_without_the_library_the_message_says_how_to_install_it(tmp_path, monkeypatch):
    (tmp_path / "mesh.glb").write_bytes(compressed(*ball()).bytes())
    monkeypatch.setitem(sys.modules, "DracoPy", None)  # as if not installed
    with pytest.raises(ShapeRefused) as refused:
        load_mesh(tmp_path / "mesh.glb")
    assert refused.value.reason is Reason.UNKNOWN_FORMAT
    assert install("draco") in refused.value.detail


def identity(build: Builder, **changes: int) -> None:
    first(build)["extensions"][NAME]["attributes"].update(changes)


def stream(build: Builder, data: bytes) -> None:
    first(build)["extensions"][NAME]["bufferView"] = build.view(data)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda b: stream(b, b""), Reason.BAD_SYNTAX),
        (lambda b: stream(b, b"DRACO" + bytes(64)), Reason.BAD_SYNTAX),
        (lambda b: stream(b, DracoPy.encode(ball()[0])), Reason.NO_FACES),
        (lambda b: stream(b, DracoPy.encode(*ball())[:200]), Reason.BAD_SYNTAX),
        (lambda b: b.tree["bufferViews"][0].update(byteLength=10**6), Reason.TRUNCATED),
        (lambda b: b.tree["bufferViews"][0].update(buffer=1), Reason.BAD_SYNTAX),
        (lambda b: first(b).pop("indices"), Reason.BAD_SYNTAX),
        (lambda b: first(b)["extensions"][NAME].pop("attributes"), Reason.BAD_SYNTAX),
        (
            lambda b: identity(b, POSITION=9),
            Reason.BAD_SYNTAX,
        ),
        (lambda b: identity(b, NORMAL=0), Reason.BAD_SYNTAX),
        (lambda b: first(b).update(extensions={NAME: 3}), Reason.BAD_SYNTAX),
    ],
)
def test_damaged_files_are_refused_with_a_reason(change, reason):
    build = compressed(*ball())
    change(build)
    with pytest.raises(ShapeRefused) as refused:
        build.read()
    assert refused.value.reason is reason


def test_any_damage_is_refused_or_harmless():
    build, rng = compressed(*ball()), np.random.default_rng(0)
    intact = build.binary
    for _ in range(200):
        damaged = bytearray(intact)
        for place in rng.integers(0, len(damaged), 3):
            damaged[place] = rng.integers(256)
        build.binary = bytes(damaged)
        with suppress(ShapeRefused):  # any other error fails
            assert len(build.read().faces) > 0


@pytest.mark.parametrize("level", [0, 10])
def test_a_stream_that_declares_more_than_the_file_allows_is_not_decoded(level, monkeypatch):
    points, faces = ball()
    build = compressed(points, faces)
    data = bytearray(DracoPy.encode(points, faces, compression_level=level))
    at = 12 if data[8] == 1 else 11  # the first count, a LEB128 integer of two bytes
    stream(build, bytes(data[:at]) + b"\xff\xff\xff\x7f" + bytes(data[at + 2 :]))

    def decode(data: bytes) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("pointcmt.render.load.readers.glb.draco._decode", decode)
    with pytest.raises(ShapeRefused) as refused:
        build.read()
    assert refused.value.reason is Reason.TOO_LARGE
