"""Recipes on a GPU, in fresh processes: nothing else has started CUDA there."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEVICE = "cuda"
OVERRIDES = {
    "teacher": (),
    "student": ("loop.precision=bf16",),
    "finetune": ("load=none", "model.backbone=dgcnn"),
    "partseg": ("load=none",),
    "mvnet": ("loop.precision=bf16",),
}
TRAIN = """
import sys
from pathlib import Path
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.training.loop import train
from tests.training.stores import small_config
recipe, store, out, devices, until, *overrides = sys.argv[1:]
config = small_config(recipe, *overrides, epochs=2)
for device in devices.split(","):
    train(ViewStore.open(store), config, Path(out) / device, device, until=int(until))
"""

pytestmark = pytest.mark.gpu


def run(recipe, store, out, devices, until):
    """Train up to an epoch, on one device after another, in a process of its own."""
    arguments = [recipe, store.path, str(out), ",".join(devices), str(until), *OVERRIDES[recipe]]
    done = subprocess.run(
        [sys.executable, "-c", TRAIN, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("recipe", OVERRIDES)
def test_a_recipe_trains_and_goes_on(recipe, make_store, rendered, tmp_path):
    store = rendered if recipe == "mvnet" else make_store(parts=recipe == "partseg")
    run(recipe, store, tmp_path, [DEVICE], until=1)
    run(recipe, store, tmp_path, [DEVICE], until=2)
    cost = json.loads((tmp_path / DEVICE / "cost.json").read_text())
    assert cost["epochs"] == 2
    assert cost["peak_memory_bytes"] > 0


@pytest.mark.parametrize("devices", [(DEVICE, "cpu"), ("cpu", DEVICE)])
def test_one_process_trains_on_one_device_and_then_on_the_other(devices, store, tmp_path):
    run("student", store, tmp_path, devices, until=1)
    assert all((tmp_path / device / "cost.json").exists() for device in devices)
