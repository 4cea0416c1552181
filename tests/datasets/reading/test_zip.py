"""Stores in zip files: read like folders, never written."""

import json
import shutil
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import pointcmt as pc
from pointcmt.cli import app
from pointcmt.datasets.store.creation import create
from pointcmt.datasets.store.schema import ROOT, array_specs
from pointcmt.datasets.store.storage import Storage
from pointcmt.datasets.store.verify import verify
from pointcmt.datasets.store.view_store import ViewStore
from tests.datasets.reading.earlier import make_earlier
from tests.stores import render_toy


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return render_toy(tmp_path_factory.mktemp("folder") / "S", limit=40, shard=5, points=64)


@pytest.fixture(scope="module")
def packed(folder, tmp_path_factory):
    """The same store, packed with its folder."""
    return pack(folder.path, tmp_path_factory.mktemp("packed") / "S.zip", top="S/")


def pack(source, path, top="", compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for file in sorted(Path(source).rglob("*")):
            archive.write(file, f"{top}{file.relative_to(source).as_posix()}")
    return path


def command(*words):
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


@pytest.mark.parametrize("top", ["", "S/", "a store/"])
def test_a_zip_file_holds_what_the_folder_holds(folder, tmp_path, top):
    path = pack(folder.path, tmp_path / "S.zip", top)
    store = pc.open_store(path)
    assert store.attributes == folder.attributes
    assert [shape.id for shape in store] == [record.id for record in folder.shapes]
    for name in array_specs(folder.schema):
        np.testing.assert_array_equal(store.read(name), folder.read(name))
    np.testing.assert_array_equal(store[7].rgb, folder.read("rgb", 7))
    assert repr(store).startswith(f"ViewStore('{path}', 40 shapes of")
    assert verify(path).broken == ()
    assert verify(path).checked == verify(folder.path).checked


@pytest.mark.skipif(shutil.which("zip") is None, reason="no zip command here")
@pytest.mark.parametrize("inside", [True, False])
def test_what_the_zip_command_makes_is_read(folder, tmp_path, inside):
    path, source = tmp_path / "S.ZIP", Path(folder.path)
    place, what = (source, ".") if inside else (source.parent, source.name)
    subprocess.run(["zip", "-q", "-0", "-r", path, what], cwd=place, check=True)
    (found,) = tmp_path.iterdir()
    np.testing.assert_array_equal(ViewStore.open(found).read("rgb", 3), folder.read("rgb", 3))
    assert verify(found).ok


def test_an_earlier_store_may_be_packed_too(folder, tmp_path):
    shutil.copytree(folder.path, tmp_path / "S")
    make_earlier(tmp_path / "S")
    assert verify(pack(tmp_path / "S", tmp_path / "S.zip")).broken == ()


def test_entries_of_a_finder_beside_the_store_do_not_matter(folder, packed, tmp_path):
    path = shutil.copy(packed, tmp_path / "S.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("__MACOSX/S/._zarr.json", b"x")
        archive.writestr("__MACOSX/zarr.json", b"x")
    assert len(ViewStore.open(path).shapes) == 40


def test_batches_of_a_zip_file_are_those_of_the_folder(folder, packed):
    batches = [
        list(pc.open_store(path).dataset("train", batch_size=3, seed=5, views=2))
        for path in (folder.path, packed)
    ]
    assert len(batches[0]) == len(batches[1]) > 1
    for ours, theirs in zip(*batches, strict=True):
        assert ours.keys() == theirs.keys()
        for name in ours:
            np.testing.assert_array_equal(ours[name].numpy(), theirs[name].numpy())


def test_workers_of_a_data_loader_read_a_zip_file(packed):
    from torch.utils.data import DataLoader

    data = pc.open_store(packed).dataset("train", batch_size=3, seed=5, views=2)
    loader = DataLoader(data, batch_size=None, num_workers=2, multiprocessing_context="fork")
    for ours, theirs in zip(data, loader, strict=True):
        np.testing.assert_array_equal(ours["rgb"].numpy(), theirs["rgb"].numpy())


def test_commands_that_read_take_a_zip_file(packed, tmp_path):
    facts = json.loads(command("info", packed, "--json").stdout.splitlines()[-1])
    assert (facts["shapes"], facts["done"]) == (40, 40)
    assert facts["bytes"] == Path(packed).stat().st_size
    assert command("verify", packed).exit_code == 0
    assert command("preview", packed, "--out", tmp_path / "P", "--shapes", 2).exit_code == 0
    assert (tmp_path / "P/points.png").exists()


def test_a_network_is_trained_from_a_zip_file(packed, tmp_path):
    small = {"data__points": 32, "data__batch_size": 4}
    done = pc.train("student", data=packed, out=tmp_path / "RUN", epochs=1, device="cpu", **small)
    assert pc.evaluate(done.folder, data=packed, device="cpu").measures


def test_nothing_is_written_into_a_zip_file(folder, packed, tmp_path):
    before = Path(packed).read_bytes()
    storage = Storage(packed)
    root = storage.read(ROOT)
    for write in (
        lambda: storage.write(ROOT, root),
        lambda: storage.write_new("new", b"x"),
        lambda: storage.replace(ROOT, b"x", storage.read_version(ROOT)[1]),
        lambda: storage.delete([ROOT]),
        lambda: storage.delete_in_order(storage.inventory(), "commits", ROOT),
        lambda: storage.sweep_leftovers(lambda name: True),
        lambda: ViewStore.open(packed).write_shard(0, {"label": folder.read("label", slice(0, 5))}),
        lambda: create(storage, folder.attributes, folder.shapes),
    ):
        with pytest.raises(pc.StoreError, match="a store in a zip file can only be read") as error:
            write()
        assert error.value.where == str(packed)
        assert error.value.fix == "unpack it and use the folder"
    assert Path(packed).read_bytes() == before


@pytest.mark.parametrize(
    "words",
    [
        "render --dataset toy --rig ortho6 --limit 2 --size 32 --points 64 --workers 1 --out {}",
        "render --dataset toy --rig ortho6 --limit 2 --size 32 --points 64 --overwrite --out {}",
        "build-correspondences {}",
        "verify --repair {}",
    ],
)
@pytest.mark.parametrize("exists", [True, False])
def test_commands_that_write_refuse_a_zip_file(packed, tmp_path, words, exists):
    path = tmp_path / "S.zip"
    if exists:  # without correspondences, so that there is something to do
        with zipfile.ZipFile(packed) as whole, zipfile.ZipFile(path, "w") as archive:
            for entry in whole.infolist():
                if "commits/visible/" not in entry.filename:
                    archive.writestr(entry, whole.read(entry))
    before = path.read_bytes() if exists else None
    done = CliRunner().invoke(app, words.format(path).split())
    assert isinstance(done.exception, pc.StoreError)
    if exists or words.startswith("render"):
        assert "can only be read" in done.exception.what
    assert (path.read_bytes() if path.exists() else None) == before


def test_a_teacher_keeps_its_features_elsewhere(packed):
    from pointcmt.datasets.store.features import create_features

    with pytest.raises(pc.StoreError) as error:
        create_features(ViewStore.open(packed), "0123456789abcdef", 2, {"teacher": "x"})
    assert "--features" in error.value.fix


def test_features_of_a_zip_file_are_kept_where_one_says(packed, tmp_path):
    from pointcmt.datasets.store.features import create_features

    store = ViewStore.open(packed, features=tmp_path / "F")
    features = create_features(store, "0123456789abcdef", 2, {"teacher": "x"})
    images = features.images(0)
    features.write(images, np.ones((5, 6, 2)))
    np.testing.assert_array_equal(features.read(np.array([3])), np.ones((1, 6, 2)))


# What is wrong.


def test_a_compressed_zip_file_is_refused(folder, tmp_path):
    path = pack(folder.path, tmp_path / "S.zip", compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(pc.StoreError, match="are compressed or encrypted") as error:
        pc.open_store(path)
    assert "zip -0 -r" in error.value.fix


@pytest.mark.parametrize("data", [b"", b"PK", b"x" * 5000, "half"])
def test_a_damaged_zip_file_is_refused(packed, tmp_path, data):
    path = tmp_path / "S.zip"
    whole = Path(packed).read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if data == "half" else data)
    with pytest.raises(pc.DamageError, match="this zip file is damaged or incomplete"):
        pc.open_store(path)


def test_a_flipped_bit_in_a_zip_file_is_found(folder, tmp_path):
    path = pack(folder.path, tmp_path / "S.zip")
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo("rgb/c/1/0/0/0/0")
    data[entry.header_offset + 300] ^= 1
    path.write_bytes(data)
    assert not verify(path).ok
    with pytest.raises(pc.DamageError):
        ViewStore.open(path).read("rgb", slice(5, 10))


def test_a_lost_file_in_a_zip_file_is_named(folder, tmp_path):
    shutil.copytree(folder.path, tmp_path / "S")
    (tmp_path / "S/depth/c/1/0/0/0").unlink()
    path = pack(tmp_path / "S", tmp_path / "S.zip", "S/")
    with pytest.raises(pc.DamageError, match="a file of shard 1 is missing") as error:
        ViewStore.open(path).require_complete()
    assert error.value.where == f"{path}/depth/c/1/0/0/0"
    with pytest.raises(pc.DamageError, match="a file of shard 1 is missing"):
        ViewStore.open(path).read("depth", 6)


def test_other_things_called_zip(folder, packed, tmp_path):
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("notes.txt", "x")
    with pytest.raises(pc.StoreError, match="there is no view store here"):
        pc.open_store(tmp_path / "other.zip")
    with pytest.raises(pc.StoreError, match="there is no view store here"):
        pc.open_store(tmp_path / "nothing.zip")
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        for name in ("A/zarr.json", "A/shapes.jsonl", "B/zarr.json", "B/shapes.jsonl"):
            archive.writestr(name, "{}")
    with pytest.raises(pc.StoreError, match="holds several stores: A/, B/"):
        pc.open_store(tmp_path / "two.zip")
    shutil.copytree(folder.path, tmp_path / "folder.zip")  # a folder of such a name
    assert verify(tmp_path / "folder.zip").ok
