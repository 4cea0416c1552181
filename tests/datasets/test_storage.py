"""Storage: a folder as a key-value store, opened once."""

import os

import pytest

from pointcmt.datasets.store.file_checks import MISSING, Inventory
from pointcmt.datasets.store.storage import Storage
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.errors import DamageError, StoreError, UsageError


@pytest.fixture
def storage(tmp_path):
    return Storage(tmp_path / "S")


def test_what_is_written_is_read_back_and_found(storage, tmp_path):
    assert storage.read("a/b") is None
    assert storage.list_keys() == []
    assert storage.top_names() == set()
    values = {"a/b": b"1", "a/c": b"22", "d": b"333"}
    for key, value in values.items():
        storage.write(key, value)
    assert {key: storage.read(key) for key in values} == values
    assert dict(storage.read_many([*values, "e"])) == {**values, "e": None}
    assert storage.list_keys("a/") == ["a/b", "a/c"]
    assert storage.top_names() == {"a", "d"}
    assert storage.inventory() == Inventory(("a/b", "a/c", "d"), ("a",))
    assert (storage.size(), storage.size("a")) == (6, 3)
    assert (tmp_path / "S/a/c").read_bytes() == b"22"
    storage.delete(["a/b", "e"])
    assert storage.absent({"a/": ["a/b", "a/c"], "d": ["d"]}) == {"a/b": MISSING}


def test_a_folder_stays_the_same_when_the_current_directory_changes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    storage = Storage("S/")
    monkeypatch.chdir("/")
    storage.write("key", b"value")
    assert (tmp_path / "S/key").read_bytes() == b"value"
    assert storage.size() == 5
    assert (storage.path, storage.where("key"), repr(storage)) == ("S", "S/key", "Storage('S')")


def test_a_path_may_lead_through_parent_folders(tmp_path, monkeypatch):
    Storage(tmp_path / "S").write("key", b"value")
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "a/b")  # its parent is a, not the folder it is in
    (tmp_path / "a/L").symlink_to(tmp_path / "S")
    monkeypatch.chdir(tmp_path / "a")
    for path in ("../S", "b/../../S/", "../link/../L", "../S/c/..", tmp_path / "a/../S"):
        storage = Storage(path)
        assert storage.read("key") == b"value", path
        assert storage.where("key") == f"{str(path).rstrip('/')}/key"
    assert Storage("../link/../L").folder == tmp_path / "a/L", "a link to a store stays a link"
    with pytest.raises(StoreError, match="no view store here"):
        ViewStore.open("../link/../S")


def test_a_key_is_replaced_only_if_it_is_the_one_that_was_read(storage):
    assert storage.write_new("key", b"old") == b"old"
    assert storage.write_new("key", b"other") == b"old"
    value, generation = storage.read_version("key")
    assert value == b"old"
    newer = storage.replace("key", b"new", generation)
    assert newer
    assert storage.replace("key", b"late", generation) is None
    assert storage.replace("key", None, newer) is not None
    assert storage.read("key") is None


def test_what_would_block_or_is_too_large_is_not_opened(storage, tmp_path):
    storage.write("large", b"x" * 11)
    os.mkfifo(tmp_path / "S/pipe")
    for key, says in (("pipe", "not a regular file"), ("large", "11 bytes, more than the limit")):
        with pytest.raises(DamageError, match=says) as raised:
            storage.read(key, most=10)
        assert raised.value.where == f"{tmp_path}/S/{key}"
    assert storage.problem("pipe") == "it is not a regular file"


@pytest.mark.parametrize("path", ["", "s3://", "s3:/bucket/x", "gs://bucket/../x", "ftp://host/x"])
def test_what_cannot_be_a_location_is_refused(path):
    with pytest.raises(UsageError):
        Storage(path)
