"""Listings of data sets: which shapes, of which class and split, whatever directory was given."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from pointcmt.datasets.sources import Listing, list_shapes, select
from pointcmt.datasets.sources.modelnet import CLASSES_10, CLASSES_40
from pointcmt.datasets.sources.shapenet import SYNSETS
from pointcmt.datasets.store.schema import ShapeRecord
from pointcmt.errors import UsageError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def found(listing: Listing) -> dict[str, tuple[str | None, str]]:
    """Class and split by id; ids and sources must differ, and sources be files of the root."""
    assert len({shape.id for shape in listing.shapes}) == len(listing.shapes)
    assert len({shape.source for shape in listing.shapes}) == len(listing.shapes)
    assert listing.root is not None
    assert all((listing.root / shape.source).is_file() for shape in listing.shapes)
    classes = {shape.class_name for shape in listing.shapes} - {None}
    assert classes <= set(listing.class_names)
    return {shape.id: (shape.class_name, shape.split) for shape in listing.shapes}


def error(dataset: str, root: Path | None, **more: str) -> UsageError:
    with pytest.raises(UsageError) as raised:
        list_shapes(dataset, root, **more)
    return raised.value


# All sources


def test_unknown_names_are_answered_with_the_nearest():
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
def test_a_missing_root_says_how_to_obtain_the_data(tmp_path, dataset, says):
    (tmp_path / "empty").mkdir()
    touch(tmp_path, "file")
    for root in (None, tmp_path / "nowhere", tmp_path / "empty", tmp_path / "file"):
        raised = error(dataset, root)
        assert raised.where == ("--root" if root is None else str(root))
        assert all(text in raised.fix for text in says)


@pytest.mark.parametrize("dataset", ["modelnet40", "shapenetcore", "folder"])
def test_a_directory_of_something_else_is_described(tmp_path, dataset):
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


# ModelNet


def modelnet(root: Path) -> Path:
    names = [
        f"airplane/{s}/airplane_000{i}.off" for s, i in (("train", 2), ("train", 1), ("test", 3))
    ]
    names += ["night_stand/train/night_stand_0001.off", "night_stand/test/night_stand_0201.off"]
    return touch(root, *names, "airplane/train/._airplane_0001.off", "airplane/train/readme.txt")


def test_modelnet(tmp_path):
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


def test_modelnet_roots_too_high_and_too_low(tmp_path):
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


def test_official_lists_agree_with_what_the_code_says(real_data):
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


# ShapeNet


def test_shapenet_v1_and_v2(tmp_path):
    v1, v2 = tmp_path / "v1", tmp_path / "v2"
    touch(v1, "02691156/b/model.obj", "02691156/a/model.obj", "03001627/c/model.mtl")
    touch(v2, "02691156/a/models/model_normalized.obj", "99999999/z/models/model_normalized.obj")
    first, second = list_shapes("shapenetcore", v1), list_shapes("shapenetcore", v2)
    assert list(found(first)) == ["02691156/a", "02691156/b"]
    assert found(first)["02691156/a"] == ("airplane", "train")
    assert first.class_names == tuple(SYNSETS.values())
    assert found(second)["99999999/z"] == ("99999999", "train")
    assert second.class_names == (*SYNSETS.values(), "99999999")
    assert second.shapes[0].source == "02691156/a/models/model_normalized.obj"
    assert (first.up, first.official) == ("y", None)
    assert "no all.csv" in first.notes[0]
    assert len(SYNSETS) == len(set(SYNSETS.values())) == 55


def test_shapenet_prefers_v2_and_says_so(tmp_path):
    touch(tmp_path, "02691156/a/model.obj", "02691156/a/models/model_normalized.obj")
    touch(tmp_path, "02691156/b/model.obj")
    listing = list_shapes("shapenetcore", tmp_path)
    assert [shape.source.count("/") for shape in listing.shapes] == [3, 2]
    assert "both versions are present: v2 for 1 models, v1 for 1" in listing.notes
    assert "1 models are present in both versions: using v2" in listing.notes


def test_shapenet_splits(tmp_path):
    touch(tmp_path, *(f"02691156/{model}/model.obj" for model in "abcd"))
    (tmp_path / "all.csv").write_text(
        "id,synsetId,subSynsetId,modelId,split\n1,02691156,02690373,a,test\n"
        "2,2691156,2690373,b,val\n3,02691156,1,c,train\n4,02691156,1,gone,train\n"
    )
    listing = list_shapes("shapenetcore", tmp_path)
    assert [split for _, split in found(listing).values()] == ["test", "val", "train", "train"]
    assert listing.official == {"train": 2, "test": 1, "val": 1}
    assert listing.notes == ("1 models are not in all.csv and are listed as train",)


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "synsetId,modelId,split\n1,2,x\n", "modelId\n\xff"])
def test_a_broken_all_csv_is_reported(tmp_path, text):
    touch(tmp_path, "02691156/a/model.obj")
    (tmp_path / "all.csv").write_bytes(text.encode("latin-1"))
    assert "all.csv cannot be read" in error("shapenetcore", tmp_path).what


def test_shapenet_roots_too_high_and_too_low(tmp_path):
    base = touch(tmp_path / "ShapeNetCore.v2", "02691156/a/model.obj", "03001627/b/model.obj")
    high = list_shapes("shapenetcore", tmp_path)
    assert found(high) == found(list_shapes("shapenetcore", base))
    assert "one level too high" in high.notes[0]
    low = list_shapes("shapenetcore", base / "03001627")
    assert found(low) == {"03001627/b": ("chair", "train")}
    assert "only 03001627 is listed" in low.notes[0]


# Folders


def test_folders_give_classes_and_splits(tmp_path):
    touch(
        tmp_path,
        "z.off",
        "train/loose.obj",
        "chair/a.off",
        "chair/Test/b.PLY",
        "validation/table/deep/er/c.stl",
        "lamp/models/valid/d.glb",
        "lamp/d.mtl",
        "lamp/.hidden.off",
        ".git/x.off",
        "README",
    )
    listing = list_shapes("folder", tmp_path)
    assert found(listing) == {
        "chair/Test/b": ("chair", "test"),
        "chair/a": ("chair", "train"),
        "lamp/models/valid/d": ("lamp", "val"),
        "train/loose": (None, "train"),
        "validation/table/deep/er/c": ("table", "val"),
        "z": (None, "train"),
    }
    assert [shape.source for shape in listing.shapes] == sorted(s.source for s in listing.shapes)
    assert listing.class_names == ("chair", "lamp", "table")
    assert listing.notes == ("2 other files ignored (1 .mtl, 1 no suffix)",) or listing.notes == (
        "2 other files ignored (1 no suffix, 1 .mtl)",
    )


def test_ids_keep_the_suffix_where_two_files_share_the_rest(tmp_path):
    touch(tmp_path, "a/x.off", "a/x.obj", "a/y.obj")
    assert list(found(list_shapes("folder", tmp_path))) == ["a/x.obj", "a/x.off", "a/y"]


def test_links_are_followed_once_and_without_loops(tmp_path):
    """Links out of the root only where that is asked for."""
    touch(tmp_path, "root/b/a.off", "elsewhere/c.off")
    os.symlink(tmp_path / "root", tmp_path / "root" / "b" / "up")
    os.symlink(tmp_path / "root" / "b", tmp_path / "root" / "a")
    os.symlink(tmp_path / "elsewhere", tmp_path / "root" / "linked")
    followed = list_shapes("folder", tmp_path / "root", follow_links=True)
    assert list(found(followed)) == ["b/a", "linked/c"]
    listing = list_shapes("folder", tmp_path / "root")
    assert list(found(listing)) == ["b/a"]
    assert any("such as linked (see --follow-links)" in note for note in listing.notes)


def test_names_that_are_no_text_are_left_out(tmp_path):
    touch(tmp_path, "a.off")
    (tmp_path / os.fsdecode(b"\xff.off")).touch()
    listing = list_shapes("folder", tmp_path)
    assert list(found(listing)) == ["a"]
    assert listing.notes == ("1 files ignored: their names are not valid UTF-8",)


def test_one_class_for_everything_is_asked_about(tmp_path):
    touch(tmp_path, "data/chair/a.off", "data/table/b.off")
    assert "--root may be one level too high" in list_shapes("folder", tmp_path).notes[0]
    assert list_shapes("folder", tmp_path / "data").notes == ()


def labeled(root: Path, text: str | bytes) -> Path:
    touch(root, "chair/a.off", "chair/b.off", "c.obj", "c.ply")
    (root / "labels.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return root


def test_labels(tmp_path):
    text = "\ufeffid,class,split\n chair/a , sofa ,test\nc.obj,,validation\n\nchair\\b.off,Tür,\n"
    listing = list_shapes("folder", labeled(tmp_path, text))
    assert found(listing) == {
        "c.obj": (None, "val"),
        "c.ply": (None, "train"),
        "chair/a": ("sofa", "test"),
        "chair/b": ("Tür", "train"),
    }
    assert listing.class_names == ("Tür", "sofa")
    assert listing.notes == ("1 shapes are not listed in labels.csv and have no class",)


def test_labels_may_lack_a_column(tmp_path):
    assert found(list_shapes("folder", labeled(tmp_path, "split,id\ntest,c.ply\n")))["c.ply"] == (
        None,
        "test",
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "id,class,split\nchair/a,x,test\nnobody,x,test\n",
            "line 3: 'nobody' is not a shape of this folder",
        ),
        ("id,class,split\nchair/a,x,test\nchair/a.off,x,test\n", "line 3: 'chair/a.off' is listed"),
        ("id,class,split\nc,x,test\n", "line 2: 'c' is ambiguous"),
        ("id,class,split\n\nchair/a,x,tset\n", "line 3: unknown split 'tset'"),
        ("name,class\nchair/a,x\n", "line 1: the header must be id,class,split"),
        ("", "line 1: the header"),
        (b"id,class\n\xff\xfe,x\n", "cannot be read"),
    ],
)
def test_wrong_labels_name_their_line(tmp_path, text, says):
    raised = error("folder", labeled(tmp_path, text))
    assert says in raised.what
    assert raised.where == str(tmp_path / "labels.csv")


def test_real_folders(real_data):
    listing = list_shapes("folder", real_data / "textured")
    assert found(listing) == {
        "cow/cow": ("cow", "train"),
        "fuze/fuze": ("fuze", "train"),
        "fuze/wood": ("fuze", "train"),
    }
    odd = list_shapes("folder", real_data / "odd_meshes")
    assert len(found(odd)) >= 100
    assert odd.class_names == ("assimp", "pytorch3d", "tinyobjloader")


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


def test_shapes_without_class_are_selected_too():
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
