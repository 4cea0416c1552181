"""`--codec`: the same arrays in other bytes, for every reader, and only one kind per store."""

import json

import numpy as np
import pytest
import zarr

from pointcmt.datasets.store.metadata import group_metadata
from pointcmt.datasets.store.schema import CODECS
from pointcmt.datasets.store.verify import verify
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.datasets.summary import describe, summarize
from pointcmt.errors import DamageError
from tests.commands import pointcmt
from tests.stores import render_toy

RENDER = ("render", "--dataset", "toy", "--rig", "ortho6", "--size", 32, "--points", 256)


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """A store of the same two shapes by codec."""
    folder = tmp_path_factory.mktemp("codecs")
    return {codec: render_toy(folder / codec, 2, shard=1, codec=codec) for codec in CODECS}


@pytest.mark.parametrize("codec", CODECS[1:])
def test_all_codecs_hold_the_same_and_zarr_reads_them(stores, codec):
    store, usual = stores[codec], stores[CODECS[0]]
    group = zarr.open_group(store.path, mode="r")
    for name in usual.specs:
        expected = np.stack([usual.read(name, shape) for shape in range(2)])
        assert np.array_equal(np.stack([store.read(name, s) for s in range(2)]), expected), name
        assert np.array_equal(group[name][:], expected), name
    assert store.attributes["schema"]["codec"] == codec
    assert verify(store.path).ok
    assert f" MiB, codec {codec}\n" in describe(summarize(store.path))


def test_the_default_is_not_named_so_that_such_stores_are_those_of_earlier_versions(stores):
    assert "codec" not in stores[CODECS[0]].attributes["schema"]
    table = json.loads((stores[CODECS[0]].storage.folder / "rgb/zarr.json").read_text())
    (sharding,) = table["codecs"]
    names = [codec["name"] for codec in sharding["configuration"]["codecs"]]
    assert names == ["bytes", "zstd", "crc32c"]


def test_uncompressed_chunks_are_as_large_as_their_arrays(stores):
    """Of a whole shard: both chunks and its index, of 16 bytes per chunk and a checksum."""
    store = stores["none"]
    files = (p for p in (store.storage.folder / "rgb" / "c").rglob("*") if p.name == "0")
    sizes = {path.stat().st_size for path in files if path.is_file()}
    views = store.schema.views
    assert sizes == {views * (32 * 32 * 3 + 4) + 16 * views + 4}


def test_a_store_keeps_its_codec_and_refuses_another(stores, tmp_path):
    out = tmp_path / "S"
    made = pointcmt(*RENDER, "--limit", 2, "--codec", "lz4", "--workers", 1, "--out", out)
    assert made.returncode == 0, made.stderr
    same = pointcmt(*RENDER, "--limit", 2, "--workers", 1, "--out", out)
    assert (same.returncode, ViewStore.open(out).schema.codec) == (0, "lz4")
    other = pointcmt(*RENDER, "--limit", 2, "--codec", "zstd", "--out", out)
    assert other.returncode == 1
    assert 'schema.codec: "lz4" in the store, "zstd" requested' in other.stderr
    grown = pointcmt(*RENDER, "--limit", 2, "--codec", "zstd1", "--out", stores["zstd"].path)
    assert 'schema.codec: "zstd" in the store, "zstd1" requested' in grown.stderr
    unknown = pointcmt(*RENDER, "--codec", "lz5", "--out", tmp_path / "T")
    assert unknown.returncode == 2
    assert "did you mean 'lz4'? known: zstd, zstd1, lz4, none" in unknown.stderr
    assert not (tmp_path / "T").exists()


def test_a_root_with_an_unknown_codec_is_refused(stores, tmp_path):
    attributes = stores["lz4"].attributes
    schema = {**attributes["schema"], "codec": "lzma"}
    (tmp_path / "zarr.json").write_bytes(group_metadata({**attributes, "schema": schema}))
    with pytest.raises(DamageError, match="'lzma' is unknown"):
        ViewStore.open(tmp_path)
