"""Random points of scenes with their boxes."""

import numpy as np
import pytest

from pointcmt.datasets import sources
from pointcmt.datasets.store.scene_streams.boxes import BoxConfig, BoxStream
from pointcmt.datasets.streams import evaluation_config, open_stream
from pointcmt.errors import UsageError
from pointcmt.scenes import Boxes
from tests.render.scenes import box_room
from tests.scene_stores import CONFIG, render_rooms

CHANNELS = ("color", "normal", "semantic", "instance")


@pytest.fixture(scope="module")
def boxed(tmp_path_factory):
    """Three rooms with 0, 1 and 2 boxes with a class, and one without."""

    def load(record, root):
        number, (one,) = int(record.id[-1]), box_room.boxes().boxes
        rows = np.stack([one] * (number + 1))
        rows[:, 0] += np.arange(number + 1)
        labels = np.array([-1] + [0] * number, np.int16)
        instances = np.full(number + 1, 7, np.int32)
        scene = box_room.scene(3)
        return type(scene)(scene.frames, boxes=Boxes(rows, labels, instances), sha256="5" * 64)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sources.SOURCES, "boxed", sources.Source(box_room.source.list_shapes, load))
        yield render_rooms(tmp_path_factory.mktemp("boxed") / "S", config=CONFIG, name="boxed")


def stream(store, **settings):
    settings = {"batch_size": 1, "points": 500, "channels": CHANNELS, **settings}
    return BoxStream(store, np.arange(store.schema.shapes), BoxConfig(**settings))


def test_points_keep_their_attributes_and_places(large_room):
    (batch,) = stream(large_room, points=3000)
    index = {normal.tobytes(): row for row, normal in enumerate(large_room.read("normals", 0))}
    chosen = np.array([index[normal.tobytes()] for normal in batch["normal"][0].numpy()])
    assert len(set(chosen.tolist())) == 3000
    for name, array in {"points": "points", "color": "color", "semantic": "semantic"}.items():
        assert np.array_equal(batch[name][0], large_room.read(array, 0)[chosen]), name
    assert (np.diff(chosen) < 0).any()  # in random order, from all of the scene
    assert chosen.max() > 0.99 * len(index)


def test_few_points_are_repeated(large_room):
    count = large_room.counts(0)["point_count"]
    (batch,) = stream(large_room, points=count + 1)
    assert batch["points"].shape == (1, count + 1, 3)
    (all_of_them,) = stream(large_room, points=count)
    assert len(all_of_them["normal"][0].unique(dim=0)) == count


def test_boxes_are_padded_to_the_most_of_the_batch(boxed):
    (batch,) = stream(boxed, batch_size=3, shuffle=False)
    assert batch["points"].shape == (3, 500, 3)
    assert batch["instance"].dtype == batch["box_label"].dtype == batch["shape"].dtype
    assert batch["box_label"].tolist() == [[-1, -1], [0, -1], [0, 0]]
    assert batch["box"].shape == (3, 2, 7)
    first = boxed.read("boxes", 2)
    assert np.array_equal(batch["box"][2], first[1:])
    assert (batch["box"][0] == 0).all()
    block = batch["semantic"] == box_room.NAMES.index("block")
    assert (batch["instance"][block] == batch["box_instance"][2, 0]).all()
    assert block.any()
    (empty,) = BoxStream(boxed, np.array([0]), BoxConfig(batch_size=1, points=50))
    assert empty["box_label"].tolist() == [[-1]]


def test_evaluation_draws_the_same_points_for_every_seed_and_batch(boxed):
    drawn = []
    for seed, size in ((1, 1), (2, 3)):
        training = BoxConfig(points=100, seed=seed, batch_size=2)
        reads = evaluation_config(training, size)
        opened = open_stream(boxed, np.arange(3), reads)
        drawn += [[row for batch in opened for row in batch["points"]] for _ in range(2)]
    for rows in drawn[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(rows, drawn[0], strict=True))


def test_every_epoch_draws_other_points(boxed):
    batches = stream(boxed, batch_size=3)
    (first,), (second,) = batches, batches
    order = [first["shape"].argsort(), second["shape"].argsort()]
    assert not np.array_equal(first["points"][order[0]], second["points"][order[1]])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"channels": ("colour",)}, "did you mean 'color'"),
        ({"points": 0}, "points must be positive, not 0"),
        ({"batch_size": 5}, "a batch of 5 is larger than the epoch of 3 scenes"),
    ],
)
def test_settings_that_cannot_be_served_are_reported(boxed, settings, says):
    with pytest.raises(UsageError, match=says):
        stream(boxed, **settings)
