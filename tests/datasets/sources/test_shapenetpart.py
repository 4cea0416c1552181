"""Listings of ShapeNetPart in its text and HDF5 layouts."""

import json
import os
import shutil

import h5py
import numpy as np
import pytest

from pointcmt.datasets.sources import list_shapes
from pointcmt.datasets.sources.shapenetpart import CATEGORIES, FIRST_PART, PART_NAMES
from tests.clouds import (
    SHAPES,
    write_hdf5,
    write_shapenetpart_hdf5,
    write_shapenetpart_pts,
    write_shapenetpart_text,
)
from tests.datasets.sources.cloud_listings import error, found

EXPECTED = {
    "02691156/aaa": ("airplane", "train"),
    "02691156/bbb": ("airplane", "test"),
    "03001627/ccc": ("chair", "train"),
    "03001627/ddd": ("chair", "val"),
    "04379243/eee": ("table", "train"),
}


def test_there_are_16_categories_and_50_parts():
    assert len(CATEGORIES) == len(PART_NAMES) == 16
    assert list(CATEGORIES) == sorted(CATEGORIES)
    assert list(PART_NAMES) == sorted(PART_NAMES)
    assert list(FIRST_PART.values()) == [
        0, 4, 6, 8, 12, 16, 19, 22, 24, 28, 30, 36, 38, 41, 44, 47,
    ]  # fmt: skip
    assert sum(map(len, PART_NAMES.values())) == 50


def test_the_text_layout_is_listed(tmp_path):
    listing = list_shapes("shapenetpart", write_shapenetpart_text(tmp_path, SHAPES))
    assert found(listing) == EXPECTED
    assert listing.shapes[0].source == "02691156/aaa.txt"
    assert listing.class_names == tuple(PART_NAMES)
    assert listing.part_names["chair"] == ("back", "seat", "leg", "arm")
    assert (listing.up, listing.notes) == ("y", ())
    assert listing.official == {"train": 12137, "test": 2874, "val": 1870}


def test_the_older_text_layout_is_listed(tmp_path):
    newer = list_shapes("shapenetpart", write_shapenetpart_text(tmp_path / "new", SHAPES))
    root = write_shapenetpart_pts(tmp_path / "old", SHAPES)
    listing = list_shapes("shapenetpart", root)
    assert list(found(listing).items()) == list(found(newer).items())  # with the same ids
    assert listing.shapes[0].source == "02691156/points/aaa.pts"
    assert (listing.up, listing.notes, listing.part_names) == ("y", (), PART_NAMES)
    (root / "02691156/points/bbb.pts").unlink()
    (root / "03001627/points_label/ccc.seg").unlink()  # refused when it is read
    listing = list_shapes("shapenetpart", root)
    assert set(found(listing)) == set(EXPECTED) - {"02691156/bbb"}
    assert listing.notes == ("4 of 5 listed shapes are present: 1 missing, such as '02691156/bbb'",)


def test_the_older_text_layout_without_labels_is_not_recognized(tmp_path):
    root = write_shapenetpart_pts(tmp_path, SHAPES)
    # Files by part, as in the data set before its benchmark.
    for path in root.glob("*/points_label/*.seg"):
        (path.parent / "wing").mkdir(exist_ok=True)
        path.rename(path.parent / "wing" / path.name)
    assert "<synset>/points/<id>.pts with points_label/<id>.seg" in error("shapenetpart", root).what


def test_both_text_layouts_in_one_directory_are_refused(tmp_path):
    write_shapenetpart_text(tmp_path / "both", SHAPES)
    write_shapenetpart_pts(tmp_path / "both", SHAPES)
    for root in (tmp_path / "both", tmp_path):
        raised = error("shapenetpart", root)
        assert raised.what == (
            "both text layouts of ShapeNetPart are present: "
            "02691156/aaa.txt, 02691156/points/aaa.pts"
        )
        assert raised.where == str(tmp_path / "both")


