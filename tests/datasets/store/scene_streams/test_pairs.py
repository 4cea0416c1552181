"""Pairs of frames equal a plain reference; their cameras see the same pixels as before."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from pointcmt.cameras import Camera
from pointcmt.datasets.store.scene_streams.pairs import NEAR, PairConfig, PairStream
from pointcmt.datasets.store.schema import BLOCK
from pointcmt.errors import StoreError, UsageError

EVERYTHING = (*PairConfig().arrays, "color", "normals", "semantic", "semantic_image", "frame")


def stream(store, **settings):
    settings = {"batch_size": 2, "points": 500, "samples": 4, **settings}
    return PairStream(store, np.arange(store.schema.shapes), PairConfig(**settings))


def overlap(store, shape, a, b):
    """The share of the smaller frame's points that both frames see."""
    visible = store.visible(shape)
    return (visible[a] & visible[b]).sum() / min(visible[a].sum(), visible[b].sum())


@cache
def neighbors(store, shape):
    """Which points are within NEAR of each other, by comparing all with all, [n,n]."""
    points = store.read("points", shape).astype(np.float64)
    close = [((row - points) ** 2).sum(axis=1) <= NEAR**2 for row in points]
    return np.array(close)


def members(store, shape, a, b):
    """The points that belong to a pair."""
    visible = store.visible(shape)
    return np.flatnonzero(neighbors(store, shape)[:, visible[a] | visible[b]].any(axis=1))


def every_sample(batches):
    for batch in batches:
        for slot in range(len(batch["shape"])):
            yield {name: value[slot].numpy() for name, value in batch.items()}


@pytest.mark.parametrize("points", [500, 5000])  # fewer and more than a pair has
def test_pairs_equal_the_plain_definition(rooms, points):
    enough, unseen = set(), 0
    for sample in every_sample(stream(rooms, points=points, arrays=EVERYTHING)):
        shape, (a, b) = int(sample["shape"]), sample["view"]
        assert 0.3 <= overlap(rooms, shape, a, b) <= 0.9
        own = members(rooms, shape, a, b)
        enough.add(len(own) >= points)
        chosen = np.resize(own[:points], points)  # repeats them cyclically
        unseen += np.count_nonzero(~sample["visible"].any(axis=0))
        places = rooms.read("points", shape)[chosen].astype(np.float64)
        places[:, :2] -= places[:, :2].mean(axis=0)  # z stays the height over the floor
        np.testing.assert_allclose(sample["points"], places, atol=1e-6)
        assert np.array_equal(sample["points"][:, 2], places[:, 2])
        assert np.array_equal(sample["visible"], rooms.visible(shape)[[a, b]][:, chosen])
        for name in ("color", "normals", "semantic"):
            assert np.array_equal(sample[name], rooms.read(name, shape)[chosen]), name
        for name in ("rgb", "K", "semantic_image", "frame"):
            assert np.array_equal(sample[name], rooms.read(name, shape)[[a, b]]), name
        assert np.array_equal(sample["depth"], rooms.depth(shape)[[a, b]])
        assert sample["depth"].shape == (2, 60, 80)
        assert sample["label"] == rooms.labels[shape]
    assert enough == {points == 500}
    assert unseen > 0  # of the points near visible ones


def test_points_project_to_the_pixels_that_see_them(rooms):
    for sample in every_sample(stream(rooms)):
        shape, frames = int(sample["shape"]), sample["view"]
        chosen = members(rooms, shape, *frames)[:500]
        for view, frame in enumerate(frames):
            moved = Camera(sample["K"][view], sample["world_to_camera"][view], 80, 60)
            uv, z = moved.project(sample["points"])
            before = rooms.camera(shape)[frame].project(rooms.read("points", shape)[chosen])
            np.testing.assert_allclose(z, before[1], atol=1e-5)
            seen = sample["visible"][view]
            np.testing.assert_allclose(uv[seen], before[0][seen], atol=1e-3)
            column, row = np.floor(before[0][seen]).astype(int).T
            measured, z = sample["depth"][view, row, column], z[seen]
            assert (np.abs(measured - z) <= np.maximum(0.02, 0.02 * z) + 1e-5).all()


