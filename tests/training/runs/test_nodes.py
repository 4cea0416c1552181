"""docker/slurm/train.sbatch on two nodes, with stand-ins for SLURM's commands: two torchrun agents
on loopback with one process each.
"""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pointcmt.training.networks.backbones import BACKBONES
from pointcmt.training.ops.losses import smoothed_cross_entropy
from pointcmt.training.runs.folder import open_run
from pointcmt.training.runs.splits import split_train
from tests.training.runs.test_distributed import command, records, weights
from tests.training.stores import SMALL

ROOT = Path(__file__).parents[3]
RATE = "optimizer.learning_rate=1e-4"
SRUN = """
while [ "${1#-}" != "$1" ]; do shift; done
SLURM_NODEID=1 "$@" &
SLURM_NODEID=0 "$@" || exit
wait $!
"""


def free_job():
    """The number of a job whose port is free."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        job = port % 10000
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", 20000 + job)):
                return job


@pytest.fixture
def submit(tmp_path):
    """Run the batch script on two nodes."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, body in {"srun": SRUN, "scontrol": "printf '127.0.0.1\\n127.0.0.2\\n'"}.items():
        (tools / name).write_text(f"#!/bin/sh\n{body}\n")
        (tools / name).chmod(0o755)
    path = os.pathsep.join([str(tools), str(Path(sys.executable).parent), os.environ["PATH"]])
    settings = {
        "SLURM_JOB_ID": str(free_job()),
        "SLURM_JOB_NODELIST": "node[0-1]",
        "SLURM_NNODES": "2",
        "SLURM_CPUS_PER_TASK": "1",
        "PATH": path,
        "PYTHONPATH": str(ROOT),
    }

    def run(*arguments):
        script = ["bash", ROOT / "docker" / "slurm" / "train.sbatch", *map(str, arguments)]
        done = subprocess.run(
            script, env={**os.environ, **settings}, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return done

    return run


@pytest.mark.slow  # test_distributed.py starts two processes on one node
def test_two_nodes_equal_one_process_that_accumulates(submit, store, tmp_path):
    """33 shapes are trained in batches of 8, so one is left for another epoch; of the 9 validation
    shapes, node 1 has none of the last batch.
    """
    settings = [f"--set={override}" for override in (*SMALL["student"], RATE)]
    said = submit(
        *("student", "--data", store.path, "--out", tmp_path / "two", "--epochs", 2),
        *("--device", "cpu", *settings, "--json"),
    )
    assert said.stdout.count('"recipe"') == 1  # only rank 0 prints
    assert "cpu (1 threads) and 1 more, 33 train, 9 validation shapes" in said.stderr
    command(store, tmp_path / "one", "data.batch_size=4", "optimizer.accumulate=2", RATE, epochs=2)
    for two, one in zip(records(tmp_path / "two"), records(tmp_path / "one"), strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
        assert two["accuracy"] == one["accuracy"]
    two, one = weights(tmp_path / "two"), weights(tmp_path / "one")
    for name, tensor in one.items():
        # nodes average running statistics; one process updates them in turn
        if "running" not in name and "tracked" not in name:
            torch.testing.assert_close(two[name], tensor, rtol=1e-3, atol=2e-5)

    # Each validation shape counts once, though the nodes' shares differ.
    config = open_run(tmp_path / "two").config
    judged = split_train(store, config.data).validation
    assert len(judged) == 9
    model = BACKBONES["pointnet"](len(store.class_names)).eval()
    model.load_state_dict(two)
    points = torch.from_numpy(np.stack([store.read("points", shape)[:64] for shape in judged]))
    labels = torch.from_numpy(store.labels[judged])
    with torch.no_grad():
        logits = model(points).logits
    loss = smoothed_cross_entropy(logits, labels, config.loss.label_smoothing)
    last = records(tmp_path / "two")[-1]
    assert last["val_loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert last["val_accuracy"] == pytest.approx((logits.argmax(1) == labels).float().mean().item())
