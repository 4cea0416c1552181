"""Jobs of scenes through the command line: shared, killed, on a cluster, grown, repaired."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pointcmt.datasets.store.verify import verify
from pointcmt.datasets.store.view_store import ViewStore
from tests.datasets.store.remote_jobs import pointcmt
from tests.render.jobs.clusters import cluster, kill_group
from tests.render.load.scenes.recordings import WRITERS
from tests.stores import tree, tree_after_kills

SMALL = ("--resolution", "32x24", "--frames", "6", "--points", "2000", "--voxel", "0.1")
SCENES = (*(f"train/{layout}" for layout in WRITERS), "train/broken", "val/later")
SOME_FAILED = 3  # exit code: the broken scene


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Six scenes in all layouts of `frames`, of which one has only truncated depth images."""
    root = tmp_path_factory.mktemp("recordings")
    for layout, write in WRITERS.items():
        write(root / "train" / layout)
    WRITERS["redwood"](root / "val/later")
    WRITERS["exported"](root / "train/broken")
    for image in (root / "train/broken/depth").iterdir():
        image.write_bytes(image.read_bytes()[:100])
    return root


def command(root, out, *more):
    source = ("render", "--dataset", "frames", "--root", root)
    return [*map(str, (*source, "--out", out, *SMALL, "--shard-size", 2, *more))]


def render(root, out, *more):
    """Render in this process, with one worker unless told otherwise."""
    more = more if "--scheduler" in more or "--workers" in more else (*more, "--workers", 1)
    code, said = pointcmt(*command(root, out, *more))
    assert code == SOME_FAILED, said
    return said


@pytest.fixture(scope="module")
def finished(recordings, tmp_path_factory):
    """A store of all scenes, rendered by one worker without any disturbance."""
    out = tmp_path_factory.mktemp("finished") / "S"
    render(recordings, out)
    return out


def test_a_job_of_scenes_renders_all_but_the_broken_one(finished):
    store = ViewStore.open(finished)
    assert sorted(record.id for record in store.shapes) == sorted(SCENES)
    (failure,) = store.failures()
    assert (failure.id, failure.reason) == ("train/broken", "bad_syntax")
    assert verify(finished).ok


def test_two_workers_write_the_same_bytes(recordings, finished, tmp_path):
    said = render(recordings, tmp_path / "S", "--workers", 2, "--json")
    assert tree(tmp_path / "S") == tree(finished)
    summary = json.loads(said.splitlines()[-1])
    assert (summary["planned"], summary["done"], summary["failed"]) == (6, 5, 1)
    frames = ViewStore.open(finished).read("view_count").sum()  # not the room for them
    assert round(summary["views_per_second"] * summary["seconds"]) == frames == 20


def test_an_array_of_jobs_writes_the_same_bytes(recordings, finished, tmp_path):
    for index, code in ((1, 0), (0, 3)):  # the broken scene is in the first shard
        share = ("--shard-index", index, "--num-shards", 2, "--workers", 1)
        assert pointcmt(*command(recordings, tmp_path / "S", *share))[0] == code
    assert tree(tmp_path / "S") == tree(finished)


def test_a_cluster_writes_the_same_bytes(recordings, finished, tmp_path):
    with cluster(tmp_path, workers=1) as own:
        render(recordings, tmp_path / "S", "--scheduler", own.address)
    assert tree(tmp_path / "S") == tree(finished)


def test_a_job_that_is_killed_again_and_again_ends_with_the_same_bytes(
    recordings, finished, tmp_path
):
    out = tmp_path / "S"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    for markers in (1, 3):  # of six: two stages of each shard
        line = [sys.executable, "-m", "pointcmt", *command(recordings, out, "--workers", 2)]
        job = subprocess.Popen(line, start_new_session=True, **quiet)
        deadline = time.monotonic() + 60
        while len(list(out.glob("commits/*/*.json"))) < markers:
            assert job.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.002)
        kill_group(job)
        assert verify(out).pending
    render(recordings, out)
    assert tree_after_kills(out) == tree(finished)


def test_scenes_that_are_recorded_later_are_added(recordings, finished, tmp_path):
    root, out = tmp_path / "recordings", tmp_path / "S"
    shutil.copytree(recordings, root, ignore=shutil.ignore_patterns("later"))
    render(root, out)
    before = ViewStore.open(out)
    assert len(before.shapes) == 5
    rows = {name: before.read(name).tobytes() for name in before.specs}
    shutil.copytree(recordings / "val/later", root / "val/later")
    assert "adding 1 shapes: val/later" in render(root, out)
    store, whole = ViewStore.open(out), ViewStore.open(finished)
    assert [record.id for record in store.shapes] == [record.id for record in whole.shapes]
    for name, values in rows.items():
        assert store.read(name, slice(0, 5)).tobytes() == values
        assert store.read(name).tobytes() == whole.read(name).tobytes()
    assert verify(out).ok


def test_verify_finds_lost_and_flipped_chunks_of_scenes_and_repairs_them(
    recordings, finished, tmp_path
):
    out = Path(shutil.copytree(finished, tmp_path / "S"))
    hurt = ("rgb", "points", "visible")  # of shards 0, 1 and 2
    places = [out / f"{array}/c/{shard}" for shard, array in enumerate(hurt)]
    files = [next(path for path in place.rglob("*") if path.is_file()) for place in places]
    files[0].unlink()
    for file in files[1:]:
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    code, said = pointcmt("verify", out, "--json")
    assert code == 1
    broken = json.dumps(json.loads(said.splitlines()[-1])["broken"])
    for file in files:
        assert file.relative_to(out).as_posix() in broken
    code, said = pointcmt("verify", out, "--repair", "--root", recordings, "--workers", 1)
    assert code == 0, said
    assert tree(out) == tree(finished)
