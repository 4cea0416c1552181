"""Packed batches, taken apart by sample."""

import numpy as np
import pytest
import torch

from pointcmt.datasets.store.scene_streams.crops import CropConfig
from pointcmt.datasets.store.scene_streams.packing import split_batch
from pointcmt.datasets.streams import evaluation_config, open_stream

CROPS = CropConfig(crop=200, batch_size=5, samples=2, drop_last=False)


def read(store, config):
    return next(iter(open_stream(store, np.arange(3), config)))


@pytest.mark.parametrize("count", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("whole", [False, True])
def test_micro_batches_hold_the_samples_in_order(rooms, count, whole):
    config = evaluation_config(CROPS, 3) if whole else CROPS
    batch = read(rooms, config)
    parts = split_batch(batch, count)
    assert len(parts) == count
    sizes = [len(part["shape"]) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    for name in set(batch) - {"batch", "inverse"}:
        assert torch.equal(torch.cat([part[name] for part in parts]), batch[name])
    first, rows = 0, 0
    for part in parts:
        assert part["batch"].unique().tolist() == [*range(len(part["shape"]))]
        own = slice(rows, rows + len(part["batch"]))
        assert torch.equal(part["batch"] + first, batch["batch"][own])
        if whole:
            assert len(part["inverse"]) == part["point_count"].sum()
            assert part["inverse"].unique().tolist() == [*range(len(part["points"]))]
        first, rows = first + len(part["shape"]), own.stop


def test_a_part_of_a_batch_equals_a_batch_of_its_samples(rooms):
    whole = read(rooms, evaluation_config(CROPS, 3))
    alone = open_stream(rooms, np.arange(3), evaluation_config(CROPS, 1))
    for part, batch in zip(split_batch(whole, 3), alone, strict=True):
        assert part.keys() == batch.keys()
        assert all(torch.equal(part[name], batch[name]) for name in batch)