def test_points_of_several_chunks_equal_the_definition(large_room):
    places = large_room.read("points", 0).astype(np.float64)
    visible, reached = large_room.visible(0), set()
    for points in (500, 4096):
        for sample in every_sample(stream(large_room, points=points, samples=4)):
            a, b = sample["view"]
            away, _ = cKDTree(places[visible[a] | visible[b]]).query(places)
            own = np.flatnonzero(away <= NEAR)
            chosen = np.resize(own[:points], points)
            reached.add(int(chosen.max()) // BLOCK)
            expected = places[chosen] - [*places[chosen, :2].mean(axis=0), 0]
            np.testing.assert_allclose(sample["points"], expected, atol=1e-6)
            assert np.array_equal(sample["visible"], visible[[a, b]][:, chosen])
    assert reached == {0, 1}  # of three


def test_an_epoch_has_as_many_pairs_of_each_scene_in_a_new_order(rooms):
    batches = stream(rooms, batch_size=4)
    first, second = (list(every_sample(batches)) for _ in range(2))
    for epoch in (first, second):
        assert np.bincount([sample["shape"] for sample in epoch]).tolist() == [4, 4, 4]
    shown = [[(int(s["shape"]), *s["view"]) for s in epoch] for epoch in (first, second)]
    assert sorted(shown[0]) != sorted(shown[1])
    again = list(every_sample(stream(rooms, batch_size=4)))
    assert [s["view"].tolist() for s in again] == [s["view"].tolist() for s in first]
    other = list(every_sample(stream(rooms, batch_size=4, seed=1)))
    assert [s["view"].tolist() for s in other] != [s["view"].tolist() for s in first]


def test_without_shuffling_every_epoch_is_the_same_in_order(rooms):
    batches = stream(rooms, shuffle=False)
    first, second = (list(every_sample(batches)) for _ in range(2))
    assert [int(sample["shape"]) for sample in first] == [0] * 4 + [1] * 4 + [2] * 4
    for ours, theirs in zip(first, second, strict=True):
        for name, value in ours.items():
            assert np.array_equal(value, theirs[name]), name
    for shape in range(3):  # each first frame comes once before any comes again
        firsts = [int(s["view"][0]) for s in first if s["shape"] == shape]
        assert len(set(firsts)) == len(firsts)


def test_scenes_without_a_pair_are_left_out_and_named(rooms):
    best = [
        max(overlap(rooms, shape, a, b) for a in range(frames) for b in range(a))
        for shape, frames in enumerate((6, 7, 8))
    ]
    lacking = int(np.argmin(best))
    least = (sorted(best)[0] + sorted(best)[1]) / 2
    batches = stream(rooms, overlap=(least, 1.0))
    assert batches.shapes.tolist() == [shape for shape in range(3) if shape != lacking]
    assert len(batches) == 4
    (said,) = batches.notes
    assert "1 of 3 scenes are left out" in said
    assert f"rooms/{lacking}" in said
    with pytest.raises(StoreError, match=r"no two frames whose overlap is 0\.99.* to 1") as none:
        stream(rooms, overlap=(0.9999, 1.0))
    assert none.value.where == rooms.path
    assert "wider range" in none.value.fix


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"overlap": (0, 0.5)}, "0 to 0.5 is not a range of overlap"),
        ({"overlap": (0.8, 0.5)}, "not a range"),
        ({"points": 0}, "points must be positive, not 0"),
        ({"arrays": ("rbg",)}, "did you mean 'rgb'"),
        ({"arrays": ("boxes",)}, "'boxes' is an array of neither views nor points"),
        ({"batch_size": 13}, "a batch of 13 is larger than the epoch of 12 pairs"),
    ],
)
def test_settings_that_cannot_be_served_are_reported(rooms, settings, says):
    with pytest.raises(UsageError, match=says):
        stream(rooms, **settings)


def test_the_batch_is_what_the_recipe_reads_of_shapes(rooms, toy_store):
    from pointcmt.datasets.store.streaming import StreamConfig, ViewStream

    config = PairConfig()
    reads = StreamConfig(config.arrays, batch_size=2, views=2, points=100)
    shapes = next(iter(ViewStream(toy_store, np.arange(8), reads)))
    pairs = next(iter(stream(rooms, points=100)))
    assert pairs.keys() == shapes.keys()
    for name, value in pairs.items():
        assert value.dtype == shapes[name].dtype, name
        assert value.ndim == shapes[name].ndim, name
        assert value.shape[:2] == shapes[name].shape[:2], name
    assert replace(config, rank=0, world_size=2, prefetch=1).rank == 0
    assert torch.equal(pairs["view"] >= 0, torch.ones(2, 2, dtype=torch.bool))
