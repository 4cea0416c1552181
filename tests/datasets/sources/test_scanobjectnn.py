"""Listings of ScanObjectNN and its variants."""

import numpy as np

from pointcmt.datasets.sources import list_shapes
from pointcmt.datasets.sources.scanobjectnn import CLASSES, VARIANTS
from tests.clouds import (
    write_hdf5,
)
from tests.datasets.sources.cloud_listings import error, found


def scanobjectnn(root, endings=("", "_augmentedrot_scale75"), folders=("main_split",)):
    """Files as published, with two rows for training and one for testing; labels differ."""
    for number, (folder, ending) in enumerate((f, e) for f in folders for e in endings):
        for name, labels in (("training", [number, 14]), ("test", [6])):
            write_hdf5(
                root / folder / f"{name}_objectdataset{ending}.h5",
                data=np.zeros((len(labels), 9, 3), np.float32),
                label=np.array(labels, np.int32),
                mask=np.zeros((len(labels), 9), np.int32),
            )
    return root


def test_scanobjectnn_is_the_hardest_variant_by_default(tmp_path):
    scanobjectnn(tmp_path / "h5_files")
    listing = list_shapes("scanobjectnn", tmp_path / "h5_files")
    assert list(found(listing).items()) == [
        ("training_objectdataset_augmentedrot_scale75/0", ("bin", "train")),
        ("training_objectdataset_augmentedrot_scale75/1", ("toilet", "train")),
        ("test_objectdataset_augmentedrot_scale75/0", ("display", "test")),
    ]
    assert listing.shapes[1].source == "training_objectdataset_augmentedrot_scale75.h5#1"
    assert (listing.up, listing.official) == ("y", {"train": 11416, "test": 2882})
    assert (listing.notes, listing.part_names) == ((), {})
    assert len(listing.class_names) == len(CLASSES.split()) == 15
    above = list_shapes("scanobjectnn", tmp_path)
    assert (above.root, above.shapes) == (listing.root, listing.shapes)


def test_every_variant_has_its_own_files(tmp_path):
    endings = sorted({ending for _, ending, _ in VARIANTS.values()})
    scanobjectnn(tmp_path, endings, ("main_split", "main_split_nobg"))
    first = {}
    for dataset, (folder, ending, _) in VARIANTS.items():
        listing = list_shapes(dataset, tmp_path)
        assert listing.root == tmp_path / folder
        assert listing.shapes[0].source == f"training_objectdataset{ending}.h5#0"
        first[dataset] = listing.shapes[0].class_name
    assert first.pop("scanobjectnn") == first["scanobjectnn-pb_t50_rs"]
    assert len(set(first.values())) == len(VARIANTS) - 1 == 10


def test_the_directory_decides_between_with_and_without_background(tmp_path):
    scanobjectnn(tmp_path, folders=("main_split", "main_split_nobg"))
    bg = list_shapes("scanobjectnn-obj_bg", tmp_path / "main_split")
    assert bg.shapes == list_shapes("scanobjectnn-obj_bg", tmp_path).shapes
    only = list_shapes("scanobjectnn-obj_only", tmp_path / "main_split_nobg")
    assert only.shapes == list_shapes("scanobjectnn-obj_only", tmp_path).shapes
    assert bg.official == only.official == {"train": 2309, "test": 581}
    for dataset, folder in (("obj_only", "main_split"), ("obj_bg", "main_split_nobg")):
        assert "expected" in error(f"scanobjectnn-{dataset}", tmp_path / folder).what


def test_one_of_the_two_files_may_be_missing(tmp_path):
    scanobjectnn(tmp_path)
    (tmp_path / "main_split/training_objectdataset.h5").unlink()
    listing = list_shapes("scanobjectnn-obj_bg", tmp_path)
    assert listing.counts() == {"test": 1}
    assert listing.notes == ("only one of its two files was found: test_objectdataset.h5",)
