"""Reading and writing stores: shards, commit markers, damaged files, interrupted writers."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from pointcmt.datasets.store import file_checks
from pointcmt.datasets.store.creation import create
from pointcmt.datasets.store.documents import Outcome, encode_outcome
from pointcmt.datasets.store.file_checks import LOCK
from pointcmt.datasets.store.schema import (
    array_specs,
    blank,
    shard_key,
)
from pointcmt.datasets.store.storage import Storage
from pointcmt.datasets.store.verify import verify
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.errors import Reason, StoreError
from tests.empty_stores import SHAPES, attributes, make
from tests.stores import named_files


def test_shards_are_read_back_as_written_and_are_independent(tmp_path):
    store = create(Storage(tmp_path / "S"), attributes(), SHAPES)
    rng = np.random.default_rng(0)
    written = {}
    for shard in (1, 2, 0):
        shapes = store.schema.shapes_of(shard)
        arrays = {
            name: rng.integers(0, 200, (len(shapes), *spec.shape)).astype(spec.dtype)
            for name, spec in array_specs(store.schema).items()
        }
        files = store.write_shard(shard, arrays)
        assert set(files) == {
            shard_key(spec, name, shard) for name, spec in array_specs(store.schema).items()
        }
        written[shard] = arrays
    again = ViewStore.open(tmp_path / "S")
    for name in array_specs(store.schema):
        expected = np.concatenate([written[shard][name] for shard in range(3)])
        np.testing.assert_array_equal(again.read(name), expected)


def test_chunks_with_only_fill_values_are_on_disk(tmp_path):
    store = create(Storage(tmp_path / "S"), attributes(), SHAPES)
    specs = array_specs(store.schema)
    store.write_shard(0, {name: blank(spec, 3) for name, spec in specs.items()})
    for name, spec in specs.items():
        assert (tmp_path / "S" / shard_key(spec, name, 0)).stat().st_size > 0


def test_leftovers_of_a_killed_writer_do_not_end_up_in_new_files(tmp_path):
    store = create(Storage(tmp_path / "S"), attributes(), SHAPES)
    arrays = {name: blank(spec, 3) for name, spec in store.specs.items()}
    keys = [shard_key(spec, name, 0) for name, spec in store.specs.items()]
    marker, claim = "commits/render/000000.json", "claims/000000.json"
    for key in [*keys, marker, claim, "fresh"]:
        path = tmp_path / f"S/{key}.__lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"left over " * 10_000)
    store.write_shard(0, arrays)
    ended = [encode_outcome(Outcome(f"thing/{i}", "done")) for i in range(3)]
    store.commit("render", 0, {"outcomes": ended, "files": named_files(store, "render", 0)})
    held = store.claims.take(0)
    assert store.storage.write_new("fresh", b"new") == b"new"
    assert (tmp_path / "S/fresh").read_bytes() == b"new"
    assert json.loads((tmp_path / "S" / claim).read_bytes())["owner"] == held.owner
    assert list(store.markers()) == [0]
    for name, array in arrays.items():
        np.testing.assert_array_equal(store.read(name, slice(0, 3)), array)


def test_a_file_held_by_a_living_writer_is_not_emptied(tmp_path):
    store = create(Storage(tmp_path / "S"), attributes(), SHAPES)
    path = tmp_path / "S/fresh.__lock"
    path.write_bytes(b"half of it")
    code = "import fcntl, sys; f = open(sys.argv[1], 'r+b'); fcntl.lockf(f, fcntl.LOCK_EX)"
    code += "; print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, path]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as writer:
        writer.stdout.readline()
        store.storage.empty_leftover("fresh")
        assert path.read_bytes() == b"half of it"
        writer.stdin.close()


def use(path):
    store = ViewStore.open(path)
    assert len(store.shapes)
    store.array("rgb")


@pytest.mark.parametrize(
    ("file", "says"),
    [("zarr.json", "damaged"), ("shapes.jsonl", "damaged"), ("rgb/zarr.json", "cannot be opened")],
)
def test_damaged_files_are_reported_by_name(tmp_path, file, says):
    make(tmp_path / "S")
    path = tmp_path / "S" / file
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(StoreError, match=says) as raised:
        use(tmp_path / "S")
    assert file.removesuffix("/zarr.json") in raised.value.where


def test_unknown_arrays_and_damaged_markers_are_refused(tmp_path):
    store = create(Storage(tmp_path / "S"), attributes(), SHAPES)
    with pytest.raises(StoreError, match="no array 'rbg'"):
        store.read("rbg", 0)
    store.commit("render", 1, {"outcomes": [], "files": {}})
    path = tmp_path / "S/commits/render/000001.json"
    path.write_bytes(path.read_bytes().replace(b"render", b"rander"))
    with pytest.raises(StoreError, match="marker is damaged"):
        store.markers()


def test_failures_of_all_stages_are_listed_in_plan_order(tmp_path):
    store = create(Storage(tmp_path / "S"), attributes(), SHAPES)
    bad = {"reason": Reason.BAD_INDEX, "detail": "9"}
    ended = [
        Outcome(shape.id, "failed" if i in (2, 5) else "done", **(bad if i in (2, 5) else {}))
        for i, shape in enumerate(SHAPES)
    ]
    for shard in range(3):
        outcomes = [encode_outcome(ended[i]) for i in store.schema.shapes_of(shard)]
        named = named_files(store, "render", shard)
        store.commit("render", shard, {"outcomes": outcomes, "files": named})
    late = Outcome("thing/1", "failed", Reason.SOURCE_CHANGED)
    named = named_files(store, "visible", 0)
    store.commit("visible", 0, {"failures": [encode_outcome(late)], "files": named})
    assert store.failures() == (late, ended[2], ended[5])
    assert store.status().tolist() == [1, 1, 2, 1, 1, 2, 1]
    assert store.outcomes() == ended


def test_markers_of_another_store_are_broken(tmp_path):
    mine, other = (create(Storage(tmp_path / n), attributes(i), SHAPES) for i, n in enumerate("ab"))
    other.commit("render", 0, {"outcomes": [], "files": {}})
    shutil.copytree(tmp_path / "b/commits", tmp_path / "a/commits")
    assert [b.what for b in verify(mine.path).broken] == [
        "this commit marker belongs to another shard or to another store"
    ]


def test_unpaired_surrogates_from_files_do_not_stop_a_commit(tmp_path):
    store = create(Storage(tmp_path / "S"), attributes(), SHAPES)
    odd = Outcome("thing/0", "failed", Reason.BAD_SYNTAX, "\ud800", notes=("\udc80",))
    named = named_files(store, "render", 0)
    store.commit("render", 0, {"outcomes": [encode_outcome(odd)] * 3, "files": named})
    assert store.outcomes()[0] == replace(odd, detail="?", notes=("?",))


def test_a_file_that_was_just_committed_is_not_emptied_as_a_leftover(tmp_path, monkeypatch):
    """Its writer renames it after we open it and before we lock it."""
    storage = Storage(tmp_path)
    (tmp_path / f"key{LOCK}").write_bytes(b"whole")
    real = fcntl.lockf

    def late(handle, *more):
        if (tmp_path / f"key{LOCK}").exists():
            os.rename(tmp_path / f"key{LOCK}", tmp_path / "key")
        return real(handle, *more)

    monkeypatch.setattr(file_checks.fcntl, "lockf", late)
    storage.empty_leftover("key")
    assert (tmp_path / "key").read_bytes() == b"whole"


def test_shards_of_any_size_are_compared_with_their_marker(tmp_path, monkeypatch):
    """The size limit for metadata does not apply to shards."""
    store = create(Storage(tmp_path / "S"), attributes(), SHAPES)
    specs = array_specs(store.schema)
    written = store.write_shard(0, {"points": blank(specs["points"], 3)})
    monkeypatch.setattr(Storage.read, "__defaults__", (10,))
    assert not store.read_committed("points", 0, {"files": written}).any()
