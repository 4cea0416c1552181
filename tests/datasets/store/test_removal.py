"""Removing stores: everything of the store, and nothing else."""

import os
import shutil

import pytest

from pointcmt.datasets.store import claims
from pointcmt.datasets.store.creation import create, remove
from pointcmt.datasets.store.storage import Storage
from pointcmt.errors import StoreError
from tests.empty_stores import SHAPES, attributes, make


def files_of(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def stop_after(steps, real):
    """Return a function that deletes, and raises KeyboardInterrupt after `steps` calls."""
    left = [steps]

    def delete(*where, **more):
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        real(*where, **more)

    return delete


def test_an_interrupted_removal_never_leaves_a_marker_without_its_data(tmp_path, monkeypatch):
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


FOREIGN = {  # name in the store's folder: name in the refusal
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
def test_a_store_with_foreign_files_is_not_deleted_and_they_are_reported(tmp_path, name):
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
def test_all_of_a_store_is_deleted_with_leftovers_and_empty_folders(tmp_path, harm, monkeypatch):
    monkeypatch.setattr(claims, "LEASE", 0.1)
    out = tmp_path / "S"
    create(Storage(out), attributes(), SHAPES)
    for name in (
        "rgb/c/7/0/0/0/0",  # of a shard that no longer exists
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


def test_nothing_is_deleted_unless_the_root_identifies_a_store(tmp_path):
    make(tmp_path / "S")
    root = tmp_path / "S/zarr.json"
    root.write_bytes(root.read_bytes()[:100])
    before = everything(tmp_path)
    with pytest.raises(StoreError, match=r"not a view store, or its zarr\.json is damaged"):
        remove(Storage(tmp_path / "S"))
    assert everything(tmp_path) == before


def test_removing_a_linked_store_keeps_the_link_and_empties_its_target(tmp_path):
    make(tmp_path / "disk")
    (tmp_path / "S").symlink_to(tmp_path / "disk")
    remove(Storage(tmp_path / "S"))
    assert everything(tmp_path) == {"S", "disk"}
