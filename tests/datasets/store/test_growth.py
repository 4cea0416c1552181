"""Stores that grow at their end: the list of shapes, the root and the arrays' metadata."""

import json
import threading

import numpy as np
import pytest

from pointcmt.datasets.store.creation import create, ensure_metadata, grow, repair_root
from pointcmt.datasets.store.features import create_features, open_features
from pointcmt.datasets.store.root import (
    identity_digest,
    root_metadata,
)
from pointcmt.datasets.store.schema import PLAN, RENDER, ROOT, ShapeRecord, array_specs
from pointcmt.datasets.store.storage import Storage
from pointcmt.datasets.store.verify import verify
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.errors import DamageError, StoreError
from tests.empty_stores import SHAPES, attributes, make
from tests.stores import named_files

NEW = [ShapeRecord(name, name.split("/")[0], "test", f"{name}.off") for name in ("lamp/1", "box/1")]


def asked(shapes, classes=("box", "lamp", "thing")):
    """The attributes of a store of these shapes."""
    table = attributes()
    schema = {**table["schema"], "shapes": len(shapes)}
    return {**table, "schema": schema, "class_names": list(classes)}


def grown(path, shapes):
    return grow(create(Storage(path), asked(shapes), shapes), asked(shapes), shapes)


def committed(store, shards):
    """Commit shards as if they had been rendered."""
    for shard in shards:
        outcomes = [outcome(store.shapes[i].id) for i in store.schema.shapes_of(shard)]
        files = named_files(store, RENDER, shard)
        store.commit(RENDER, shard, {"outcomes": outcomes, "files": files})


def outcome(name):
    return {
        "id": name,
        "status": "done",
        "reason": None,
        "detail": "",
        "sha256": "0" * 64,
        "faces": 1,
        "backend": "embree",
        "backend_reason": "",
        "seconds": 1.0,
        "notes": [],
    }


def test_new_shapes_and_classes_follow_those_of_the_store(tmp_path):
    make(tmp_path / "S")
    store, added = grown(tmp_path / "S", [NEW[0], *SHAPES[:4], NEW[1], *SHAPES[4:]])
    assert added == NEW
    for each in (store, ViewStore.open(tmp_path / "S")):
        assert list(each.shapes) == [*SHAPES, *NEW]
        assert each.class_names == ["thing", "box", "lamp"]
        assert each.labels.tolist() == [0] * 7 + [2, 1]
        assert each.splits.tolist() == [0] * 7 + [1, 1]
        assert all(each.array(name).shape[0] == 9 for name in array_specs(each.schema))
        assert each.pending() == [0, 1, 2]
    assert verify(tmp_path / "S").ok


def test_growing_again_and_again_keeps_every_earlier_identity(tmp_path):
    make(tmp_path / "S")
    identities = [ViewStore.open(tmp_path / "S").identity]
    for count in (1, 2):
        store, added = grown(tmp_path / "S", [*SHAPES, *NEW[:count]])
        assert added == [NEW[count - 1]]
        identities.append(store.identity)
    assert [each.store for each in store.generations] == identities
    assert [each.shapes for each in store.generations] == [7, 8, 9]
    assert len(set(identities)) == 3
    assert all(store.is_named(each) for each in identities)
    assert not store.is_named("0" * 64)


def test_the_same_shapes_in_any_order_change_nothing(tmp_path):
    make(tmp_path / "S")
    grown(tmp_path / "S", [*SHAPES, *NEW])
    before = (tmp_path / "S/zarr.json").read_bytes()
    store, added = grown(tmp_path / "S", [*NEW, *SHAPES[::-1]])
    assert added == []
    assert list(store.shapes) == [*SHAPES, *NEW]
    assert (tmp_path / "S/zarr.json").read_bytes() == before


