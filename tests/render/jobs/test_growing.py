"""Rendering again after shapes were added to the dataset: the store grows, and keeps its bytes."""

from dataclasses import replace

import numpy as np
import pytest

from pointcmt.cameras import find_rig
from pointcmt.datasets.sources import list_shapes
from pointcmt.datasets.store.schema import CORRESPONDENCES, RENDER
from pointcmt.datasets.store.verify import verify
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.errors import StoreError, UsageError
from pointcmt.render.config import RenderConfig
from pointcmt.render.jobs.job import create_store, grow_store, job_of_listing, job_of_store, tasks
from pointcmt.render.jobs.repair import repair
from pointcmt.render.jobs.run import Options
from pointcmt.render.jobs.shards import ShardRunner
from tests.render import shapes
from tests.render.job_commands import facts, render, write_off
from tests.stores import render_listing, render_toy, tree

SETTINGS = {"size": 24, "points": 64, "shard": 2}


@pytest.fixture
def meshes(tmp_path):
    """A folder of five boxes of two classes."""
    for i in range(5):
        write_off(tmp_path / f"meshes/{'ab'[i % 2]}/{i}.off", shapes.box(0.2 + 0.1 * i))
    return tmp_path / "meshes"


def add(meshes, *names):
    for i, name in enumerate(names):
        write_off(meshes / name, shapes.box(0.75 + 0.05 * i))


def contents(store, ids):
    index = {record.id: i for i, record in enumerate(store.shapes)}
    arrays = (name for name in store.specs if name != "label")
    return {(name, id_): store.read(name, index[id_]).tobytes() for name in arrays for id_ in ids}


def test_the_same_command_renders_what_was_added(meshes, tmp_path):
    assert render(meshes, tmp_path / "S").returncode == 0
    before = ViewStore.open(tmp_path / "S")
    ids = [record.id for record in before.shapes]
    kept, files = contents(before, ids), tree(tmp_path / "S")
    add(meshes, "a/0_new.off", "c/9.off")
    done = render(meshes, tmp_path / "S", "--json")
    assert done.returncode == 0
    assert "adding 2 shapes: a/0_new, c/9" in done.stderr
    assert {key: facts(done)[key] for key in ("planned", "done", "failed", "skipped")} == {
        "planned": 7,
        "done": 2,
        "failed": 0,
        "skipped": 5,
    }
    store = ViewStore.open(tmp_path / "S")
    assert [record.id for record in store.shapes] == [*ids, "a/0_new", "c/9"]
    assert store.class_names == ["a", "b", "c"]
    assert store.labels.tolist() == [0, 0, 0, 1, 1, 0, 2]
    assert contents(store, ids) == kept
    full = [name for name in files if name.endswith((".off", "/c/0/0/0/0", "/000000.json"))]
    assert {name: tree(tmp_path / "S")[name] for name in full} == {n: files[n] for n in full}
    assert verify(tmp_path / "S").ok
    again = render(meshes, tmp_path / "S", "--json")
    assert "adding" not in again.stderr
    assert facts(again)["done"] == 0


def test_a_grown_store_holds_what_one_that_was_rendered_at_once_holds(meshes, tmp_path):
    grown = render_listing(list_shapes("folder", meshes), tmp_path / "S", **SETTINGS)
    add(meshes, "a/0_new.off", "b/9.off", "b/99.off", "b/999.off")
    grown = _continued(list_shapes("folder", meshes), tmp_path / "S")
    whole = render_listing(list_shapes("folder", meshes), tmp_path / "T", **SETTINGS)
    ids = [record.id for record in whole.shapes]
    assert contents(grown, ids) == contents(whole, ids)
    assert verify(tmp_path / "S").ok


def _runner(listing, out, correspondences=True):
    """The runner of the job that continues a store, the store, and its tasks."""
    config = ViewStore.open(out).attributes["render"]
    from pointcmt.render.config import RenderConfig

    job = job_of_listing(listing, str(out), RenderConfig.from_attributes(config), correspondences)
    store = grow_store(create_store(listing, job), listing, job)
    return ShardRunner(job), tasks(store, render=True, correspondences=correspondences)


def _continued(listing, out, stop_after=None, correspondences=True):
    runner, todo = _runner(listing, out, correspondences)
    for task in todo[:stop_after]:
        runner(task, {}, lambda shape: None)
    return ViewStore.open(out)


def test_the_last_shard_keeps_its_shapes_although_their_files_are_gone(meshes, tmp_path):
    before = render_listing(list_shapes("folder", meshes), tmp_path / "S", **SETTINGS)
    last = before.shapes[4]
    kept = contents(before, [last.id])
    add(meshes, "c/9.off")
    listing = list_shapes("folder", meshes)
    (meshes / last.source).unlink()
    store = _continued(listing, tmp_path / "S")
    assert store.status().tolist() == [1] * 6
    assert contents(store, [last.id]) == kept
    outcomes = store.outcomes()
    assert [outcome.id for outcome in outcomes] == [record.id for record in store.shapes]


@pytest.mark.parametrize("correspondences", [True, False])
def test_images_without_correspondences_grow_too(meshes, tmp_path, correspondences):
    listing = list_shapes("folder", meshes)
    render_listing(listing, tmp_path / "S", correspondences=False, **SETTINGS)
    add(meshes, "c/9.off", "c/99.off")
    listing = list_shapes("folder", meshes)
    store = _continued(listing, tmp_path / "S", correspondences=correspondences)
    assert store.pending(RENDER) == []
    assert store.pending(CORRESPONDENCES) == ([] if correspondences else [0, 1, 2, 3])
    assert verify(tmp_path / "S").ok
    if correspondences:
        whole = render_listing(listing, tmp_path / "T", **SETTINGS)
        ids = [record.id for record in whole.shapes]
        assert contents(store, ids) == contents(whole, ids)


