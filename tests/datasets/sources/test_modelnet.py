"""Listings of ModelNet10 and ModelNet40."""

from pathlib import Path

from pointcmt.datasets.sources import list_shapes
from pointcmt.datasets.sources.modelnet import CLASSES_10, CLASSES_40
from tests.datasets.sources.listings import found, touch


def modelnet(root: Path) -> Path:
    names = [
        f"airplane/{s}/airplane_000{i}.off" for s, i in (("train", 2), ("train", 1), ("test", 3))
    ]
    names += ["night_stand/train/night_stand_0001.off", "night_stand/test/night_stand_0201.off"]
    return touch(root, *names, "airplane/train/._airplane_0001.off", "airplane/train/readme.txt")


def test_modelnet_has_its_classes_and_splits(tmp_path):
    listing = list_shapes("modelnet40", modelnet(tmp_path))
    assert list(found(listing).items()) == [
        ("airplane/airplane_0001", ("airplane", "train")),
        ("airplane/airplane_0002", ("airplane", "train")),
        ("airplane/airplane_0003", ("airplane", "test")),
        ("night_stand/night_stand_0001", ("night_stand", "train")),
        ("night_stand/night_stand_0201", ("night_stand", "test")),
    ]
    assert listing.shapes[0].source == "airplane/train/airplane_0001.off"
    assert listing.class_names == tuple(CLASSES_40.split())
    assert (listing.up, listing.official, listing.notes) == ("z", {"train": 9843, "test": 2468}, ())
    assert listing.counts() == {"train": 3, "test": 2}


def test_modelnet_roots_one_level_too_high_or_too_low(tmp_path):
    whole = found(list_shapes("modelnet40", modelnet(tmp_path / "ModelNet40")))
    modelnet(tmp_path / "copy")
    high = list_shapes("modelnet40", tmp_path)
    assert found(high) == whole
    assert high.notes == ("the root is one level too high: using its subfolder 'ModelNet40'",)
    low = list_shapes("modelnet40", tmp_path / "ModelNet40" / "airplane")
    assert found(low) == {key: value for key, value in whole.items() if value[0] == "airplane"}
    assert low.notes == ("the root is the folder of one class: only 'airplane' is listed",)
    lowest = list_shapes("modelnet40", tmp_path / "ModelNet40" / "airplane" / "test")
    assert found(lowest) == {"airplane/airplane_0003": ("airplane", "test")}
    assert lowest.notes == ("the root is the folder of one split: only 'airplane/test' is listed",)
    assert low.root == lowest.root == tmp_path / "ModelNet40"


def test_modelnet10_leaves_other_classes_out(tmp_path):
    listing = list_shapes("modelnet10", modelnet(tmp_path))
    assert {shape.class_name for shape in listing.shapes} == {"night_stand"}
    assert listing.class_names == tuple(CLASSES_10.split())
    assert listing.notes == ("folders that are not classes of ModelNet10 are ignored: airplane",)


def test_modelnet_names_that_occur_in_both_splits_stay_apart(tmp_path):
    touch(tmp_path, "bed/train/a.off", "bed/test/a.off", "bed/test/b.OFF")
    assert list(found(list_shapes("modelnet40", tmp_path))) == [
        "bed/train/a",
        "bed/test/a",
        "bed/b",
    ]


def test_official_lists_have_the_classes_in_the_code(real_data):
    for number in ("10", "40"):
        lists = real_data / "modelnet_lists"
        root = real_data / f"ModelNet{number}"
        listing = list_shapes(f"modelnet{number}", root)
        names = (lists / f"modelnet{number}_shape_names.txt").read_text().split()
        assert listing.class_names == tuple(names)
        for split in ("train", "test"):
            official = (lists / f"modelnet{number}_{split}.txt").read_text().split()
            assert listing.official is not None
            assert listing.official[split] == len(official)
            ours = {Path(shape.source).stem for shape in listing.shapes if shape.split == split}
            assert ours <= set(official)
    assert len(found(list_shapes("modelnet40", real_data))) == 8
    assert len(found(list_shapes("modelnet10", real_data / "ModelNet10"))) == 2
