"""All data sources: unknown names, missing roots, selections of shapes."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from pointcmt.datasets.sources import Listing, list_shapes, select
from pointcmt.datasets.store.schema import ShapeRecord
from pointcmt.errors import UsageError
from tests.datasets.sources.listings import error, touch

# All sources


def test_unknown_names_are_refused_with_the_nearest_name():
    assert "did you mean 'modelnet40'" in error("modlenet40", None).fix
    assert "known: x, y, z" in error("folder", Path(), up="w").fix


@pytest.mark.parametrize(
    ("dataset", "says"),
    [
        ("modelnet40", ["https://modelnet.cs.princeton.edu", "academic research"]),
        ("modelnet10", ["https://modelnet.cs.princeton.edu", "academic research"]),
        ("shapenetcore", ["https://shapenet.org", "register", "terms"]),
        ("folder", ["--root"]),
    ],
)
def test_a_missing_root_reports_how_to_obtain_the_data(tmp_path, dataset, says):
    (tmp_path / "empty").mkdir()
    touch(tmp_path, "file")
    for root in (None, tmp_path / "nowhere", tmp_path / "empty", tmp_path / "file"):
        raised = error(dataset, root)
        assert raised.where == ("--root" if root is None else str(root))
        assert all(text in raised.fix for text in says)


@pytest.mark.parametrize("dataset", ["modelnet40", "shapenetcore", "folder"])
def test_the_error_for_a_wrong_directory_lists_its_contents(tmp_path, dataset):
    touch(tmp_path, *(f"photo{i}.jpg" for i in range(9)), "notes/a.txt")
    what = error(dataset, tmp_path).what
    assert "expected" in what
    assert "found notes, photo0.jpg, photo1.jpg, photo2.jpg, photo3.jpg and 5 more" in what


def test_the_up_axis_can_be_overridden(tmp_path):
    touch(tmp_path, "a.off")
    assert list_shapes("folder", tmp_path).up == "y"
    assert list_shapes("folder", tmp_path, up="z").up == "z"


def test_listing_loads_no_mesh_library():
    code = (
        "import sys, pathlib, pointcmt.datasets.sources as s;"
        "s.list_shapes('folder', pathlib.Path(sys.argv[1]));"
        "print([m for m in ('trimesh', 'numba', 'torch', 'PIL') if m in sys.modules])"
    )
    root = str(Path(__file__).parent)
    run = subprocess.run([sys.executable, "-c", code, root], capture_output=True, text=True)
    assert "UsageError" in run.stderr  # no meshes among the tests
    code = code.replace("s.list_shapes('folder', pathlib.Path(sys.argv[1]));", "")
    run = subprocess.run([sys.executable, "-c", code, root], capture_output=True, text=True)
    assert run.stdout.strip() == "[]", run.stderr


# Selections


def listing_of(counts: dict[tuple[str, str], int]) -> Listing:
    shapes = tuple(
        ShapeRecord(f"{name}/{split}/{i}", name, split, f"{name}/{split}/{i}.off")
        for (name, split), count in counts.items()
        for i in range(count)
    )
    names = tuple(dict.fromkeys(name for name, _ in counts))
    return Listing("x", Path(), shapes, names, "z", "", "", None, ())


EVEN = {(name, split): 10 for name in "abcde" for split in ("train", "test")}


def groups(listing: Listing) -> Counter[tuple[str | None, str]]:
    return Counter((shape.class_name, shape.split) for shape in listing.shapes)


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 10, 11, 17, 20, 99, 100, 1000])
def test_limits_are_spread_evenly_and_keep_the_order(limit):
    listing = listing_of(EVEN)
    chosen = select(listing, limit=limit)
    assert len(chosen.shapes) == min(limit, 100)
    counts = [groups(chosen)[key] for key in EVEN]
    assert max(counts) - min(counts) <= 1
    place = [listing.shapes.index(shape) for shape in chosen.shapes]
    assert place == sorted(place)
    assert select(listing, limit=limit) == chosen
    assert all(int(shape.id.rsplit("/")[-1]) < max(counts) for shape in chosen.shapes)
    by_split = Counter(shape.split for shape in chosen.shapes)
    assert abs(by_split["train"] - by_split["test"]) <= 1


def test_limits_take_more_from_others_where_a_class_has_few():
    chosen = select(listing_of({("a", "train"): 1, ("b", "train"): 9, ("c", "train"): 9}), limit=9)
    assert groups(chosen) == {("a", "train"): 1, ("b", "train"): 4, ("c", "train"): 4}


def test_shapes_without_a_class_can_be_selected():
    bare = Listing(
        "x", Path(), (ShapeRecord("a", None, "train", "a.off"),), (), "y", "", "", None, ()
    )
    assert select(bare, limit=3).shapes == bare.shapes


def test_a_split_is_selected_before_the_limit():
    chosen = select(listing_of(EVEN), "test", 5)
    assert groups(chosen) == {(name, "test"): 1 for name in "abcde"}


def test_selections_that_leave_nothing_are_refused():
    listing = listing_of({("a", "train"): 3})
    with pytest.raises(UsageError, match="no shapes in the split 'val'") as raised:
        select(listing, "val")
    assert raised.value.fix == "choose a split that has some: 3 train"
    with pytest.raises(UsageError, match="unknown split 'tran'") as raised:
        select(listing, "tran")
    assert "did you mean 'train'" in raised.value.fix
    with pytest.raises(UsageError, match="limit must be at least 1, not 0"):
        select(listing, limit=0)


# Toy


def test_toy_needs_no_root():
    listing = list_shapes("toy", None)
    assert listing.root is None
    assert {shape.class_name for shape in listing.shapes} == set(listing.class_names)
    assert len({shape.id for shape in listing.shapes}) == len(listing.shapes)
    assert set(listing.part_names) == set(listing.class_names)
    assert error("toy", Path()).fix == "leave it out"
