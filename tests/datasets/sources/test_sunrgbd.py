"""SUN RGB-D: both layouts, versions of boxes, and splits by the number of a frame."""

import pytest

from pointcmt.datasets.sources import sunrgbd
from pointcmt.datasets.sources.sunrgbd import LABELS, list_sunrgbd
from pointcmt.errors import UsageError
from tests.fake_sunrgbd import META, FakeFrame, write_extraction, write_release

FRAMES = [FakeFrame("kv1/b3do/img_1"), FakeFrame("kv2/kinect2data/0002"), FakeFrame("xtion/a/b/3")]


def error(dataset, root):
    with pytest.raises(UsageError) as raised:
        list_sunrgbd(dataset, root)
    return raised.value


@pytest.mark.parametrize("prefix", ["/n/fs/sun3d/data/SUNRGBD/", "/n/fs/sun3d/data//SUNRGBD/"])
def test_frames_of_the_release_are_numbered_in_the_order_of_the_list(prefix, tmp_path):
    listing = list_sunrgbd("sunrgbd", write_release(tmp_path, FRAMES, prefix=prefix))
    assert [(s.id, s.class_name, s.source) for s in listing.shapes] == [
        ("000001", None, "SUNRGBD/kv1/b3do/img_1"),
        ("000002", None, "SUNRGBD/kv2/kinect2data/0002"),
        ("000003", None, "SUNRGBD/xtion/a/b/3"),
    ]
    assert (listing.kind, listing.up, len(listing.class_names)) == ("scene", "z", 19)
    assert listing.official == {"train": 5285, "test": 5050}
    [note] = listing.notes
    assert "3 frames instead of 10335" in note


def test_splits_go_by_the_number_of_a_frame(tmp_path, monkeypatch):
    monkeypatch.setattr(sunrgbd, "TEST", 2)
    monkeypatch.setattr(sunrgbd, "ALL", 3)
    listing = list_sunrgbd("sunrgbd", write_release(tmp_path, FRAMES))
    assert [shape.split for shape in listing.shapes] == ["test", "test", "train"]
    assert listing.notes == ()


def test_the_class_of_a_frame_is_the_type_of_its_scene(tmp_path):
    """A link out of the root is not read, and rare types are told."""
    types = ("bedroom\n", "office", "idk", "")
    frames = [FakeFrame(f"kv1/b3do/{i}", scene=kind) for i, kind in enumerate(types)]
    root = write_release(tmp_path / "root", frames)
    (tmp_path / "outside.txt").write_text("kitchen")
    (root / "SUNRGBD/kv1/b3do/3/scene.txt").symlink_to(tmp_path / "outside.txt")
    listing = list_sunrgbd("sunrgbd", root)
    assert [shape.class_name for shape in listing.shapes] == ["bedroom", "office", None, None]
    assert "1 frames are of rare types of scenes, such as idk: they have no class" in listing.notes


def test_the_version_of_the_boxes_must_be_there(tmp_path):
    write_release(tmp_path, FRAMES, version=2)
    assert len(list_sunrgbd("sunrgbd-v2", tmp_path).shapes) == 3
    problem = error("sunrgbd", tmp_path)
    assert "SUNRGBDMeta.mat" in problem.what
    assert "SUNRGBDtoolbox.zip" in problem.fix
    assert "--dataset sunrgbd-v2" in problem.fix
    write_release(tmp_path, FRAMES[:2], version=1)
    assert len(list_sunrgbd("sunrgbd", tmp_path).shapes) == 2


@pytest.mark.parametrize("damage", [b"", b"hello", None])
def test_a_damaged_list_of_frames_is_told(damage, tmp_path):
    path = write_release(tmp_path, FRAMES) / META[1]
    path.write_bytes(path.read_bytes()[:-30] if damage is None else damage)
    assert "SUNRGBDMeta.mat cannot be read" in error("sunrgbd", tmp_path).what


def test_the_list_must_not_be_outside_the_root(tmp_path):
    root = write_release(tmp_path / "root", FRAMES)
    (root / META[1]).rename(tmp_path / "outside.mat")
    (root / META[1]).symlink_to(tmp_path / "outside.mat")
    assert "outside" in error("sunrgbd", root).what


def test_an_extraction_has_the_splits_of_its_lists(tmp_path):
    write_extraction(tmp_path, {1: FakeFrame(), 5050: FakeFrame(), 5051: FakeFrame()})
    listing = list_sunrgbd("sunrgbd", tmp_path)
    assert [(s.id, s.split, s.source) for s in listing.shapes] == [
        ("000001", "test", "sunrgbd_trainval/depth/000001.mat"),
        ("005050", "test", "sunrgbd_trainval/depth/005050.mat"),
        ("005051", "train", "sunrgbd_trainval/depth/005051.mat"),
    ]
    assert listing.notes == ()
    inside = list_sunrgbd("sunrgbd", tmp_path / "sunrgbd_trainval")
    assert inside.shapes[0].source == "depth/000001.mat"


def test_frames_that_the_extraction_lost_are_told_and_listed(tmp_path):
    """VoteNet's MATLAB scripts skip a frame that fails; it must not vanish from the scores."""
    write_extraction(tmp_path, {1: FakeFrame(), 2: FakeFrame(), 5051: FakeFrame()})
    (tmp_path / "sunrgbd_trainval/depth/000002.mat").unlink()
    listing = list_sunrgbd("sunrgbd", tmp_path)
    assert len(listing.shapes) == 3
    assert any("1 listed frames are missing, such as 000002" in note for note in listing.notes)


def test_frames_that_no_list_names_are_left_out(tmp_path):
    write_extraction(tmp_path, {1: FakeFrame(), 5051: FakeFrame()})
    (tmp_path / "sunrgbd_trainval/val_data_idx.txt").write_text("")
    listing = list_sunrgbd("sunrgbd", tmp_path)
    assert [shape.id for shape in listing.shapes] == ["005051"]
    assert "1 frames are left out: no split list names them" in listing.notes


def test_without_lists_the_splits_go_by_number(tmp_path):
    write_extraction(tmp_path, {1: FakeFrame(), 5051: FakeFrame()}, lists=False)
    listing = list_sunrgbd("sunrgbd", tmp_path)
    assert [shape.split for shape in listing.shapes] == ["test", "train"]
    assert "there are no split lists" in listing.notes[0]


@pytest.mark.parametrize("text", ["one\n", "5051\n", "-1\n", "1.5\n", "9999999\n"])
def test_split_lists_are_checked(text, tmp_path):
    write_extraction(tmp_path, {1: FakeFrame(), 5051: FakeFrame()})
    (tmp_path / "sunrgbd_trainval/val_data_idx.txt").write_text(f"1\n{text}")
    assert "val_data_idx.txt, line 2" in error("sunrgbd", tmp_path).what


def test_an_extraction_without_boxes_of_the_version_is_refused(tmp_path):
    write_extraction(tmp_path, {1: FakeFrame()}, version=2)
    problem = error("sunrgbd", tmp_path)
    assert "label_v1" in problem.what
    assert "--dataset sunrgbd-v2" in problem.fix
    assert len(list_sunrgbd("sunrgbd-v2", tmp_path).shapes) == 1


def test_another_folder_is_refused_with_how_to_obtain_the_data(tmp_path):
    (tmp_path / "images").mkdir()
    problem = error("sunrgbd", tmp_path)
    assert "found images" in problem.what
    assert "SUNRGBD.zip" in problem.fix


def test_classes_have_the_order_of_votenet():
    names = "bed table sofa chair toilet desk dresser night_stand bookshelf bathtub"
    assert LABELS.boxes == tuple(names.split())
