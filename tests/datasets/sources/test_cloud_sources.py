"""Listings of clouds: missing roots, names of rows, ModelNet's clouds, folders of clouds."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from pointcmt.datasets.sources import SOURCES, list_shapes
from pointcmt.datasets.sources.listing import split_source
from tests.clouds import (
    SHAPES,
    write_shapenetpart_text,
)
from tests.datasets.sources.cloud_listings import error, found

CLOUDS = [name for name in SOURCES if name not in ("modelnet10", "modelnet40", "shapenetcore")]
CLOUDS = [name for name in CLOUDS if name not in ("folder", "toy", "toyrooms", "frames")]


@pytest.mark.parametrize("dataset", CLOUDS)
def test_a_missing_or_wrong_root_reports_how_to_obtain_the_data(tmp_path, dataset):
    (tmp_path / "empty").mkdir()
    (tmp_path / "strange/notes").mkdir(parents=True)
    (tmp_path / "strange/photo.jpg").touch()
    for root in (None, tmp_path / "nowhere", tmp_path / "empty", tmp_path / "strange"):
        raised = error(dataset, root)
        assert raised.where == ("--root" if root is None else str(root))
        assert "--root" in raised.fix
        assert dataset == "clouds" or "http" in raised.fix
    assert "found notes, photo.jpg" in error(dataset, tmp_path / "strange").what


def test_only_sources_in_hdf5_files_name_a_row():
    assert split_source("main_split/a.h5#17") == ("main_split/a.h5", 17)
    for source in ("a.txt", "a#1.txt", "a.h5", "a.h5#", "a.h5#x", "a.h5#-1", "a.h5#1/b", "b#1"):
        assert split_source(source) == (source, None)


def test_listing_text_files_does_not_load_h5py(tmp_path):
    write_shapenetpart_text(tmp_path, SHAPES)
    code = (
        "import sys, pathlib, pointcmt.datasets.sources as s;"
        "print(len(s.list_shapes('shapenetpart', pathlib.Path(sys.argv[1])).shapes));"
        "print([m for m in ('h5py', 'numba', 'torch', 'tensorstore') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True)
    assert run.stdout.split("\n")[:2] == ["5", "[]"], run.stderr


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


def test_modelnet_clouds_must_be_both_listed_and_on_disk(tmp_path):
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


def test_real_clouds_of_modelnet_are_listed(real_data):
    listing = list_shapes("modelnet40-clouds", real_data / "modelnet40_normal_resampled")
    shapes = found(listing)
    assert len(shapes) == 124
    assert shapes["airplane/airplane_0001"] == ("airplane", "train")
    assert shapes["airplane/airplane_0627"] == ("airplane", "test")
    assert Counter(split for _, split in shapes.values()) == {"train": 97, "test": 27}
    assert listing.official == {"train": 9843, "test": 2468}


# Folders


def test_a_folder_of_clouds_is_recognized(tmp_path):
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
    assert "1 .off files are not read: use --dataset folder" in listing.notes
    meshes = list_shapes("folder", tmp_path / "chair")
    assert [shape.source for shape in meshes.shapes] == ["test/b.PLY"]
    assert (meshes.kind, listing.kind) == ("mesh", "cloud")
