"""Listing ScanNet: splits of the benchmark, rescans, roots, and the classes in their order."""

import pytest

from pointcmt.datasets.sources.holdout import hold_out
from pointcmt.datasets.sources.scannet import CLASSES, LABELS, OFFICIAL, list_scannet
from pointcmt.errors import UsageError


def scans(root, names, place="scans"):
    for name in names:
        (root / place / name).mkdir(parents=True)
    return root


def splits(listing):
    return {scene.id: scene.split for scene in listing.shapes}


def test_the_classes_are_those_of_the_benchmarks_in_their_order():
    assert list(CLASSES) == [*range(1, 13), 14, 16, 24, 28, 33, 34, 36, 39]
    assert LABELS.semantic[0] == "wall"
    assert LABELS.semantic[-1] == "otherfurniture"
    assert len(LABELS.boxes) == 18
    assert LABELS.boxes == LABELS.semantic[2:]
    assert len(set(LABELS.palette)) == 20


def test_without_lists_the_number_of_the_space_gives_the_split(tmp_path):
    scans(tmp_path, ["scene0000_00", "scene0706_01"])
    scans(tmp_path, ["scene0707_00", "scene0806_00"], "scans_test")
    scans(tmp_path, ["readme", "scene1"])
    listing = list_scannet("scannet", tmp_path)
    assert splits(listing) == {
        "scene0000_00": "train",
        "scene0706_01": "train",
        "scene0707_00": "test",
        "scene0806_00": "test",
    }
    assert any("those of the validation split included" in note for note in listing.notes)
    assert listing.official == OFFICIAL
    assert listing.kind == "scene"


@pytest.mark.parametrize("folder", ["", "splits"])
def test_the_official_lists_give_the_splits(tmp_path, folder):
    names = ["scene0000_00", "scene0011_00", "scene0011_01", "scene0300_00"]
    scans(tmp_path, names)
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / folder / "scannetv2_train.txt").write_text("scene0000_00\nscene0001_00\n")
    (tmp_path / folder / "scannetv2_val.txt").write_text("scene0011_00\nscene0011_01\n")
    (tmp_path / folder / "scannetv1_train.txt").write_text("scene0300_00\n")
    listing = list_scannet("scannet", tmp_path)
    assert splits(listing) == {
        "scene0000_00": "train",
        "scene0011_00": "val",
        "scene0011_01": "val",
    }
    notes = "\n".join(listing.notes)
    assert "1 shapes that the split lists name are missing, such as 'scene0001_00'" in notes
    assert "1 shapes are left out: no split list names them" in notes


def test_the_class_of_a_scan_is_the_type_that_the_benchmark_scores(tmp_path):
    """The spelling of the files varies; scans of the test set have no type."""
    written = {
        "scene0000_00": "sceneType = Apartment",
        "scene0001_00": "axisAlignment = 1 0\nsceneType = Bedroom / Hotel\n",
        "scene0002_00": "sceneType = Storage/Basement/Garage",
        "scene0003_00": "sceneType = Misc.",
        "scene0004_00": "sceneType = Lobby",
        "scene0707_00": "numDepthFrames = 10",
    }
    scans(tmp_path, [*written, "scene0708_00"])
    for name, text in written.items():
        (tmp_path / f"scans/{name}/{name}.txt").write_text(text)
    listing = list_scannet("scannet", tmp_path)
    kinds = ["apartment", "bedroom / hotel", "storage / basement / garage", "misc."]
    assert [scene.class_name for scene in listing.shapes] == [*kinds, None, None, None]
    assert len(listing.class_names) == 13
    what = "1 scans are of types that the benchmark does not score, such as Lobby"
    assert f"{what}: they have no class" in listing.notes


def test_lists_that_divide_a_space_are_reported(tmp_path):
    scans(tmp_path, ["scene0000_00", "scene0000_01"])
    (tmp_path / "scannetv2_train.txt").write_text("scene0000_00\n")
    (tmp_path / "scannetv2_val.txt").write_text("scene0000_01\n")
    notes = list_scannet("scannet", tmp_path).notes
    assert any("1 spaces are in several splits, such as scene0000" in note for note in notes)


def test_scans_of_one_space_stay_together_when_some_are_held_out(tmp_path):
    """Even if their types differ."""
    names = [f"scene{space:04}_{scan:02}" for space in range(20) for scan in range(3)]
    scans(tmp_path, names)
    for name in names[::3]:
        (tmp_path / f"scans/{name}/{name}.txt").write_text("sceneType = Office")
    listing = hold_out(list_scannet("scannet", tmp_path), 0.3)
    of_space = {}
    for scene in listing.shapes:
        of_space.setdefault(scene.id[:9], set()).add(scene.split)
    assert all(len(found) == 1 for found in of_space.values())
    counts = listing.counts()
    assert counts["test"] % 3 == counts["train"] % 3 == 0
    assert any(f"{counts['test']} of 60 train shapes" in note for note in listing.notes)


def test_a_scan_in_several_places_is_listed_once(tmp_path):
    scans(tmp_path, ["scene0000_00"])
    scans(tmp_path, ["scene0000_00", "scene0002_00"], "scannet_frames_25k")
    listing = list_scannet("scannet", tmp_path)
    assert {scene.id: scene.source for scene in listing.shapes} == {
        "scene0000_00": "scans/scene0000_00",
        "scene0002_00": "scannet_frames_25k/scene0002_00",
    }


def test_a_root_one_level_too_low_is_accepted(tmp_path):
    scans(tmp_path, ["scene0000_00"])
    scans(tmp_path, ["scene0707_00"], "scans_test")
    direct = list_scannet("scannet", tmp_path / "scans")
    assert [scene.source for scene in direct.shapes] == ["scene0000_00"]
    (tmp_path / "scannetv2-labels.combined.tsv").touch()
    above = list_scannet("scannet", tmp_path / "scans")
    assert above.root == tmp_path
    assert [scene.source for scene in above.shapes] == ["scans/scene0000_00"]
    assert any("one level too low" in note for note in above.notes)


def test_links_out_of_the_root_are_left_out_unless_they_are_to_be_followed(tmp_path):
    scans(tmp_path / "root", ["scene0000_00"])
    scans(tmp_path / "elsewhere", ["scene0001_00"])
    link = tmp_path / "root/scans/scene0001_00"
    link.symlink_to(tmp_path / "elsewhere/scans/scene0001_00")
    listing = list_scannet("scannet", tmp_path / "root")
    assert [scene.id for scene in listing.shapes] == ["scene0000_00"]
    assert any("1 links" in note for note in listing.notes)
    assert len(list_scannet("scannet", tmp_path / "root", follow_links=True).shapes) == 2


def test_other_folders_are_refused_with_where_to_get_the_data(tmp_path):
    (tmp_path / "stuff").mkdir()
    with pytest.raises(UsageError) as refused:
        list_scannet("scannet", tmp_path)
    assert "scan-net.org" in refused.value.fix