def test_committed_shards_stay_committed_except_the_last_one_that_was_not_full(tmp_path):
    make(tmp_path / "S")
    before = ViewStore.open(tmp_path / "S")
    committed(before, [0, 1, 2])
    markers = {i: before.markers(RENDER)[i] for i in (0, 1, 2)}
    store, _ = grown(tmp_path / "S", [*SHAPES, *NEW])
    assert store.committed() == [0, 1]
    assert store.pending() == [2]
    assert store.markers() == {i: markers[i] for i in (0, 1)}
    assert store.unfinished(RENDER, 2) == markers[2]
    assert [store.unfinished(RENDER, shard) for shard in (0, 1)] == [None, None]
    committed(store, [2])
    assert ViewStore.open(tmp_path / "S").committed() == [0, 1, 2]
    assert store.unfinished(RENDER, 2) is None


def test_a_marker_of_another_store_is_not_taken_for_an_earlier_size(tmp_path):
    make(tmp_path / "S")
    committed(ViewStore.open(tmp_path / "S"), [0, 2])
    store, _ = grown(tmp_path / "S", [*SHAPES, *NEW])
    create(Storage(tmp_path / "T"), attributes(seed=1), SHAPES)
    other = ViewStore.open(tmp_path / "T")
    committed(other, [0, 2])
    for shard in (0, 2):
        key = f"commits/render/{shard:06d}.json"
        (tmp_path / "S" / key).write_bytes((tmp_path / "T" / key).read_bytes())
        with pytest.raises(DamageError, match="another shard or to another store"):
            store.markers(RENDER, [shard])


def test_shapes_that_are_gone_or_differ_are_named(tmp_path):
    make(tmp_path / "S")
    before = {p: p.read_bytes() for p in (tmp_path / "S").rglob("*") if p.is_file()}
    moved = ShapeRecord("thing/1", "thing", "test", "thing/1.off")
    for shapes, says in [
        ([*SHAPES[:3], *SHAPES[5:], *NEW], "2 of its shapes are not there now: thing/3, thing/4"),
        ([SHAPES[0], moved, *SHAPES[2:]], 'thing/1 .split: "?train"? in the store, "?test"? now'),
        ([*NEW], "7 of its shapes .* thing/4 and 2 more.*; 2 are new: lamp/1, box/1"),
    ]:
        with pytest.raises(StoreError, match=says):
            create(Storage(tmp_path / "S"), asked(shapes), shapes)
    assert {p: p.read_bytes() for p in (tmp_path / "S").rglob("*") if p.is_file()} == before


def test_other_settings_are_refused_with_new_shapes_too(tmp_path):
    make(tmp_path / "S")
    shapes = [*SHAPES, *NEW]
    other = {**asked(shapes), "render": {"seed": 1, "rig": {"name": "pair"}}}
    with pytest.raises(StoreError) as raised:
        create(Storage(tmp_path / "S"), other, shapes)
    assert raised.value.what.splitlines()[1:] == ["  render.seed: 0 in the store, 1 requested"]


@pytest.mark.parametrize("written", ["plan", "plan and root"])
def test_a_kill_while_growing_leaves_a_store_that_reads_and_can_grow(tmp_path, written):
    make(tmp_path / "S")
    make(tmp_path / "whole")
    shapes = [*SHAPES, *NEW]
    whole, _ = grown(tmp_path / "whole", shapes)
    keys = [PLAN] if written == "plan" else [PLAN, ROOT]
    for key in keys:
        (tmp_path / "S" / key).write_bytes((tmp_path / "whole" / key).read_bytes())
    store = ViewStore.open(tmp_path / "S")
    assert list(store.shapes) == (SHAPES if written == "plan" else shapes)
    if written == "plan":  # no array says otherwise yet
        assert verify(tmp_path / "S").ok
    grown(tmp_path / "S", shapes)
    names = [PLAN, ROOT, *(f"{name}/{ROOT}" for name in array_specs(whole.schema))]
    for name in names:
        assert (tmp_path / "S" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_of_processes_that_add_different_shapes_each_gets_its_own_in(tmp_path):
    make(tmp_path / "S")
    sets = [[*SHAPES, *NEW], [*SHAPES, NEW[0]], [*SHAPES, *NEW]]
    errors = []

    def run(shapes):
        try:
            for _ in range(20):
                grown(tmp_path / "S", shapes)
        except StoreError as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(shapes,)) for shapes in sets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store, _ = grown(tmp_path / "S", [*SHAPES, *NEW])
    assert sorted(record.id for record in store.shapes) == sorted(s.id for s in [*SHAPES, *NEW])
    assert verify(tmp_path / "S").ok
    assert all("box/1" in error.what or "list of shapes" in error.what for error in errors)


