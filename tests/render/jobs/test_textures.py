"""`render --textures`: found, recorded in the store, and the same when the job goes on."""

import json

import numpy as np
import pytest
from PIL import Image

from pointcmt.datasets.store.view_store import ViewStore
from tests.commands import pointcmt
from tests.render.job_commands import facts, render

OBJ = "mtllib m.mtl\nusemtl m\n"
OBJ += (
    "v -1 -1 -1\nv 1 -1 -1\nv 1 1 -1\nv -1 1 -1\nv -1 -1 1\nv 1 -1 1\nv 1 1 1\nv -1 1 1\nvt 0 0\n"
)
FACES = ("1 2 3 4", "5 6 7 8", "1 2 6 5", "4 3 7 8", "1 4 8 5", "2 3 7 6")
OBJ += "".join("f " + " ".join(f"{i}/1" for i in face.split()) + "\n" for face in FACES)


@pytest.fixture
def meshes(tmp_path):
    """Two boxes that name texture.png; it is in the folder T alone. A file that is not read."""
    for name in ("x", "y"):
        folder = tmp_path / "M/box" / name
        folder.mkdir(parents=True)
        (folder / "a.obj").write_text(OBJ)
        (folder / "m.mtl").write_text("newmtl m\nKd 0 0 0\nmap_Kd texture.png\n")
    (tmp_path / "M/box/x/c.fbx").touch()
    (tmp_path / "T").mkdir()
    Image.new("RGB", (2, 2), (255, 0, 0)).save(tmp_path / "T/texture.png")
    return tmp_path / "M"


def covered(store, shape):
    """The pixels of a shape, [n,3]."""
    opened = ViewStore.open(store)
    return opened.read("rgb", shape)[opened.read("face_index", shape) >= 0].astype(int)


def test_the_folder_is_searched_recorded_and_used_again_for_repairs(tmp_path, meshes):
    store = tmp_path / "S"
    more = ("--workers", "1", "--shard-size", "1", "--no-antialias", "--json")
    done = render(meshes, store, "--textures", tmp_path / "T", *more)
    assert done.returncode == 0, done.stderr
    kind = ".fbx files are not read: in Blender, import it and export glTF 2.0 (.glb)"
    assert facts(done)["notes"] == {kind: 1}
    assert f"1 file: {kind}" in done.stdout + done.stderr
    attributes = json.loads((store / "zarr.json").read_text())["attributes"]
    assert attributes["source"]["textures"] == str(tmp_path / "T")
    pixels = covered(store, 0)
    assert (pixels[:, 0] > 100).all()
    assert (pixels[:, 1:] < 60).all()
    before = {path: path.read_bytes() for path in (store / "rgb").rglob("*") if path.is_file()}
    shard = next(path for path in before if path.name != "zarr.json")
    shard.write_bytes(b"damaged" + before[shard])
    repaired = pointcmt("verify", store, "--repair", "--root", meshes)
    assert repaired.returncode == 0, repaired.stdout + repaired.stderr
    np.testing.assert_array_equal(covered(store, 0), pixels)
    assert {path: path.read_bytes() for path in before} == before


def test_another_folder_of_textures_is_refused(tmp_path, meshes):
    store = tmp_path / "S"
    assert render(meshes, store, "--workers", "1").returncode == 0
    other = render(meshes, store, "--workers", "1", "--textures", tmp_path / "T")
    assert other.returncode == 2
    assert "the store was rendered without --textures" in other.stderr
    assert "add --moved" in other.stderr
    assert render(meshes, store, "--textures", tmp_path / "T", "--moved").returncode == 0
    pixels = covered(store, 0)
    assert (np.ptp(pixels, axis=1) <= 2).all()  # gray, and not black
    assert (pixels.max(axis=1) > 60).all()


def test_a_folder_that_does_not_exist_or_is_not_used_is_an_error(tmp_path, meshes):
    lost = render(meshes, tmp_path / "S", "--textures", tmp_path / "none")
    assert (lost.returncode, "no such folder" in lost.stderr) == (2, True)
    toys = pointcmt("render", "--dataset", "toy", "--out", tmp_path / "S", "--textures", tmp_path)
    assert (toys.returncode, "have no texture files" in toys.stderr) == (2, True)
    assert not (tmp_path / "S").exists()
