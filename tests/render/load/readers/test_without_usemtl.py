"""OBJ faces without a usemtl statement, as in YCB's models."""

import numpy as np

from pointcmt.render.load.meshes import load_mesh
from tests.render.load.readers.test_materials import RED, model, paint, texture_of


def test_the_only_material_of_a_library_needs_no_usemtl(tmp_path):
    paint(tmp_path / "t.png")
    mtl = "newmtl one\nKd 0 1 0\nmap_Kd t.png\n"
    plain = load_mesh(model(tmp_path, mtl, "f 1/1 2/2 3/3 4/4\n"))
    used = load_mesh(model(tmp_path, mtl, "usemtl one\nf 1/1 2/2 3/3 4/4\n"))
    for mesh in (plain, used):
        assert texture_of(mesh).tolist() == [[[*RED]] * 4] * 3
        assert mesh.face_material.tolist() == [0, 0]
        assert mesh.notes == ()
    np.testing.assert_array_equal(plain.uv, used.uv)
    late = load_mesh(model(tmp_path, mtl, "f 1/1 2/2 3/3\nusemtl one\nf 1/1 3/3 4/4\n"))
    assert late.face_material.tolist() == [0, 0]
    assert len(late.materials) == 1


def test_without_usemtl_none_of_several_materials_is_used(tmp_path):
    mtl = "newmtl a\nKd 1 0 0\nnewmtl b\nKd 0 1 0\n"
    mesh = load_mesh(model(tmp_path, mtl, "f 1 2 3 4\n"))
    assert mesh.materials == ()
    assert mesh.notes == ("1 faces without usemtl have no material, since there are 2",)
