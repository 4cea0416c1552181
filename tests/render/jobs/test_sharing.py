"""Several jobs on one store: each shard is rendered once, none is lost, the bytes are the same."""

import json
import shutil
import subprocess
import sys
import time

import pytest

from pointcmt.cameras import find_rig
from pointcmt.datasets.sources import list_shapes, select
from pointcmt.datasets.store import claims
from pointcmt.datasets.store.claims import ClaimLost, Claims
from pointcmt.datasets.store.storage import Storage
from pointcmt.datasets.store.verify import verify
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.render.config import RenderConfig
from pointcmt.render.jobs import run
from pointcmt.render.jobs.job import Finished, Job, Task, create_store, job_of_store, tasks
from pointcmt.render.jobs.run import Options
from pointcmt.render.jobs.runner import make_runner, run_claimed
from pointcmt.render.jobs.shards import ShardRunner
from pointcmt.render.jobs.supervisor import Work, WorkerPool
from tests.commands import pointcmt
from tests.render.job_commands import SMALL, facts, render
from tests.stores import render_toy, tree, tree_after_kills


def start(command, *arguments):
    """Start a job in the background; its last line of output is its summary."""
    line = [sys.executable, "-m", "pointcmt", command, *map(str, arguments), "--json"]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def summaries(jobs):
    found = []
    for job in jobs:
        out, err = job.communicate(timeout=300)
        assert job.returncode in (0, 3), err
        found.append({"code": job.returncode, **json.loads(out.splitlines()[-1])})
    return found


def test_tasks_of_an_array_started_at_once_fill_one_store(meshes, finished, tmp_path):
    out = tmp_path / "S"
    arguments = ("--dataset", "folder", "--root", meshes, "--out", out, *SMALL, "--workers", 1)
    shares = [("--shard-index", i, "--num-shards", 3) for i in range(3)]
    found = summaries([start("render", *arguments, *share) for share in shares])
    assert tree(out) == tree(finished)
    shards = ViewStore.open(out).schema
    for index, share in enumerate(found):
        own = [len(shards.shapes_of(i)) for i in range(index, shards.shards, 3)]
        assert share["planned"] == sum(own)
        assert share["done"] + share["failed"] == sum(own)
        assert share["code"] == (3 if share["failed"] else 0)
    assert [share["failed"] for share in found].count(1) == 1


