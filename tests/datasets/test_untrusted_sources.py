"""Directories from anywhere: links that lead out, files that are none, lists of any size."""

import json
import os
import socket
import time

import h5py
import numpy as np
import pytest

from pointcmt.datasets.sources import list_shapes
from pointcmt.errors import MOST_DETAIL, PointcmtError, UsageError
from tests.clouds import SHAPES, write_shapenetpart_hdf5, write_shapenetpart_text

pytestmark = pytest.mark.timeout(60)


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def fifo(path):
    os.mkfifo(path)


def device(path):
    path.symlink_to("/dev/zero")


def ring(path):
    path.symlink_to(path)


def listener(path):
    with socket.socket(socket.AF_UNIX) as end:
        folder = os.open(path.parent, os.O_RDONLY)  # names of sockets are short
        end.bind(f"/proc/self/fd/{folder}/{path.name}")
        os.close(folder)


def sparse(path):
    with path.open("wb") as file:
        file.truncate(1 << 40)


# A file of each layout that is read while shapes are listed.
def folder(root):
    touch(root, "chair/a.off")
    return "folder", "labels.csv"


def shapenet(root):
    touch(root, "02691156/a/model.obj")
    return "shapenetcore", "all.csv"


def modelnet_clouds(root):
    touch(root, "airplane/airplane_0001.txt", "modelnet40_test.txt")
    return "modelnet40-clouds", "modelnet40_train.txt"


def parts_text(root):
    write_shapenetpart_text(root, SHAPES, listed=False)
    return "shapenetpart", "train_test_split/shuffled_test_file_list.json"


def parts_hdf5(root):
    write_shapenetpart_hdf5(root, SHAPES)
    (root / "ply_data_train0.h5").unlink()
    return "shapenetpart", "ply_data_train0.h5"


@pytest.mark.parametrize("make", [fifo, device, ring, listener, sparse])
@pytest.mark.parametrize("lay", [folder, shapenet, modelnet_clouds, parts_text, parts_hdf5])
def test_what_is_not_a_file_of_sensible_size_is_never_waited_for(tmp_path, lay, make):
    """Refused, or passed over where it does not even look like a file; soon in any case."""
    dataset, name = lay(tmp_path)
    make(tmp_path / name)
    began, said = time.monotonic(), ""
    try:
        list_shapes(dataset, tmp_path)
    except UsageError as refused:
        said = f"{refused.what} {refused.where}"
    assert time.monotonic() - began < 5
    assert name.rpartition("/")[2] in said or (make is not sparse and lay is not folder)


def test_labels_that_cannot_be_read_are_refused(tmp_path):
    for make, says in (
        (fifo, "not a regular file"),
        (ring, "symbolic links"),
        (sparse, "more than the maximum of"),
    ):
        root = touch(tmp_path / make.__name__, "a.off")
        make(root / "labels.csv")
        with pytest.raises(UsageError, match=says):
            list_shapes("folder", root)


# Links


def test_links_out_of_the_root_are_not_followed(tmp_path):
    """The walk does not enter them at all: one may lead to the whole disk."""
    touch(tmp_path, "root/in/a.off", "out/b.off", "file.off")
    (tmp_path / "root/everything").symlink_to("/")
    (tmp_path / "root/linked").symlink_to(tmp_path / "out")
    (tmp_path / "root/again").symlink_to("in")
    (tmp_path / "root/c.off").symlink_to(tmp_path / "file.off")  # a file is read, not walked
    (tmp_path / "root/loop").symlink_to("loop")
    (tmp_path / "root/up").symlink_to(".")
    listing = list_shapes("folder", tmp_path / "root")
    assert [shape.id for shape in listing.shapes] == ["c", "in/a"]
    assert not listing.follow_links
    notes = [note for note in listing.notes if "--follow-links" in note]
    assert notes == [
        "2 links to folders outside the root are not followed, such as everything "
        "(see --follow-links)"
    ]
    (tmp_path / "root/everything").unlink()
    followed = list_shapes("folder", tmp_path / "root", follow_links=True)
    assert [shape.id for shape in followed.shapes] == ["c", "in/a", "linked/b"]
    assert followed.follow_links


def test_a_root_that_is_a_link_itself_is_where_it_leads(tmp_path):
    touch(tmp_path, "data/chair/a.off")
    (tmp_path / "root").symlink_to("data")
    assert [s.id for s in list_shapes("folder", tmp_path / "root").shapes] == ["chair/a"]


def test_a_root_of_nothing_but_links_says_what_to_do(tmp_path):
    touch(tmp_path, "data/a.off", "root/readme.txt")
    (tmp_path / "root/linked").symlink_to(tmp_path / "data")
    with pytest.raises(UsageError) as refused:
        list_shapes("folder", tmp_path / "root")
    assert "--follow-links" in refused.value.fix


