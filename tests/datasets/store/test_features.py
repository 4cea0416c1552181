"""Derived features: stale ones are refused, many processes may write, zarr can read them."""

import json
import multiprocessing
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr

from pointcmt.datasets.store.creation import remove
from pointcmt.datasets.store.features import (
    FRESH,
    MISSING,
    STALE,
    create_features,
    list_features,
    open_features,
)
from pointcmt.datasets.store.schema import RENDER, array_specs, blank
from pointcmt.datasets.store.verify import verify
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.datasets.summary import describe, summarize
from pointcmt.errors import StoreError
from tests.stores import render_toy
from tests.training.stores import VIEWS, Plan, write_store

KEY, WIDTH = "0123456789abcdef", 5
FACTS = {"teacher": KEY, "backbone": "resnet-18", "image_size": 0}
PLAN = Plan(train=(20, 3, 3), test=(0, 0, 0), failed=("ball-train-2", "rod-train-0"))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Shapes 0 … 25 in shards of 16; two failed."""
    return write_store(tmp_path_factory.mktemp("made") / "S", PLAN)


@pytest.fixture
def store(made, tmp_path):
    return ViewStore.open(shutil.copytree(made.path, tmp_path / "S"))


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """A rendered store with features, which `verify` accepts."""
    store = render_toy(tmp_path_factory.mktemp("rendered") / "S", limit=5, shard=2)
    fill(create_features(store, KEY, WIDTH, FACTS))
    return store


def values(store, shard, seed=0):
    rng = np.random.default_rng([seed, shard])
    return rng.normal(size=(len(store.schema.shapes_of(shard)), store.schema.views, WIDTH))


def fill(features):
    for shard in features.pending():
        features.write(features.images(shard), values(features.store, shard))


def render_again(store, shard, value):
    """Commit a shard with other images, as `--retry-failed` can do."""
    shapes, specs = store.schema.shapes_of(shard), array_specs(store.schema)
    marker = store.markers(RENDER, [shard])[shard]
    store.forget(shard)
    rgb = blank(specs["rgb"], len(shapes)) + np.uint8(value)
    marker["files"] |= store.write_shard(shard, {"rgb": rgb})
    store.commit(RENDER, shard, {key: marker[key] for key in ("files", "outcomes")})


def test_features_are_read_back_in_16_bits_and_are_0_for_failed_shapes(store):
    features = create_features(store, KEY, WIDTH, FACTS)
    assert features.pending() == [0, 1]
    fill(features)
    assert features.pending() == []
    expected = np.concatenate([values(store, 0), values(store, 1)]).astype(np.float16)
    failed = [i for i, shape in enumerate(store.shapes) if shape.id in PLAN.failed]
    expected[failed] = 0
    shapes = np.array([25, 0, 2, 17, 0])
    found = open_features(ViewStore.open(store.path), KEY).read(shapes)
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, expected[shapes])


def test_zarr_python_reads_features(store):
    features = create_features(store, KEY, WIDTH, FACTS)
    fill(features)
    group = zarr.open_group(store.path, mode="r", use_consolidated=False)
    array = group[f"features/{KEY}"]
    assert list(group["features"].array_keys()) == [KEY]
    assert (array.shape, array.dtype) == ((26, VIEWS, WIDTH), np.float16)
    assert (array.shards, array.chunks) == ((16, VIEWS, WIDTH), (1, VIEWS, WIDTH))
    np.testing.assert_array_equal(array[:], features.read(np.arange(26)))
    assert FACTS.items() <= dict(array.attrs).items()


def test_missing_features_are_reported_and_shards_can_be_written_singly(store):
    assert open_features(store, KEY) is None
    features = create_features(store, KEY, WIDTH, FACTS)
    features.write(features.images(1), values(store, 1))
    assert features.states() == {0: MISSING, 1: FRESH}
    assert features.read(np.array([16])).any()
    with pytest.raises(StoreError, match="features of shard 0 are missing") as caught:
        features.read(np.array([16, 3]))
    assert f"features/{KEY}/c/0" in caught.value.where
    assert "recomputed by the next command" in caught.value.fix


def test_features_of_images_rendered_again_are_stale(store):
    features = create_features(store, KEY, WIDTH, FACTS)
    fill(features)
    render_again(store, 1, 7)
    assert features.states() == {0: FRESH, 1: STALE}
    assert features.pending() == [1]
    with pytest.raises(StoreError, match="features of shard 1 are stale"):
        features.read(np.array([20]))
    fill(features)
    assert features.pending() == []


def test_features_stay_fresh_if_images_are_rendered_to_the_same_bytes(store):
    render_again(store, 1, 7)
    features = create_features(store, KEY, WIDTH, FACTS)
    fill(features)
    render_again(store, 1, 7)
    assert features.pending() == []


def test_images_that_change_while_features_are_computed_make_them_stale(store):
    features = create_features(store, KEY, WIDTH, FACTS)
    before = features.images(0)
    render_again(store, 0, 7)
    features.write(before, values(store, 0))
    assert features.states() == {0: STALE, 1: MISSING}


def test_a_shard_that_is_not_rendered_has_no_features(store):
    features = create_features(store, KEY, WIDTH, FACTS)
    fill(features)
    store.forget(0)
    assert features.pending() == []
    for use in (lambda: features.read(np.array([0])), lambda: features.images(0)):
        with pytest.raises(StoreError, match="shard 0 has no rendered images") as caught:
            use()
        assert "pointcmt render" in caught.value.fix


def test_a_shard_of_failed_shapes_needs_no_features(tmp_path):
    failed = tuple(f"ball-train-{i}" for i in range(16))
    store = write_store(tmp_path / "S", Plan(train=(18, 1, 1), test=(0, 0, 0), failed=failed))
    features = create_features(store, KEY, WIDTH, FACTS)
    assert features.pending() == [1]
    fill(features)
    assert not features.read(np.arange(16)).any()


def test_features_that_16_bits_cannot_hold_are_refused(store):
    features = create_features(store, KEY, WIDTH, FACTS)
    for bad in (1e6, np.nan):
        array = values(store, 0)
        array[2] = bad  # of a failed shape, never read
        features.write(features.images(0), array)
        array[1, 0, 0] = bad
        with pytest.raises(StoreError, match="not finite in float16") as caught:
            features.write(features.images(0), array)
        # The features may not be from a teacher.
        assert "other weights for the image network" in caught.value.fix
        assert "for mvnet, set images.cache=false" in caught.value.fix


def test_damaged_features_are_reported_with_a_fix(store):
    features = create_features(store, KEY, WIDTH, FACTS)
    fill(features)
    folder = Path(store.path) / "features" / KEY
    path = folder / "c/0/0/0"
    whole = bytearray(path.read_bytes())
    whole[3] ^= 1
    path.write_bytes(whole)
    with pytest.raises(StoreError, match="damaged data") as caught:
        features.read(np.arange(16))
    assert "delete" in caught.value.fix
    path.unlink()  # as the fix says
    assert features.states() == {0: STALE, 1: FRESH}
    fill(features)
    features.read(np.arange(16))
    metadata = folder / "zarr.json"
    metadata.write_bytes(metadata.read_bytes().replace(b"resnet-18", b"resnet-19"))
    with pytest.raises(StoreError, match="metadata of these features is damaged"):
        open_features(store, KEY)
    metadata.unlink()
    assert create_features(store, KEY, WIDTH, FACTS).pending() == []


def test_other_facts_are_refused_except_for_another_version(store):
    create_features(store, KEY, WIDTH, FACTS)
    with pytest.raises(StoreError, match="image_size: 0 in the store, 64 requested") as caught:
        create_features(store, KEY, WIDTH, {**FACTS, "image_size": 64})
    assert "commits/features-" in caught.value.fix
    with pytest.raises(StoreError, match="width: 5 in the store, 6 requested"):
        create_features(store, KEY, 6, FACTS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pointcmt.datasets.store.features.__version__", "99.0")
        assert create_features(store, KEY, WIDTH, FACTS).facts["pointcmt"] != "99.0"


def make(path):
    fill(create_features(ViewStore.open(path), KEY, WIDTH, FACTS))


def files_of(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_many_processes_can_write_the_same_features_at_once(made, tmp_path):
    alone, together = (shutil.copytree(made.path, tmp_path / name) for name in ("A", "B"))
    make(alone)
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=make, args=(together,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert files_of(together) == files_of(alone)


def test_verify_finds_every_flipped_bit_of_features(rendered, tmp_path):
    out = shutil.copytree(rendered.path, tmp_path / "S")
    assert verify(str(out)).ok
    paths = [p for p in out.rglob("*") if p.is_file() and "features" in str(p.relative_to(out))]
    assert len(paths) == 2 + 2 * 3  # metadata, and data and marker of three shards
    rng = np.random.default_rng(0)
    for path in paths:
        whole = path.read_bytes()
        for byte in rng.integers(0, len(whole), 2):
            flipped = bytearray(whole)
            flipped[byte] ^= 1 << int(rng.integers(8))
            path.write_bytes(flipped)
            assert not verify(str(out)).ok, (path, byte)
        path.unlink()
        # A missing shard is not damage.
        assert verify(str(out)).ok == ("commits" in path.parts), path
        path.write_bytes(whole)
    assert verify(str(out)).ok


def test_verify_reports_stale_features_and_how_to_delete_them(rendered, tmp_path):
    out = shutil.copytree(rendered.path, tmp_path / "S")
    store = ViewStore.open(out)
    marker = store.markers(RENDER, [1])[1]
    store.forget(1)
    broken = verify(str(out)).broken
    assert [b.where for b in broken] == [f"commits/features-{KEY}/000001.json"]
    assert "stale" in broken[0].what
    images = store.read("rgb", slice(2, 4))
    images[0, 0, 0, 0] ^= 1
    marker["files"] |= store.write_shard(1, {"rgb": images})
    store.commit(RENDER, 1, {"files": marker["files"], "outcomes": marker["outcomes"]})
    broken = verify(str(out)).broken
    assert [b.where for b in broken] == [f"commits/features-{KEY}/000001.json"]
    assert f"delete features/{KEY} and commits/features-{KEY}" in broken[0].what
    shutil.rmtree(out / f"features/{KEY}")
    assert not verify(str(out)).ok
    shutil.rmtree(out / f"commits/features-{KEY}")
    assert verify(str(out)).ok


def test_info_lists_features(rendered, store):
    facts = summarize(rendered.path)
    assert facts["features"] == [
        {**FACTS, "pointcmt": facts["features"][0]["pointcmt"]}
        | {"key": KEY, "width": WIDTH, "shapes": 5}
    ]
    assert f"{KEY}: resnet-18, 5 values per view, 5 shapes" in describe(facts)
    json.dumps(facts)


def test_info_does_not_count_stale_shapes(rendered, tmp_path):
    store = ViewStore.open(shutil.copytree(rendered.path, tmp_path / "S"))
    create_features(store, "ffff", 3, {})
    render_again(store, 1, 7)
    assert list_features(store) == [KEY, "ffff"]
    counted = [(one["key"], one["shapes"]) for one in summarize(store.path)["features"]]
    assert counted == [(KEY, 3), ("ffff", 0)]


def test_removing_a_store_removes_its_features(store):
    fill(create_features(store, KEY, WIDTH, FACTS))
    remove(store.storage)
    assert not Path(store.path).exists()
