"""What goes wrong within a step is said with the knobs that help, by the process itself."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from pointcmt.errors import PointcmtError
from pointcmt.training.config_files import load_config
from pointcmt.training.guards import memory_errors, require_finite

ROOT = Path(__file__).parents[2]
HUNGRY = """
import resource, sys
from pathlib import Path
import torch
from pointcmt.datasets.store import ViewStore
from pointcmt.errors import PointcmtError
from pointcmt.training.loop import train
from tests.training.stores import small_config
torch.set_num_threads(1)
store = ViewStore.open(sys.argv[1])
config = small_config("student", "data.batch_size=32", "model.backbone=dgcnn", epochs=1)
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 300_000_000,) * 2)
try:
    train(store, config, Path(sys.argv[2]), device="cpu")
except PointcmtError as error:
    print(error)
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_AS"), reason="this system limits no memory")
def test_memory_that_runs_out_names_the_knobs(store, tmp_path):
    """A real allocation fails, in a process that may have 300 MB more than its imports."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", HUNGRY, store.path, str(tmp_path / "run")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.startswith("memory ran out while training student"), done.stderr
    for knob in ("data.batch_size below 32", "optimizer.accumulate", "bf16", "data.points"):
        assert knob in done.stdout


def test_a_teachers_knobs_are_other_ones():
    with pytest.raises(PointcmtError) as caught, memory_errors(load_config("teacher")):
        raise MemoryError("Unable to allocate 5 GiB")
    assert "data.views" in caught.value.fix
    assert "data.points" not in caught.value.fix


def test_other_errors_pass_through():
    with pytest.raises(RuntimeError, match="shapes"), memory_errors(load_config("student")):
        raise RuntimeError("shapes cannot be multiplied")


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), -float("inf")])
def test_the_first_loss_that_is_not_finite_is_named(loss, tmp_path):
    require_finite([(1, 0.5), (2, 1e30)], "(epoch 1)", tmp_path)
    with pytest.raises(PointcmtError, match=r"at step 7 \(epoch 2\)") as caught:
        require_finite([(6, 0.5), (7, loss), (8, loss)], "(epoch 2)", tmp_path)
    assert "optimizer.clip_norm" in caught.value.fix