def test_text_is_preferred_to_hdf5_beside_it_with_a_note(tmp_path):
    write_shapenetpart_text(tmp_path, SHAPES)
    write_shapenetpart_hdf5(tmp_path, SHAPES)
    listing = list_shapes("shapenetpart", tmp_path)
    assert found(listing) == EXPECTED
    assert listing.notes == ("both text and HDF5 files are present: using the text files",)


@pytest.mark.parametrize(("prefix", "parts"), [("ply_data_", "pid"), ("", "seg")])
def test_the_hdf5_layouts_are_listed(tmp_path, prefix, parts):
    write_shapenetpart_hdf5(tmp_path, SHAPES, prefix, parts)
    listing = list_shapes("shapenetpart", tmp_path)
    assert list(found(listing).items()) == [
        (f"{prefix}train0/0", ("airplane", "train")),
        (f"{prefix}train0/1", ("chair", "train")),
        (f"{prefix}train0/2", ("table", "train")),
        (f"{prefix}test0/0", ("airplane", "test")),
        (f"{prefix}val0/0", ("chair", "val")),
    ]
    assert listing.shapes[2].source == f"{prefix}train0.h5#2"
    assert listing.part_names == PART_NAMES


def test_hdf5_files_are_listed_in_the_order_of_their_numbers(tmp_path):
    for number in (10, 9, 1):
        arrays = {"data": np.zeros((2, 5, 3), np.float32), "label": [[1], [200]]}
        write_hdf5(tmp_path / f"ply_data_train{number}.h5", **arrays)
    listing = list_shapes("shapenetpart", tmp_path)
    assert list(found(listing)) == [
        f"ply_data_train{n}/{row}" for n in (1, 9, 10) for row in (0, 1)
    ]
    assert [shape.class_name for shape in listing.shapes] == ["bag", None] * 3
    assert listing.notes[0] == "ply_data_train1.h5: 1 rows have an unknown class"


def test_a_root_one_level_too_high_is_accepted(tmp_path):
    write_shapenetpart_text(tmp_path / "benchmark_v0_normal", {**SHAPES})
    high = list_shapes("shapenetpart", tmp_path)
    assert found(high) == EXPECTED
    assert high.notes == (
        "the root is one level too high: using its subfolder 'benchmark_v0_normal'",
    )
    write_shapenetpart_hdf5(tmp_path / "hdf5_data", SHAPES)
    assert (
        "more than one copy of ShapeNetPart found: benchmark_v0_normal, hdf5_data"
        in error("shapenetpart", tmp_path).what
    )


def test_unlisted_shapes_are_in_train_with_a_note(tmp_path):
    write_shapenetpart_text(tmp_path, SHAPES)
    path = tmp_path / "train_test_split/shuffled_test_file_list.json"
    path.unlink()
    listing = list_shapes("shapenetpart", tmp_path)
    assert found(listing)["02691156/bbb"] == ("airplane", "train")
    assert listing.notes == (
        "1 shapes are not in the lists of train_test_split and are listed as train",
    )
    for text in ("[", '["a/b"]', "{}x", "5", "[" * 10_000):
        path.write_text(text)
        raised = error("shapenetpart", tmp_path)
        assert "shuffled_test_file_list.json cannot be read" in raised.what
        assert raised.where == str(path)
    path.write_text('["shape_data/02691156/bbb"]')
    assert found(list_shapes("shapenetpart", tmp_path)) == EXPECTED


def test_listed_shapes_that_are_missing_are_noted(tmp_path):
    write_shapenetpart_text(tmp_path, SHAPES)
    (tmp_path / "02691156/bbb.txt").unlink()
    listing = list_shapes("shapenetpart", tmp_path)
    assert set(found(listing)) == set(EXPECTED) - {"02691156/bbb"}
    says = "4 of 5 listed shapes are present: 1 missing, such as '02691156/bbb'"
    assert listing.notes == (says,)
    path = tmp_path / "train_test_split/shuffled_val_file_list.json"
    path.write_text(json.dumps(["shape_data/03001627/ddd", f"shape_data/0/\n\ud800{'x' * 999}"]))
    notes = list_shapes("shapenetpart", tmp_path).notes
    assert notes == (says.replace("4 of 5", "4 of 6").replace("1 missing", "2 missing"),)
    (tmp_path / "02691156/bbb.txt").touch()
    (note,) = list_shapes("shapenetpart", tmp_path).notes
    assert note.startswith(r"5 of 6 listed shapes are present: 1 missing, such as '0/\n\ud800xxx")
    assert len(note) < 200
    assert note.isprintable()


