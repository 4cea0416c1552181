"""Stores: created once whoever comes first, refused when they differ, loud when damaged."""

import fcntl
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from pointcmt.datasets.store import claims, file_checks
from pointcmt.datasets.store.creation import create, remove
from pointcmt.datasets.store.documents import Outcome, decode_outcome, encode_outcome
from pointcmt.datasets.store.file_checks import LOCK
from pointcmt.datasets.store.schema import (
    SCHEMA_VERSION,
    Plan,
    Schema,
    ShapeRecord,
    array_specs,
    blank,
    depth_scale,
    encode_plan,
    pack_visible,
    quantize_depth,
    schema_attributes,
    shard_key,
    unpack_visible,
)
from pointcmt.datasets.store.storage import Storage
from pointcmt.datasets.store.verify import verify
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.errors import Reason, StoreError, UsageError
from tests.stores import named_files

SHAPES = [ShapeRecord(f"thing/{i}", "thing", "train", f"thing/{i}.off") for i in range(7)]


def attributes(seed=0, up="z"):
    schema = Schema(shapes=7, views=2, size=8, points=12, shard=3, depth_scale=5e-5)
    return {
        "schema_version": SCHEMA_VERSION,
        "schema": schema_attributes(schema),
        "render": {"seed": seed, "rig": {"name": "pair"}},
        "render_hash": "",
        "source": {"name": "test", "root": None, "up": up, "licence": "none"},
        "class_names": ["thing"],
        "versions": {},
    }


def make(path):
    create(Storage(path), attributes(), SHAPES)


def make_with(path, seed, said):
    """Create a store; puts its seed where that succeeds, else the error's text."""
    try:
        create(Storage(path), attributes(seed), SHAPES)
        said.put(seed)
    except StoreError as error:
        said.put(error.what)


def test_what_is_written_is_read_back_and_shards_do_not_touch_each_other(tmp_path):
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


def test_every_chunk_is_on_disk_even_where_all_values_are_the_fill_value(tmp_path):
    store = create(Storage(tmp_path / "S"), attributes(), SHAPES)
    specs = array_specs(store.schema)
    store.write_shard(0, {name: blank(spec, 3) for name, spec in specs.items()})
    for name, spec in specs.items():
        assert (tmp_path / "S" / shard_key(spec, name, 0)).stat().st_size > 0


def test_what_a_killed_writer_left_does_not_become_the_end_of_a_file(tmp_path):
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


def test_a_file_that_a_living_writer_holds_is_not_emptied(tmp_path):
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


def test_many_may_create_the_same_store_at_once(tmp_path):
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


def test_another_plan_or_configuration_is_refused_with_the_difference(tmp_path):
    make(tmp_path / "S")
    with pytest.raises(StoreError, match=r"render\.seed: 0 in the store, 1 requested"):
        create(Storage(tmp_path / "S"), attributes(seed=1), SHAPES)
    with pytest.raises(StoreError, match="plan_sha256"):
        create(Storage(tmp_path / "S"), attributes(), SHAPES[::-1])
    with pytest.raises(StoreError, match='up: "z" in the store, "y" requested'):
        create(Storage(tmp_path / "S"), attributes(up="y"), SHAPES)


def test_names_may_hold_any_line_separator(tmp_path):
    shapes = [ShapeRecord(f"a{c}b", "thing", "train", f"a{c}b.off") for c in "\u2028\u2029\x85\x1c"]
    assert list(Plan(encode_plan(shapes))) == shapes


