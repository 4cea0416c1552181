"""MTL files and textures: how they are read, and that no file of another directory is read."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pointcmt.render.load.meshes import load_mesh
from pointcmt.render.load.readers import textures
from pointcmt.render.load.readers.materials import MaterialLibrary
from pointcmt.render.load.readers.sidecars import NotRead
from pointcmt.render.load.readers.textures import MAX_TEXTURE, decode
from pointcmt.shapes import Material, Mesh

SQUARE = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\n"
RED = (255, 0, 0)


def model(folder: Path, mtl: str, body: str = "usemtl m\nf 1/1 2/2 3/3 4/4\n") -> Path:
    """An OBJ of a square with a material file beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "m.mtl").write_text(mtl)
    path = folder / "mesh.obj"
    path.write_text(f"mtllib m.mtl\n{SQUARE}{body}")
    return path


def paint(path: Path, color: tuple[int, ...] | int = RED, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (4, 3), color).save(path)


def texture_of(mesh: Mesh) -> np.ndarray | None:
    assert mesh.face_material is not None
    return mesh.materials[mesh.face_material[0]].texture


# Materials


@pytest.mark.parametrize(
    ("statements", "color", "opacity"),
    [
        ("Kd 1 0.5 0.25", (1, 0.5, 0.25), 1),
        ("\tKd\t1 0.5 0.25 # white", (1, 0.5, 0.25), 1),
        ("Kd 0.5", (0.5, 0.5, 0.5), 1),
        ("Kd 2 -1 nan", (1, 0, 0), 1),
        ("Kd 1 0 0\nd 0.25", (1, 0, 0), 0.25),
        ("Kd 1 0 0\nd -halo 0.25", (1, 0, 0), 0.25),
        ("Kd 1 0 0\nTr 0.25", (1, 0, 0), 0.75),
        ("Kd 1 0 0\nTr 1\nd 1", (1, 0, 0), 1),
        ("Kd 1 0 0\nd 1\nTr 1", (1, 0, 0), 1),
        ("Ka 1 0 0\nKs 1 0 0", Material().color, 1),
    ],
)
def test_colors_and_opacity_are_read(tmp_path, statements, color, opacity):
    mesh = load_mesh(model(tmp_path, f"newmtl m\n{statements}\n"))
    assert mesh.materials[0] == Material("m", color, opacity)
    assert mesh.face_material is not None
    assert mesh.face_material.tolist() == [0, 0]


def test_each_face_has_the_current_material(tmp_path):
    mtl = "newmtl a\nKd 1 0 0\nnewmtl unused\nKd 0 0 0\nnewmtl b c\nKd 0 1 0\n"
    body = "f 1 2 3\nusemtl a\nf 1 2 3 4\nusemtl b c \nf 1 2 3\nusemtl nobody\nf 3 2 1\n"
    body += "usemtl never\nusemtl a\nf 1 3 4\n"
    mesh = load_mesh(model(tmp_path, mtl, body))
    assert [material.name for material in mesh.materials] == ["a", "b c"]
    assert mesh.face_material is not None
    assert mesh.face_material.tolist() == [-1, 0, 0, 1, -1, 0]
    assert mesh.notes == (
        "1 faces before the first usemtl have no material, since there are 3",
        "material 'nobody' is not defined",
    )


def test_invalid_statements_are_noted(tmp_path):
    mesh = load_mesh(model(tmp_path, "newmtl m\nKd spectral x.rfl\nd\n"))
    assert mesh.notes == (
        "material statement ignored: kd spectral x.rfl",
        "material statement ignored: d",
    )


@pytest.mark.parametrize(
    "statement",
    ["mtllib one.mtl two 2.mtl", "mtllib none.mtl one.mtl", "mtllib one.mtl\nmtllib two 2.mtl"],
)
def test_material_files_are_found(tmp_path, statement):
    (tmp_path / "one.mtl").write_text("newmtl a\nKd 1 0 0\n")
    (tmp_path / "two 2.mtl").write_text("newmtl b\nKd 0 1 0\n")
    path = tmp_path / "mesh.obj"
    path.write_text(f"{statement}\n{SQUARE}usemtl a\nf 1 2 3\nusemtl b\nf 1 2 3\n")
    mesh = load_mesh(path)
    assert mesh.materials[0].color == (1, 0, 0)
    if statement.endswith("\nmtllib two 2.mtl"):
        assert mesh.materials[1].color == (0, 1, 0)
        assert mesh.notes == ()
    else:
        assert any(".mtl is missing" in note for note in mesh.notes)


