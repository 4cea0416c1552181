"""The cost of a run: FLOPs checked by hand, hours summed over sessions, no effect on training."""

import json
import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pointcmt.training import loop, session
from pointcmt.training.commands import train_command
from pointcmt.training.loop import train
from pointcmt.training.networks.backbones import BACKBONES
from pointcmt.training.networks.backbones.pointnet import PointNet
from pointcmt.training.runs import cost
from pointcmt.training.runs.cost import count_flops
from tests.training.equal_runs import assert_equal_runs
from tests.training.stores import small_config

pytestmark = pytest.mark.usefixtures("small_resnet")


class Attention(nn.Module):
    """Self-attention, which a CPU computes with an operator of its own."""

    def forward(self, tokens):
        return F.scaled_dot_product_attention(tokens, tokens, tokens)


def test_flops_equal_the_formulas():
    layers = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 7, bias=False))
    assert count_flops(layers, (torch.rand(11, 3),)) == 2 * 11 * (3 * 5 + 5 * 7)
    convolution = nn.Conv2d(3, 4, 3, padding=1)
    assert count_flops(convolution, (torch.rand(1, 3, 8, 8),)) == 2 * 8 * 8 * 4 * 3 * 9
    tokens = torch.rand(1, 2, 9, 16)  # heads, tokens, width
    assert count_flops(Attention(), (tokens,)) == 2 * 2 * 2 * 9 * 9 * 16


def pointnet_flops(points, classes):
    """FLOPs of every matrix product of PointNet for one cloud, written out."""
    per_point = 3 * 64 + 64 * 128 + 128 * 1024  # the alignment of the input
    per_point += 3 * 3 + 3 * 64 + 64 * 64  # aligned, the local MLP
    per_point += 64 * 64 + 64 * 128 + 128 * 1024  # the alignment of the features
    per_point += 64 * 64 + 64 * 64 + 64 * 128 + 128 * 1024  # aligned, lifted
    heads = 2 * (1024 * 512 + 512 * 256) + 256 * 9 + 256 * 64 * 64 + 1024 * 512 + 512 * classes
    return 2 * (points * per_point + heads)


def test_flops_of_a_network_are_the_sum_over_its_layers():
    model = BACKBONES["pointnet"](10)
    assert count_flops(model, (torch.rand(1, 128, 3),)) == pointnet_flops(128, 10)


def test_a_run_records_its_cost(store, tmp_path):
    told = train_command(store, small_config("student", epochs=2), (), tmp_path, "cpu")
    found = json.loads((tmp_path / "cost.json").read_text())
    assert told.facts["cost"] == found
    parameters = sum(p.numel() for p in PointNet(3).parameters())
    for kind in ("trainable", "total", "inference"):
        assert found[f"{kind}_parameters"] == parameters
    assert found["flops"] == pointnet_flops(64, 3)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    speeds = [record["samples_per_second"] for record in records]
    assert found["samples_per_second"] == pytest.approx(sum(speeds) / 2)
    assert found["hours"] * 3600 >= sum(record["seconds"] for record in records)
    size = sum(p.stat().st_size for p in tmp_path.rglob("*") if p.is_file() and p.name != cost.FILE)
    assert (found["disk_bytes"], found["feature_bytes"]) == (size, 0)
    assert 2**26 < found["peak_memory_bytes"] < 2**36
    assert (found["epochs"], found["device"], found["processes"]) == (2, "cpu", 1)
    assert (
        told.text.splitlines()[1].strip().startswith(f"cost: {parameters / 1e6:.2f} M parameters")
    )


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets: a list whose only entry is the time in seconds."""
    now = [1000.0]
    monkeypatch.setattr(cost, "monotonic", lambda: now[0])
    return now


def slow(monkeypatch, module, name, clock, seconds):
    """Let a function take this long by the clock."""
    original = getattr(module, name)

    def take(*arguments):
        clock[0] += seconds
        return original(*arguments)

    monkeypatch.setattr(module, name, take)


def test_hours_add_up_over_sessions(store, tmp_path, monkeypatch, clock):
    """What a session does before its first step, and after its last checkpoint, counts too."""
    config = small_config("student", epochs=3)
    slow(monkeypatch, session, "make_optimizer", clock, 1800)
    slow(monkeypatch, loop, "draw_examples", clock, 3600)
    hours = [train(store, config, tmp_path, "cpu", until=n).cost.hours for n in (1, 2, 3)]
    assert hours == [1.5, 3.0, 4.5]
    (tmp_path / "cost.json").unlink()  # as if killed before it was written: 3.5 are saved
    assert train(store, config, tmp_path, "cpu").cost.hours == 3.5 + 1.5


def test_resuming_does_not_make_the_hours_of_a_run_smaller(store, tmp_path, monkeypatch, clock):
    """Not even if the next session is killed before its first checkpoint."""
    with monkeypatch.context() as patch:
        slow(patch, loop, "draw_examples", clock, 3600)
        assert train(store, small_config("student", epochs=1), tmp_path, "cpu").cost.hours == 1
    longer = small_config("student", epochs=2)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(store, longer, tmp_path, "cpu")
    assert train(store, longer, tmp_path, "cpu").cost.hours == 1


def interrupt(*_):
    raise KeyboardInterrupt


def test_measuring_the_cost_does_not_change_a_run(store, tmp_path, monkeypatch):
    """Measured after every epoch, or never."""
    config = small_config("student", epochs=3)
    for epoch in (1, 2, 3):
        train(store, config, tmp_path / "measured", "cpu", until=epoch)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "find_cost", lambda *_: None)
        assert train(store, config, tmp_path / "plain", "cpu").cost is None
    assert_equal_runs(tmp_path / "measured", tmp_path / "plain")


def test_a_finished_run_is_measured_once(store, tmp_path, clock):
    """If a killed process did not finish the measurement, the next one does."""
    config = small_config("student", epochs=1)
    first = train(store, config, tmp_path, "cpu").cost
    assert train(store, config, tmp_path, "cpu").cost == first
    for damage in (lambda path: path.unlink(), lambda path: path.write_text("{")):
        damage(tmp_path / "cost.json")
        again = train(store, config, tmp_path, "cpu").cost
        assert again.hours == first.hours
        assert (again.flops, again.disk_bytes) == (first.flops, first.disk_bytes)
        assert os.listdir(tmp_path).count("cost.json") == 1


def test_memory_of_the_parent_process_is_not_counted():
    """The peak of a large process' child is only what the child used."""
    measure = (
        "import torch; from pointcmt.training.runs.cost import Usage\n"
        "print(Usage(torch.device('cpu')).peak)"
    )
    start = (
        "import subprocess, sys\n"
        f"block = b'x' * {2**30}\n"
        f"subprocess.run([sys.executable, '-c', {measure!r}], check=True)"
    )
    told = subprocess.run([sys.executable, "-c", start], check=True, capture_output=True)
    assert 2**26 < int(told.stdout) < 2**30


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_parameters_are_not_counted_as_trained(frozen, store, tmp_path):
    overrides = ["model.encoder=frozen"] if frozen else []
    found = train(store, small_config("teacher", *overrides, epochs=1), tmp_path, "cpu").cost
    assert (found.trainable_parameters < found.total_parameters) == frozen
    assert found.inference_parameters == found.total_parameters
    assert found.flops > 0