def test_a_damaged_root_of_a_grown_store_is_repaired_from_its_markers(tmp_path):
    make(tmp_path / "S")
    committed(ViewStore.open(tmp_path / "S"), [0])
    store, _ = grown(tmp_path / "S", [*SHAPES, *NEW])
    committed(store, [1])
    intact = (tmp_path / "S/zarr.json").read_bytes()
    (tmp_path / "S/zarr.json").write_bytes(
        intact.replace(b'"versions": {}', b'"versions": {"a": "b"}')
    )
    assert repair_root(store.storage)
    assert identity_digest(ViewStore.open(tmp_path / "S").attributes) == store.identity
    forged = intact.replace(store.generations[0].store.encode(), b"f" * 64)
    (tmp_path / "S/zarr.json").write_bytes(forged)
    with pytest.raises(DamageError):
        repair_root(store.storage)


@pytest.mark.parametrize(
    ("history", "says"),
    [
        ([{"shapes": 9, "plan_sha256": "", "store": ""}], "does not grow"),
        ([{"shapes": 0, "plan_sha256": "", "store": ""}], "does not grow"),
        ([{"shapes": 3, "plan_sha256": ""}], r"grown_from\[0\].store is missing or invalid"),
        ("7", "grown_from is missing or invalid"),
    ],
)
def test_an_impossible_history_is_damage(tmp_path, history, says):
    forged = {**attributes(), "grown_from": history, "plan_sha256": ""}
    (tmp_path / "S").mkdir()
    (tmp_path / "S/zarr.json").write_bytes(root_metadata(forged))
    with pytest.raises(DamageError, match=says):
        ViewStore.open(tmp_path / "S")


def test_features_grow_with_their_store_and_keep_what_they_have(tmp_path):
    make(tmp_path / "S")
    features = create_features(ViewStore.open(tmp_path / "S"), "0" * 16, 4, {"network": "n"})
    assert features.home.array(features.name).shape == (7, 2, 4)
    store, _ = grown(tmp_path / "S", [*SHAPES, *NEW])
    assert open_features(store, "0" * 16).width == 4  # readable as they are
    again = create_features(store, "0" * 16, 4, {"network": "n"})
    assert again.home.array(again.name).shape == (9, 2, 4)
    facts = json.loads((tmp_path / f"S/features/{'0' * 16}/zarr.json").read_text())["attributes"]
    assert facts["network"] == "n"


def test_features_kept_elsewhere_are_found_after_growing(tmp_path):
    make(tmp_path / "S")
    homes = [ViewStore.open(tmp_path / "S", features=tmp_path / "F").derived.path]
    grown(tmp_path / "S", [*SHAPES, *NEW])
    homes.append(ViewStore.open(tmp_path / "S", features=tmp_path / "F").derived.path)
    assert homes[0] == homes[1]


def test_array_metadata_of_the_earlier_size_is_written_again(tmp_path):
    make(tmp_path / "S")
    earlier = (tmp_path / "S/depth/zarr.json").read_bytes()
    store, _ = grown(tmp_path / "S", [*SHAPES, *NEW])
    (tmp_path / "S/depth/zarr.json").write_bytes(earlier)
    assert ensure_metadata(store.storage, store.schema, "depth")
    assert np.shape(store.array("depth")) == (9, 2, 8, 8)
