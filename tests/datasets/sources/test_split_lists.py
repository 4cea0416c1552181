"""Split lists beside clouds: every way to write a name, and every way a list can be wrong."""

import os

import pytest

from pointcmt.datasets.sources import list_shapes
from pointcmt.errors import UsageError

POINTS = "0 0 0\n1 0 0\n0 1 0\n"
CLOUDS = ("chair/chair_0001.txt", "chair/chair_0002.txt", "table/table_0001.txt", "table/t.v2.xyz")
WANTED = {"chair/chair_0001": "train", "chair/chair_0002": "test", "table/table_0001": "val"}
WANTED["table/t.v2"] = "train"


def make(root, clouds=CLOUDS, **lists):
    for name in clouds:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(POINTS)
    for name, text in lists.items():
        path = root / name.replace("__", "/").replace("_txt", ".txt").replace("_lst", ".lst")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def splits(root):
    listing = list_shapes("clouds", root)
    assert {shape.class_name for shape in listing.shapes} <= {"chair", "table"}
    return {shape.id: shape.split for shape in listing.shapes}, listing.notes


FORMS = {
    "stem": lambda name: name.rpartition("/")[2].rpartition(".")[0],
    "file": lambda name: name.rpartition("/")[2],
    "id": lambda name: name.rpartition(".")[0],
    "path": lambda name: name,
    "dotted": lambda name: f"./{name}",
    "windows": lambda name: name.replace("/", "\\"),
    "elsewhere": lambda name: f"/home/someone/data/{name}",
    "other suffix": lambda name: f"{name.rpartition('.')[0]}.ply",
    "label": lambda name: f"{name} 3",
    "quoted": lambda name: f'"{name}"',
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "names",
    [
        ("train.txt", "test.txt", "val.txt"),
        ("modelnet40_train.txt", "modelnet40_test.txt", "modelnet40_val.txt"),
        ("train_split.txt", "Test_Files.txt", "validation.txt"),
        ("splits/train.lst", "splits/test.lst", "splits/val.lst"),
        ("train_test_split/shuffled_train_file_list.txt", "testing.txt", "my-valid.txt"),
    ],
)
def test_lists_give_the_splits(tmp_path, form, names):
    make(tmp_path)
    for name, split in zip(names, ("train", "test", "val"), strict=True):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        mine = [FORMS[form](c) for c in CLOUDS if WANTED[c.rpartition(".")[0]] == split]
        (tmp_path / name).write_text("# shapes\r\n" + "\r\n".join(mine) + "\r\n\r\n")
    found, notes = splits(tmp_path)
    assert found == WANTED
    assert notes == (f"splits are read from {', '.join(sorted(names))}",)


def test_a_csv_list_names_shapes_in_its_first_column(tmp_path):
    make(tmp_path)
    (tmp_path / "test.csv").write_text("name,label\nchair_0001,0\ntable_0001,1\n")
    found, notes = splits(tmp_path)
    assert found == {id_: "test" if id_.endswith("0001") else "train" for id_ in WANTED}
    assert notes[1] == "2 shapes that no split list names keep the split of their folder"


def test_lists_override_directories_and_labels_csv_overrides_lists(tmp_path):
    clouds = ("train/chair/a.xyz", "test/chair/b.xyz", "val/chair/c.xyz", "test/chair/d.xyz")
    make(tmp_path, clouds, test_txt="a\n")
    found, _ = splits(tmp_path)
    assert list(found.values()) == ["test", "test", "test", "val"]
    assert found["train/chair/a"] == "test"
    (tmp_path / "labels.csv").write_text("id,class,split\ntrain/chair/a,table,val\n")
    found = {s.id: (s.class_name, s.split) for s in list_shapes("clouds", tmp_path).shapes}
    assert found["train/chair/a"] == ("table", "val")


def test_shapes_that_no_list_names(tmp_path):
    make(tmp_path, train_txt="chair_0001\n", test_txt="chair_0002\n")
    found, notes = splits(tmp_path)
    assert found == {"chair/chair_0001": "train", "chair/chair_0002": "test"}
    assert notes[1:] == ("2 shapes are left out: no split list names them",)


def test_names_without_a_shape_are_counted_and_shapes_in_two_lists_are_test(tmp_path):
    train = "\n".join([*(c.rpartition(".")[0] for c in CLOUDS), "chair_0009", "x" * 500])
    make(tmp_path, train_txt=train, test_txt="chair/chair_0002\n", val_txt="chair_0002\n")
    found, notes = splits(tmp_path)
    assert found == {**WANTED, "table/table_0001": "train"}
    assert notes[1:] == (
        "2 shapes that the split lists name are missing, such as 'chair_0009'",
        "1 shapes are in several split lists, such as chair/chair_0002: test counts before val, "
        "val before train",
    )


def test_a_name_that_fits_several_shapes_is_refused(tmp_path):
    make(tmp_path, ("chair/0001.xyz", "table/0001.xyz", "0001.ply"), train_txt="chair/0001\n0001\n")
    found = {shape.id: shape.split for shape in list_shapes("clouds", tmp_path).shapes}
    assert found == {"0001": "train", "chair/0001": "train"}  # the whole path wins
    (tmp_path / "0001.ply").unlink()
    with pytest.raises(UsageError) as raised:
        list_shapes("clouds", tmp_path)
    assert raised.value.what == (
        "train.txt, line 2: '0001' fits several shapes: chair/0001.xyz, table/0001.xyz"
    )
    assert (raised.value.where, "path below the root" in raised.value.fix) == (str(tmp_path), True)


@pytest.mark.parametrize("text", ["", "# nothing\n", "lamp_0001\nlamp_0002\n"])
def test_lists_that_name_no_shape_are_refused(tmp_path, text):
    make(tmp_path, train_txt=text)
    with pytest.raises(UsageError) as raised:
        list_shapes("clouds", tmp_path)
    assert raised.value.where == f"{tmp_path}: train.txt"
    assert "or delete the lists" in raised.value.fix


def test_a_cloud_named_like_a_list_remains_a_cloud(tmp_path):
    make(tmp_path, ("train.txt", "test.txt", "chair/val.txt"), notes_txt="words\n")
    listing = list_shapes("clouds", tmp_path)
    assert [shape.source for shape in listing.shapes] == ["chair/val.txt", "test.txt", "train.txt"]
    assert listing.notes == ("1 other files ignored (1 .txt)",)


def test_other_lists_and_prose_are_no_clouds(tmp_path):
    make(tmp_path, filelist_txt="a\nb\n", modelnet40_shape_names_txt="chair\n", README_txt="hi")
    found, notes = splits(tmp_path)
    assert set(found) == set(WANTED)
    assert notes == ("2 other files ignored (2 .txt)",)  # a README is no reason for a note


def test_a_list_that_cannot_be_read_blocks_nothing(tmp_path):
    make(tmp_path)
    os.mkfifo(tmp_path / "train.txt")
    listing = list_shapes("clouds", tmp_path)  # refused when it is read, like any other FIFO
    assert "train.txt" in [shape.source for shape in listing.shapes]
    (tmp_path / "train.txt").unlink()
    (tmp_path / "train.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(UsageError, match=r"train.txt cannot be read"):
        list_shapes("clouds", tmp_path)


def test_modelnet_as_plain_clouds_has_its_official_splits(real_data):
    root = real_data / "modelnet40_normal_resampled"
    plain = list_shapes("clouds", root)
    official = list_shapes("modelnet40-clouds", root)
    assert {s.id: (s.class_name, s.split) for s in plain.shapes} == {
        s.id: (s.class_name, s.split) for s in official.shapes
    }
