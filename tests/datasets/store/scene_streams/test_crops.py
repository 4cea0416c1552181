"""Crops equal brute force, and predictions of voxels come back to every point."""

import numpy as np
import pytest

from pointcmt.datasets.store.scene_streams.crops import CropConfig, CropStream
from pointcmt.errors import UsageError

CHANNELS = ("color", "normal", "semantic")
SIZE = 0.05


def stream(store, **settings):
    settings = {"batch_size": 1, "voxel": SIZE, "channels": CHANNELS, **settings}
    return CropStream(store, np.arange(store.schema.shapes), CropConfig(**settings))


def voxels_of(points):
    """Each point's voxel, and each voxel's place and first point, by numpy."""
    places = np.floor(points.astype(np.float64) / SIZE).astype(int)
    voxels, first, inverse = np.unique(places, axis=0, return_index=True, return_inverse=True)
    return inverse.ravel(), voxels, first


@pytest.mark.parametrize("shuffle", [False, True])
def test_whole_scenes_have_one_point_per_voxel(large_room, shuffle):
    (batch,) = stream(large_room, crop=0, shuffle=shuffle)
    points = large_room.read("points", 0)
    voxel, _, first = voxels_of(points)
    assert len(first) < len(points)
    assert np.array_equal(batch["inverse"], voxel)  # both are sorted by their places
    chosen = chosen_of(large_room, batch)
    assert np.array_equal(voxel[chosen], np.arange(len(first)))
    assert np.array_equal(chosen, first) == (not shuffle)
    assert batch["point_count"].tolist() == [len(points)]
    assert np.array_equal(batch["point_semantic"], large_room.read("semantic", 0))


def chosen_of(store, batch):
    """The stored points of a batch of one scene, found by their normals: all are different."""
    index = {normal.tobytes(): row for row, normal in enumerate(store.read("normals", 0))}
    chosen = np.array([index[normal.tobytes()] for normal in batch["normal"].numpy()])
    places = store.read("points", 0)[chosen].astype(np.float64)
    places[:, :2] -= places[:, :2].mean(axis=0)
    np.testing.assert_allclose(batch["points"], places, atol=1e-6)
    assert np.array_equal(batch["color"], store.read("color", 0)[chosen])
    assert np.array_equal(batch["semantic"], store.read("semantic", 0)[chosen])
    assert batch["semantic"].min() == -1
    assert batch["batch"].tolist() == [0] * len(chosen)
    return chosen


@pytest.mark.parametrize("shuffle", [False, True])
def test_crops_are_the_nearest_voxels_of_one_of_them(large_room, shuffle):
    points = large_room.read("points", 0)
    voxel, places, first = voxels_of(points)
    crops = []
    for batch in stream(large_room, crop=700, samples=4, shuffle=shuffle):
        chosen = chosen_of(large_room, batch)
        own = voxel[chosen]
        assert len(own) == 700
        assert (np.diff(own) > 0).all()
        if not shuffle:
            assert np.array_equal(chosen, first[own])
        middle = places[own].mean(axis=0)  # the center is near it, and one that fits is enough
        likely = own[np.argsort(((places[own] - middle) ** 2).sum(axis=1))]
        assert any(nearest(places, center, 700) == set(own.tolist()) for center in likely)
        crops.append(chosen)
    assert len({crop.tobytes() for crop in crops}) == 4


def nearest(places, center, count):
    """The nearest voxels of one, of equally far ones the first."""
    away = ((places - places[center]) ** 2).sum(axis=1)
    return set(np.argsort(away, kind="stable")[:count].tolist())


def test_small_scenes_are_not_cropped(rooms):
    for batch in stream(rooms, crop=10_000):
        shape = int(batch["shape"])
        _, voxels, _ = voxels_of(rooms.read("points", shape))
        assert len(batch["points"]) == len(voxels)
        assert "inverse" not in batch


def test_batches_are_packed_and_predictions_come_back(rooms):
    batches = stream(rooms, crop=0, batch_size=3, shuffle=False)
    (batch,) = batches
    assert batch["shape"].tolist() == [0, 1, 2]
    assert batch["batch"].tolist() == sorted(batch["batch"].tolist())
    first_point = 0
    for index in range(3):
        points = rooms.read("points", index)
        (alone,) = CropStream(
            rooms, np.array([index]), CropConfig(batch_size=1, crop=0, shuffle=False, voxel=SIZE)
        )
        own = batch["batch"] == index
        for name in ("points", "color", "semantic"):
            assert np.array_equal(batch[name][own], alone[name]), name
        inverse = batch["inverse"][first_point : first_point + len(points)]
        assert (batch["batch"][inverse] == index).all()
        first_point += len(points)
        # The z of a point's voxel: what a network says of the voxel reaches the point.
        places = batch["points"][inverse].numpy()
        offset = points[:, :2] - places[:, :2]
        assert np.abs(points[:, 2] - places[:, 2]).max() <= SIZE
        assert (np.ptp(offset, axis=0) <= 2 * SIZE).all()
    assert first_point == len(batch["inverse"]) == batch["point_count"].sum()
    assert first_point == len(batch["point_semantic"])


def test_every_epoch_draws_other_points_and_crops(large_room):
    batches = stream(large_room, crop=500)
    (first,), (second,) = batches, batches
    assert not np.array_equal(first["normal"], second["normal"])
    (again,) = stream(large_room, crop=500)
    assert np.array_equal(first["normal"], again["normal"])
    assert not np.array_equal(
        first["normal"], next(iter(stream(large_room, crop=500, seed=1)))["normal"]
    )
    still = stream(large_room, crop=500, shuffle=False)
    (first,), (second,) = still, still
    assert np.array_equal(first["normal"], second["normal"])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"channels": ("colour",)}, "did you mean 'color'"),
        ({"voxel": 0}, "0 is out of range: expected 0.001 to 1.0 meters"),
        ({"crop": -1}, "crop must be 0 or a number of voxels, not -1"),
        ({"samples": 0}, "samples must be positive, not 0"),
        ({"batch_size": 0}, "batch_size must be positive, not 0"),
        ({"batch_size": 5}, "a batch of 5 is larger than the epoch of 3 crops"),
    ],
)
def test_settings_that_cannot_be_served_are_reported(rooms, settings, says):
    with pytest.raises(UsageError, match=says):
        stream(rooms, **settings)
