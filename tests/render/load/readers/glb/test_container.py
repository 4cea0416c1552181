"""Files as GLB or JSON, and the extensions that they require."""

import json
from pathlib import Path

import pytest

from pointcmt.errors import Reason, ShapeRefused
from pointcmt.render.load.meshes import load_mesh
from pointcmt.render.load.readers.glb.scene import read_glb
from tests.render.load.readers.glb_files import POINTS, simple

LOOKS = [
    "ADOBE_materials_thin_transparency",
    "EXT_lights_image_based",
    "EXT_texture_avif",
    "KHR_animation_pointer",
    "KHR_lights_punctual",
    "KHR_materials_clearcoat",
    "KHR_materials_variants",
    "KHR_texture_basisu",
    "KHR_xmp_json_ld",
    "MSFT_lod",
]
READ = [
    "EXT_mesh_gpu_instancing",
    "EXT_meshopt_compression",
    "EXT_texture_webp",
    "KHR_draco_mesh_compression",
    "KHR_materials_emissive_strength",
    "KHR_materials_unlit",
    "KHR_mesh_quantization",
    "KHR_meshopt_compression",
    "KHR_texture_transform",
]


@pytest.mark.parametrize("suffix", [".gltf", ".glb", ".GLTF"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf", b" \n"])
def test_json_is_read_under_any_of_the_suffixes(tmp_path, suffix, mark):
    path = simple().gltf(tmp_path, name=f"mesh{suffix}")
    path.write_bytes(mark + path.read_bytes())
    mesh = load_mesh(path)
    assert mesh.vertices.tolist() == POINTS
    assert mesh.faces.tolist() == [[0, 1, 2]]
    assert mesh.notes == ()


def test_a_gltf_file_may_be_binary(tmp_path):
    (tmp_path / "mesh.gltf").write_bytes(simple().bytes())
    assert load_mesh(tmp_path / "mesh.gltf").vertices.tolist() == POINTS


@pytest.mark.parametrize("name", LOOKS)
def test_required_extensions_that_only_change_looks_are_noted(name):
    build = simple()
    build.tree["extensionsRequired"] = [name, name]
    mesh = build.read()
    assert mesh.vertices.tolist() == POINTS
    assert mesh.notes == (f"required extensions that are not drawn: {name}",)


@pytest.mark.parametrize("name", READ)
def test_required_extensions_that_are_read_need_no_note(name):
    build = simple()
    build.tree["extensionsRequired"] = [name]
    assert build.read().notes == ()


@pytest.mark.parametrize(
    "name", ["KHR_gaussian_splatting", "KHR_accessor_float64", "ACME_new_geometry", "KHR_mesh_x"]
)
def test_other_required_extensions_are_refused_by_name(name):
    build = simple()
    build.tree["extensionsRequired"] = ["KHR_materials_ior", name]
    with pytest.raises(ShapeRefused) as refused:
        build.read()
    assert refused.value.reason is Reason.UNKNOWN_FORMAT
    assert refused.value.detail == f"it requires {name}: export it without, as plain glTF 2.0"


@pytest.mark.parametrize("version", ["1.0", "3.1", 1])
def test_other_versions_are_refused(version):
    build = simple()
    build.tree["asset"]["version"] = version
    for data in (build.bytes(), json.dumps(build.tree).encode()):
        with pytest.raises(ShapeRefused) as refused:
            read_glb(Path("mesh.gltf"), data)
        assert refused.value.reason is Reason.UNKNOWN_FORMAT
        assert "only glTF 2" in refused.value.detail


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"[1]", Reason.UNKNOWN_FORMAT),
        (b"solid", Reason.UNKNOWN_FORMAT),
        (b'{"asset": ', Reason.BAD_SYNTAX),
        (b'{"a": ' * 10**6, Reason.BAD_SYNTAX),
        (b'{"asset": 3}', Reason.BAD_SYNTAX),
        (b"{}", Reason.NO_FACES),
        (b'{"nodes": [{"mesh": 0}]}', Reason.BAD_SYNTAX),
    ],
)
def test_json_that_is_not_gltf_is_refused(data, reason):
    with pytest.raises(ShapeRefused) as refused:
        read_glb(Path("mesh.gltf"), data)
    assert refused.value.reason is reason
