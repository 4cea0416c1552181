"""UDIM tiles: the integer part of texture coordinates chooses the image."""

import numpy as np
import pytest
from PIL import Image

from pointcmt.render.load.meshes import load_mesh
from pointcmt.render.load.readers.names.tiles import numbered_name, tile_name, tiles_of

COLORS = {1001: (255, 0, 0), 1002: (0, 255, 0), 1011: (0, 0, 255)}
CORNERS = np.array([[0.1, 0.1], [0.9, 0.1], [0.1, 0.9]])


def model(folder, name, places, tiles, pattern="t.{}.png"):
    """One triangle per place (column, row) of the texture."""
    lines = ["mtllib m.mtl", "v 0 0 0", "v 1 0 0", "v 0 1 0", "usemtl m"]
    for number, place in enumerate(places):
        lines += [f"vt {u} {v}" for u, v in (CORNERS + place).tolist()]
        lines.append("f " + " ".join(f"{i + 1}/{3 * number + i + 1}" for i in range(3)))
    (folder / "m.obj").write_text("\n".join(lines) + "\n")
    (folder / "m.mtl").write_text(f"newmtl m\nKd 0 0 0\nmap_Kd {name}\n")
    for tile in tiles:
        column, row = (tile - 1001) % 10 + 1, (tile - 1001) // 10 + 1
        Image.new("RGB", (2, 2), COLORS[tile]).save(
            folder / pattern.format(tile, column=column, row=row)
        )
    return load_mesh(folder / "m.obj")


def colors(mesh):
    """The color of each face's texture, None without one."""
    textures = [mesh.materials[i].texture for i in mesh.face_material]
    return [None if t is None else tuple(t[0, 0].tolist()) for t in textures]


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("t.<UDIM>.png", "t.{}.png"),
        ("t_<udim>.png", "t_{}.png"),
        ("t.%(UDIM)d.png", "t.{}.png"),
        ("t.1001.png", "t.{}.png"),
        ("t_<UVTILE>.png", "t_u{column}_v{row}.png"),
    ],
)
def test_each_face_shows_the_tile_in_which_its_coordinates_are(tmp_path, name, pattern):
    places = [(0, 0), (1, 0), (0, 1), (0, 0)]
    mesh = model(tmp_path, name, places, COLORS, pattern)
    assert colors(mesh) == [COLORS[tile] for tile in (1001, 1002, 1011, 1001)]
    assert mesh.notes == ()
    fractions = mesh.uv - np.floor(mesh.uv)
    np.testing.assert_allclose(fractions, np.tile(CORNERS, (4, 1, 1)), atol=1e-6)


def test_a_tile_without_a_file_is_gray_with_a_note(tmp_path):
    mesh = model(tmp_path, "t.<UDIM>.png", [(0, 0), (1, 0), (0, 1)], [1001, 1011])
    assert colors(mesh) == [COLORS[1001], None, COLORS[1011]]
    assert mesh.materials[mesh.face_material[1]].color == (0.75, 0.75, 0.75)
    assert mesh.notes == ("texture t.1002.png is missing",)


def test_a_missing_first_tile_loses_only_its_own_faces(tmp_path):
    mesh = model(tmp_path, "t.<UDIM>.png", [(0, 0), (1, 0)], [1002])
    assert colors(mesh) == [None, COLORS[1002]]
    assert mesh.notes == ("texture t.1001.png is missing",)


@pytest.mark.parametrize("place", [(-1, 0), (0, -3), (10, 0), (0, 10)])
def test_coordinates_outside_of_all_tiles_show_the_first_with_a_note(tmp_path, place):
    mesh = model(tmp_path, "t.<UDIM>.png", [place], COLORS)
    assert colors(mesh) == [COLORS[1001]]
    assert len(mesh.notes) == 1
    assert "outside of UDIM tiles" in mesh.notes[0]


def test_an_image_that_only_happens_to_be_numbered_repeats(tmp_path):
    mesh = model(tmp_path, "t.1001.png", [(0, 0), (1, 0), (-1, 5)], [1001])
    assert colors(mesh) == [COLORS[1001]] * 3
    assert mesh.notes == ()


def test_names_of_tiles():
    assert tile_name("a/<UDIM>/b.<UDIM>.png", 1042) == "a/1042/b.1042.png"
    assert tile_name("t.<UVTILE>.png", 1012) == "t.u2_v2.png"
    assert tile_name("t.1001.png") is None
    assert numbered_name("t.1001.png", 1002) == "t.1002.png"
    assert numbered_name("t1001.png", 1002) is None
    assert numbered_name("t.11001.png", 1002) is None


def test_the_tile_of_a_face_is_that_of_its_middle():
    uv = np.array([[[0, 0], [1, 0], [0, 1]], [[1, 0], [2, 0], [1, 1]], [[-1e9, 0]] * 3], float)
    assert tiles_of(uv).tolist() == [1001, 1002, 0]


def test_a_ply_file_shows_the_first_tile_with_a_note(tmp_path):
    Image.new("RGB", (2, 2), (255, 0, 0)).save(tmp_path / "t.1001.png")
    header = "ply\nformat ascii 1.0\ncomment TextureFile t.<UDIM>.png\nelement vertex 3\n"
    header += "".join(f"property float {name}\n" for name in "xyzst")
    header += "element face 1\nproperty list uchar int vertex_indices\nend_header\n"
    (tmp_path / "a.ply").write_text(f"{header}0 0 0 0 0\n1 0 0 1 0\n0 1 0 0 1\n3 0 1 2\n")
    mesh = load_mesh(tmp_path / "a.ply")
    assert mesh.materials[0].texture[0, 0].tolist() == [255, 0, 0]
    assert mesh.notes == ("texture t.<UDIM>.png: only UDIM tile 1001 is shown",)
