"""Batches equal the store, with each shape once per epoch, for any ranks and after resuming."""

import numpy as np
import pytest
import torch

from pointcmt.datasets.store.schema import unpack_visible
from pointcmt.datasets.store.streaming import StreamConfig, ViewStream, done_shapes
from pointcmt.errors import StoreError, UsageError
from tests.stores import render_toy

EVERYTHING = ("rgb", "depth", "face_index", "points", "normals", "visible", "K", "part")


def stream(store, **settings):
    settings = {"batch_size": 4, "points": 64, **settings}
    return ViewStream(store, done_shapes(store, "train"), StreamConfig(**settings))


def shapes_of(batches):
    return torch.cat([batch["shape"] for batch in batches]).tolist()


def test_batches_equal_the_arrays_of_the_store(toy_store):
    scale = np.float32(toy_store.schema.depth_scale)
    for batch in stream(toy_store, arrays=EVERYTHING, views=3):
        for slot, shape in enumerate(batch["shape"].tolist()):
            views = batch["view"][slot].numpy()
            expected = {
                "rgb": toy_store.read("rgb", shape)[views],
                "depth": toy_store.read("depth", shape)[views] * scale,
                "face_index": toy_store.read("face_index", shape)[views],
                "points": toy_store.read("points", shape)[:64],
                "normals": toy_store.read("normals", shape)[:64],
                "visible": unpack_visible(toy_store.read("visible", shape)[views], 64),
                "K": toy_store.read("K", shape)[views],
                "part": toy_store.read("part", shape)[:64],
            }
            for name, value in expected.items():
                np.testing.assert_array_equal(batch[name][slot].numpy(), value, err_msg=name)
            assert batch["label"][slot] == toy_store.labels[shape]


def test_an_epoch_has_each_shape_once_in_a_new_order(toy_store):
    everyone = done_shapes(toy_store, "train").tolist()
    batches = stream(toy_store, drop_last=False)
    first, second = shapes_of(batches), shapes_of(batches)
    assert sorted(first) == sorted(second) == everyone
    assert first != second
    assert shapes_of(stream(toy_store, drop_last=False)) == first  # the seed decides
    assert shapes_of(stream(toy_store, drop_last=False, seed=1)) != first


def test_views_are_distinct_and_depend_on_the_seed_and_epoch(toy_store):
    batches = stream(toy_store, views=4)
    first = torch.cat([batch["view"] for batch in batches])
    second = torch.cat([batch["view"] for batch in batches])
    assert all(len(set(views)) == 4 for views in first.tolist())
    assert not torch.equal(first, second)
    again = torch.cat([batch["view"] for batch in stream(toy_store, views=4)])
    assert torch.equal(first, again)
    every = next(iter(stream(toy_store)))["view"]
    assert every.tolist() == [list(range(6))] * 4


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_ranks_split_the_batches_of_one_process_exactly(toy_store, world_size):
    whole = list(stream(toy_store, views=2, batch_size=6))
    parts = [
        list(stream(toy_store, views=2, batch_size=6, rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]
    for step, batch in enumerate(whole):
        shares = [part[step] for part in parts]
        for name in ("shape", "view", "rgb", "points"):
            assert torch.equal(torch.cat([share[name] for share in shares]), batch[name])


def test_a_rank_without_a_share_of_the_last_batch_gets_an_empty_one(toy_store):
    rest = {"batch_size": len(done_shapes(toy_store, "train")) - 1, "drop_last": False}
    whole, mine, none = (
        list(stream(toy_store, arrays=EVERYTHING, **rest, **of))[-1]
        for of in ({}, {"rank": 0, "world_size": 2}, {"rank": 1, "world_size": 2})
    )
    for name in EVERYTHING:
        assert torch.equal(mine[name], whole[name])
        assert none[name].shape == (0, *whole[name].shape[1:])


@pytest.mark.parametrize("stop", [0, 1, 3])
@pytest.mark.parametrize("prefetch", [1, 2, 5])
def test_a_stream_resumes_where_another_stopped(toy_store, stop, prefetch):
    straight = stream(toy_store, views=2, prefetch=prefetch)
    expected = [batch for _ in range(3) for batch in straight]
    stopped = stream(toy_store, views=2, prefetch=prefetch)
    seen = list(stopped)
    for _, batch in zip(range(stop), stopped, strict=False):
        seen.append(batch)
    resumed = stream(toy_store, views=2, prefetch=3)
    resumed.load_state_dict(stopped.state_dict())
    while len(seen) < len(expected):
        seen += list(resumed)
    assert len(seen) == len(expected)
    for left, right in zip(seen, expected, strict=True):
        assert torch.equal(left["shape"], right["shape"])
        assert torch.equal(left["rgb"], right["rgb"])


def test_resuming_with_other_data_or_settings_is_refused(toy_store):
    state = stream(toy_store).state_dict()
    for other in (stream(toy_store, batch_size=5), stream(toy_store, seed=7)):
        with pytest.raises(UsageError, match="started with other data"):
            other.load_state_dict(state)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"arrays": ("rbg",)}, "did you mean 'rgb'"),
        ({"views": 7}, "the store has 6"),
        ({"points": 257}, "the store has 256"),
        ({"batch_size": 1000}, "larger than the split"),
        ({"rank": 2, "world_size": 2}, "invalid rank 2 for 2 processes"),
        ({"world_size": 5}, "at least one shape"),
    ],
)
def test_requests_that_the_store_cannot_serve_are_reported(toy_store, settings, says):
    with pytest.raises(UsageError, match=says):
        stream(toy_store, **settings)


def test_missing_splits_and_correspondences_are_reported(toy_store, tmp_path):
    with pytest.raises(StoreError, match="val split"):
        done_shapes(toy_store, "val")
    bare = render_toy(tmp_path / "S", limit=10, correspondences=False)
    with pytest.raises(StoreError, match="no correspondences"):
        stream(bare, arrays=("visible",))


def test_a_damaged_chunk_is_reported_with_its_array(toy_store, tmp_path):
    store = render_toy(tmp_path / "S", limit=10, shard=5)
    path = tmp_path / "S/rgb/c/0/0/0/0/0"
    data = bytearray(path.read_bytes())
    data[100] ^= 4
    path.write_bytes(data)
    with pytest.raises(StoreError, match="damaged data") as raised:
        list(stream(store, batch_size=2))
    assert raised.value.where.endswith("rgb")
