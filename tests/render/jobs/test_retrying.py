"""Retrying failed shapes: finished ones keep their bytes, and lost or changed data is reported."""

import json
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pointcmt.datasets.sources import list_shapes
from pointcmt.datasets.store import claims
from pointcmt.datasets.store.claims import ClaimLost
from pointcmt.datasets.store.schema import CORRESPONDENCES, RENDER, shard_key
from pointcmt.datasets.store.verify import verify
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.errors import DamageError, StoreError
from pointcmt.render.jobs import repair as repairing
from pointcmt.render.jobs import run
from pointcmt.render.jobs.job import Task, job_of_store, stage_to_run, tasks
from pointcmt.render.jobs.repair import repair
from pointcmt.render.jobs.run import Options
from pointcmt.render.jobs.runner import make_runner, run_claimed
from pointcmt.render.jobs.shards import ShardRunner
from pointcmt.render.jobs.supervisor import Work, WorkerPool
from tests.commands import pointcmt
from tests.render import shapes
from tests.render.job_commands import write_off
from tests.stores import render_listing, render_toy, tree

QUIET = Options(workers=1)
SMALL = {"size": 16, "points": 32}
SETTINGS = ("--rig", "ortho6", "--size", 16, "--points", 32, "--shard-size", 3)


@pytest.fixture
def root(tmp_path):
    """A folder of six boxes, of which the second is not a valid mesh."""
    for i in range(6):
        write_off(tmp_path / f"meshes/box/train/{i}.off", shapes.box(0.2 + 0.1 * i))
    (tmp_path / "meshes/box/train/1.off").write_text("OFF\n")
    return tmp_path / "meshes"


@pytest.fixture
def store(root, tmp_path):
    """The store of `root`, in two shards."""
    return render_listing(list_shapes("folder", root), tmp_path / "S", shard=3, **SMALL)


def retried(store, root, *arguments):
    command = ("render", "--dataset", "folder", "--root", root, "--out", store.path, *SETTINGS)
    return pointcmt(*command, "--retry-failed", *arguments)


def contents(store, indices):
    return {name: store.read(name, index).tobytes() for name in store.specs for index in indices}


def lose(store, name):
    """Delete a file of shard 0; return its key."""
    key = shard_key(store.specs[name], name, 0)
    (Path(store.path) / key).unlink()
    return key


def change(store, name):
    """Replace a file of shard 0 by that of shard 1, readable but wrong; return its key."""
    key, other = (shard_key(store.specs[name], name, shard) for shard in (0, 1))
    (Path(store.path) / key).write_bytes((Path(store.path) / other).read_bytes())
    return key


@pytest.mark.parametrize("damage", [lose, change])
@pytest.mark.parametrize("name", ["rgb", "points", "source_to_world", "visible"])
def test_a_retry_never_commits_lost_or_changed_files(store, root, name, damage):
    write_off(root / "box/train/1.off", shapes.box(0.9))
    key = damage(store, name)
    before = tree(store.path)
    (task,) = tasks(store, render=True, correspondences=True, retry_failed=True)
    with pytest.raises(DamageError) as refused:
        ShardRunner(job_of_store(store, root))(task, {}, lambda shape: None)
    assert refused.value.where == f"{store.path}/{key}"
    assert "--repair" in refused.value.fix
    assert tree(store.path) == before, "nothing was written"


@pytest.mark.parametrize("damage", [lose, change])
@pytest.mark.parametrize("name", ["points", "point_face"])
def test_no_correspondences_are_built_from_lost_or_changed_points(store, root, name, damage):
    store.forget(0, CORRESPONDENCES)
    key = damage(store, name)
    runner = ShardRunner(job_of_store(store, root))
    with pytest.raises(DamageError) as refused:
        runner(Task(CORRESPONDENCES, 0), {}, lambda shape: None)
    assert refused.value.where == f"{store.path}/{key}"
    assert store.pending(CORRESPONDENCES) == [0]