def files_of(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def stop_after(steps, real):
    """A function that deletes, until it has been called too often."""
    left = [steps]

    def delete(*where, **more):
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        real(*where, **more)

    return delete


def test_a_removal_that_is_stopped_anywhere_leaves_no_shard_that_counts_without_its_data(
    tmp_path, monkeypatch
):
    store = create(Storage(tmp_path / "whole"), attributes(), SHAPES)
    for shard in range(store.schema.shards):
        store.commit("render", shard, {"outcomes": [], "files": {}})
    before, out = files_of(tmp_path / "whole"), tmp_path / "S"
    for steps in range(len(before)):
        shutil.copytree(tmp_path / "whole", out)
        with monkeypatch.context() as patch:
            patch.setattr(os, "unlink", stop_after(steps, os.unlink))
            with pytest.raises(KeyboardInterrupt):
                remove(Storage(out))
        gone = before - files_of(out)
        assert len(gone) == steps
        assert all(name.startswith("commits") for name in gone) or not list(out.rglob("commits/*"))
        create(Storage(out), attributes(), SHAPES)  # it is still a store, or a folder for one
        remove(Storage(out))
        assert not out.exists()


def everything(folder):
    """All names in a folder, links not followed."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


FOREIGN = {  # what is put into a store's folder: what the refusal calls it
    "run/best/model.safetensors": "run/",
    "notes.txt": "notes.txt",
    "rgb/notes.txt": "rgb/notes.txt",
    "rgb/c/0/0/0/0/.DS_Store": "rgb/c/0/0/0/0/.DS_Store",
    "rgb/c/00": "rgb/c/00",
    "albedo/zarr.json": "albedo/",  # an array that this store does not have
    "claims/zzz": "claims/zzz",
    "commits/other/000001.json": "commits/other/",
    "commits/render/1.json": "commits/render/1.json",
    "features/mine/c/0/0/0": "features/mine/",
    "thing.txt.__lock": "thing.txt.__lock",
    "empty/": "empty/",
    "depth/empty/": "depth/empty/",
    "link": "link",
    "points/c": "points/c",  # a link, where the store would have a folder
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_store_with_anything_else_in_its_folder_is_not_deleted_and_that_is_named(tmp_path, name):
    out, other = tmp_path / "S", tmp_path / "mine"
    store = create(Storage(out), attributes(), SHAPES)
    store.commit("render", 1, {"outcomes": [], "files": {}})
    (other / "c").mkdir(parents=True)
    (other / "c/thesis.txt").write_text("dear")
    path = out / name
    if name in ("link", "points/c"):
        path.symlink_to(other)
    elif name.endswith("/"):
        path.mkdir()
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    before = everything(tmp_path)
    with pytest.raises(StoreError) as raised:
        remove(Storage(out))
    assert f"contains other files: {FOREIGN[name]}; nothing was deleted" in raised.value.what
    assert everything(tmp_path) == before


@pytest.mark.parametrize("harm", ["", "another version", "unknown attributes"])
def test_everything_of_a_store_is_deleted_half_written_files_and_empty_folders_too(
    tmp_path, harm, monkeypatch
):
    monkeypatch.setattr(claims, "LEASE", 0.1)
    out = tmp_path / "S"
    create(Storage(out), attributes(), SHAPES)
    for name in (
        "rgb/c/7/0/0/0/0",  # of no shard any more
        "rgb/c/0/0/0/0/0.__lock",
        "zarr.json.__lock",
        "claims/000002.json",
        "commits/visible/000001.json.__lock",
        "features/zarr.json",
        "features/0123456789abcdef/zarr.json",
        "features/0123456789abcdef/c/0/0/0",
        "commits/features-0123456789abcdef/000000.json",
    ):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("{}")
    (out / "depth/c/1/0/0").mkdir(parents=True)
    root = (out / "zarr.json").read_text()
    if harm == "another version":
        (out / "zarr.json").write_text(root.replace('"schema_version": 1', '"schema_version": 7'))
    elif harm:
        (out / "zarr.json").write_text(root.replace('"schema": {', '"schema": 3, "other": {'))
    remove(Storage(out))
    assert not out.exists()


def test_where_the_root_does_not_say_that_it_is_a_store_nothing_is_deleted(tmp_path):
    make(tmp_path / "S")
    root = tmp_path / "S/zarr.json"
    root.write_bytes(root.read_bytes()[:100])
    before = everything(tmp_path)
    with pytest.raises(StoreError, match=r"not a view store, or its zarr\.json is damaged"):
        remove(Storage(tmp_path / "S"))
    assert everything(tmp_path) == before


def test_a_link_to_a_store_stays_and_its_target_is_emptied(tmp_path):
    make(tmp_path / "disk")
    (tmp_path / "S").symlink_to(tmp_path / "disk")
    remove(Storage(tmp_path / "S"))
    assert everything(tmp_path) == {"S", "disk"}


def test_creation_that_was_killed_half_way_is_completed(tmp_path):
    make(tmp_path / "S")
    (tmp_path / "S/shapes.jsonl").unlink()
    (tmp_path / "S/depth/zarr.json").unlink()
    make(tmp_path / "S")
    assert len(ViewStore.open(tmp_path / "S").shapes) == 7
    assert ViewStore.open(tmp_path / "S").array("depth").shape == (7, 2, 8, 8)


def use(path):
    store = ViewStore.open(path)
    assert len(store.shapes)
    store.array("rgb")


@pytest.mark.parametrize(
    ("file", "says"),
    [("zarr.json", "damaged"), ("shapes.jsonl", "damaged"), ("rgb/zarr.json", "cannot be opened")],
)
def test_damaged_files_are_refused_by_name(tmp_path, file, says):
    make(tmp_path / "S")
    path = tmp_path / "S" / file
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(StoreError, match=says) as raised:
        use(tmp_path / "S")
    assert file.removesuffix("/zarr.json") in raised.value.where


def test_a_location_needs_a_name():
    for use in (ViewStore.open, Storage):
        with pytest.raises(UsageError, match="the store's path is empty"):
            use("")
    with pytest.raises(StoreError, match="there is no view store here") as raised:
        ViewStore.open("/")
    assert raised.value.where == "/"


def test_unknown_arrays_and_damaged_markers_are_refused(tmp_path):
    store = create(Storage(tmp_path / "S"), attributes(), SHAPES)
    with pytest.raises(StoreError, match="no array 'rbg'"):
        store.read("rbg", 0)
    store.commit("render", 1, {"outcomes": [], "files": {}})
    path = tmp_path / "S/commits/render/000001.json"
    path.write_bytes(path.read_bytes().replace(b"render", b"rander"))
    with pytest.raises(StoreError, match="marker is damaged"):
        store.markers()


def test_failures_of_all_stages_are_in_the_order_of_the_plan(tmp_path):
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


def test_markers_of_another_store_do_not_count_as_whole(tmp_path):
    mine, other = (create(Storage(tmp_path / n), attributes(i), SHAPES) for i, n in enumerate("ab"))
    other.commit("render", 0, {"outcomes": [], "files": {}})
    shutil.copytree(tmp_path / "b/commits", tmp_path / "a/commits")
    assert [b.what for b in verify(mine.path).broken] == [
        "this commit marker belongs to another shard or to another store"
    ]


def test_half_characters_from_files_do_not_stop_a_commit(tmp_path):
    store = create(Storage(tmp_path / "S"), attributes(), SHAPES)
    odd = Outcome("thing/0", "failed", Reason.BAD_SYNTAX, "\ud800", notes=("\udc80",))
    named = named_files(store, "render", 0)
    store.commit("render", 0, {"outcomes": [encode_outcome(odd)] * 3, "files": named})
    assert store.outcomes()[0] == replace(odd, detail="?", notes=("?",))


def test_outcomes_survive_json():
    how = {"sha256": "ff", "faces": 3, "backend": "egl", "backend_reason": "requested: a GPU"}
    outcome = Outcome("a", "failed", Reason.BAD_INDEX, "9", **how, seconds=1.5, notes=("odd",))
    assert decode_outcome(json.loads(json.dumps(encode_outcome(outcome)))) == outcome


def test_visibility_packs_and_unpacks_any_number_of_points():
    rng = np.random.default_rng(0)
    for points in (1, 7, 8, 9, 2048):
        visible = rng.random((3, points)) < 0.5
        packed = pack_visible(visible)
        assert packed.shape == (3, -(-points // 8))
        np.testing.assert_array_equal(unpack_visible(packed, points), visible)
        np.testing.assert_array_equal(unpack_visible(packed, 1), visible[:, :1])


def test_depth_is_quantised_to_half_a_step_and_surfaces_never_vanish():
    depth = np.array([0.0, 1e-9, 1.0, 3.99, 4.0])
    scale = depth_scale(4.0)
    stored = quantize_depth(depth, scale)
    np.testing.assert_array_equal(stored > 0, depth > 0)
    assert np.abs(stored * scale - depth)[2:].max() <= scale / 2 + 1e-12


def test_a_file_that_was_just_committed_is_not_taken_for_a_leftover(tmp_path, monkeypatch):
    """Its writer renames it between our opening it and our locking it."""
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


def test_data_of_any_size_is_compared_with_its_marker(tmp_path, monkeypatch):
    """The limit of metadata is not one of shards."""
    store = create(Storage(tmp_path / "S"), attributes(), SHAPES)
    specs = array_specs(store.schema)
    written = store.write_shard(0, {"points": blank(specs["points"], 3)})
    monkeypatch.setattr(Storage.read, "__defaults__", (10,))
    assert not store.read_committed("points", 0, {"files": written}).any()