@pytest.mark.parametrize("before", ["", "hdf5_data/", "./data/hdf5_data/", "C:\\data\\", "/no/"])
def test_listed_hdf5_files_that_are_missing_are_noted(tmp_path, before):
    write_shapenetpart_hdf5(tmp_path, SHAPES)
    names = [f"{before}ply_data_train{number}.h5" for number in (0, 1, 2)]
    lines = "\r\n".join([*names, "", "../../secret"])
    (tmp_path / "train_hdf5_file_list.txt").write_text(lines)
    listing = list_shapes("shapenetpart", tmp_path)
    assert len(found(listing)) == 5
    assert listing.notes == (
        "3 of 5 listed files are present: 2 missing, such as 'ply_data_train1.h5'",
    )
    for number in (1, 2):
        shutil.copy(tmp_path / "ply_data_train0.h5", tmp_path / f"ply_data_train{number}.h5")
    assert list_shapes("shapenetpart", tmp_path).notes == ()


def test_an_unreadable_list_of_files_is_ignored_with_a_note(tmp_path):
    write_shapenetpart_hdf5(tmp_path, SHAPES)
    whole = list_shapes("shapenetpart", tmp_path)
    (tmp_path / "train_hdf5_file_list.txt").write_bytes(b"ply_data_train9.h5\n\xff\n")
    with (tmp_path / "val_hdf5_file_list.txt").open("wb") as file:
        file.truncate(1 << 40)  # a sparse file: reading it all would fill the memory
    (tmp_path / "test_hdf5_file_list.txt").unlink()
    os.mkfifo(tmp_path / "test_hdf5_file_list.txt")  # which would block a reader
    listing = list_shapes("shapenetpart", tmp_path)
    assert listing.shapes == whole.shapes
    first, second = listing.notes
    assert first.startswith(
        "train_hdf5_file_list.txt cannot be read, so files that it lists may be "
    )
    assert "0xff" in first
    assert second.startswith("val_hdf5_file_list.txt cannot be read")
    assert "1099511627776 bytes, more than the maximum of 1048576" in second


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"data": np.zeros((2, 5, 3))}, "bad_syntax: the file has no array 'label'"),
        ({"label": [0, 1]}, "bad_syntax: the file has no array 'data'"),
        ({"data": np.zeros((2, 5, 3)), "label": [0, 1, 2]}, "count_mismatch"),
        ({"data": np.zeros((2, 5, 2)), "label": [0, 1]}, "count_mismatch"),
        (
            {"data": np.zeros((2, 5, 3)), "label": [0.0, 1.0]},
            "bad_syntax: 'label' has an unexpected type or shape: float64",
        ),
        (
            {"data": np.zeros((2, 5, 3)), "label": 3},
            "bad_syntax: 'label' has an unexpected type or shape: int64",
        ),
    ],
)
def test_an_hdf5_file_that_cannot_be_listed_is_reported(tmp_path, arrays, says):
    with h5py.File(tmp_path / "ply_data_test0.h5", "w") as file:
        for name, array in arrays.items():
            file[name] = array
    raised = error("shapenetpart", tmp_path)
    assert f"ply_data_test0.h5 cannot be read: {says}" in raised.what
    (tmp_path / "ply_data_test0.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    assert "ply_data_test0.h5 cannot be read" in error("shapenetpart", tmp_path).what


def test_labels_linked_from_another_file_are_not_read(tmp_path):
    write_hdf5(tmp_path / "labels.h5", label=[0, 1])
    with h5py.File(tmp_path / "ply_data_test0.h5", "w") as file:
        file["data"] = np.zeros((2, 5, 3))
        file["label"] = h5py.ExternalLink("labels.h5", "label")
    assert "'label' is a link, which is not followed" in error("shapenetpart", tmp_path).what