def test_correspondences_can_be_shared_by_array_tasks(meshes, finished, tmp_path):
    out = tmp_path / "S"
    shutil.copytree(finished, out)
    shutil.rmtree(out / "commits/visible")
    done = [
        pointcmt("build-correspondences", out, "--shard-index", i, "--num-shards", 2, "--json")
        for i in range(2)
    ]
    assert sorted(each.returncode for each in done) == [0, 3]
    assert sum(facts(each)["done"] for each in done) == 8
    assert sum(facts(each)["planned"] for each in done) == 9
    assert tree(out) == tree(finished)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--shard-index", 3, "--num-shards", 3), "0 to 2"),
        (("--shard-index", -1, "--num-shards", 3), "0 to 2"),
        (("--shard-index", 0, "--num-shards", 0), "--num-shards 1 or more"),
        (("--shard-index", 3), "must be used together"),
        (("--num-shards", 3), "must be used together"),
        (("--shard-index", 0, "--num-shards", 2, "--overwrite"), "others have rendered"),
    ],
)
def test_an_invalid_shard_index_is_a_usage_error(tmp_path, arguments, says):
    done = pointcmt("render", "--dataset", "toy", "--out", tmp_path / "S", *arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert not (tmp_path / "S").exists()


def test_two_jobs_on_one_store_render_each_shape_once(meshes, finished, tmp_path):
    out = tmp_path / "S"
    arguments = ("--dataset", "folder", "--root", meshes, "--out", out, *SMALL, "--workers", 2)
    found = summaries([start("render", *arguments) for _ in range(2)])
    assert sum(job["done"] for job in found) == 8
    for job in found:
        assert (job["planned"], job["failed"]) == (9, 1)
        assert job["done"] + job["skipped"] == 8
    assert tree(out) == tree(finished)


def test_two_jobs_that_retry_try_each_failed_shape_once(meshes, finished, tmp_path):
    out = tmp_path / "S"
    shutil.copytree(finished, out)
    store = ViewStore.open(out)
    job = job_of_store(store, meshes)
    both = [tasks(store, True, True, retry_failed=True) for _ in range(2)]
    (task,) = both[0]
    assert both[1] == [task]
    pool, work = WorkerPool(), Work(make_runner, job, 60.0)
    try:
        first, second = (run_claimed(pool, work, task) for _ in range(2))
    finally:
        pool.close()
    assert [outcome.status for outcome in first.outcomes].count("failed") == 1
    assert second == Finished(task, ())
    assert tree(out) == tree(finished)


def small_job(out):
    listing = select(list_shapes("toy", None), None, 2)
    config = RenderConfig(find_rig("ortho6"), size=16, points=16)
    return listing, Job(str(out), "toy", None, listing.up, config)


def test_the_claim_of_a_vanished_machine_is_taken_over_after_its_lease(
    tmp_path, monkeypatch, messages
):
    monkeypatch.setattr(claims, "LEASE", 3.0)
    listing, job = small_job(tmp_path / "S")
    store = create_store(listing, job, 1)
    Claims(Storage(job.out)).take(1)
    path = tmp_path / "S" / claims.claim_key(1)
    table = json.loads(path.read_text()) | {"machine": "another", "host": "node17"}
    path.write_text(json.dumps(table))
    began = time.monotonic()
    summary = run.render(listing, job, Options(workers=1))
    assert time.monotonic() - began >= 3.0
    assert summary.done == 2
    said = messages()
    assert "waiting for 1 shards that other processes are working on" in said
    assert "on node17" in said
    assert store.committed() == [0, 1]
    assert not list((tmp_path / "S" / claims.FOLDER).iterdir())


def test_a_shard_that_another_process_took_over_is_not_committed(tmp_path):
    listing, job = small_job(tmp_path / "S")
    store = create_store(listing, job, 1)
    claim = Claims(Storage(job.out)).take(0)
    runner = ShardRunner(job)

    def is_taken_over(shape):
        claim.release()
        Claims(Storage(job.out)).take(0)

    with pytest.raises(ClaimLost):
        runner(Task("render", 0, claim=claim.owner), {}, is_taken_over)
    assert store.committed() == []
    assert not list((tmp_path / "S/rgb/c").glob("**/*"))


def test_shards_that_another_job_finished_meanwhile_are_skipped(tmp_path):
    store = render_toy(tmp_path / "S", limit=2, shard=1, correspondences=False)
    job = job_of_store(store, None)
    pool, work = WorkerPool(), Work(make_runner, job, 60.0)
    before = tree(store.path)
    try:
        rendered = run_claimed(pool, work, Task("render", 0))
        assert run_claimed(pool, work, Task("render", 0)) == Finished(Task("render", 0), ())
    finally:
        pool.close()
    assert rendered.task.stage == "visible", "it was rendered already, only points were to match"
    after = tree(store.path)
    assert {key: after[key] for key in before} == before


def test_a_killed_job_restarts_without_waiting(meshes, finished, tmp_path):
    out = tmp_path / "S"
    arguments = ("--dataset", "folder", "--root", meshes, "--out", out, *SMALL, "--workers", 2)
    with start("render", *arguments) as job:
        while not list(out.glob("claims/*.json")):
            time.sleep(0.001)
        job.kill()
    assert list(out.glob("claims/*.json"))
    assert verify(str(out)).ok
    began = time.monotonic()
    done = render(meshes, out, "--workers", 2)
    assert time.monotonic() - began < claims.LEASE / 2
    assert "waiting for" not in done.stderr
    assert tree_after_kills(out) == tree(finished)
