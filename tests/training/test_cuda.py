"""Every recipe on a GPU, in fresh processes: nothing else has started CUDA there."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
DEVICE = "cuda"
KNOBS = {
    "teacher": (),
    "student": ("loop.precision=bf16",),
    "finetune": ("load=none",),
    "partseg": ("load=none",),
    "mvnet": ("loop.precision=bf16",),
}
TRAIN = """
import sys
from pathlib import Path
from pointcmt.datasets.store import ViewStore
from pointcmt.training.loop import train
from tests.training.stores import small_config
recipe, store, out, device, until, *knobs = sys.argv[1:]
config = small_config(recipe, *knobs, epochs=2)
train(ViewStore.open(store), config, Path(out), device, until=int(until))
"""

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]


ONE_AND_THE_OTHER = """
import sys
from pathlib import Path
from pointcmt.datasets.store import ViewStore
from pointcmt.training.loop import train
from tests.training.stores import small_config
store, out, *devices = sys.argv[1:]
for device in devices:
    train(ViewStore.open(store), small_config("student", epochs=1), Path(out) / device, device)
"""


@pytest.mark.parametrize("recipe", KNOBS)
def test_a_recipe_trains_and_goes_on(recipe, make_store, rendered, tmp_path):
    store = rendered if recipe == "mvnet" else make_store(parts=recipe == "partseg")
    arguments = [recipe, store.path, str(tmp_path / "run"), DEVICE]
    for until in ("1", "2"):
        run(TRAIN, *arguments, until, *KNOBS[recipe])
    cost = json.loads((tmp_path / "run" / "cost.json").read_text())
    assert cost["epochs"] == 2
    assert cost["peak_memory_bytes"] > 0


@pytest.mark.parametrize("devices", [(DEVICE, "cpu"), ("cpu", DEVICE)])
def test_one_process_trains_on_one_device_and_then_on_the_other(devices, store, tmp_path):
    run(ONE_AND_THE_OTHER, store.path, str(tmp_path), *devices)
    assert all((tmp_path / device / "cost.json").exists() for device in devices)


def run(script, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