@pytest.mark.parametrize(
    ("dataset", "kept", "moved"),
    [
        ("modelnet40", "bed/train/a.off", "sofa/train/b.off"),
        ("shapenetcore", "02691156/a/model.obj", "03001627/b/model.obj"),
        ("shapenetcore", "02691156/a/model.obj", "02691156/b/model.obj"),
    ],
)
def test_published_layouts_are_no_exception(tmp_path, dataset, kept, moved):
    root, outside = tmp_path / "root", tmp_path / "outside"
    touch(root, kept)
    touch(outside, moved)
    linked = next(
        part
        for part in (moved.split("/")[0], "/".join(moved.split("/")[:2]))
        if not (root / part).exists()
    )
    (root / linked).symlink_to(outside / linked)
    listing = list_shapes(dataset, root)
    assert [shape.source for shape in listing.shapes] == [kept]
    assert any(
        "1 shapes are left out" in note and "--follow-links" in note for note in listing.notes
    )
    followed = list_shapes(dataset, root, follow_links=True)
    assert [shape.source for shape in followed.shapes] == [kept, moved]
    (root / kept).unlink()
    with pytest.raises(UsageError, match="1 shapes are left out") as refused:
        list_shapes(dataset, root)
    assert "--follow-links" in refused.value.fix


def test_a_root_at_one_class_still_finds_its_own(tmp_path):
    touch(tmp_path, "ModelNet40/bed/train/a.off")
    listing = list_shapes("modelnet40", tmp_path / "ModelNet40/bed")
    assert [shape.source for shape in listing.shapes] == ["bed/train/a.off"]


@pytest.mark.parametrize("dataset", ["modelnet40", "shapenetcore", "modelnet40-clouds"])
def test_a_link_to_itself_is_not_a_directory(tmp_path, dataset):
    touch(tmp_path, "bed/train/a.off", "02691156/a/model.obj")
    touch(tmp_path, "bed/bed_0001.txt", "modelnet40_test.txt")
    (tmp_path / "modelnet40_train.txt").write_text("bed_0001")
    for name in ("loop", "sofa", "03001627", "bed/loop"):
        (tmp_path / name).symlink_to(name.rpartition("/")[2])
    if dataset == "modelnet40-clouds":
        (tmp_path / "modelnet40_train.txt").write_text("bed_0001")
    assert len(list_shapes(dataset, tmp_path).shapes) == 1


def test_directories_within_each_other_without_end(tmp_path):
    """Deeper than Python's stack, and than a path may be long."""
    touch(tmp_path, "a.off")
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1100):
        os.mkdir("dddd", dir_fd=here)
        deeper = os.open("dddd", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    try:
        listing = list_shapes("folder", tmp_path)
        assert [shape.id for shape in listing.shapes] == ["a"]
        assert any("cannot be read" in note for note in listing.notes)
    finally:  # from the bottom up: no path leads there
        for _ in range(1100):
            above = os.open("..", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = above
            os.rmdir("dddd", dir_fd=here)
        os.close(here)


# Work and memory


def test_json_nested_without_end(tmp_path):
    write_shapenetpart_text(tmp_path, SHAPES)
    path = tmp_path / "train_test_split/shuffled_test_file_list.json"
    for text in ("[" * 100_000 + "]" * 100_000, "[" * 900 + "]" * 900, json.dumps([[[["a"]]]])):
        path.write_text(text)
        with pytest.raises(UsageError, match="cannot be read"):
            list_shapes("shapenetpart", tmp_path)


def test_arrays_that_are_declared_and_not_there(tmp_path):
    """Two kilobytes that say they hold ten million shapes, or one of a gigabyte."""
    for shape, rows in (((9_000_000, 1, 3), 9_000_000), ((1, 80_000_000, 3), 1)):
        with h5py.File(tmp_path / "ply_data_train0.h5", "w") as file:
            file.create_dataset("data", shape, "f4", chunks=(1, *shape[1:]))
            file.create_dataset("label", (rows,), "u1", chunks=(min(rows, 1000),))
        with pytest.raises(PointcmtError, match="truncated"):
            list_shapes("shapenetpart", tmp_path)


def test_rows_that_are_packed_away_to_nothing(tmp_path):
    """Deflated zeros: a million shapes of a single point take a few kilobytes."""
    points, labels = np.zeros((1_000_000, 1, 3), np.float32), np.zeros(1_000_000, np.uint8)
    with h5py.File(tmp_path / "ply_data_train0.h5", "w") as file:
        file.create_dataset("data", data=points, chunks=(100_000, 1, 3), compression="gzip")
        file.create_dataset("label", data=labels, chunks=(100_000,), compression="gzip")
    with pytest.raises(PointcmtError, match="most of them are missing"):
        list_shapes("shapenetpart", tmp_path)


def test_notes_are_short_however_much_is_odd(tmp_path):
    touch(tmp_path, "bed/train/a.off")
    for i in range(500):
        (tmp_path / f"no_class_of_modelnet_{i:04d}").mkdir()
    assert all(len(note) <= MOST_DETAIL for note in list_shapes("modelnet40", tmp_path).notes)
