"""What both streams of scenes have in common: ranks, threads, resuming, stores and errors."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pointcmt.datasets import sources
from pointcmt.datasets.joint import JointStore
from pointcmt.datasets.store.scene_streams.crops import CropConfig, CropStream
from pointcmt.datasets.store.scene_streams.pairs import PairConfig, PairStream
from pointcmt.datasets.store.schema import CORRESPONDENCES
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.errors import DamageError, StoreError, UsageError
from tests.render.scenes import box_room
from tests.scene_stores import CONFIG, render_rooms

ROOT = Path(__file__).parents[4]
PAIRS = PairConfig(batch_size=5, samples=4, points=300, arrays=(*PairConfig().arrays, "color"))
CROPS = CropConfig(batch_size=5, samples=4, crop=400)
SMALL = replace(CONFIG, voxel=0.1)
both = pytest.mark.parametrize("config", [PAIRS, CROPS], ids=["pairs", "crops"])


def stream(store, config, threads=2, **settings):
    kind = PairStream if isinstance(config, PairConfig) else CropStream
    return kind(store, np.arange(store.schema.shapes), replace(config, **settings), threads)


def assert_same(ours, theirs):
    for left, right in zip(ours, theirs, strict=True):
        assert left.keys() == right.keys()
        for name, value in left.items():
            assert torch.equal(value, right[name]), name


@both
@pytest.mark.parametrize("drop_last", [True, False])
def test_ranks_split_the_batches_of_one_process_exactly(rooms, config, drop_last):
    whole = list(stream(rooms, config, drop_last=drop_last))
    assert [len(batch["shape"]) for batch in whole] == [5, 5, *([] if drop_last else [2])]
    for world_size in (2, 3):  # three processes share the last batch of two
        settings = {"drop_last": drop_last, "world_size": world_size}
        parts = [list(stream(rooms, config, rank=r, **settings)) for r in range(world_size)]
        for step, batch in enumerate(whole):
            shares = [part[step] for part in parts]
            for name in batch.keys() - {"batch"}:
                joined = torch.cat([share[name] for share in shares])
                assert torch.equal(joined, batch[name]), name
                assert joined.dtype == batch[name].dtype


def test_a_rank_without_a_whole_scene_has_an_empty_batch(rooms):
    config = CropConfig(batch_size=4, crop=0, drop_last=False, rank=3, world_size=4)
    (batch,) = stream(rooms, config)
    assert {name: len(value) for name, value in batch.items()} == dict.fromkeys(batch, 0)


@both
def test_threads_and_prefetch_do_not_change_the_batches(rooms, config):
    assert_same(stream(rooms, config, threads=1, prefetch=1), stream(rooms, config, threads=4))


@both
@pytest.mark.parametrize("stop", [0, 1, 2])
def test_a_stream_resumes_where_another_stopped(rooms, config, stop):
    straight = stream(rooms, config)
    expected = [batch for _ in range(3) for batch in straight]
    stopped = stream(rooms, config)
    seen = list(stopped)
    for _, batch in zip(range(stop), stopped, strict=False):
        seen.append(batch)
    resumed = stream(rooms, config, prefetch=3)
    resumed.load_state_dict(stopped.state_dict())
    while len(seen) < len(expected):
        seen += list(resumed)
    assert_same(seen, expected)


@both
def test_resuming_with_other_data_or_settings_is_refused(rooms, config):
    state = stream(rooms, config).state_dict()
    for changed in ({"batch_size": 4}, {"seed": 7}, {"samples": 5}):
        with pytest.raises(UsageError, match="started with other data"):
            stream(rooms, config, **changed).load_state_dict(state)
    other = CROPS if config is PAIRS else PAIRS
    with pytest.raises(UsageError, match="started with other data"):
        stream(rooms, other).load_state_dict(state)


def test_joined_stores_are_read_scene_by_scene(rooms, tmp_path, monkeypatch):
    def load(record, root):
        return box_room.scene(8 - int(record.id[-1]))

    others = sources.Source(box_room.source.list_shapes, load)
    monkeypatch.setitem(sources.SOURCES, "others", others)
    more = render_rooms(tmp_path / "T", 2, config=SMALL, name="others")
    joint = JointStore([rooms, more])
    every = [(rooms, 0), (rooms, 1), (rooms, 2), (more, 0), (more, 1)]
    for batch in stream(joint, PAIRS, batch_size=1):
        member, row = every[int(batch["shape"])]
        assert np.array_equal(batch["rgb"][0], member.read("rgb", row)[batch["view"][0]])
    whole = replace(CROPS, crop=0, samples=1, batch_size=1, shuffle=False)
    for batch, (member, row) in zip(stream(joint, whole), every, strict=True):
        (alone,) = CropStream(member, np.array([row]), whole)
        assert_same([batch | {"shape": alone["shape"]}], [alone])


def test_stores_with_other_classes_are_not_joined(rooms, tmp_path):
    names = replace(box_room.LABELS, semantic=("floor", "ceiling", "wall", "crate"))
    other = render_rooms(tmp_path / "S", 1, config=SMALL, labels=names)
    with pytest.raises(StoreError, match="the same classes of points"):
        stream(JointStore([rooms, other]), CROPS)


@both
def test_stores_of_shapes_are_refused(toy_store, config):
    with pytest.raises(UsageError, match="this is a store of shapes") as refused:
        stream(toy_store, config)
    assert refused.value.where == toy_store.path


@both
def test_lost_and_damaged_chunks_are_reported(tmp_path, config):
    store = render_rooms(tmp_path / "S", 2, shard=1, config=SMALL)
    file = next(path for path in (tmp_path / "S/color/c/1").rglob("*") if path.is_file())
    data = bytearray(file.read_bytes())
    file.write_bytes(data[:100] + bytes([data[100] ^ 4]) + data[101:])
    with pytest.raises(DamageError, match="damaged data") as damaged:
        list(stream(store, config))
    assert damaged.value.where.endswith("color")
    opened = stream(store, config)
    file.unlink()
    with pytest.raises(DamageError, match="a file of shard 1 is missing"):
        list(opened)
    with pytest.raises(DamageError, match="a file of shard 1 is missing") as lost:
        stream(ViewStore.open(tmp_path / "S"), config)
    assert lost.value.where == str(file)


def test_a_store_without_correspondences_is_reported(tmp_path):
    store = render_rooms(tmp_path / "S", 2, config=SMALL)
    store.forget(0, CORRESPONDENCES)
    with pytest.raises(StoreError, match="no correspondences"):
        stream(store, PAIRS)
    assert len(list(stream(store, CROPS))) == 1


@both
def test_remote_batches_equal_local_ones(s3, rooms, config):
    place = f"scenes-{type(config).__name__}"
    for file in sorted(rooms.storage.folder.rglob("*")):
        if file.is_file():
            s3.put(f"{place}/{file.relative_to(rooms.path).as_posix()}", file.read_bytes())
    assert_same(stream(ViewStore.open(s3.url(place)), config), stream(rooms, config))


def test_a_stream_that_is_not_read_on_stops_reading(rooms):
    class Counted(PairStream):
        loads = 0

        def _load(self, sample):
            self.loads += 1
            return super()._load(sample)

    reads = Counted(rooms, np.arange(3), replace(PAIRS, samples=200, prefetch=100))
    batches = iter(reads)
    next(batches)
    batches.close()
    reads._pool.shutdown()
    assert 5 <= reads.loads < 500


FORKED = """
import os, sys
import torch
from pointcmt.datasets.store.view_store import ViewStore
from tests.datasets.store.scene_streams.test_streams import CROPS, PAIRS, assert_same, stream

opened = [stream(ViewStore.open(sys.argv[1]), config) for config in (PAIRS, CROPS)]
expected = [list(each) for each in opened]
child = os.fork()
if child == 0:
    try:
        for each, batches in zip(opened, expected):
            each.epoch = 0
            assert_same(each, batches)
        os._exit(0)
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(1)
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.slow
def test_streams_work_in_a_forked_process(rooms):
    command = [sys.executable, "-W", "ignore", "-c", FORKED, rooms.path]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
