"""Runs of mvnet: resumed, by two processes, with cached features, and as a start for others."""

import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pointcmt.errors import StoreError
from pointcmt.training import loop
from pointcmt.training.config.files import load_config
from pointcmt.training.images.building import build_network
from pointcmt.training.loop import train
from pointcmt.training.networks.view_consistency import (
    without_classes,
)
from pointcmt.training.recipes.mvnet import GEOMETRY
from pointcmt.training.report.page import write_report
from tests.stores import render_toy
from tests.training.equal_runs import assert_equal_runs, metrics
from tests.training.plain_dense import PlainDense, pretrain_plain
from tests.training.recipes.mvnet_batches import prepared
from tests.training.stores import small_config

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.usefixtures("small_resnet", "plain_dgcnn")


def test_the_cost_of_a_run_includes_cached_features(tmp_path):
    store = render_toy(tmp_path / "S", limit=24, rig="circle12", shard=8)
    costs = {}
    for cache in ("false", "true"):
        config = small_config("mvnet", f"images.cache={cache}", epochs=1)
        costs[cache] = train(store, config, tmp_path / cache, device="cpu").cost
    files = [path for path in (tmp_path / "S" / "features").rglob("*") if path.is_file()]
    assert costs["false"].feature_bytes == 0
    kept = sum(path.stat().st_size for path in files if path.parent.name != "features")
    assert costs["true"].feature_bytes == kept > 2**16
    # Runs without classes have a report, too.
    write_report([tmp_path / "true", tmp_path / "false"], tmp_path / "R")
    assert "images.cache" in (tmp_path / "R/configuration.csv").read_text()
    assert "of features in the store" in costs["true"].describe()


OPTIONS = {
    "plain": ("masking=0.3",),
    "averaged": ("optimizer.ema=0.9", "optimizer.accumulate=2", "data.batch_size=2"),
    "bf16": ("loop.precision=bf16", "matching.method=infonce", "matching.matches=20"),
}


@pytest.mark.parametrize("option", OPTIONS)
def test_a_run_interrupted_at_any_step_ends_with_the_same_bits(
    option, rendered, tmp_path, monkeypatch
):
    config = small_config("mvnet", *OPTIONS[option], epochs=2)
    train(rendered, config, tmp_path / "straight", device="cpu")
    monkeypatch.setattr(loop, "SAVE", 0.0)
    original, last = loop.learning_rate, 0

    def interrupting(settings, step, steps):
        nonlocal last
        if step > last and step % 2:
            last = step
            raise KeyboardInterrupt
        return original(settings, step, steps)

    monkeypatch.setattr(loop, "learning_rate", interrupting)
    interruptions = 0
    while True:
        torch.manual_seed(999)  # earlier random state must not matter
        try:
            train(rendered, config, tmp_path / "stopped", device="cpu")
            break
        except KeyboardInterrupt:
            interruptions += 1
    assert interruptions >= 2
    assert_equal_runs(tmp_path / "straight", tmp_path / "stopped")


def test_a_run_contains_the_named_backbone_and_all_metrics(rendered, tmp_path, messages):
    result = train(rendered, small_config("mvnet", epochs=2), tmp_path / "run", device="cpu")
    assert "random weights and only detects edges and colors" in messages()
    assert result.recipe == "mvnet"
    for record in metrics(tmp_path / "run"):
        assert record.keys() >= {"transfer", "matching", "matched", "val_transfer", "val_matching"}
        total = record["transfer"] + 0.03 * record["matching"]
        assert record["loss"] == pytest.approx(total, rel=1e-5)
    weights = load_file(next((tmp_path / "run" / "best").glob("weights-*")))
    backbone = {k.removeprefix("backbone."): v for k, v in weights.items() if "backbone." in k}
    model = PlainDense(1)
    without_classes(model)
    model.load_state_dict(backbone)
    assert not any("teach" in key or "images" in key for key in weights)
    start = small_config("mvnet", epochs=1, init=str(tmp_path / "run"))
    train(rendered, start, tmp_path / "on", device="cpu")
    assert metrics(tmp_path / "on")[0]["loss"] < metrics(tmp_path / "run")[0]["loss"]


def test_a_run_resumes_only_with_the_same_2d_network_at_any_path(rendered, tmp_path):
    for name in ("one", "other"):
        build_network("resnet-18", "random").save_pretrained(tmp_path / name)
    shutil.copytree(tmp_path / "one", tmp_path / "moved")
    shutil.copytree(tmp_path / "one", tmp_path / "here")

    def run(weights, until=None):
        config = small_config("mvnet", f"images.weights={tmp_path / weights}", epochs=2)
        return train(rendered, config, tmp_path / "run", device="cpu", until=until)

    run("here", until=1)
    with pytest.raises(StoreError, match=r"images\.weights: \w{64} in the run, \w{64} requested"):
        run("other")
    shutil.rmtree(tmp_path / "here")
    shutil.copytree(tmp_path / "other", tmp_path / "here")  # under the same path
    with pytest.raises(StoreError, match="started with different settings"):
        run("here")
    assert run("moved").epochs == 2


def test_fine_tuning_starts_from_a_run_of_mvnet(rendered, tmp_path):
    train(rendered, small_config("mvnet", epochs=1), tmp_path / "run", device="cpu")
    overrides = ("data.batch_size=4", "data.points=256", "load=all", "data.validation=0.5")
    config = load_config("finetune", None, overrides, epochs=1, init=str(tmp_path / "run"))
    result = train(rendered, config, tmp_path / "tuned", device="cpu")
    assert math.isfinite(result.last["loss"])


def test_two_processes_make_the_same_step_as_one(tmp_path):
    """A batch of 5 is split into 3 and 2: losses are means over shapes in any process.

    This holds if every pair of views has matches, since L_m is a mean over such pairs.
    """
    near = "".join(f"[[views]]\nazimuth = {15 * i}\nelevation = 30\n" for i in range(3))
    (tmp_path / "near.toml").write_text(near)
    store = render_toy(tmp_path / "S", limit=12, rig=str(tmp_path / "near.toml"), shard=8)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    script = ROOT / "tests" / "training" / "plain_dense.py"
    arguments = [str(script), store.path, str(tmp_path / "two"), "5", "1"]
    done = subprocess.run(
        [sys.executable, *launch, *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    pretrain_plain(store, tmp_path / "one", 5, 1)
    moments = [
        load_file(next((tmp_path / name / "last").glob("training-*"))) for name in ("two", "one")
    ]
    for name, moment in moments[1].items():
        torch.testing.assert_close(moments[0][name], moment, rtol=1e-3, atol=1e-6)
    (two,), (one,) = metrics(tmp_path / "two"), metrics(tmp_path / "one")
    for name in ("loss", "transfer", "matching", "matched", "val_loss", "val_matched"):
        assert two[name] == pytest.approx(one[name], rel=1e-5)


def test_cached_features_give_the_same_losses_without_reading_images(rendered, tmp_path):
    online, cached = (
        small_config("mvnet", f"images.cache={cache}", epochs=1) for cache in ("false", "true")
    )
    for cache, read in (("false", ["rgb"]), ("true", [])):
        arrays = prepared(rendered, f"images.cache={cache}").stream.arrays
        assert [name for name in arrays if name == "rgb"] == read
        assert len(arrays) == len(GEOMETRY) + 1
    losses = [
        train(rendered, config, tmp_path / str(number), device="cpu").last["transfer"]
        for number, config in enumerate((online, cached))
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert not np.array_equal(*losses)
