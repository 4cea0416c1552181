"""Listing folders of posed frames: layouts, splits, links."""

import pytest

from pointcmt.datasets.sources.frames import Layout, layout_of, list_frames
from pointcmt.errors import UsageError

NAMES = {
    Layout.REDWOOD: ("color/00000.jpg", "depth/00000.png", "trajectory.log"),
    Layout.EXPORTED: ("color/0.jpg", "depth/0.png", "pose/0.txt"),
    Layout.TUM: ("rgb.txt", "depth.txt", "groundtruth.txt"),
    Layout.TRANSFORMS: ("transforms.json",),
}


def make(folder, layout=Layout.TRANSFORMS):
    for name in NAMES[layout]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.mark.parametrize("layout", Layout)
def test_each_layout_is_recognized_by_its_names(tmp_path, layout):
    assert layout_of(make(tmp_path / "room", layout)) == layout
    listing = list_frames("frames", tmp_path / "room")
    assert [(s.id, s.source, s.split, s.class_name) for s in listing.shapes] == [
        ("room", ".", "train", None)
    ]
    assert listing.kind == "scene"


@pytest.mark.parametrize("color", ["color", "colors", "image", "rgb"])
@pytest.mark.parametrize(
    "log", ["a.log", "scene/trajectory.log", "livingroom1-traj.txt", "trajectory.txt"]
)
def test_redwoods_layout_has_variants(tmp_path, color, log):
    for name in (f"{color}/0.jpg", "depth/0.png", log):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert layout_of(tmp_path) == Layout.REDWOOD


def test_scenes_are_found_at_any_depth_with_their_splits(tmp_path):
    for name in ("train/a", "val/lab/b", "Test/c", "d"):
        make(tmp_path / name)
    make(tmp_path / ".hidden/e")
    make(tmp_path / "train/a/inside")  # part of a scene
    shapes = list_frames("frames", tmp_path).shapes
    assert [(s.id, s.split) for s in shapes] == [
        ("Test/c", "test"),
        ("d", "train"),
        ("train/a", "train"),
        ("val/lab/b", "val"),
    ]


def test_links_out_of_the_root_are_left_out_unless_they_are_to_be_followed(tmp_path):
    make(tmp_path / "elsewhere/a")
    make(tmp_path / "root/b")
    (tmp_path / "root/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root/circle").symlink_to(tmp_path / "root")
    listing = list_frames("frames", tmp_path / "root")
    assert [shape.id for shape in listing.shapes] == ["b"]
    assert any("1 links" in note and "--follow-links" in note for note in listing.notes)
    followed = list_frames("frames", tmp_path / "root", follow_links=True)
    assert [shape.id for shape in followed.shapes] == ["b", "linked/a"]
    assert followed.follow_links


@pytest.mark.parametrize("missing", range(3))
@pytest.mark.parametrize("layout", [Layout.REDWOOD, Layout.EXPORTED, Layout.TUM])
def test_incomplete_folders_are_not_scenes(tmp_path, layout, missing):
    make(tmp_path, layout)
    path = tmp_path / NAMES[layout][missing]
    path.unlink()
    if path.parent != tmp_path:
        path.parent.rmdir()
    with pytest.raises(UsageError, match="groundtruth") as refused:
        list_frames("frames", tmp_path)
    assert "docs/datasets.md" in refused.value.fix


def test_a_root_is_needed(tmp_path):
    for root in (None, tmp_path / "gone"):
        with pytest.raises(UsageError):
            list_frames("frames", root)