def test_a_kill_before_the_last_shard_is_done_again_loses_nothing(meshes, tmp_path):
    before = render_listing(list_shapes("folder", meshes), tmp_path / "S", **SETTINGS)
    kept = contents(before, [record.id for record in before.shapes])
    add(meshes, "c/9.off", "c/99.off")
    listing = list_shapes("folder", meshes)
    store = _continued(listing, tmp_path / "S", stop_after=0)
    assert store.pending(RENDER) == [2, 3]
    assert store.status().tolist() == [1, 1, 1, 1, 0, 0, 0]
    assert verify(tmp_path / "S").ok
    add(meshes, "d/1.off")  # and it grows once more
    store = _continued(list_shapes("folder", meshes), tmp_path / "S")
    assert store.status().tolist() == [1] * 8
    assert contents(store, [record.id for record in before.shapes]) == kept


def test_a_damaged_last_shard_is_rendered_again(meshes, tmp_path):
    before = render_listing(list_shapes("folder", meshes), tmp_path / "S", **SETTINGS)
    kept = contents(before, [before.shapes[4].id])
    (tmp_path / "S/rgb/c/2/0/0/0/0").write_bytes(b"damaged")
    add(meshes, "c/9.off")
    store = _continued(list_shapes("folder", meshes), tmp_path / "S")
    assert contents(store, [before.shapes[4].id]) == kept
    assert verify(tmp_path / "S").ok


def test_repair_finishes_and_heals_a_grown_store(meshes, tmp_path):
    render_listing(list_shapes("folder", meshes), tmp_path / "S", **SETTINGS)
    add(meshes, "a/0_new.off", "c/9.off", "c/99.off")
    whole = _continued(list_shapes("folder", meshes), tmp_path / "S")
    ids = [record.id for record in whole.shapes]
    kept = contents(whole, ids)
    (tmp_path / "S/shapes.jsonl").unlink()  # its order is known to the commit markers alone
    (tmp_path / "S/rgb/c/0/0/0/0/0").write_bytes(b"damaged")
    (tmp_path / "S/depth/c/3/0/0/0").unlink()
    result = repair(str(tmp_path / "S"), None, Options(workers=1))
    assert result.verdict.ok
    assert (result.lost, result.changed) == ((), ())
    assert contents(ViewStore.open(tmp_path / "S"), ids) == kept


def test_a_worker_that_started_before_the_store_grew_may_finish(meshes, tmp_path):
    listing = list_shapes("folder", meshes)
    render_listing(listing, tmp_path / "S", **SETTINGS)
    add(meshes, "c/9.off")
    early, todo = _runner(list_shapes("folder", meshes), tmp_path / "S")
    job = replace(early.job, identity=early.store.identity)
    add(meshes, "c/99.off", "c/999.off")
    _runner(list_shapes("folder", meshes), tmp_path / "S")
    late = ShardRunner(job)  # a worker process that was replaced
    for runner in (early, late):
        for task in todo:
            runner(task, {}, lambda shape: None)
    store = _continued(list_shapes("folder", meshes), tmp_path / "S")
    assert store.status().tolist() == [1] * 8
    assert verify(tmp_path / "S").ok


def test_shapes_that_are_gone_stop_the_job_by_name(meshes, tmp_path):
    assert render(meshes, tmp_path / "S").returncode == 0
    before = tree(tmp_path / "S")
    (meshes / "a/2.off").rename(meshes / "a/renamed.off")
    done = render(meshes, tmp_path / "S")
    assert done.returncode == 1
    assert "1 of its shapes are not there now: a/2; 1 are new: a/renamed" in done.stderr
    assert tree(tmp_path / "S") == before


def test_a_wrong_folder_adds_nothing(meshes, tmp_path):
    assert render(meshes, tmp_path / "S").returncode == 0
    before = tree(tmp_path / "S")
    for i in range(5):
        write_off(tmp_path / f"other/{'ab'[i % 2]}/{i}.off", shapes.box(0.9))
    add(tmp_path / "other", "c/9.off")
    for more in ((), ("--moved",)):
        done = render(tmp_path / "other", tmp_path / "S", *more)
        assert done.returncode == 2
        assert tree(tmp_path / "S") == before


def test_what_is_added_fits_without_asking_for_the_same_size_of_shards(meshes, tmp_path):
    render_listing(list_shapes("folder", meshes), tmp_path / "S", **SETTINGS)
    add(meshes, *(f"c/{i}.off" for i in range(40)))
    _, todo = _runner(list_shapes("folder", meshes), tmp_path / "S")
    assert [task.shard for task in todo] == list(range(2, 23))
    assert np.all([task.keep for task in todo] == [True] + [False] * 20)


def test_a_store_of_an_earlier_light_is_not_continued(tmp_path, monkeypatch):
    """Its other shapes would be lit otherwise."""
    with monkeypatch.context() as patch:
        patch.setattr("pointcmt.render.config.WORLD_LIGHT", "world")
        store = render_toy(tmp_path / "S", 2, shard=1, light="world")
    with pytest.raises(StoreError, match=r"render\.light"):
        render_toy(tmp_path / "S", 2, shard=1, light="world")
    with pytest.raises(UsageError, match="an earlier version drew these views"):
        job_of_store(store, None)
    now = RenderConfig(find_rig("ortho6"), light="world")
    assert RenderConfig.from_attributes(now.attributes()) == now