def test_spaces_in_file_names_may_be_escaped(tmp_path):
    (tmp_path / "a b.mtl").write_text("newmtl a\nKd 1 0 0\n")
    library = MaterialLibrary.of(tmp_path / "mesh.obj", [r"x.mtl a\ b.mtl"])
    assert library.notes == ["material file x.mtl is missing"]
    placed = library.get("a")
    assert placed is not None
    assert placed.material.color == (1, 0, 0)


# Textures


def test_a_texture_is_placed_by_its_coordinates(tmp_path):
    paint(tmp_path / "t.png")
    mesh = load_mesh(model(tmp_path, "newmtl m\nKd 0 1 0\nmap_Kd t.png\n"))
    assert mesh.uv is not None
    assert mesh.uv.tolist() == [[[0, 0], [1, 0], [1, 1]], [[0, 0], [1, 1], [0, 1]]]
    texture = texture_of(mesh)
    assert texture is not None
    assert texture.shape == (3, 4, 3)
    assert (texture == RED).all()


def test_faces_without_coordinates_keep_the_color(tmp_path):
    paint(tmp_path / "t.png")
    body = "usemtl m\nf 1/1 2/2 3/3\nf 1 2 3\nf 1/1 2 3/3\nf 1/1 3/3 4/4\n"
    mesh = load_mesh(model(tmp_path, "newmtl m\nKd 0 1 0\nmap_Kd t.png\n", body))
    assert mesh.face_material is not None
    assert mesh.face_material.tolist() == [0, 1, 1, 0]
    assert mesh.materials[1] == Material("m", (0, 1, 0))
    assert mesh.uv is not None
    assert (mesh.uv[1:3] == 0).all()


def test_scale_and_offset_move_the_coordinates(tmp_path):
    paint(tmp_path / "t.png")
    mesh = load_mesh(model(tmp_path, "newmtl m\nmap_Kd -s 2 3 1 -o 0.5 -clamp on t.png\n"))
    assert mesh.uv is not None
    assert mesh.uv[0].tolist() == [[0.5, 0], [2.5, 0], [2.5, 3]]
    assert mesh.notes == ()


@pytest.mark.parametrize(
    "statement",
    [
        "my texture 1.png",
        '"my texture 1.png"',
        "-blendu on -bm 2 -mm 0 1 -texres 512 my texture 1.png",
        r".\my texture 1.png",
        r"C:\Users\me\my texture 1.png",
        "/home/me/my texture 1.png",
        "MY Texture 1.PNG",
        "sub/../my texture 1.png",
        "my texture 1.png -bm 1.5",
        "my texture 1.png # the best",
    ],
)
def test_names_of_textures_are_parsed(tmp_path, statement):
    paint(tmp_path / "my texture 1.png")
    (tmp_path / "sub").mkdir()
    mesh = load_mesh(model(tmp_path, f"newmtl m\nmap_Kd {statement}\n"))
    assert texture_of(mesh) is not None


def test_textures_may_be_beside_their_material_file(tmp_path):
    paint(tmp_path / "sub" / "t.png")
    (tmp_path / "sub" / "m.mtl").write_text("newmtl m\nmap_Kd t.png\n")
    path = tmp_path / "mesh.obj"
    path.write_text(f"mtllib sub/m.mtl\n{SQUARE}usemtl m\nf 1/1 2/2 3/3\n")
    assert texture_of(load_mesh(path)) is not None


def test_a_texture_of_several_materials_is_decoded_once(tmp_path):
    paint(tmp_path / "t.png")
    mtl = "newmtl a\nKd 1 1 1\nmap_Kd t.png\nnewmtl b\nKd 0 0 0\nmap_Kd ./T.png\n"
    mesh = load_mesh(model(tmp_path, mtl, "usemtl a\nf 1/1 2/2 3/3\nusemtl b\nf 1/1 2/2 3/3\n"))
    assert mesh.materials[0].texture is mesh.materials[1].texture


