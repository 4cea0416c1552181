"""Jobs on a dask cluster: the same bytes, resumed, with crashing shapes and full disks."""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time

import pytest
from distributed import Client

from pointcmt.datasets.store.schema import RENDER
from pointcmt.datasets.store.verify import verify
from pointcmt.errors import PointcmtError
from pointcmt.render.jobs import cluster as clusters
from pointcmt.render.jobs.job import Task
from tests.commands import pointcmt
from tests.render import shapes
from tests.render.job_commands import facts, render, write_off
from tests.render.jobs.cluster_jobs import (
    claimants,
    ended,
    engine,
    run_until_error,
    start,
    wait_for,
)
from tests.render.jobs.clusters import cluster, environment
from tests.stores import tree, tree_after_kills


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A scheduler and two workers that several tests share; no test may damage them."""
    with cluster(tmp_path_factory.mktemp("pair")) as own:
        yield own


def test_a_cluster_writes_the_same_bytes(pair, meshes, finished, tmp_path):
    out = tmp_path / "S"
    done = render(meshes, out, "--scheduler", pair.address, "--log-format", "json", "--json")
    assert done.returncode == 3, done.stderr
    assert tree(out) == tree(finished)
    assert {key: facts(done)[key] for key in ("done", "failed", "skipped")} == {
        "done": 8,
        "failed": 1,
        "skipped": 0,
    }
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    progress = [line for line in lines if "eta_seconds" in line]
    assert sorted(line["shard"] for line in progress) == list(range(5))
    shutil.rmtree(out / "commits/visible")
    relative = ("build-correspondences", "S", "--root", os.path.relpath(meshes, tmp_path))
    done = pointcmt(*relative, "--scheduler", pair.address, cwd=tmp_path, env=environment())
    assert done.returncode == 3, done.stderr
    assert tree(out) == tree(finished)


def test_a_stopped_or_killed_client_can_resume(pair, meshes, finished, tmp_path):
    out = tmp_path / "S"
    job = start(meshes, out, "--scheduler", pair.address)
    wait_for(lambda: claimants(out), job)
    job.send_signal(signal.SIGINT)
    code, _, said = ended(job)
    assert code == 130
    assert "run the same command again" in said
    assert "Traceback" not in said
    job = start(meshes, out, "--scheduler", pair.address)
    wait_for(lambda: claimants(out), job)
    job.kill()
    job.communicate()
    code, summary, said = ended(start(meshes, out, "--scheduler", pair.address))
    assert code == 3, said
    assert summary["done"] + summary["skipped"] == 8
    assert tree_after_kills(out) == tree(finished)


def test_shapes_that_crash_their_worker_are_recorded_and_the_others_are_rendered(
    pair, meshes, tmp_path
):
    root, out = tmp_path / "meshes", tmp_path / "S"
    shutil.copytree(meshes, root)
    for fault in ("segfault", "hang", "greedy"):
        write_off(root / f"bad/train/{fault}.off", shapes.box(0.5))
        (root / f"bad/train/{fault}.fault").write_text(fault)
    before = [worker.poll() for worker in pair.workers]
    limits = ("--scheduler", pair.address, "--timeout", 10, "--memory-limit", 1)
    code, summary, said = ended(start(root, out, *limits))
    assert code == 3, said
    assert {failure["id"]: failure["reason"] for failure in summary["failures"]} == {
        "bad/train/segfault": "crashed",
        "bad/train/hang": "timeout",
        "bad/train/greedy": "too_large",
        "ball/train/broken": "bad_index",
    }
    details = {failure["id"]: failure["detail"] for failure in summary["failures"]}
    assert "SIGSEGV" in details["bad/train/segfault"]
    assert "--memory-limit 1 " in details["bad/train/greedy"]
    assert summary["done"] == 8
    assert before == [worker.poll() for worker in pair.workers] == [None, None]
    for file in root.glob("bad/train/*.fault"):
        file.unlink()
    code, summary, said = ended(start(root, out, *limits, "--retry-failed"))
    assert [failure["id"] for failure in summary["failures"]] == ["ball/train/broken"], said
    assert summary["done"] > 0
    assert verify(str(out)).ok


@pytest.mark.timeout(60)
def test_tasks_of_other_clients_do_not_hide_that_no_worker_can_run_ours(
    pair, monkeypatch, messages
):
    monkeypatch.setattr(clusters, "POLL_INTERVAL", 0.0)
    monkeypatch.setattr(clusters, "RECONNECT_TIMEOUT", 1.0)
    with Client(pair.address, set_as_default=False) as others:
        running = others.submit(time.sleep, 8)
        workers = engine(pair.address, GPU=1.0)
        workers.submit(Task(RENDER, 0))
        with pytest.raises(PointcmtError, match="no workers with --resources GPU=1"):
            run_until_error(workers)
        assert "waiting up to 1 s for some" in messages()
        assert running.status == "pending"
        running.cancel()
        workers.close()


def test_a_full_disk_stops_the_job_which_resumes_when_there_is_space(
    pair, meshes, finished, small_disk
):
    out = small_disk / "S"
    code, _, said = ended(start(meshes, out, "--scheduler", pair.address))
    assert code == 1
    assert "the disk is full" in said
    assert "worker tcp://127.0.0.1:" in said
    assert "Traceback" not in said
    subprocess.run(["mount", "-o", "remount,size=50m", small_disk], check=True)
    assert ended(start(meshes, out, "--scheduler", pair.address))[0] == 3
    assert tree(out) == tree(finished)


def test_an_engine_runs_inside_the_event_loop_of_a_notebook(pair):
    """A notebook runs its cells in a thread with a running event loop."""

    async def cell():
        workers = engine(pair.address)
        assert workers.finished(0) == []
        workers.close()

    asyncio.run(cell())


def test_engines_leave_no_threads_behind(pair, monkeypatch):
    monkeypatch.setattr(clusters, "CONNECT_TIMEOUT", 1.0)
    before = set(threading.enumerate())
    with pytest.raises(PointcmtError, match="cannot connect to the scheduler"):
        engine("tcp://127.0.0.1:9")
    assert set(threading.enumerate()) == before
    workers = engine(pair.address)
    workers.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "dask client"]


def test_the_address_of_a_worker_is_reported(pair, monkeypatch):
    monkeypatch.setattr(clusters, "CONNECT_TIMEOUT", 2.0)
    log = (pair.folder / "dask_worker_2.log").read_text()
    with pytest.raises(PointcmtError, match="is it the address of a worker"):
        engine(re.search(r"Listening to:\s+(tcp://\S+)", log)[1])
