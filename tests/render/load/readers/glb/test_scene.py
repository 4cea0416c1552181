"""GLB scenes: nodes in place, linear colors as sRGB, external files only from the directory."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh

from pointcmt.errors import Reason, ShapeRefused
from pointcmt.render.load.meshes import load_mesh
from pointcmt.render.load.readers.glb.scene import read_glb
from tests.render.load.readers.glb_files import BYTE, FLOAT, POINTS, SHORT, Builder, picture, simple


def srgb(linear: float) -> float:
    return 12.92 * linear if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055


def test_a_triangle_is_read_exactly():
    mesh = simple().read()
    assert mesh.vertices.tolist() == POINTS
    assert mesh.faces.tolist() == [[0, 1, 2]]
    assert mesh.materials == ()


def test_nodes_place_their_meshes_in_the_files_order():
    build = Builder()
    one, two = build.primitive(faces=[(0, 1, 2)]), build.primitive(faces=[(2, 1, 0), (1, 0, 2)])
    first, second = build.mesh(one, two), build.mesh(build.primitive(faces=[(1, 2, 0)]))
    half = np.sqrt(0.5)
    child = build.node(mesh=second, rotation=[0, 0, half, half], translation=[0, 0, 1])
    parent = build.node(mesh=first, translation=[10, 0, 0], children=[child], camera=0)
    matrix = np.diag([2.0, 2.0, 2.0, 1.0])
    again = build.node(mesh=second, matrix=matrix.T.ravel().tolist(), scale=[9, 9, 9])
    build.tree["scenes"] = [{"nodes": [again]}, {"nodes": [parent, again]}]
    build.tree["scene"] = 1
    mesh = build.read()
    assert (mesh.faces % 3).tolist() == [[0, 1, 2], [2, 1, 0], [1, 0, 2], [1, 2, 0], [1, 2, 0]]
    corners = mesh.vertices.reshape(-1, 3, 3)
    assert corners[0].tolist() == [[10, 0, 0], [11, 0, 0], [10, 1, 0]]
    assert np.allclose(corners[2], [[10, 0, 1], [10, 1, 1], [9, 0, 1]])
    assert corners[3].tolist() == [[0, 0, 0], [2, 0, 0], [0, 2, 0]]


def test_strips_and_lists_are_read_without_indices():
    build = Builder()
    square = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]]
    strip = {"attributes": {"POSITION": build.accessor(square)}, "mode": 5}
    plain = {"attributes": {"POSITION": build.accessor(POINTS)}}
    points = {"attributes": {"POSITION": build.accessor(POINTS)}, "mode": 0}
    build.node(mesh=build.mesh(points, strip, points, plain))
    mesh = build.read()
    assert [sorted(face) for face in mesh.faces.tolist()] == [[0, 1, 2], [1, 2, 3], [4, 5, 6]]
    normals = np.cross(
        *(mesh.vertices[mesh.faces[:, i]] - mesh.vertices[mesh.faces[:, 0]] for i in (1, 2))
    )
    assert (normals[:, 2] > 0).all()


def test_base_colors_are_linear():
    build = simple(material=0)
    build.tree["materials"] = [
        {
            "name": "m",
            "alphaMode": "BLEND",
            "pbrMetallicRoughness": {"baseColorFactor": [1, 0.5, 0.001, 0.25]},
        }
    ]
    material = build.read().materials[0]
    assert material.color == pytest.approx((1, srgb(0.5), srgb(0.001)))
    assert (material.name, material.opacity) == ("m", 0.25)


@pytest.mark.parametrize("kind", [FLOAT, BYTE, SHORT])
@pytest.mark.parametrize("with_material", [False, True])
def test_vertex_colors_are_linear_and_multiply(kind, with_material):
    build = Builder()
    white = {FLOAT: 1, BYTE: 255, SHORT: 65535}[kind]
    linear = np.array([[1, 0, 0.2], [0, 0.6, 0], [0.4, 0.4, 1]])
    values = linear if kind == FLOAT else np.rint(linear * white)
    colors = {"COLOR_0": build.accessor(values, kind, normalized=kind != FLOAT)}
    more = {"material": 0} if with_material else {}
    colored = build.primitive(attributes=colors, **more)
    build.node(mesh=build.mesh(colored, build.primitive(material=0)))
    build.tree["materials"] = [{"pbrMetallicRoughness": {"baseColorFactor": [0.5, 1, 1, 1]}}]
    mesh = build.read()
    factor = np.array([0.5, 1, 1]) if with_material else 1  # glTF's default material is white
    expected = np.vectorize(srgb)(linear * factor)
    assert mesh.vertex_colors is not None
    assert np.allclose(mesh.vertex_colors[:3], expected, atol=1e-5)
    assert np.allclose(mesh.vertex_colors[3:], [srgb(0.5), 1, 1])  # the other keeps its material's


def to_linear(values: np.ndarray) -> np.ndarray:
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def textured(image: dict[str, Any], factor: list[float] | None = None, **texture: Any) -> Builder:
    build = Builder()
    uv = {"TEXCOORD_0": build.accessor([[0, 0], [1, 0], [0, 0.25]])}
    build.node(mesh=build.mesh(build.primitive(attributes=uv, material=0)))
    if "data" in image:
        image = {"bufferView": build.view(image["data"]), "mimeType": "image/png"}
    build.tree["images"] = [image]
    build.tree["textures"] = [{"source": 0}]
    base: dict[str, Any] = {"baseColorTexture": {"index": 0, **texture}}
    if factor:
        base["baseColorFactor"] = factor
    build.tree["materials"] = [{"name": "m", "pbrMetallicRoughness": base}]
    return build


def test_textures_are_read_with_their_coordinates():
    mesh = textured({"data": picture((255, 128, 0))}).read()
    assert mesh.uv is not None
    assert mesh.uv.tolist() == [[[0, 1], [1, 1], [0, 0.75]]]  # v upwards
    texture = mesh.materials[0].texture
    assert texture is not None
    assert texture[0, 0].tolist() == [255, 128, 0]


def test_factors_multiply_textures_as_light():
    texture = (
        textured({"data": picture((255, 128, 0))}, [0.5, 0.25, 1, 1]).read().materials[0].texture
    )
    assert texture is not None
    light = float(to_linear(np.array(128 / 255)))
    assert texture[0, 0].tolist() == [round(255 * srgb(0.5)), round(255 * srgb(light / 4)), 0]


def test_texture_transforms_move_the_coordinates():
    place = {"KHR_texture_transform": {"offset": [0.5, 0.25], "scale": [2, 4]}}
    mesh = textured({"data": picture((255, 0, 0))}, extensions=place).read()
    assert mesh.uv is not None
    assert mesh.uv.tolist() == [[[0.5, 0.75], [2.5, 0.75], [0.5, -0.25]]]


def test_alpha_counts_only_if_the_material_uses_it():
    build = textured({"data": picture((255, 0, 0, 51))})
    texture = build.read().materials[0].texture
    assert texture is not None
    assert texture[0, 0].tolist() == [255, 0, 0]
    build.tree["materials"][0]["alphaMode"] = "BLEND"
    texture = build.read().materials[0].texture
    assert texture is not None
    assert texture[0, 0].tolist() == [255, 204, 204]


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (textured({"uri": "missing.png"}), "is missing"),
        (textured({"uri": "../secret.png"}), "is outside the model's folder"),
        (textured({"data": b"no image"}), "cannot be decoded"),
        (textured({}), "is missing"),
        (textured({"data": picture((1, 2, 3))}, texCoord=1), "TEXCOORD_1"),
        (textured({"uri": "data:image/png;base64,AAAA"}), "cannot be decoded"),
    ],
)
def test_textures_that_cannot_be_read_are_noted(tmp_path, build, says):
    (tmp_path / "model").mkdir()
    (tmp_path / "secret.png").write_bytes(picture((1, 2, 3)))
    mesh = build.read(tmp_path / "model" / "mesh.glb")
    assert mesh.materials[0].texture is None
    assert mesh.uv is None
    assert says in mesh.notes[0]


def test_external_files_of_the_directory_are_read(tmp_path):
    build = textured({"uri": "t.png"})
    (tmp_path / "t.png").write_bytes(picture((9, 8, 7)))
    (tmp_path / "data.bin").write_bytes(build.binary)
    build.tree["buffers"] = [{"byteLength": len(build.binary), "uri": "data.bin"}]
    build.binary = b""
    mesh = build.read(tmp_path / "mesh.glb")
    assert mesh.vertices.tolist() == POINTS
    texture = mesh.materials[0].texture
    assert texture is not None
    assert texture[0, 0].tolist() == [9, 8, 7]


@pytest.mark.parametrize("name", ["../data.bin", "missing.bin"])
def test_external_buffers_elsewhere_are_refused(tmp_path, name):
    build = simple()
    (tmp_path / "model").mkdir()
    (tmp_path / "data.bin").write_bytes(build.binary)
    build.tree["buffers"] = [{"byteLength": len(build.binary), "uri": name}]
    with pytest.raises(ShapeRefused) as refused:
        build.read(tmp_path / "model" / "mesh.glb")
    assert refused.value.reason is Reason.MISSING_FILE


def test_agrees_with_trimesh_on_a_scene(tmp_path):
    scene = trimesh.Scene()
    box, ball = trimesh.creation.box(), trimesh.creation.icosphere(subdivisions=2)
    turn = trimesh.transformations.rotation_matrix(1, [1, 2, 3], [4, 5, 6])
    scene.add_geometry(box, transform=turn)
    scene.add_geometry(ball, transform=trimesh.transformations.translation_matrix([7, 8, 9]))
    (tmp_path / "scene.glb").write_bytes(scene.export(file_type="glb"))
    mesh = load_mesh(tmp_path / "scene.glb")
    expected = np.concatenate([part.triangles for part in scene.dump()])
    found = mesh.vertices[mesh.faces]
    assert len(found) == len(expected)
    order = [np.lexsort(triangles.reshape(-1, 9).round(4).T) for triangles in (found, expected)]
    assert np.allclose(found[order[0]], expected[order[1]], atol=1e-5)


def broken(change: Any) -> bytes:
    build = simple()
    change(build)
    return build.bytes()


GLB = simple().bytes()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"glTG" + GLB[4:], Reason.UNKNOWN_FORMAT),
        (GLB[:4] + struct.pack("<I", 1) + GLB[8:], Reason.UNKNOWN_FORMAT),
        (GLB[:10], Reason.TRUNCATED),
        (GLB[:-1], Reason.TRUNCATED),
        (GLB[:12] + struct.pack("<I", 10**9) + GLB[16:], Reason.TRUNCATED),
        (GLB.replace(b'"asset"', b'"asset '), Reason.BAD_SYNTAX),
        (
            broken(lambda b: b.tree.update(extensionsRequired=["KHR_gaussian_splatting"])),
            Reason.UNKNOWN_FORMAT,
        ),
        (broken(lambda b: b.tree.update(extensionsRequired=["\ud800"])), Reason.UNKNOWN_FORMAT),
        (broken(lambda b: b.tree["accessors"][0].update(sparse={})), Reason.BAD_SYNTAX),
        (broken(lambda b: b.tree["accessors"][0].update(count=-1)), Reason.BAD_SYNTAX),
        (broken(lambda b: b.tree["accessors"][0].update(byteOffset=-4)), Reason.BAD_SYNTAX),
        (broken(lambda b: b.tree["accessors"][0].update(byteOffset=4)), Reason.TRUNCATED),
        (broken(lambda b: b.tree["bufferViews"][0].update(byteStride=0)), Reason.BAD_SYNTAX),
        (broken(lambda b: b.tree["bufferViews"][1].update(byteLength=999)), Reason.TRUNCATED),
        (broken(lambda b: b.tree["accessors"][1].update(componentType=5122)), Reason.BAD_SYNTAX),
        (broken(lambda b: b.tree["accessors"][1].update(count=2)), Reason.BAD_SYNTAX),
        (broken(lambda b: b.tree["nodes"][0].update(mesh=-1)), Reason.BAD_SYNTAX),
        (broken(lambda b: b.tree["accessors"][0].update(count=4)), Reason.TRUNCATED),
        (broken(lambda b: b.tree.update(buffers=[{"byteLength": 10**6}])), Reason.TRUNCATED),
        (broken(lambda b: b.tree["accessors"][0].update(count=10**12)), Reason.TOO_LARGE),
        (
            broken(
                lambda b: b.tree["accessors"].append({"count": 2, "componentType": 1, "type": "x"})
            ),
            Reason.BAD_SYNTAX,
        ),
        (broken(lambda b: b.tree.update(nodes=7)), Reason.BAD_SYNTAX),
        (broken(lambda b: b.tree["nodes"][0].update(mesh=5)), Reason.BAD_SYNTAX),
        (broken(lambda b: b.tree["nodes"][0].update(rotation=[0, 1])), Reason.BAD_SYNTAX),
        (
            broken(lambda b: b.tree["meshes"][0]["primitives"][0].update(material=3)),
            Reason.BAD_SYNTAX,
        ),
        (
            broken(lambda b: b.tree.update(scenes=[{"nodes": [0]}], nodes=[{"children": [0]}])),
            Reason.BAD_SYNTAX,
        ),
        (broken(lambda b: b.tree.update(nodes=[])), Reason.NO_FACES),
        (broken(lambda b: b.tree["meshes"][0]["primitives"][0].update(mode=1)), Reason.NO_FACES),
        (simple(faces=[(0, 1, 3)]).bytes(), Reason.BAD_INDEX),
    ],
)
def test_invalid_files_are_refused_with_a_reason(data, reason):
    with pytest.raises(ShapeRefused) as refused:
        read_glb(Path("mesh.glb"), data)
    assert refused.value.reason is reason


@pytest.mark.parametrize("of", ["primitives", "nodes"])
def test_data_that_is_reused_too_often_is_refused(of):
    build = simple(points=np.zeros((20_001, 3)), faces=np.arange(20_001))
    few = build.tree["meshes"][0]["primitives"] if of == "primitives" else build.tree["nodes"]
    few *= 6_001
    with pytest.raises(ShapeRefused) as refused:
        read_glb(Path("mesh.glb"), build.bytes())
    assert refused.value.reason is Reason.TOO_LARGE


def test_data_after_the_declared_length_is_noted():
    mesh = read_glb(Path("mesh.glb"), GLB + b"junk")
    assert mesh.notes == ("4 bytes after the end ignored",)