def test_alpha_blends_with_the_color_of_the_material(tmp_path):
    paint(tmp_path / "t.png", (255, 0, 0, 51), "RGBA")
    mtl = "newmtl a\nKd 0 0 1\nmap_Kd t.png\nnewmtl b\nKd 1 1 1\nmap_Kd t.png\n"
    mesh = load_mesh(model(tmp_path, mtl, "usemtl a\nf 1/1 2/2 3/3\nusemtl b\nf 1/1 2/2 3/3\n"))
    first, second = (material.texture for material in mesh.materials)
    assert first is not None
    assert second is not None
    assert first[0, 0].tolist() == [51, 0, 204]
    assert second[0, 0].tolist() == [255, 204, 204]


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (b"", "texture t.png cannot be decoded (UnidentifiedImageError)"),
        (b"not an image", "texture t.png cannot be decoded (UnidentifiedImageError)"),
        (None, "texture t.png is missing"),
    ],
)
def test_missing_and_broken_textures_fall_back_to_the_color(tmp_path, content, note):
    if content is not None:
        (tmp_path / "t.png").write_bytes(content)
    mesh = load_mesh(model(tmp_path, "newmtl m\nKd 0 1 0\nmap_Kd t.png\n"))
    assert mesh.materials[0] == Material("m", (0, 1, 0))
    assert mesh.uv is None
    assert mesh.notes == (note,)


