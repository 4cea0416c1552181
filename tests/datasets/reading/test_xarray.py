"""Stores in xarray and zarr: every array under its name, its axes named, without a warning."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

from pointcmt.datasets.store.creation import create
from pointcmt.datasets.store.root import (
    is_root_metadata,
)
from pointcmt.datasets.store.schema import ROOT, array_specs
from pointcmt.datasets.store.verify import verify
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.render.jobs.repair import repair
from pointcmt.render.jobs.run import Options
from tests.datasets.reading.earlier import EARLIER, make_earlier
from tests.stores import render_toy, tree


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Five toy shapes with every layer, in three shards."""
    out = tmp_path_factory.mktemp("whole") / "S"
    return render_toy(out, limit=5, shard=2, points=50, layers=("albedo", "normal"))


@pytest.fixture
def store(whole, tmp_path):
    """A copy, to change."""
    shutil.copytree(whole.path, tmp_path / "S")
    return ViewStore.open(tmp_path / "S")


UNLISTED = "ignore:Object at (shapes.jsonl|commits|claims) is not recognized"


@pytest.mark.parametrize(
    "consolidated",
    [
        None,
        True,
        # Then zarr itself lists the folder, and warns of whatever is not its own.
        pytest.param(False, marks=pytest.mark.filterwarnings(UNLISTED)),
    ],
)
def test_xarray_opens_a_store(whole, consolidated):
    """pytest turns all other warnings into errors."""
    with xr.open_zarr(whole.path, consolidated=consolidated) as opened:
        assert set(opened.data_vars) == set(array_specs(whole.schema))
        sizes = {"shape": 5, "view": 6, "row": 32, "column": 32, "channel": 3, "point": 50}
        sizes |= {"axis": 3, "byte": 7, "K_row": 3, "K_column": 3}
        assert dict(opened.sizes) == sizes | {"matrix_row": 4, "matrix_column": 4}
        assert opened["depth"].dims == ("shape", "view", "row", "column")
        assert opened["world_to_camera"].dims == ("shape", "view", "matrix_row", "matrix_column")
        for name in array_specs(whole.schema):
            assert opened[name].dtype == whole.specs[name].dtype
            np.testing.assert_array_equal(opened[name].to_numpy(), whole.read(name))
        assert opened["depth"].attrs["scale"] == whole.schema.depth_scale
        assert opened.attrs["class_names"] == whole.class_names
        third = opened["rgb"].isel(shape=3, view=[1, 4])
        np.testing.assert_array_equal(third.to_numpy(), whole.read("rgb", 3)[[1, 4]])


def test_no_array_has_two_axes_of_one_name_and_equal_names_have_equal_lengths(whole):
    lengths = {}
    for name, spec in array_specs(whole.schema).items():
        assert len({"shape", *spec.axes}) == len(spec.axes) + 1, name
        for axis, length in zip(spec.axes, spec.shape, strict=True):
            assert lengths.setdefault(axis, length) == length, (name, axis)


def test_zarr_shows_the_tree_of_a_store_without_a_warning(whole):
    group = zarr.open(whole.path, mode="r")
    assert {name for name, _ in group.members()} == set(array_specs(whole.schema))
    shown = str(group.tree())
    for name in array_specs(whole.schema):
        assert name in shown


def test_consolidated_metadata_are_those_of_the_arrays(whole):
    root = json.loads(Path(whole.path, ROOT).read_bytes())
    listed = root["consolidated_metadata"]["metadata"]
    for name in array_specs(whole.schema):
        assert listed[name] == json.loads(Path(whole.path, name, ROOT).read_bytes())
    assert list(listed) == list(array_specs(whole.schema))


# Stores of earlier versions.


@pytest.mark.filterwarnings(UNLISTED)
def test_an_earlier_store_keeps_its_bytes_and_works_as_before(store, whole):
    make_earlier(store.path)
    before = tree(store.path)
    again = ViewStore.open(store.path)
    assert again.identity == whole.identity
    for name in array_specs(whole.schema):
        np.testing.assert_array_equal(again.read(name), whole.read(name))
    assert verify(store.path).broken == ()
    create(again.storage, whole.attributes, whole.shapes)  # what a resumed `render` does first
    assert repair(store.path, None, Options(1)).repaired == ()
    assert tree(store.path) == before
    with xr.open_zarr(store.path, consolidated=False, drop_variables=list(EARLIER)) as opened:
        np.testing.assert_array_equal(opened["rgb"].to_numpy(), whole.read("rgb"))


@pytest.mark.filterwarnings("ignore:Consolidated metadata is currently", "ignore:Object at ")
@pytest.mark.parametrize("earlier", [True, False])
def test_zarr_may_consolidate_a_store(store, earlier):
    if earlier:
        make_earlier(store.path)
    zarr.consolidate_metadata(store.path)
    before = tree(store.path)
    assert verify(store.path).broken == ()
    assert repair(store.path, None, Options(1)).repaired == ()
    assert tree(store.path) == before


def test_a_lost_file_of_metadata_of_an_earlier_store_is_written_as_today(store, whole):
    make_earlier(store.path)
    Path(store.path, "K", ROOT).unlink()
    assert verify(store.path).broken[0].where == f"K/{ROOT}"
    assert repair(store.path, None, Options(1)).verdict.ok
    written = Path(store.path, "K", ROOT).read_bytes()
    assert written == Path(whole.path, "K", ROOT).read_bytes()


def test_every_flipped_bit_of_a_root_is_found(store):
    right = Path(store.path, ROOT).read_bytes()
    assert is_root_metadata(right, store.attributes)
    chance = np.random.default_rng(0)
    for byte in chance.integers(right.index(b'"consolidated_metadata"'), len(right) - 1, 500):
        flipped = bytearray(right)
        flipped[byte] ^= 1 << int(chance.integers(8))
        assert not is_root_metadata(bytes(flipped), store.attributes), flipped[byte - 9 : byte + 9]


def test_consolidated_metadata_of_other_arrays_are_damage(store):
    path = Path(store.path, ROOT)
    right = path.read_bytes()
    root = json.loads(right)
    root["consolidated_metadata"]["metadata"]["rgb"]["shape"][0] = 4
    path.write_text(json.dumps(root))
    assert [broken.where for broken in verify(store.path).broken] == [ROOT]
    assert repair(store.path, None, Options(1)).verdict.ok
    assert path.read_bytes() == right
