"""Textures and material files around a model are found; another model's are not taken for its."""

import os
import time

import numpy as np
import pytest
from PIL import Image

from pointcmt.render.load.meshes import load_mesh
from pointcmt.render.load.readers.names import neighbors
from pointcmt.render.load.readers.sidecars import Search
from tests.render.load.readers.glb_files import Builder

RED, BLUE = (255, 0, 0), (0, 0, 255)
OBJ = "v 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 0 1\nusemtl m\nf 1/1 2/2 3/3\n"


def obj(path, texture, library="m.mtl"):
    """A textured triangle with its material file beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"mtllib {library}\n{OBJ}")
    (path.parent / "m.mtl").write_text(f"newmtl m\nKd 0 0 0\nmap_Kd {texture}\n")
    return path


def paint(path, color=RED):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (2, 2), color).save(path)
    return path


def shown(path, root, textures=None):
    """The color of the texture, or None; and the notes."""
    mesh = load_mesh(path, Search(root, textures))
    texture = mesh.materials[0].texture if mesh.materials else None
    color = None if texture is None else tuple(texture[0, 0].tolist())
    if mesh.materials and texture is None:
        assert min(mesh.materials[0].color) > 0.5  # never black because a texture is lost
    return color, mesh.notes


FOUND = [  # the model, the texture that it names, and where it is
    ("mug/meshes/model.obj", "texture.png", "mug/materials/textures/texture.png"),
    ("mug/meshes/model.obj", "../materials/textures/t.png", "mug/materials/textures/t.png"),
    ("mug/meshes/model.obj", "texture.png", "mug/Materials/Textures/Texture.PNG"),
    ("mug/visual/mesh/m.obj", "t.png", "mug/textures/t.png"),
    ("mug/source/m.obj", "textures/wood.png", "mug/textures/wood.png"),
    ("a.obj", "wood.png", "textures/wood.png"),
    ("a.obj", "textures/wood.png", "wood.png"),
    ("a.obj", "texture.png", "a/texture.png"),
    ("models/a.obj", "texture.png", "textures/texture.png"),
    ("mug/m/m.obj", "texture.png", "mug/textures/texture.png"),
    ("a.obj", r"C:\work\chair\maps\texture.png", "maps/texture.png"),
    ("a.obj", r"\\server\share\texture.png", "texture.png"),
    ("models/a.obj", "file:///home/me/project/images/oak.png", "images/oak.png"),
    ("chair/a.obj", "../textures/texture.png", "textures/texture.png"),
    ("chair/x/a.obj", "../../lib/texture.png", "lib/texture.png"),
    ("chair/a.obj", "../../../elsewhere/t.png", "chair/textures/t.png"),
]  # fmt: skip


@pytest.mark.parametrize(("model", "name", "place"), FOUND)
def test_a_texture_in_the_folders_of_its_model_is_found(tmp_path, model, name, place):
    path = obj(tmp_path / model, name)
    paint(tmp_path / place)
    assert shown(path, tmp_path) == (RED, ())


SHARED = [  # in folders that hold other models too: only names that tell models apart
    ("chair/x/a.obj", "oak.png", "textures/oak.png"),
    ("chair/x/a.obj", "oak.png", "chair/oak.png"),
    ("chair/x/a.obj", "images/oak.png", "chair/images/oak.png"),
    ("chair/x/a.obj", "D:/lib/fabric/texture.png", "chair/textures/fabric/texture.png"),
    ("chair/x/a.obj", "0a1b2c3d.png", "textures/0a1b2c3d.png"),
    ("chair/x/a.obj", "木.png", "textures/木.png"),
]


@pytest.mark.parametrize(("model", "name", "place"), SHARED)
def test_a_texture_in_a_shared_folder_is_taken_by_its_own_name_with_a_note(
    tmp_path, model, name, place
):
    path = obj(tmp_path / model, name)
    obj(tmp_path / "chair/y/b.obj", "b.png")
    paint(tmp_path / place)
    color, notes = shown(path, tmp_path)
    assert color == RED
    assert len(notes) == 1
    assert (
        f"is not where its model says: {os.path.relpath(tmp_path / place, path.parent)}"
        in (notes[0])
    )


OTHERS = [
    ("chair/x/a.obj", "texture.png", "textures/texture.png"),
    ("chair/x/a.obj", "Material.001_baseColor.png", "chair/textures/Material.001_baseColor.png"),
    ("chair/x/a.obj", "../lost/texture_0.png", "chair/images/texture_0.png"),
    ("chair/x/a.obj", "1.png", "chair/1.png"),
    ("chair/x/a.obj", "tex.png", "tex.png"),
]


@pytest.mark.parametrize(("model", "name", "place"), OTHERS)
def test_a_common_name_in_a_shared_folder_is_not_taken(tmp_path, model, name, place):
    path = obj(tmp_path / model, name)
    obj(tmp_path / "chair/y/b.obj", name)
    paint(tmp_path / place)
    color, notes = shown(path, tmp_path)
    assert color is None
    assert len(notes) == 1
    assert "is missing: " in notes[0]
    assert "may belong to another model (see --textures)" in notes[0]
    assert shown(path, tmp_path, tmp_path / place.rpartition("/")[0]) == (RED, ())


@pytest.mark.parametrize(
    "place",
    ["chair/y/wood.png", "chair/y/textures/wood.png", "wood/wood.png", "chair/x/deep/er/wood.png"],
)
def test_folders_of_other_models_are_not_searched(tmp_path, place):
    path = obj(tmp_path / "chair/x/a.obj", "wood.png")
    paint(tmp_path / place)
    assert shown(path, tmp_path) == (None, ("texture wood.png is missing",))


def test_two_files_of_one_name_are_ambiguous(tmp_path):
    path = obj(tmp_path / "a.obj", "wood.png")
    paint(tmp_path / "textures/wood.png")
    paint(tmp_path / "images/wood.png", BLUE)
    color, notes = shown(path, tmp_path)
    assert color is None
    assert notes[0].startswith("texture wood.png is missing: textures/wood.png, images/wood.png")
    paint(tmp_path / "wood.png", BLUE)
    assert shown(path, tmp_path) == (BLUE, ())


def test_the_nearest_file_counts(tmp_path):
    path = obj(tmp_path / "mug/meshes/a.obj", "wood.png")
    paint(tmp_path / "textures/wood.png")
    paint(tmp_path / "mug/textures/wood.png", BLUE)
    assert shown(path, tmp_path) == (BLUE, ())


def test_without_a_root_only_the_models_own_folder_is_read(tmp_path):
    path = obj(tmp_path / "meshes/a.obj", "../textures/wood.png")
    paint(tmp_path / "textures/wood.png")
    assert shown(path, None)[0] is None
    paint(tmp_path / "meshes/images/wood.png", BLUE)
    assert shown(path, None) == (BLUE, ())


def test_material_files_and_buffers_are_found_in_the_same_way(tmp_path):
    path = obj(tmp_path / "mug/meshes/a.obj", "wood.png", "model.mtl")
    (path.parent / "m.mtl").rename(
        paint(tmp_path / "mug/materials/wood.png").with_name("model.mtl")
    )
    assert shown(path, tmp_path) == (RED, ())
    build = Builder()
    build.node(mesh=build.mesh(build.primitive()))
    whole = build.read()
    build.tree["buffers"] = [{"byteLength": len(build.binary), "uri": "a.bin"}]
    (tmp_path / "mug/a.glb").write_bytes(build.bytes())
    (tmp_path / "mug/media").mkdir()
    (tmp_path / "mug/media/a.bin").write_bytes(bytes(build.binary))
    mesh = load_mesh(tmp_path / "mug/a.glb", Search(tmp_path))
    np.testing.assert_array_equal(mesh.vertices, whole.vertices)


# A folder of textures that the user names


@pytest.mark.parametrize("place", ["texture.png", "chair/x/texture.png", "chair/x/a/texture.png"])
def test_the_users_folder_is_searched_by_name_and_by_the_place_of_the_model(tmp_path, place):
    path = obj(tmp_path / "root/chair/x/a.obj", r"Z:\tmp\texture.png")
    paint(tmp_path / "T" / place)
    paint(tmp_path / "T/chair/y/texture.png", BLUE)
    assert shown(path, tmp_path / "root", tmp_path / "T") == (RED, ())


def test_what_the_model_names_and_what_is_beside_it_count_more(tmp_path):
    path = obj(tmp_path / "root/mug/meshes/a.obj", "texture.png")
    paint(tmp_path / "T/texture.png", BLUE)
    assert shown(path, tmp_path / "root", tmp_path / "T") == (BLUE, ())
    paint(tmp_path / "root/mug/textures/texture.png")
    assert shown(path, tmp_path / "root", tmp_path / "T") == (RED, ())


# Nothing outside is read


@pytest.fixture
def secret(tmp_path):
    return paint(tmp_path / "secret.png", BLUE)


@pytest.mark.parametrize(
    "name",
    ["../../secret.png", "secret.png", "{secret}", "link.png", "textures/secret.png", "pipe.png",
     "zero.png", "far/secret.png"],
)  # fmt: skip
def test_no_file_outside_the_root_is_read(tmp_path, secret, name):
    root = tmp_path / "root"
    path = obj(root / "chair/a.obj", name.format(secret=secret))
    (root / "images").mkdir()
    os.mkfifo(root / "images/pipe.png")
    os.symlink("/dev/zero", root / "images/zero.png")
    os.symlink(secret, root / "images/link.png")
    os.symlink(tmp_path, root / "textures")
    os.symlink(tmp_path, root / "chair/far")
    color, notes = shown(path, root)
    assert color is None
    assert len(notes) == 1
    assert shown(path, root, root / "images")[0] is None  # links out of the user's folder, too


def test_a_model_that_links_lead_to_out_of_the_root_reads_its_own_folder_alone(tmp_path):
    path = obj(tmp_path / "far/m/a.obj", "../wood.png")
    paint(tmp_path / "far/wood.png")
    paint(tmp_path / "root/textures/wood.png")
    os.symlink(path.parent, tmp_path / "root/m")
    color, notes = shown(tmp_path / "root/m/a.obj", tmp_path / "root")
    assert color is None
    assert "outside the model's folder" in notes[0]


# The cost does not depend on the size of the dataset


def test_large_folders_are_not_read_as_a_whole(tmp_path, monkeypatch):
    """Of the folder of many models, a bounded number of entries is looked at, once."""
    for number in range(3000):
        (tmp_path / f"m{number}").mkdir()
    paths = [obj(tmp_path / f"m{number}/a.obj", "oak.png") for number in range(40)]
    paint(tmp_path / "textures/oak.png")
    os.utime(tmp_path, (1e9, 1e9))
    looked = []
    scan = neighbors.os.scandir

    def counting(path):
        looked.append(path)
        return scan(path)

    monkeypatch.setattr(neighbors.os, "scandir", counting)
    began = time.monotonic()
    assert {shown(path, tmp_path)[0] for path in paths} == {RED}
    assert looked.count(tmp_path) == 1
    assert time.monotonic() - began < 10
