"""Whole render jobs through the command line: always the same bytes, and every error reported."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import zarr

from pointcmt.datasets.store.schema import array_specs
from pointcmt.datasets.store.verify import verify
from pointcmt.datasets.store.view_store import ViewStore
from tests.commands import pointcmt
from tests.render import shapes
from tests.render.job_commands import SMALL, render, write_off
from tests.stores import tree, tree_after_kills


def test_a_broken_mesh_is_recorded_and_the_others_are_rendered(finished):
    store = ViewStore.open(finished)
    outcomes = {outcome.id: outcome for outcome in store.outcomes()}
    failed = [outcome for outcome in outcomes.values() if outcome.status == "failed"]
    assert [(outcome.id, outcome.reason) for outcome in failed] == [
        ("ball/train/broken", "bad_index")
    ]
    assert len(outcomes) == 9
    shape = [record.id for record in store.shapes].index("ball/train/broken")
    assert store.read("status", shape) == 2
    assert np.all(store.read("face_index", shape) == -1)
    assert not np.any(store.read("rgb", shape))


def test_the_summary_counts_shapes_and_lists_failures(meshes, tmp_path):
    done = render(meshes, tmp_path / "S", "--json")
    facts = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 3
    assert {key: facts[key] for key in ("planned", "done", "failed", "skipped")} == {
        "planned": 9,
        "done": 8,
        "failed": 1,
        "skipped": 0,
    }
    assert facts["failures"][0]["reason"] == "bad_index"
    again = json.loads(render(meshes, tmp_path / "S", "--json").stdout.splitlines()[-1])
    assert (again["done"], again["skipped"], again["failed"]) == (0, 8, 1)


def test_two_workers_write_the_same_bytes_as_one(meshes, finished, tmp_path):
    assert render(meshes, tmp_path / "S", "--workers", 2).returncode == 3
    assert tree(tmp_path / "S") == tree(finished)


def test_correspondences_built_later_are_the_same_bytes(meshes, finished, tmp_path):
    out = tmp_path / "S"
    assert render(meshes, out, "--no-correspondences").returncode == 3
    assert not list(out.glob("visible/c/**/*"))
    assert pointcmt("build-correspondences", out).returncode == 3  # the broken mesh stays broken
    assert tree(out) == tree(finished)


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2))])
def test_a_job_killed_at_random_resumes_to_the_same_bytes(meshes, finished, tmp_path, seed):
    out, chance = tmp_path / "S", random.Random(seed)
    arguments = ["--dataset", "folder", "--root", meshes, "--out", out, *SMALL, "--workers", "2"]
    kills = 0
    for _ in range(4):
        command = [sys.executable, "-m", "pointcmt", "render", *map(str, arguments)]
        job = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        # Killed after writing so many more files; only the last job may end before that.
        moment = written(out) + chance.randrange(1, 25)
        while written(out) < moment and job.poll() is None:
            time.sleep(0.001)
        job.kill()
        kills += job.wait() == -signal.SIGKILL
    assert kills
    assert render(meshes, out, "--workers", 2).returncode == 3
    assert tree_after_kills(out) == tree(finished)


def written(folder):
    """The number of files, including half-written ones."""
    return sum(len(names) for _, _, names in os.walk(folder))


def test_resuming_renders_exactly_what_is_missing(meshes, finished, tmp_path):
    out = tmp_path / "S"
    shutil.copytree(finished, out)
    (out / "commits/render/000001.json").unlink()
    (out / "rgb/c/1/0/0/0/0").unlink()
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*/c/**/*") if path.is_file()}
    done = json.loads(render(meshes, out, "--json").stdout.splitlines()[-1])
    assert done["done"] == len([i for i in ViewStore.open(out).outcomes()[2:4] if not i.reason])
    touched = {
        path.relative_to(out).parts[2]
        for path, then in before.items()
        if path.stat().st_mtime_ns != then
    }
    assert touched == {"1"}
    assert tree(out) == tree(finished)


def test_another_configuration_is_refused_with_the_difference(meshes, finished):
    done = render(meshes, finished, "--seed", 5)
    assert done.returncode == 1
    assert "render.seed: 0 in the store, 5 requested" in done.stderr
    done = render(meshes, finished, "--limit", 4)
    assert done.returncode == 1
    assert "5 of its shapes are not there now" in done.stderr


def test_overwrite_replaces_a_store_and_nothing_else(meshes, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "S")
    done = render(meshes, tmp_path / "S", "--limit", 2, "--split", "test", "--overwrite")
    assert done.returncode == 0, done.stderr
    assert ViewStore.open(tmp_path / "S").schema.shapes == 2
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("dear")
    for more in ((), ("--overwrite",)):
        done = render(meshes, tmp_path / "mine", *more)
        assert done.returncode == 1
        assert (tmp_path / "mine/thesis.txt").read_text() == "dear"


def test_retry_failed_renders_a_fixed_shape(meshes, tmp_path):
    root, out = tmp_path / "meshes", tmp_path / "S"
    shutil.copytree(meshes, root)
    assert render(root, out).returncode == 3
    shutil.copy(root / "ball/test/ball_0.off", root / "ball/train/broken.off")
    assert render(root, out).returncode == 3  # nothing is retried without the flag
    assert render(root, out, "--retry-failed").returncode == 0
    assert all(outcome.status == "done" for outcome in ViewStore.open(out).outcomes())


def test_the_up_axis_of_a_store_cannot_change(meshes, finished):
    done = render(meshes, finished, "--up", "x")
    assert done.returncode == 1
    assert 'up: "y" in the store, "x" requested' in done.stderr


def test_correspondences_need_the_right_root_or_one_level_higher(meshes, finished, tmp_path):
    root, out = tmp_path / "moved/meshes", tmp_path / "S"
    assert render(meshes, out, "--no-correspondences").returncode == 3
    shutil.copytree(meshes, root)
    write_off(tmp_path / "others/thing.off", shapes.box(0.5))
    for wrong in (tmp_path / "nowhere", tmp_path / "others"):
        done = pointcmt("build-correspondences", out, "--root", wrong)
        assert done.returncode == 2, done.stderr
        assert "--root" in done.stderr
    assert not ViewStore.open(out).committed("visible")
    assert pointcmt("build-correspondences", out, "--root", root).returncode == 3
    assert tree(out) == tree(finished)


def test_correspondences_of_a_shard_are_committed_after_its_images(meshes, finished):
    store = ViewStore.open(finished)
    assert set(store.committed("visible")) <= set(store.committed("render"))
    times = {
        stage: [
            (finished / f"commits/{stage}/{shard:06d}.json").stat().st_mtime_ns
            for shard in range(store.schema.shards)
        ]
        for stage in ("render", "visible")
    }
    assert all(np.array(times["render"]) <= np.array(times["visible"]))


def test_building_correspondences_reports_skipped_and_unrendered_shapes(meshes, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "S")
    store = ViewStore.open(tmp_path / "S")
    for shard in range(3):
        store.forget(shard)
    waiting = sum(len(store.schema.shapes_of(shard)) for shard in range(3))
    done = pointcmt("build-correspondences", tmp_path / "S", "--json")
    facts = json.loads(done.stdout.splitlines()[-1])
    assert facts["planned"] == 9
    assert facts["skipped"] + facts["failed"] == 9 - waiting
    assert f"{waiting} shapes are not rendered yet" in done.stderr


@pytest.mark.parametrize("more", [(), ("--overwrite",)])
def test_an_out_that_is_or_contains_a_file_is_reported(meshes, tmp_path, more):
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file/S"):
        done = render(meshes, out, *more)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
    assert (tmp_path / "file").read_text() == "mine"


def test_names_that_are_not_utf8_are_reported(meshes, tmp_path):
    odd = os.fsdecode(bytes(tmp_path) + b"/\xff")
    shutil.copytree(meshes, odd)
    for root, out in ((odd, tmp_path / "S"), (meshes, odd + "out")):
        done = render(root, out, "--limit", 1)
        assert done.returncode == 2, done.stderr
        assert "not valid UTF-8" in done.stderr


def test_no_correspondences_are_built_for_a_changed_source(meshes, tmp_path):
    root, out = tmp_path / "meshes", tmp_path / "S"
    shutil.copytree(meshes, root)
    render(root, out, "--no-correspondences")
    write_off(root / "box/train/box_0.off", shapes.box(0.9))
    (root / "box/train/box_1.off").unlink()
    done = pointcmt("build-correspondences", out, "--json")
    facts = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 3
    reasons = {failure["id"]: failure["reason"] for failure in facts["failures"]}
    assert reasons["box/train/box_0"] == "source_changed"
    assert reasons["box/train/box_1"] == "missing_file"
    assert len(reasons) == 3
    assert verify(str(out)).ok


def test_ctrl_c_stops_a_job_cleanly_and_it_can_be_resumed(meshes, finished, tmp_path):
    out = tmp_path / "S"
    arguments = ["--dataset", "folder", "--root", meshes, "--out", out, *SMALL, "--workers", "1"]
    with subprocess.Popen(
        [sys.executable, "-m", "pointcmt", "render", *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
    ) as job:
        while not list(out.glob("commits/render/*.json")):
            time.sleep(0.01)
        job.send_signal(signal.SIGINT)
        said = job.stderr.read()
    assert job.returncode == 130
    assert "run the same command again" in said
    assert "Traceback" not in said
    assert render(meshes, out).returncode == 3
    assert tree(out) == tree(finished)


def test_plain_zarr_reads_the_same_arrays(finished):
    store, group = ViewStore.open(finished), zarr.open_group(finished, mode="r")
    assert group.attrs["schema_version"] == 1
    for name, spec in array_specs(store.schema).items():
        array = group[name]
        assert array.shape == (9, *spec.shape)
        assert array.dtype == spec.dtype
        np.testing.assert_array_equal(array[...], store.read(name))


def test_stored_depth_and_points_lie_on_the_surface(finished, meshes):
    store = ViewStore.open(finished)
    scale = zarr.open_group(finished, mode="r")["depth"].attrs["scale"]
    assert scale / 2 <= 1e-4
    index = [record.id for record in store.shapes].index("box/train/box_2")
    mesh = shapes.box(0.4, (0.2, 0, 0))
    matrix = store.read("source_to_world", index)
    corners = (mesh.vertices @ matrix[:3, :3].T + matrix[:3, 3])[mesh.faces]
    points, faces = store.read("points", index), store.read("point_face", index)
    from tests.reference import point_triangle_distance

    assert point_triangle_distance(points.astype(float), corners[faces]).max() <= 1e-6


def test_verify_accepts_an_intact_store(finished):
    verdict = verify(str(finished))
    assert verdict.ok, verdict.broken
    assert verdict.pending == 0
    assert pointcmt("verify", finished).returncode == 0


@pytest.mark.parametrize("flips", [60, pytest.param(200, marks=pytest.mark.slow)])
def test_verify_finds_every_flipped_bit(finished, tmp_path, flips):
    out, chance = tmp_path / "S", random.Random(0)
    shutil.copytree(finished, out)
    files = sorted(path for path in out.rglob("*") if path.is_file())
    missed = []
    for _ in range(flips):
        path = chance.choice(files)
        data = path.read_bytes()
        at, bit = chance.randrange(len(data)), chance.randrange(8)
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :])
        if verify(str(out)).ok:
            missed.append((path.relative_to(out), at, bit))
        path.write_bytes(data)
    assert missed == []
    assert verify(str(out)).ok


@pytest.mark.parametrize("victim", ["rgb/c/0/0/0/0/0", "visible/zarr.json", "shapes.jsonl"])
def test_verify_reports_a_lost_file(finished, tmp_path, victim):
    out = tmp_path / "S"
    shutil.copytree(finished, out)
    (out / victim).unlink()
    done = pointcmt("verify", out, "--json")
    facts = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 1
    assert not facts["ok"]
    assert any(victim in broken["where"] for broken in facts["broken"])


def test_verify_reports_contradictory_arrays(finished, tmp_path):
    out = tmp_path / "S"
    shutil.copytree(finished, out)
    store = ViewStore.open(out)
    shapes_of = store.schema.shapes_of(0)
    depth = store.read("depth", slice(shapes_of.start, shapes_of.stop)).copy()
    depth[0, 0, 0, 0] = 77  # a depth where there is no face
    marker = store.markers("render", [0])[0]
    marker["files"] |= store.write_shard(0, {"depth": depth})
    marker = {key: marker[key] for key in ("outcomes", "files")}
    store.commit("render", 0, marker)
    assert [broken.what for broken in verify(str(out)).broken] == [
        "depth and face_index have different backgrounds"
    ]


def test_a_full_disk_stops_the_job_which_resumes_when_there_is_space(meshes, finished, small_disk):
    out = small_disk / "S"
    done = render(meshes, out)
    assert done.returncode == 1
    assert "the disk is full" in done.stderr
    assert "Traceback" not in done.stderr
    subprocess.run(["mount", "-o", "remount,size=50m", small_disk], check=True)
    assert render(meshes, out).returncode == 3
    assert tree(out) == tree(finished)


def test_a_read_only_disk_is_reported(meshes, small_disk):
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    done = render(meshes, small_disk / "S")
    assert done.returncode == 1
    assert "read-only" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_store_of_another_schema_version_is_refused(finished, tmp_path):
    out = tmp_path / "S"
    shutil.copytree(finished, out)
    root = out / "zarr.json"
    root.write_text(root.read_text().replace('"schema_version": 1', '"schema_version": 3'))
    for command in ("info", "verify", "build-correspondences"):
        done = pointcmt(command, out)
        assert done.returncode == 1
        assert "schema version 3" in done.stderr + done.stdout
        assert "Traceback" not in done.stderr
