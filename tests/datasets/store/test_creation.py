"""Creating stores: by many processes at once, after interruptions, and never over another store."""

import multiprocessing

import pytest

from pointcmt.datasets.store.creation import create
from pointcmt.datasets.store.schema import (
    Plan,
    ShapeRecord,
    encode_plan,
)
from pointcmt.datasets.store.storage import Storage
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.errors import StoreError, UsageError
from tests.empty_stores import SHAPES, attributes, make


def test_many_processes_can_create_the_same_store_at_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=make, args=(tmp_path / "S",)) for _ in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 6
    store = create(Storage(tmp_path / "S"), attributes(), SHAPES)
    assert [record.id for record in store.shapes] == [record.id for record in SHAPES]
    assert store.pending() == [0, 1, 2]


def test_other_shapes_or_settings_are_refused_with_the_difference(tmp_path):
    make(tmp_path / "S")
    with pytest.raises(StoreError, match=r"render\.seed: 0 in the store, 1 requested"):
        create(Storage(tmp_path / "S"), attributes(seed=1), SHAPES)
    with pytest.raises(StoreError, match="1 of its shapes are not there now: thing/6"):
        create(Storage(tmp_path / "S"), attributes(), SHAPES[:-1])
    with pytest.raises(StoreError, match='up: "z" in the store, "y" requested'):
        create(Storage(tmp_path / "S"), attributes(up="y"), SHAPES)


def test_names_may_hold_any_line_separator(tmp_path):
    shapes = [ShapeRecord(f"a{c}b", "thing", "train", f"a{c}b.off") for c in "\u2028\u2029\x85\x1c"]
    assert list(Plan(encode_plan(shapes))) == shapes


def test_interrupted_creation_is_completed(tmp_path):
    make(tmp_path / "S")
    (tmp_path / "S/shapes.jsonl").unlink()
    (tmp_path / "S/depth/zarr.json").unlink()
    make(tmp_path / "S")
    assert len(ViewStore.open(tmp_path / "S").shapes) == 7
    assert ViewStore.open(tmp_path / "S").array("depth").shape == (7, 2, 8, 8)


def test_a_location_needs_a_name():
    for use in (ViewStore.open, Storage):
        with pytest.raises(UsageError, match="the store's path is empty"):
            use("")
    with pytest.raises(StoreError, match="there is no view store here") as raised:
        ViewStore.open("/")
    assert raised.value.where == "/"
