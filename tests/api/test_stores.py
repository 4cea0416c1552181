"""A store's shapes as Python objects: by number, id and slice, by split and class."""

import numpy as np
import pytest

import pointcmt as pc
from pointcmt.datasets.sources import list_shapes
from tests.stores import render_listing


@pytest.fixture(scope="module")
def store(toy_store):
    return pc.open_store(toy_store.path)


def test_shapes_by_number_id_and_slice(store):
    ids = [record.id for record in store.shapes]
    assert len(store) == len(ids) == 40
    assert [shape.id for shape in store] == ids
    assert [shape.id for shape in store[5:-3:2]] == ids[5:-3:2]
    assert (store[7].id, store[-1].id, store[np.int64(2)].id) == (ids[7], ids[-1], ids[2])
    assert store[ids[9]].index == 9
    assert store[ids[9]] == store[9]
    assert ids[3] in store
    assert "nothing" not in store
    for index in (40, -41):
        with pytest.raises(
            IndexError, match=f"index {index} is out of range for a store of 40 shapes"
        ):
            store[index]
    with pytest.raises(pc.UsageError, match="unknown shape 'chiar/0000'") as raised:
        store["chiar/0000"]
    assert raised.value.fix == "did you mean 'chair/0000'?"


def test_shapes_by_split_and_class(store):
    for split in ("train", "test"):
        found = store.select(split=split, class_name="chair")
        assert found
        assert {(shape.split, shape.class_name) for shape in found} == {(split, "chair")}
    assert store.select(split="val") == []
    assert len(store.select(class_name="chair")) == 4
    assert len(store.select()) == 40
    with pytest.raises(pc.UsageError, match="unknown class 'chiar'"):
        store.select(class_name="chiar")
    with pytest.raises(pc.UsageError, match="unknown split 'trian'"):
        store.dataset("trian")


def test_arrays_are_those_of_the_store_read_once(store):
    shape = store[4]
    for name in ("rgb", "face_index", "points", "normals", "point_face", "source_to_world"):
        np.testing.assert_array_equal(getattr(shape, name), store.read(name, 4))
        assert getattr(shape, name) is getattr(shape, name)
    np.testing.assert_array_equal(shape.depth, store.depth(4))
    np.testing.assert_array_equal(shape.visible, store.visible(4))
    np.testing.assert_array_equal(shape.camera.K, store.camera(4).K)
    np.testing.assert_array_equal(shape.read("part"), store.read("part", 4))
    assert shape.label == store.labels[4]
    assert store.class_names[shape.label] == shape.class_name
    with pytest.raises(pc.StoreError, match="no array 'albedo'"):
        shape.read("albedo")


def test_a_failed_shape_says_why_it_has_no_images(tmp_path):
    (tmp_path / "meshes").mkdir()
    (tmp_path / "meshes/good.off").write_text("OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n")
    (tmp_path / "meshes/torn.off").write_text("OFF\n3 1 0\n0 0 0\n1 0 0\n")
    render_listing(list_shapes("folder", tmp_path / "meshes"), tmp_path / "S")
    store = pc.open_store(tmp_path / "S")
    assert store["good"].rgb.shape == (6, 32, 32, 3)
    for name in ("rgb", "depth", "visible"):
        with pytest.raises(pc.StoreError, match=r"torn could not be rendered \(truncated\)"):
            getattr(store["torn"], name)


def test_no_name_commands_the_terminal(tmp_path):
    """Python shows a repr as it is."""
    name = "chair\x1b]0;owned\x07\r\x9b2J"
    folder = tmp_path / f"meshes/{name}/train"
    folder.mkdir(parents=True)
    (folder / f"{name}.off").write_text("OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n")
    render_listing(list_shapes("folder", tmp_path / "meshes"), tmp_path / name)
    store = pc.open_store(tmp_path / name)
    assert store[0].class_name == name
    for shown in (repr(store), repr(store[0]), repr(store[:1])):
        assert shown.isprintable()
        assert "owned" in shown


def test_data_sets_by_split_or_by_shapes(store):
    train = store.dataset("train", arrays=("points",), batch_size=7)
    shapes = np.concatenate([batch["shape"] for batch in train])
    assert sorted(shapes) == [shape.index for shape in store.select(split="train")]
    assert list(shapes) != sorted(shapes)  # shuffled, as the train split is
    test = store.dataset("test", arrays=("points",), batch_size=7)
    shapes = np.concatenate([batch["shape"] for batch in test])
    assert list(shapes) == [shape.index for shape in store.select(split="test")]
    some = store.dataset([3, 1, 2], arrays=("points",), points=16, batch_size=2)
    batches = list(some)
    assert [batch["shape"].tolist() for batch in batches] == [[3, 1], [2]]
    assert batches[0]["points"].shape == (2, 16, 3)
    halves = [store.dataset("train", arrays=(), batch_size=8, rank=r, world_size=2) for r in (0, 1)]
    assert [len(batch["label"]) for batch in halves[1]] == [4, 4, 2]


@pytest.mark.parametrize(
    ("arguments", "where", "fix"),
    [
        ({"views": 7}, "views=", "views=6 or fewer"),
        ({"points": 257}, "points=", "points=256 or fewer"),
        ({"batch_size": 0}, "batch_size=", ""),
        ({"batch_size": 100, "drop_last": True}, "batch_size=", ""),
        ({"rank": 2, "world_size": 2}, "batch_size=", ""),
        ({"arrays": ("rbg",)}, "", "did you mean 'rgb'"),
    ],
)
def test_errors_of_data_sets_name_their_arguments(store, arguments, where, fix):
    with pytest.raises(pc.UsageError) as raised:
        store.dataset("train", **arguments)
    assert f"  where: {where}" in str(raised.value) or not where
    assert fix in str(raised.value)
    assert "--" not in str(raised.value)
    assert "data." not in str(raised.value)
