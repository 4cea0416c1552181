"""Listings of folders of meshes: classes, splits, links and labels."""

import os
from pathlib import Path

import pytest

from pointcmt.datasets.sources import list_shapes
from tests.datasets.sources.listings import error, found, touch


def test_folders_give_classes_and_splits(tmp_path):
    touch(
        tmp_path,
        "z.off",
        "train/loose.obj",
        "chair/a.off",
        "chair/Test/b.PLY",
        "validation/table/deep/er/c.stl",
        "lamp/models/valid/d.glb",
        "lamp/d.mtl",
        "lamp/.hidden.off",
        ".git/x.off",
        "README",
    )
    listing = list_shapes("folder", tmp_path)
    assert found(listing) == {
        "chair/Test/b": ("chair", "test"),
        "chair/a": ("chair", "train"),
        "lamp/models/valid/d": ("lamp", "val"),
        "train/loose": (None, "train"),
        "validation/table/deep/er/c": ("table", "val"),
        "z": (None, "train"),
    }
    assert [shape.source for shape in listing.shapes] == sorted(s.source for s in listing.shapes)
    assert listing.class_names == ("chair", "lamp", "table")
    assert listing.notes == ()


def test_ids_keep_the_suffix_where_two_files_share_the_rest(tmp_path):
    touch(tmp_path, "a/x.off", "a/x.obj", "a/y.obj")
    assert list(found(list_shapes("folder", tmp_path))) == ["a/x.obj", "a/x.off", "a/y"]


def test_gltf_files_are_shapes_and_their_buffers_are_not(tmp_path):
    touch(tmp_path, "chair/scene.gltf", "chair/scene.bin", "chair/textures/a.jpeg", "b/x.GLTF")
    listing = list_shapes("folder", tmp_path)
    assert [shape.source for shape in listing.shapes] == ["b/x.GLTF", "chair/scene.gltf"]


def test_links_are_followed_once_and_without_loops(tmp_path):
    """Links that lead out of the root are followed only on request."""
    touch(tmp_path, "root/b/a.off", "elsewhere/c.off")
    os.symlink(tmp_path / "root", tmp_path / "root" / "b" / "up")
    os.symlink(tmp_path / "root" / "b", tmp_path / "root" / "a")
    os.symlink(tmp_path / "elsewhere", tmp_path / "root" / "linked")
    followed = list_shapes("folder", tmp_path / "root", follow_links=True)
    assert list(found(followed)) == ["b/a", "linked/c"]
    listing = list_shapes("folder", tmp_path / "root")
    assert list(found(listing)) == ["b/a"]
    assert any("such as linked (see --follow-links)" in note for note in listing.notes)


def test_names_that_are_not_valid_text_are_skipped(tmp_path):
    touch(tmp_path, "a.off")
    (tmp_path / os.fsdecode(b"\xff.off")).touch()
    listing = list_shapes("folder", tmp_path)
    assert list(found(listing)) == ["a"]
    assert listing.notes == ("1 files ignored: their names are not valid UTF-8",)


def test_a_root_one_level_too_high_adds_a_note(tmp_path):
    touch(tmp_path, "data/chair/a.off", "data/table/b.off")
    assert "--root may be one level too high" in list_shapes("folder", tmp_path).notes[0]
    assert list_shapes("folder", tmp_path / "data").notes == ()


def labeled(root: Path, text: str | bytes) -> Path:
    touch(root, "chair/a.off", "chair/b.off", "c.obj", "c.ply")
    (root / "labels.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return root


def test_labels_come_from_a_csv_file(tmp_path):
    text = "\ufeffid,class,split\n chair/a , sofa ,test\nc.obj,,validation\n\nchair\\b.off,Tür,\n"
    listing = list_shapes("folder", labeled(tmp_path, text))
    assert found(listing) == {
        "c.obj": (None, "val"),
        "c.ply": (None, "train"),
        "chair/a": ("sofa", "test"),
        "chair/b": ("Tür", "train"),
    }
    assert listing.class_names == ("Tür", "sofa")
    assert listing.notes == ("1 shapes are not listed in labels.csv and have no class",)


def test_labels_may_lack_a_column(tmp_path):
    assert found(list_shapes("folder", labeled(tmp_path, "split,id\ntest,c.ply\n")))["c.ply"] == (
        None,
        "test",
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "id,class,split\nchair/a,x,test\nnobody,x,test\n",
            "line 3: 'nobody' is not a shape of this folder",
        ),
        ("id,class,split\nchair/a,x,test\nchair/a.off,x,test\n", "line 3: 'chair/a.off' is listed"),
        ("id,class,split\nc,x,test\n", "line 2: 'c' is ambiguous"),
        ("id,class,split\n\nchair/a,x,tset\n", "line 3: unknown split 'tset'"),
        ("name,class\nchair/a,x\n", "line 1: the header must be id,class,split"),
        ("", "line 1: the header"),
        (b"id,class\n\xff\xfe,x\n", "cannot be read"),
    ],
)
def test_wrong_labels_name_their_line(tmp_path, text, says):
    raised = error("folder", labeled(tmp_path, text))
    assert says in raised.what
    assert raised.where == str(tmp_path / "labels.csv")


def test_real_folders_are_listed(real_data):
    listing = list_shapes("folder", real_data / "textured")
    assert found(listing) == {
        "cow/cow": ("cow", "train"),
        "fuze/fuze": ("fuze", "train"),
        "fuze/wood": ("fuze", "train"),
    }
    odd = list_shapes("folder", real_data / "odd_meshes")
    assert len(found(odd)) >= 100
    assert odd.class_names == ("assimp", "pytorch3d", "tinyobjloader")