@pytest.mark.parametrize("kind", ["png", "jpg", "tga"])
def test_truncated_images_are_refused(tmp_path, kind):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    data = encoded(Image.fromarray(noise), tmp_path, kind)
    with pytest.raises(NotRead, match="cannot be decoded"):
        decode(data[: len(data) // 2], "image")


def encoded(image: Image.Image, tmp_path: Path, kind: str, **options: object) -> bytes:
    path = tmp_path / f"image.{kind}"
    image.save(path, **options)
    return path.read_bytes()


def test_every_kind_of_pixel_becomes_rgb(tmp_path):
    gray = Image.new("L", (2, 2), 100)
    wide = Image.fromarray(np.full((2, 2), 25700, np.uint16))
    palette = Image.new("RGB", (2, 2), RED).convert("P")
    clear = palette.copy()
    clear.info["transparency"] = 0
    for image, kind, pixel in [
        (gray, "png", [100, 100, 100]),
        (wide, "png", [100, 100, 100]),
        (wide, "tiff", [100, 100, 100]),
        (Image.fromarray(np.full((2, 2), 0.5, np.float32)), "tiff", [128, 128, 128]),
        (gray.convert("LA"), "png", [100, 100, 100, 255]),
        (palette, "png", [255, 0, 0]),
        (palette, "gif", [255, 0, 0]),
        (Image.new("1", (2, 2), 1), "png", [255, 255, 255]),
        (Image.new("CMYK", (2, 2), (0, 255, 255, 0)), "tiff", [255, 0, 0]),
        (Image.new("RGB", (2, 2), RED), "bmp", [255, 0, 0]),
        (Image.new("RGB", (2, 2), RED), "tga", [255, 0, 0]),
        (Image.new("RGBA", (2, 2), (*RED, 9)), "png", [255, 0, 0, 9]),
    ]:
        pixels = decode(encoded(image, tmp_path, kind), "image")
        assert pixels[0, 0].tolist() == pixel, (image.mode, kind)
    assert decode(encoded(clear, tmp_path, "png", transparency=0), "image").shape[2] == 4


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_large_images_are_reduced(tmp_path, kind):
    image = Image.new("RGB", (3 * MAX_TEXTURE, 30), RED)
    pixels = decode(encoded(image, tmp_path, kind), "image")
    assert max(pixels.shape) == MAX_TEXTURE
    assert np.abs(pixels.astype(int) - RED).max() <= 3


@pytest.mark.parametrize("kind", ["png", "jpg", "bmp", "tga"])
def test_memory_limits_images_and_not_pillows_number_of_pixels(tmp_path, monkeypatch, kind):
    data = encoded(Image.new("RGB", (64, 64), RED), tmp_path, kind)
    expected = decode(data, "image")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 64 // 2 - 1)  # Image.open would refuse it
    np.testing.assert_array_equal(decode(data, "image"), expected)
    monkeypatch.setattr(textures, "MAX_DECODING", 64 * 64)
    with pytest.raises(NotRead, match="more than the maximum"):
        decode(data, "image")


def test_image_formats_that_start_programs_are_not_opened():
    with pytest.raises(NotRead):
        decode(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "x.eps")


def test_real_textures_are_read(real_data):
    cow = load_mesh(real_data / "textured/cow/cow.obj")
    fuze = load_mesh(real_data / "textured/fuze/fuze.obj")
    for mesh in (cow, fuze):
        texture = texture_of(mesh)
        assert texture is not None
        assert texture.shape == (1024, 1024, 3)
        assert mesh.uv is not None
        assert mesh.notes == ()
    assert load_mesh(real_data / "textured/fuze/wood.obj").uv is not None


# A model reads only its own directory


@pytest.fixture
def secret(tmp_path):
    """An image one directory above the model, which must not be read."""
    path = tmp_path / "secret.png"
    paint(path, (1, 2, 3))
    return path


@pytest.mark.parametrize(
    "name",
    [
        "../secret.png",
        "..\\secret.png",
        "sub/../../secret.png",
        "../../../../../../../../etc/passwd",
        "{secret}",
        "link.png",
        "linked/secret.png",
        "LINK.PNG",
    ],
)
def test_textures_outside_of_the_directory_are_not_read(tmp_path, secret, name):
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    os.symlink(secret, folder / "link.png")
    os.symlink(tmp_path, folder / "linked")
    mesh = load_mesh(model(folder, f"newmtl m\nKd 0 1 0\nmap_Kd {name.format(secret=secret)}\n"))
    assert mesh.materials[0] == Material("m", (0, 1, 0))
    assert len(mesh.notes) == 1
    if name == "{secret}":  # only the file name is searched, in the model's directory
        assert mesh.notes[0].endswith("is missing")
    else:
        assert mesh.notes[0].endswith("is outside the model's folder and is ignored")


def test_links_within_the_directory_are_followed(tmp_path):
    paint(tmp_path / "real" / "t.png")
    os.symlink(tmp_path / "real", tmp_path / "images")
    mesh = load_mesh(model(tmp_path, "newmtl m\nmap_Kd images/t.png\n"))
    assert texture_of(mesh) is not None


def test_material_files_outside_of_the_directory_are_not_read(tmp_path):
    (tmp_path / "outside.mtl").write_text("newmtl m\nKd 1 0 0\n")
    path = tmp_path / "model" / "mesh.obj"
    path.parent.mkdir()
    path.write_text(f"mtllib ../outside.mtl\n{SQUARE}usemtl m\nf 1 2 3\n")
    mesh = load_mesh(path)
    assert mesh.materials == ()
    assert mesh.notes[0] == (
        "material file ../outside.mtl is outside the model's folder and is ignored"
    )


def shapenet_model(folder: Path, texture: str) -> Path:
    path = model(folder / "models", f"newmtl m\nKd 0 1 0\nmap_Kd {texture}\n")
    return path.rename(path.with_name("model_normalized.obj"))


def test_shapenet_textures_beside_the_models_directory_are_read(tmp_path, secret):
    folder = tmp_path / "02691156" / "abc"
    paint(folder / "images" / "texture0.jpg")
    mesh = load_mesh(shapenet_model(folder, "../images/texture0.jpg"))
    assert texture_of(mesh) is not None
    assert mesh.notes == ()


def test_shapenet_models_read_no_files_of_their_neighbors(tmp_path, secret):
    paint(tmp_path / "02691156" / "other" / "images" / "t.jpg")
    folder = tmp_path / "02691156" / "abc"
    for name in ("../../other/images/t.jpg", "../../../secret.png"):
        mesh = load_mesh(shapenet_model(folder, name))
        assert mesh.materials[0] == Material("m", (0, 1, 0))
        assert "is outside the model's folder" in mesh.notes[0]


def test_only_shapenet_models_read_the_parent_directory(tmp_path):
    paint(tmp_path / "images" / "t.jpg")
    mesh = load_mesh(model(tmp_path / "models", "newmtl m\nmap_Kd ../images/t.jpg\n"))
    assert "is outside the model's folder" in mesh.notes[0]


def test_a_texture_that_is_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "t.png")
    mesh = load_mesh(model(tmp_path, "newmtl m\nmap_Kd t.png\n"))
    assert mesh.notes == ("texture t.png is missing",)


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b.png", "ring.png", ".", "..", "/"])
def test_impossible_file_names_are_noted(tmp_path, name):
    os.symlink(tmp_path / "ring.png", tmp_path / "ring.png")
    mesh = load_mesh(model(tmp_path, f"newmtl m\nmap_Kd {name}\n"))
    assert len(mesh.notes) == 1
    assert len(mesh.notes[0]) < 200
    assert mesh.notes[0].isprintable()
