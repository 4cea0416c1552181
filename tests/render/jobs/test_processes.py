"""Spare processes: a worker takes one that still runs, and none outlives its command."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pointcmt.cli import app
from pointcmt.render.jobs import processes
from pointcmt.render.jobs.supervisor import Work
from tests.render.jobs import runners
from tests.render.jobs.runners import run_tasks


@pytest.fixture
def spare():
    """Two spare processes."""
    processes.start_spare(2)
    yield [process for process, _ in processes._spare]
    processes.end_spare()


def run_one(tmp_path):
    """Run a task on one worker, and return the process that ran it."""
    ((_, pid, ended),) = run_tasks(range(1), Work(runners.make, ({}, str(tmp_path)), 60.0), 1)
    assert [how for _, how, _ in ended] == ["done"] * runners.SHAPES
    return pid


def test_a_worker_takes_a_spare_process_and_the_others_end_with_the_job(tmp_path, spare):
    assert run_one(tmp_path) == spare[0].pid
    assert [process.poll() is None for process in spare] == [False, False]
    assert run_one(tmp_path) not in [process.pid for process in spare]


def test_a_spare_process_that_has_died_is_not_taken(tmp_path, spare):
    spare[0].kill()
    spare[0].wait()
    assert run_one(tmp_path) == spare[1].pid


def test_no_more_processes_are_started_than_asked_for_or_than_are_useful():
    try:
        processes.start_spare(1)
        processes.start_spare(1)
        assert len(processes._spare) == 1
        processes.start_spare(100)
        assert len(processes._spare) == processes.MOST_SPARE
    finally:
        processes.end_spare()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_process_outlives_a_command_that_is_refused(tmp_path):
    command = [sys.executable, "-m", "pointcmt", "render", "--dataset", "folder"]
    command += ["--root", tmp_path / "missing", "--out", tmp_path / "S"]
    refused = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    refused.communicate()  # ends when all processes that hold the pipe have ended
    assert refused.returncode == 2
    assert not [pid for pid in os.listdir("/proc") if is_worker_of(pid, refused.pid)]


def test_a_refused_command_leaves_no_process_to_the_next_one_in_this_process(tmp_path):
    """Such a process would still have the environment and the folder of its start."""
    command = ["render", "--dataset", "folder", "--root", str(tmp_path / "missing")]
    refused = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "S")])
    assert "missing" in str(refused.exception)
    assert processes._spare == []


def is_worker_of(pid, parent):
    try:
        words = Path("/proc", pid, "cmdline").read_text().split("\0")
    except OSError:  # not a process, or it has just ended
        return False
    return "pointcmt.render.jobs.child" in words and str(parent) in words