def test_a_retry_renders_failed_shapes_and_keeps_finished_ones(store, root):
    write_off(root / "box/train/0.off", shapes.box(0.9))  # changed since
    (root / "box/train/2.off").write_text("spoilt since")
    before = contents(store, (0, 2))
    outcomes = store.outcomes()
    write_off(root / "box/train/1.off", shapes.box(0.3))  # fixed
    assert "--changed-sources" in retried(store, root).stderr, "this has to be asked for"
    done = retried(store, root, "--json", "--changed-sources")
    assert done.returncode == 0
    assert json.loads(done.stdout.splitlines()[-1])["done"] == 1
    after = ViewStore.open(store.path)
    assert contents(after, (0, 2)) == before
    assert [o.status for o in after.outcomes()] == ["done"] * 6
    assert [after.outcomes()[i] for i in (0, 2, 3, 4, 5)] == [outcomes[i] for i in (0, 2, 3, 4, 5)]
    assert verify(store.path).ok
    straight = render_listing(list_shapes("folder", root), root.parent / "T", shard=3, **SMALL)
    assert contents(after, (1,)) == contents(straight, (1,))


def test_a_retry_of_correspondences_only_repeats_failed_shapes(root, tmp_path):
    listing = list_shapes("folder", root)
    store = render_listing(listing, tmp_path / "S", shard=3, correspondences=False, **SMALL)
    moved = root / "box/train/0.off"
    moved.rename(tmp_path / "0.off")
    job = replace(job_of_store(store, root), correspondences=True)
    assert len(run.build_correspondences(store, job, QUIET).failures) == 2
    (tmp_path / "0.off").rename(moved)
    write_off(root / "box/train/2.off", shapes.box(0.9))
    seen = store.read("visible", 2)
    run.build_correspondences(store, job, replace(QUIET, retry_failed=True))
    assert np.array_equal(store.read("visible", 2), seen)
    assert store.markers(CORRESPONDENCES)[0]["failures"] == []
    write_off(root / "box/train/1.off", shapes.box(0.3))
    again = replace(QUIET, retry_failed=True, shard=3, changed_sources=True)
    run.render(listing, job, again)
    write_off(root / "box/train/2.off", shapes.box(0.4))
    straight = render_listing(listing, tmp_path / "T", shard=3, **SMALL)
    assert tree(store.path) == tree(straight.path)


def test_a_job_whose_shards_vanish_fails(tmp_path):
    listing = list_shapes("toy", None)
    listing = replace(listing, shapes=listing.shapes[:4])
    marker = tmp_path / "S/commits/render/000000.json"

    def spoil():
        while not marker.exists():
            time.sleep(0.001)
        marker.unlink()

    spoiler = threading.Thread(target=spoil, daemon=True)
    spoiler.start()
    job = job_of_store(render_toy(tmp_path / "T", 4, shard=1, **SMALL), None)
    with pytest.raises(StoreError, match="1 of 4 shards that this job has finished are missing"):
        run.render(listing, replace(job, out=str(tmp_path / "S")), replace(QUIET, shard=1))
    spoiler.join()
    assert run.render(listing, replace(job, out=str(tmp_path / "S")), QUIET).done == 1


def test_markers_of_another_store_are_ignored(tmp_path):
    mine = render_toy(tmp_path / "S", 2, shard=1, **SMALL)
    other = render_toy(tmp_path / "T", 2, shard=1, size=24, points=32)
    shutil.copy(f"{other.path}/commits/render/000000.json", f"{mine.path}/commits/render/")
    assert stage_to_run(mine, Task(RENDER, 0), correspondences=True) == RENDER
    with pytest.raises(DamageError, match="to another store"):
        mine.failures()
    broken = verify(mine.path).broken
    assert [b.where for b in broken] == ["commits/render/000000.json"]
    assert repair(mine.path, None, QUIET).verdict.ok


def test_a_job_does_nothing_if_its_store_was_replaced(tmp_path):
    store = render_toy(tmp_path / "S", 2, shard=1, **SMALL)
    job = replace(job_of_store(store, None), identity=store.identity)
    shutil.rmtree(store.path)
    before = tree(render_toy(tmp_path / "S", 2, shard=1, size=24, points=32).path)
    pool = WorkerPool()
    with pytest.raises(StoreError, match="a different store here"):
        run_claimed(pool, Work(make_runner, job, 60.0), Task(RENDER, 0))
    pool.close()
    assert tree(store.path) == before


