"""Dask clusters whose workers or scheduler fail, lack a mount, or have another pointcmt."""

import os
import re
import shutil
import signal
import subprocess
import time

import pytest

from pointcmt.datasets.store.view_store import ViewStore
from tests.render.jobs.cluster_jobs import children, claimants, ended, start, wait_for
from tests.render.jobs.clusters import REPOSITORY, cluster, kill_group
from tests.stores import tree, tree_after_kills


def test_a_worker_killed_in_the_middle_of_a_shard_loses_nothing(meshes, finished, tmp_path):
    out = tmp_path / "S"
    with cluster(tmp_path, workers=1) as own:
        own.start_worker(nanny=True)
        job = start(meshes, out, "--scheduler", own.address)
        for victim in range(2):  # the first has no nanny and stays dead, the second has one
            pid = wait_for(lambda: claimants(out), job)[0]
            if victim == 0:
                assert pid in (own.workers[0].pid, *children(own.workers[1].pid))
            os.kill(pid, signal.SIGKILL)
            time.sleep(0.3)
        code, summary, said = ended(job)
    assert code == 3, said
    assert (summary["done"] + summary["skipped"], summary["failed"]) == (8, 1)
    assert tree_after_kills(out) == tree(finished)


def test_a_job_resumes_when_a_killed_scheduler_restarts(meshes, finished, tmp_path):
    out = tmp_path / "S"
    with cluster(tmp_path, workers=1) as own:
        job = start(meshes, out, "--scheduler", own.address)
        wait_for(lambda: list(out.glob("commits/render/*.json")), job)
        kill_group(own.scheduler)
        own.start_scheduler()
        own.start_worker(nanny=False)
        code, summary, said = ended(job)
    assert code == 3, said
    assert "lost the scheduler" in said
    assert "Traceback" not in said
    assert (summary["done"] + summary["skipped"], summary["failed"]) == (8, 1)
    assert tree(out) == tree(finished)


@pytest.mark.slow
def test_a_job_waits_for_workers_with_the_resources_it_asks_for(meshes, finished, tmp_path):
    out = tmp_path / "S"
    with cluster(tmp_path, workers=1) as own:
        job = start(meshes, out, "--scheduler", own.address, "--resources", "GPU=1")
        said = job.stderr.readline()
        while "no workers with --resources GPU=1" not in said:
            said = job.stderr.readline()
            assert job.poll() is None
        assert not list(out.glob("commits/render/*"))
        own.start_worker("--resources", "GPU=1", nanny=False)
        assert ended(job)[0] == 3
    assert tree(out) == tree(finished)


HIDDEN = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"')


@pytest.fixture
def hiding():
    """A command prefix that starts a worker for which a folder is empty, like a missing mount."""
    if os.geteuid() or subprocess.run(["unshare", "--mount", "true"]).returncode:
        pytest.skip("only root can hide a folder from a process")
    return lambda folder: (*HIDDEN, folder)


def test_a_worker_that_does_not_see_the_data_set_stops_the_job(meshes, tmp_path, hiding):
    out = tmp_path / "out" / "S"
    with cluster(tmp_path, workers=0) as own:
        own.start_worker(prefix=hiding(meshes), nanny=False)
        code, _, said = ended(start(meshes, out, "--scheduler", own.address))
        assert code == 1
        assert re.search(rf"--root {meshes}, worker tcp://127.0.0.1:\d+ on ", said)
        assert "mount the dataset at the same path" in said
        assert "Traceback" not in said
        assert ViewStore.open(out).committed() == [], "missing files are not a shape's fault"


@pytest.mark.slow
def test_a_worker_that_does_not_see_the_store_loses_nothing_if_others_do(
    meshes, finished, tmp_path, hiding
):
    out = tmp_path / "out" / "S"
    out.parent.mkdir()
    with cluster(tmp_path, workers=1) as own:
        own.start_worker(prefix=hiding(out.parent), nanny=False)
        code, _, said = ended(start(meshes, out, "--scheduler", own.address))
    assert code == 3, said
    assert "there is no store here" in said
    assert tree(out) == tree(finished)


OTHERS = {"scheduler": None, "old": "0.0.7", "none": None}


def other_version(folder, version):
    """Return an environment with another version of pointcmt, or without it (None)."""
    package = shutil.copytree(REPOSITORY / "pointcmt", folder / "pointcmt")
    code = f"__version__ = {version!r}" if version else "raise ModuleNotFoundError('pointcmt')"
    (package / "__init__.py").write_text(code)
    said = f"Version: {version}\n" if version else ""
    (folder / "pointcmt-0.dist-info").mkdir()
    (folder / "pointcmt-0.dist-info/METADATA").write_text(f"Name: pointcmt\n{said}")
    return {**os.environ, "PYTHONPATH": str(folder)}


def test_processes_with_another_pointcmt_or_none_are_named(meshes, tmp_path):
    found = {name: other_version(tmp_path / name, version) for name, version in OTHERS.items()}
    with cluster(tmp_path, workers=0, **found["scheduler"]) as own:
        for name in ("old", "none"):
            own.start_worker("--name", name, env=found[name], nanny=False)
        code, _, said = ended(start(meshes, tmp_path / "S", "--scheduler", own.address))
        assert all(process.poll() is None for process in own.workers), "nothing was sent to them"
    assert code == 1
    assert re.search("all workers need pointcmt .*: the scheduler has none, ", said)
    assert re.search(r"tcp://127.0.0.1:\d+ has 0.0.7", said)
    assert re.search(r"tcp://127.0.0.1:\d+ has none", said)
    assert "Traceback" not in said


def test_a_worker_that_dask_considers_lost_but_that_still_works_keeps_its_shard(
    meshes, finished, tmp_path
):
    """It is stopped for longer than dask waits, but for less time than its claim lasts."""
    out = tmp_path / "S"
    with cluster(tmp_path, workers=2, DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL="2s") as own:
        job = start(meshes, out, "--scheduler", own.address)
        pid = wait_for(lambda: claimants(out), job)[0]
        os.killpg(pid, signal.SIGSTOP)
        claimed = [
            path.name for path in (out / "claims").glob("*.json") if str(pid) in path.read_text()
        ]
        log = own.folder / "dask_scheduler_1.log"
        wait_for(lambda: "Worker failed to heartbeat" in log.read_text(), job)
        others = ViewStore.open(out).schema.shards - len(claimed)
        wait_for(lambda: len(list(out.glob("commits/render/*.json"))) == others, job)
        assert claimed
        assert not [name for name in claimed if (out / "commits/render" / name).exists()]
        os.killpg(pid, signal.SIGCONT)
        code, summary, said = ended(job)
    assert code == 3, said
    assert "waiting for" in said
    assert (summary["done"] + summary["skipped"], summary["failed"]) == (8, 1)
    assert tree(out) == tree(finished)
