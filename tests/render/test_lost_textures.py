"""What a material emits is seen, and none is black because its texture cannot be read."""

import numpy as np
import pytest
from PIL import Image

from pointcmt.render.load.meshes import load_mesh
from pointcmt.shapes import Material

OBJ = "mtllib m.mtl\nusemtl a\nv 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 0 1\nf 1/1 2/2 3/3\n"
GRAY = Material().color


def material(folder, statements):
    (folder / "m.obj").write_text(OBJ)
    (folder / "m.mtl").write_text("newmtl a\n" + "\n".join(statements) + "\n")
    mesh = load_mesh(folder / "m.obj")
    return mesh.materials[0], mesh.notes


@pytest.mark.parametrize("content", [None, b"no image", b"\x76\x2f\x31\x01"])
@pytest.mark.parametrize(
    ("color", "shown"), [("0 0 0", GRAY), ("0.005 0 0", GRAY), ("0.2 0 0", (0.2, 0.0, 0.0))]
)
def test_a_black_material_whose_texture_is_lost_is_gray(tmp_path, content, color, shown):
    if content is not None:
        (tmp_path / "t.exr").write_bytes(content)
    found, notes = material(tmp_path, [f"Kd {color}", "map_Kd t.exr"])
    assert found.texture is None
    assert found.color == pytest.approx(shown)
    assert any("t.exr" in note for note in notes)


def test_a_material_that_is_meant_to_be_black_stays_black(tmp_path):
    assert material(tmp_path, ["Kd 0 0 0"])[0].color == (0.0, 0.0, 0.0)
    Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(tmp_path / "t.png")
    found, _ = material(tmp_path, ["Kd 0 0 0", "map_Kd t.png"])
    assert not found.texture.any()


@pytest.mark.parametrize(
    ("statements", "color"),
    [
        (["Kd 0 0 0", "Ke 0.9 0.5 0.1"], (0.9, 0.5, 0.1)),
        (["Ke 0.9 0.5 0.1", "Kd 0.3 0.3 0.3"], (1.0, 0.8, 0.4)),
        (["Kd 0.3 0.2 0.1", "Ke 0 0 0"], (0.3, 0.2, 0.1)),
        (["Kd 0.1 0.1 0.1", "Ke 0.2"], (0.3, 0.3, 0.3)),
    ],
)
def test_what_a_material_emits_is_added_to_its_color(tmp_path, statements, color):
    assert material(tmp_path, statements)[0].color == pytest.approx(color)


@pytest.mark.parametrize("order", [1, -1])
def test_an_emitted_texture_is_shown_where_there_is_no_other(tmp_path, order):
    for name, value in (("d.png", 200), ("e.png", 100)):
        Image.fromarray(np.full((2, 2, 3), value, np.uint8)).save(tmp_path / name)
    found, _ = material(tmp_path, ["Kd 0 0 0", "map_Ke e.png"])
    assert np.unique(found.texture).tolist() == [100]
    found, _ = material(tmp_path, ["map_Kd d.png", "map_Ke e.png"][::order])
    assert np.unique(found.texture).tolist() == [200]