def test_a_repair_after_an_interruption_reports_all_lost_shapes(store, root, monkeypatch):
    (Path(store.path) / "depth/c/1/0/0/0").unlink()
    write_off(root / "box/train/4.off", shapes.box(0.95))
    with monkeypatch.context() as context:
        context.setattr(repairing, "complete", stop)
        with pytest.raises(KeyboardInterrupt):
            repair(store.path, None, QUIET)
    done = repair(store.path, None, QUIET)
    assert [(o.id, o.reason) for o in done.lost] == [("box/train/4", "source_changed")]


def stop(*_):
    raise KeyboardInterrupt


def test_a_repair_reports_bytes_that_differ(tmp_path):
    root = tmp_path / "meshes/box/train/0"
    root.mkdir(parents=True)
    triangle = "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 2 3\nf 1 2 4\n"
    (root / "0.obj").write_text(f"mtllib 0.mtl\nusemtl paint\n{triangle}")
    (root / "0.mtl").write_text("newmtl paint\nKd 1 0 0\n")
    listing = list_shapes("folder", tmp_path / "meshes")
    store = render_listing(listing, tmp_path / "S", **SMALL)
    (Path(store.path) / "depth/c/0/0/0/0").unlink()
    (root / "0.mtl").write_text("newmtl paint\nKd 0 1 0\n")
    done = pointcmt("verify", store.path, "--repair", "--workers", 1, "--json")
    assert done.returncode == 3
    assert "note: 1 shards have different bytes than before, such as 0" in done.stdout
    assert json.loads(done.stdout.splitlines()[-1])["changed"] == [0]


def test_a_repair_does_not_report_failed_shapes_as_lost(store):
    (Path(store.path) / "commits/render/000000.json").write_text("?")
    done = repair(store.path, None, QUIET)
    assert done.verdict.ok
    assert done.lost == ()
    assert [o.id for o in ViewStore.open(store.path).failures()] == ["box/train/1"]


def test_a_late_writer_does_not_damage_the_store(tmp_path):
    """It is suspended after checking its claim, and writes after another process has committed."""
    store = render_toy(tmp_path / "S", 1, shard=1, **SMALL)
    good = tree(store.path)
    store.forget(0)
    late = ShardRunner(replace(job_of_store(store, None), correspondences=False))
    claim = store.claims.take(0)
    write = late.store.write_shard

    def write_late(shard, arrays):
        claim.release()
        with store.claims.take(0) as other:
            ShardRunner(job_of_store(store, None))(Task(RENDER, 0, claim=other.owner), {}, print)
        return write(shard, {**arrays, "rgb": arrays["rgb"] + np.uint8(1)})

    late.store.write_shard = write_late
    with pytest.raises(ClaimLost):
        late(Task(RENDER, 0, claim=claim.owner), {}, print)
    (task,) = tasks(store, render=True, correspondences=True)
    assert task == Task(RENDER, 0)
    ShardRunner(job_of_store(store, None))(task, {}, print)
    assert tree(store.path) == good


def test_a_store_in_use_is_not_overwritten(store, root, monkeypatch, tmp_path):
    monkeypatch.setattr(claims, "LEASE", 2.0)
    held = store.claims.take(1)
    command = ("render", "--dataset", "folder", "--root", root, "--out", store.path, *SETTINGS)
    before = tree(store.path)
    done = pointcmt(*command, "--overwrite")
    assert done.returncode == 1
    assert "is working on this store" in done.stderr
    assert tree(store.path) == before
    held.release()
    assert pointcmt(*command, "--overwrite").returncode == 3
    path = Path(store.path) / claims.claim_key(1)
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"owner": "x", "machine": "another", "host": "node17", "pid": 1}))
    began = time.monotonic()
    store.claims.require_idle()
    assert time.monotonic() - began >= 2.0, "only time can tell that the other machine is gone"
    signs = threading.Timer(0.5, lambda: path.write_text(path.read_text().replace("x", "y")))
    signs.start()
    with pytest.raises(StoreError, match="process 1 on node17 is working"):
        store.claims.require_idle()


def test_repair_options_are_refused_without_repair(store):
    done = pointcmt("verify", store.path, "--workers", 3)
    assert done.returncode == 2
    assert "add --repair" in done.stderr
