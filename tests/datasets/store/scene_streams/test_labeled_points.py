"""Few labeled points per scene: the same ones in every epoch, nested, and none of them lost."""

from dataclasses import replace

import numpy as np
import pytest

from pointcmt.datasets.store.scene_streams.crops import CropConfig, CropStream
from pointcmt.datasets.store.scene_streams.labels import choose_labeled, only_labels
from pointcmt.datasets.streams import evaluation_config, open_stream
from pointcmt.errors import UsageError

WHOLE = CropConfig(
    channels=("normal", "semantic"), batch_size=1, voxel=0.5, crop=0, labeled_points=40
)


def stream(store, config=WHOLE, threads=2):
    return CropStream(store, np.arange(store.schema.shapes), config, threads)


def labeled_rows(store, batch):
    """The stored points whose labels are in a batch of the large room, by their normals."""
    index = {normal.tobytes(): row for row, normal in enumerate(store.read("normals", 0))}
    known = batch["semantic"].numpy() >= 0
    rows = [index[normal.tobytes()] for normal in batch["normal"].numpy()[known]]
    assert np.array_equal(batch["semantic"].numpy()[known], store.read("semantic", 0)[rows])
    return sorted(rows)


def test_choices_are_nested_and_follow_from_the_scene_and_the_seed():
    labels = np.random.default_rng(0).integers(-1, 4, 1000).astype(np.int16)
    chosen = {k: choose_labeled(labels, k, "scene0000_00", 3) for k in (20, 50, 200, 5000)}
    assert [len(found) for found in chosen.values()] == [20, 50, 200, np.sum(labels >= 0)]
    assert set(chosen[20]) < set(chosen[50]) < set(chosen[200]) < set(chosen[5000])
    assert (labels[chosen[5000]] >= 0).all()
    assert (np.diff(chosen[50]) > 0).all()
    others = (
        choose_labeled(labels, 50, "scene0001_00", 3),
        choose_labeled(labels, 50, "scene0000_00", 4),
    )
    assert all(len(np.intersect1d(chosen[50], other)) < 15 for other in others)
    kept = only_labels(labels, chosen[20])
    assert np.array_equal(np.flatnonzero(kept >= 0), chosen[20])
    assert np.array_equal(kept[chosen[20]], labels[chosen[20]])


def test_each_one_is_read_in_every_epoch_besides_the_point_of_its_voxel(large_room):
    """Voxels of 0.5 m, so that many labeled points share one."""
    batches = stream(large_room)
    labels = large_room.read("semantic", 0)
    expected = choose_labeled(labels, 40, large_room.shapes[0].id, 0).tolist()
    plain = next(iter(stream(large_room, replace(WHOLE, labeled_points=0))))
    read = []
    for _ in range(3):
        (batch,) = batches
        assert labeled_rows(large_room, batch) == expected
        assert np.array_equal(batch["inverse"], plain["inverse"])  # voxels come first, as ever
        assert np.flatnonzero(batch["point_semantic"] >= 0).tolist() == expected
        read.append(batch["normal"].numpy())
        assert len(np.unique(read[-1], axis=0)) == len(read[-1])  # no point twice
        more = len(read[-1]) - len(plain["points"])
        assert 30 < more <= 40
    voxels = len(plain["points"])
    assert np.array_equal(read[0][:voxels], plain["normal"])
    assert not np.array_equal(read[0][:voxels], read[1][:voxels])  # others stand for the voxels


def test_crops_hold_those_of_their_voxels(large_room):
    whole = next(iter(stream(large_room, replace(WHOLE, voxel=0.2))))
    expected = set(labeled_rows(large_room, whole))
    crops = replace(WHOLE, voxel=0.2, crop=150, samples=6)
    voxel = np.floor(large_room.read("points", 0).astype(np.float64) / 0.2)
    index = {normal.tobytes(): row for row, normal in enumerate(large_room.read("normals", 0))}
    for batch in stream(large_room, crops):
        rows = [index[normal.tobytes()] for normal in batch["normal"].numpy()]
        read = {tuple(place) for place in voxel[rows]}
        assert len(read) == 150
        inside = {row for row in expected if tuple(voxel[row]) in read}
        assert set(labeled_rows(large_room, batch)) == inside


def test_processes_and_threads_do_not_matter(rooms):
    """Three scenes in one batch, by one thread, by four, and by two processes."""
    config = replace(WHOLE, batch_size=3, labeled_points=7)
    (one,), (four,) = stream(rooms, config, 1), stream(rooms, config, 4)
    halves = [next(iter(stream(rooms, replace(config, rank=r, world_size=2)))) for r in (0, 1)]
    for name in ("points", "semantic", "shape"):
        assert np.array_equal(one[name], four[name])
        assert np.array_equal(one[name], np.concatenate([half[name] for half in halves]))
    for sample in range(3):
        assert np.sum(one["semantic"][one["batch"] == sample].numpy() >= 0) == 7


def test_validation_reads_all_labels(rooms):
    config = evaluation_config(replace(WHOLE, labeled_points=7), 3)
    (batch,) = open_stream(rooms, np.arange(3), config)
    stored = np.concatenate([rooms.read("semantic", shape) for shape in range(3)])
    assert np.array_equal(batch["point_semantic"], stored)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"labeled_points": -1}, "labeled_points must be 0 or a number of points, not -1"),
        ({"channels": ("color",)}, "labels are not read"),
    ],
)
def test_settings_that_cannot_be_served_are_reported(settings, says):
    with pytest.raises(UsageError, match=says):
        replace(WHOLE, **settings)
