"""Two processes that segment scenes make the same steps as one that accumulates both halves."""

import pytest
import torch

from pointcmt.training.config.files import load_config
from pointcmt.training.loop import train
from tests.training.equal_runs import metrics, tensors
from tests.training.runs.test_distributed import LAUNCH, launch

SETTINGS = (
    "model.backbone=sparse-unet-tiny",
    "data.voxel=0.2",
    "data.crop=400",
    "data.crops=2",
    "data.labeled_points=100",
    "data.validation=0.25",
    "schedule.name=onecycle",
    "optimizer.name=sgd",
    "augmentation.dropout_probability=0.5",
    "augmentation.elastic_probability=0.5",
    "augmentation.mix=0.5",
)


def test_two_processes_equal_one_that_accumulates(rooms, tmp_path):
    """Crops, their labels and all augmentations included, for two steps of one cycle."""
    given = ["--data", rooms.path, "--out", tmp_path / "two", "--epochs", 1, "--device", "cpu"]
    given += [f"--set={setting}" for setting in (*SETTINGS, "data.batch_size=4")]
    launch([*LAUNCH, "pointcmt", "train", "semseg", *map(str, given)])
    halves = (*SETTINGS, "data.batch_size=2", "optimizer.accumulate=2")
    train(rooms, load_config("semseg", None, halves, epochs=1), tmp_path / "one", device="cpu")
    (two,), (one,) = metrics(tmp_path / "two"), metrics(tmp_path / "one")
    for name in ("loss", "point_accuracy", "lr"):
        assert two[name] == pytest.approx(one[name], rel=1e-4)
    found, expected = tensors(tmp_path / "two"), tensors(tmp_path / "one")
    compared = 0
    for name, tensor in expected.items():
        # two processes average the statistics of halves; one process updates them in turn
        if name.startswith("last/") and "running" not in name and "tracked" not in name:
            torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=2e-5)
            compared += 1
    assert compared > 100
