"""Batch scripts for SLURM and the script that makes certificates, with stand-ins for SLURM."""

import os
import shutil
import subprocess
import sys

import pytest

from pointcmt.datasets.store.verify import verify
from pointcmt.datasets.store.view_store import ViewStore
from tests.docker.files import DOCKER, ROOT, SCRIPTS
from tests.stores import tree


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_have_valid_syntax(path):
    shell = path.read_text().splitlines()[0].removeprefix("#!")
    done = subprocess.run([shell, "-n", path], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert os.access(path, os.X_OK) == (path.suffix == ".sh")


@pytest.fixture
def submit(tmp_path):
    """Start one task of a batch script's array, with stand-ins for SLURM's commands."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, body in {
        "srun": 'while [ "${1#-}" != "$1" ]; do shift; done\nexec "$@"',
        "pointcmt": f'exec "{sys.executable}" -m pointcmt "$@"',
    }.items():
        (tools / name).write_text(f"#!/bin/sh\n{body}\n")
        (tools / name).chmod(0o755)

    begun = []

    def begin(script, indices, index, *arguments, **more):
        task = {
            "SLURM_ARRAY_TASK_ID": index,
            "SLURM_ARRAY_TASK_MIN": indices[0],
            "SLURM_ARRAY_TASK_MAX": indices[-1],
            "SLURM_ARRAY_TASK_COUNT": len(indices),
            "SLURM_CPUS_PER_TASK": 1,
            **more,
        }
        process = subprocess.Popen(
            ["bash", DOCKER / "slurm" / script, *map(str, arguments)],
            env={
                **os.environ,
                **{name: str(value) for name, value in task.items()},
                "PATH": f"{tools}:{os.environ['PATH']}",
                "PYTHONPATH": str(ROOT),
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        begun.append(process)
        return process

    yield begin
    for process in begun:
        process.kill()
        process.wait()
        process.stderr.close()


SMALL = (
    "--dataset", "toy", "--limit", "7", "--rig", "ortho6", "--size", "32", "--points", "64",
    "--shard-size", "2",
)  # fmt: skip


@pytest.mark.parametrize(
    ("memory", "more", "limit"),
    [
        ({"SLURM_MEM_PER_NODE": 16384}, (), "1.75"),
        ({"SLURM_MEM_PER_CPU": 4096}, (), "3.5"),
        ({"SLURM_MEM_PER_NODE": 0}, (), None),  # all memory of the node, which pointcmt divides
        ({}, (), None),
        ({}, ("--memory-limit", "3"), "3"),
        ({"SLURM_MEM_PER_NODE": 16384}, ("--memory-limit", "3"), "3"),
    ],
)
def test_array_tasks_pass_the_memory_limit_per_worker(submit, tmp_path, memory, more, limit):
    """If an option is repeated, Click uses the last one."""
    (tmp_path / "bin/pointcmt").write_text('#!/bin/sh\necho "$@" >&2\n')
    task = submit("render-array.sbatch", (0,), 0, *more, SLURM_CPUS_PER_TASK=8, **memory)
    words = task.communicate(timeout=60)[1].split()
    limits = [words[i + 1] for i, word in enumerate(words) if word == "--memory-limit"]
    assert (limits or [None])[-1] == limit


def test_an_array_of_two_renders_a_whole_store(submit, tmp_path):
    """Both tasks run at once and write the same bytes as a single job."""
    arguments = (*SMALL, "--out", tmp_path / "S")
    running = [submit("render-array.sbatch", (0, 1), i, *arguments) for i in (0, 1)]
    for task in running:
        _, said = task.communicate(timeout=300)
        assert task.returncode == 0, said
    assert verify(str(tmp_path / "S")).ok
    assert not ViewStore.open(tmp_path / "S").pending("render")
    alone = [sys.executable, "-m", "pointcmt", "render", *SMALL, "--out", tmp_path / "T"]
    subprocess.run([*alone, "--workers", "1"], check=True, capture_output=True)
    assert tree(tmp_path / "S") == tree(tmp_path / "T")


@pytest.mark.parametrize("indices", [(1, 2), (0, 2)], ids=["from 1", "a gap"])
def test_an_array_that_leaves_shards_unassigned_is_refused(submit, indices, tmp_path):
    arguments = (*SMALL, "--out", tmp_path / "S")
    task = submit("render-array.sbatch", indices, indices[-1], *arguments)
    _, said = task.communicate(timeout=60)
    assert task.returncode == 2
    assert "some shards are nobody's" in said
    assert not (tmp_path / "S").exists()


@pytest.mark.parametrize(
    ("given", "processes", "threads"),
    [
        ({"SLURM_GPUS_ON_NODE": 4}, "4", "8"),
        ({"SLURM_GPUS_ON_NODE": 0}, "1", "32"),  # sbatch --gpus-per-node=0
        ({}, "1", "32"),
        ({"SLURM_GPUS_ON_NODE": 8, "SLURM_CPUS_PER_TASK": 4}, "8", "1"),
    ],
)
def test_training_starts_one_process_per_gpu_or_one_without_gpus(
    tools, tmp_path, given, processes, threads
):
    tools("scontrol", "echo node0")
    tools("srun", 'while [ "${1#-}" != "$1" ]; do shift; done\nexec "$@"')
    tools("torchrun", 'echo "$OMP_NUM_THREADS" "$@"')
    job = {"SLURM_JOB_ID": 7, "SLURM_JOB_NODELIST": "node0", "SLURM_NNODES": 1, "SLURM_NODEID": 0}
    job |= {"SLURM_CPUS_PER_TASK": 32, **given}
    environment = {**tools.environment, **{name: str(value) for name, value in job.items()}}
    command = ["bash", DOCKER / "slurm/train.sbatch", "student", "--data", "S", "--out", "RUN"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    words = done.stdout.split()
    assert words[0] == threads
    assert words[words.index("--nproc-per-node") + 1] == processes
    assert words[words.index("-m") + 1 :] == [
        "pointcmt",
        "train",
        "student",
        "--data",
        "S",
        "--out",
        "RUN",
    ]


def test_only_the_owner_can_read_the_certificates(tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here")
    script = [DOCKER / "make-certificates.sh", tmp_path / "tls", "2"]
    assert subprocess.run(script, capture_output=True).returncode == 0
    assert {path.name for path in (tmp_path / "tls").iterdir()} == {
        "ca.pem", "cluster.pem", "cluster.key",
    }  # fmt: skip
    assert all(path.stat().st_mode & 0o77 == 0 for path in (tmp_path / "tls").iterdir())
    key = (tmp_path / "tls" / "cluster.key").read_bytes()
    again = subprocess.run(script, capture_output=True, text=True)
    assert again.returncode == 1
    assert "choose another folder" in again.stderr
    assert (tmp_path / "tls" / "cluster.key").read_bytes() == key
