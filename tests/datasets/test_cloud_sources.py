"""Listings of clouds: ShapeNetPart and ScanObjectNN as published, ModelNet's clouds, folders."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest

from pointcmt.datasets.sources import SOURCES, list_shapes
from pointcmt.datasets.sources.listing import split_source
from pointcmt.datasets.sources.scanobjectnn import CLASSES, VARIANTS
from pointcmt.datasets.sources.shapenetpart import CATEGORIES, FIRST_PART, PART_NAMES
from pointcmt.errors import UsageError
from tests.clouds import (
    SHAPES,
    write_hdf5,
    write_shapenetpart_hdf5,
    write_shapenetpart_pts,
    write_shapenetpart_text,
)

CLOUDS = [name for name in SOURCES if name not in ("modelnet10", "modelnet40", "shapenetcore")]
CLOUDS = [name for name in CLOUDS if name not in ("folder", "toy")]


def found(listing):
    """Class and split by id; sources are files of the root, whose rows there are."""
    assert len({shape.id for shape in listing.shapes}) == len(listing.shapes)
    for shape in listing.shapes:
        name, row = split_source(shape.source)
        assert (listing.root / name).is_file()
        if row is not None:
            with h5py.File(listing.root / name) as file:
                assert row < len(file["data"])
    assert {shape.class_name for shape in listing.shapes} - {None} <= set(listing.class_names)
    assert listing.kind == "cloud"
    return {shape.id: (shape.class_name, shape.split) for shape in listing.shapes}


def error(dataset, root):
    with pytest.raises(UsageError) as raised:
        list_shapes(dataset, root)
    return raised.value


@pytest.mark.parametrize("dataset", CLOUDS)
def test_a_missing_or_strange_root_says_how_to_obtain_the_data(tmp_path, dataset):
    (tmp_path / "empty").mkdir()
    (tmp_path / "strange/notes").mkdir(parents=True)
    (tmp_path / "strange/photo.jpg").touch()
    for root in (None, tmp_path / "nowhere", tmp_path / "empty", tmp_path / "strange"):
        raised = error(dataset, root)
        assert raised.where == ("--root" if root is None else str(root))
        assert "--root" in raised.fix
        assert dataset == "clouds" or "http" in raised.fix
    assert "found notes, photo.jpg" in error(dataset, tmp_path / "strange").what


def test_sources_name_a_row_only_of_hdf5_files():
    assert split_source("main_split/a.h5#17") == ("main_split/a.h5", 17)
    for source in ("a.txt", "a#1.txt", "a.h5", "a.h5#", "a.h5#x", "a.h5#-1", "a.h5#1/b", "b#1"):
        assert split_source(source) == (source, None)


def test_listing_files_of_text_loads_no_hdf5(tmp_path):
    write_shapenetpart_text(tmp_path, SHAPES)
    code = (
        "import sys, pathlib, pointcmt.datasets.sources as s;"
        "print(len(s.list_shapes('shapenetpart', pathlib.Path(sys.argv[1])).shapes));"
        "print([m for m in ('h5py', 'numba', 'torch', 'tensorstore') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True)
    assert run.stdout.split("\n")[:2] == ["5", "[]"], run.stderr


# ShapeNetPart

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


def test_the_text_layout(tmp_path):
    listing = list_shapes("shapenetpart", write_shapenetpart_text(tmp_path, SHAPES))
    assert found(listing) == EXPECTED
    assert listing.shapes[0].source == "02691156/aaa.txt"
    assert listing.class_names == tuple(PART_NAMES)
    assert listing.part_names["chair"] == ("back", "seat", "leg", "arm")
    assert (listing.up, listing.notes) == ("y", ())
    assert listing.official == {"train": 12137, "test": 2874, "val": 1870}


def test_the_older_text_layout(tmp_path):
    newer = list_shapes("shapenetpart", write_shapenetpart_text(tmp_path / "new", SHAPES))
    root = write_shapenetpart_pts(tmp_path / "old", SHAPES)
    listing = list_shapes("shapenetpart", root)
    assert list(found(listing).items()) == list(found(newer).items())  # the same ids, too
    assert listing.shapes[0].source == "02691156/points/aaa.pts"
    assert (listing.up, listing.notes, listing.part_names) == ("y", (), PART_NAMES)
    (root / "02691156/points/bbb.pts").unlink()
    (root / "03001627/points_label/ccc.seg").unlink()  # refused when it is read
    listing = list_shapes("shapenetpart", root)
    assert set(found(listing)) == set(EXPECTED) - {"02691156/bbb"}
    assert listing.notes == ("4 of 5 listed shapes are present: 1 missing, such as '02691156/bbb'",)


def test_the_older_text_layout_without_any_labels_is_none(tmp_path):
    root = write_shapenetpart_pts(tmp_path, SHAPES)
    for path in root.glob("*/points_label/*.seg"):  # by part, as the set is before its benchmark
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


def test_text_is_read_rather_than_hdf5_beside_it_and_that_is_said(tmp_path):
    write_shapenetpart_text(tmp_path, SHAPES)
    write_shapenetpart_hdf5(tmp_path, SHAPES)
    listing = list_shapes("shapenetpart", tmp_path)
    assert found(listing) == EXPECTED
    assert listing.notes == ("both text and HDF5 files are present: using the text files",)


@pytest.mark.parametrize(("prefix", "parts"), [("ply_data_", "pid"), ("", "seg")])
def test_the_hdf5_layouts(tmp_path, prefix, parts):
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


def test_files_of_many_rows_come_in_the_order_of_their_numbers(tmp_path):
    for number in (10, 9, 1):
        arrays = {"data": np.zeros((2, 5, 3), np.float32), "label": [[1], [200]]}
        write_hdf5(tmp_path / f"ply_data_train{number}.h5", **arrays)
    listing = list_shapes("shapenetpart", tmp_path)
    assert list(found(listing)) == [
        f"ply_data_train{n}/{row}" for n in (1, 9, 10) for row in (0, 1)
    ]
    assert [shape.class_name for shape in listing.shapes] == ["bag", None] * 3
    assert listing.notes[0] == "ply_data_train1.h5: 1 rows have an unknown class"


def test_a_root_one_level_too_high(tmp_path):
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


def test_shapes_that_no_list_names_are_train_and_noted(tmp_path):
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


def test_shapes_that_are_listed_and_not_there_are_noted(tmp_path):
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
def test_files_of_rows_that_are_listed_and_not_there_are_noted(tmp_path, before):
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


def test_a_list_of_files_that_cannot_be_read_changes_nothing_and_is_noted(tmp_path):
    write_shapenetpart_hdf5(tmp_path, SHAPES)
    whole = list_shapes("shapenetpart", tmp_path)
    (tmp_path / "train_hdf5_file_list.txt").write_bytes(b"ply_data_train9.h5\n\xff\n")
    with (tmp_path / "val_hdf5_file_list.txt").open("wb") as file:
        file.truncate(1 << 40)  # a sparse file: reading it all would fill the memory
    (tmp_path / "test_hdf5_file_list.txt").unlink()
    os.mkfifo(tmp_path / "test_hdf5_file_list.txt")  # which would be waited for
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
        ({"data": np.zeros((2, 5, 3)), "label": [0.0, 1.0]}, "bad_syntax: 'label' holds float64"),
        ({"data": np.zeros((2, 5, 3)), "label": 3}, "bad_syntax: 'label' holds"),
    ],
)
def test_an_hdf5_file_that_cannot_be_listed_is_named(tmp_path, arrays, says):
    with h5py.File(tmp_path / "ply_data_test0.h5", "w") as file:
        for name, array in arrays.items():
            file[name] = array
    raised = error("shapenetpart", tmp_path)
    assert f"ply_data_test0.h5 cannot be read: {says}" in raised.what
    (tmp_path / "ply_data_test0.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    assert "ply_data_test0.h5 cannot be read" in error("shapenetpart", tmp_path).what


def test_labels_in_another_file_are_not_read(tmp_path):
    write_hdf5(tmp_path / "labels.h5", label=[0, 1])
    with h5py.File(tmp_path / "ply_data_test0.h5", "w") as file:
        file["data"] = np.zeros((2, 5, 3))
        file["label"] = h5py.ExternalLink("labels.h5", "label")
    assert "'label' is a link, which is not followed" in error("shapenetpart", tmp_path).what


# ScanObjectNN


def scanobjectnn(root, endings=("", "_augmentedrot_scale75"), folders=("main_split",)):
    """Files as published, of two rows to train and one to test; the labels tell them apart."""
    for number, (folder, ending) in enumerate((f, e) for f in folders for e in endings):
        for name, labels in (("training", [number, 14]), ("test", [6])):
            write_hdf5(
                root / folder / f"{name}_objectdataset{ending}.h5",
                data=np.zeros((len(labels), 9, 3), np.float32),
                label=np.array(labels, np.int32),
                mask=np.zeros((len(labels), 9), np.int32),
            )
    return root


def test_scanobjectnn_is_its_hardest_variant(tmp_path):
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


def test_with_and_without_background_are_told_apart_by_their_directory(tmp_path):
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


# ModelNet's clouds


def modelnet_clouds(root):
    for name in ("chair_0001", "chair_0002", "bed_0003", "bed_0004"):
        path = root / name.split("_")[0] / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("1,2,3,0,0,1\n")
    (root / "modelnet40_train.txt").write_text("chair_0001\nbed_0003\nbed_0005\n")
    (root / "modelnet40_test.txt").write_text("chair_0002\r\n")
    (root / "modelnet40_shape_names.txt").write_text("bed\nchair\n")
    return root


def test_clouds_of_modelnet_are_those_that_the_lists_and_the_disk_share(tmp_path):
    listing = list_shapes("modelnet40-clouds", modelnet_clouds(tmp_path / "resampled"))
    assert found(listing) == {
        "bed/bed_0003": ("bed", "train"),
        "chair/chair_0001": ("chair", "train"),
        "chair/chair_0002": ("chair", "test"),
    }
    assert listing.notes == ("1 files are ignored: no split file lists them",)
    assert (listing.up, len(listing.class_names)) == ("y", 40)
    high = list_shapes("modelnet40-clouds", tmp_path)
    assert high.shapes == listing.shapes
    assert high.notes[0] == "the root is one level too high: using its subfolder 'resampled'"
    assert "modelnet10_train.txt" in error("modelnet10-clouds", tmp_path).what
    (tmp_path / "resampled/modelnet40_test.txt").write_bytes(b"\xff")
    assert "modelnet40_test.txt cannot be read" in error("modelnet40-clouds", tmp_path).what


def test_real_clouds_of_modelnet(real_data):
    listing = list_shapes("modelnet40-clouds", real_data / "modelnet40_normal_resampled")
    shapes = found(listing)
    assert len(shapes) == 124
    assert shapes["airplane/airplane_0001"] == ("airplane", "train")
    assert shapes["airplane/airplane_0627"] == ("airplane", "test")
    assert Counter(split for _, split in shapes.values()) == {"train": 97, "test": 27}
    assert listing.official == {"train": 9843, "test": 2468}


# Folders


def test_a_folder_of_clouds_is_named_as_such(tmp_path):
    names = ("chair/a.xyz", "chair/test/b.PLY", "table/c.npy", "d.pts", "table/e.txt", "f.off")
    names = (*names, "lamp/g.pcd", "lamp/h.npz", "lamp/i.csv", "lamp/j.asc", "lamp/k.xyzrgb")
    for name in names:
        path = tmp_path / Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "labels.csv").write_text("id,class,split\nd,lamp,val\nchair/a.xyz,chair,train\n")
    listing = list_shapes("clouds", tmp_path)
    assert found(listing)["d"] == ("lamp", "val")
    assert len(listing.shapes) == 10
    assert "1 other files ignored (1 .off)" in listing.notes
    meshes = list_shapes("folder", tmp_path / "chair")
    assert [shape.source for shape in meshes.shapes] == ["test/b.PLY"]
    assert (meshes.kind, listing.kind) == ("mesh", "cloud")
