"""`verify --repair` restores the same bytes after any damage, and changes nothing else."""

import fcntl
import json
import os
import random
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pointcmt.cameras import find_rig
from pointcmt.datasets.sources import list_shapes
from pointcmt.datasets.store.documents import decode_outcome, encode_outcome
from pointcmt.datasets.store.features import create_features, list_features, open_features
from pointcmt.datasets.store.schema import CORRESPONDENCES, RENDER
from pointcmt.datasets.store.verify import verify
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.errors import Reason, StoreError, UsageError
from pointcmt.render.config import RenderConfig
from pointcmt.render.jobs import repair as repairing
from pointcmt.render.jobs.job import Job, create_store, tasks
from pointcmt.render.jobs.repair import repair
from pointcmt.render.jobs.run import Options
from pointcmt.render.jobs.shards import ShardRunner
from tests.commands import pointcmt
from tests.render import shapes
from tests.render.job_commands import write_off
from tests.stores import render_toy, tree

QUIET = Options(workers=1)
SMALL = {"size": 16, "points": 32}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A store of 40 toy shapes in 20 shards, with features of every shard."""
    store = render_toy(tmp_path_factory.mktemp("whole") / "S", limit=40, shard=2, **SMALL)
    features = create_features(store, "0123456789abcdef", 3, {"teacher": "0123456789abcdef"})
    for shard in features.pending():
        shape = (len(store.schema.shapes_of(shard)), store.schema.views, 3)
        features.write(features.images(shard), np.full(shape, shard))
    return store


@pytest.fixture
def store(whole, tmp_path):
    return ViewStore.open(shutil.copytree(whole.path, tmp_path / "S"))


def damage(path, how, chance, first=0, most=None):
    """Flip a bit of a file between two bytes, cut it off somewhere, or delete it."""
    data = path.read_bytes()
    if how == "delete":
        path.unlink()
    elif how == "truncate":
        path.write_bytes(data[: chance.randrange(len(data))])
    else:
        at = chance.randrange(first, most or len(data))
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :])


HOW = ("flip", "truncate", "delete")


@pytest.mark.parametrize("seed", range(3))
def test_damaged_shards_are_rendered_again_to_the_same_bytes(whole, store, seed):
    chance, folder = random.Random(seed), Path(store.path)
    kinds = [f"{name}/c/{{}}" for name in store.specs]
    kinds += [f"commits/{stage}/{{:06d}}.json" for stage in (RENDER, CORRESPONDENCES)]
    hurt = dict(zip(chance.sample(range(20), 12), chance.choices(kinds, k=12), strict=True))
    for shard, kind in hurt.items():
        place = folder / kind.format(shard)
        file = place if place.is_file() else next(p for p in place.rglob("*") if p.is_file())
        damage(file, chance.choice(HOW), chance)
    untouched = stamps(folder, set(range(20)) - set(hurt))
    done = repair(store.path, None, QUIET)
    assert done.verdict.ok, done.verdict.broken
    assert set(done.shards) <= set(hurt)
    assert (done.lost, done.notes, done.foreign) == ((), (), ())
    assert tree(folder) == tree(whole.path)
    assert stamps(folder, set(range(20)) - set(hurt)) == untouched


def stamps(folder, shards):
    """The modification times of the files of these shards."""
    found = {}
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        number = parts[parts.index("c") + 1 :][:1] if "c" in parts else [path.stem]
        if path.is_file() and number and number[0].isdecimal() and int(number[0]) in shards:
            found[path] = path.stat().st_mtime_ns
    return found


@pytest.mark.parametrize("how", HOW)
def test_metadata_is_restored_without_rendering(whole, store, how):
    chance, folder = random.Random(how), Path(store.path)
    for name in ("shapes.jsonl", "K/zarr.json", "rgb/zarr.json"):
        damage(folder / name, how, chance)
    done = repair(store.path, None, QUIET)
    assert done.verdict.ok
    assert {b.where for b in done.repaired} == {"shapes.jsonl", "K/zarr.json", "rgb/zarr.json"}
    assert done.shards == ()
    assert tree(folder) == tree(whole.path)


@pytest.mark.parametrize("how", HOW)
def test_a_lost_root_is_restored_with_its_settings(whole, store, how):
    folder = Path(store.path)
    ours = (folder / "zarr.json").read_bytes().index(b"consolidated_metadata")
    damage(folder / "zarr.json", how, random.Random(how), most=ours)
    with pytest.raises(StoreError) as raised:
        repair(store.path, None, QUIET)
    if how != "delete":
        assert "pointcmt render" in raised.value.fix
    with pytest.raises(StoreError):
        render_toy(folder, limit=40, shard=2, **{**SMALL, "points": 33})
    with pytest.raises(StoreError):
        render_toy(folder, limit=38, shard=2, **SMALL)
    render_toy(folder, limit=40, shard=2, **SMALL)
    assert tree(folder) == tree(whole.path)


@pytest.mark.parametrize("seed", range(5))
def test_flipped_bits_in_what_is_for_other_readers_are_found_and_repaired(whole, store, seed):
    """The root repeats the arrays' metadata for zarr-python and xarray."""
    root = Path(store.path) / "zarr.json"
    theirs = root.read_bytes().index(b"consolidated_metadata")
    damage(root, "flip", random.Random(seed), first=theirs)
    assert not verify(store.path).ok
    if seed in (1, 2):  # what is left is no JSON
        with pytest.raises(StoreError):
            repair(store.path, None, QUIET)
        render_toy(store.path, limit=40, shard=2, **SMALL)
    else:
        repair(store.path, None, QUIET)
    assert tree(store.path) == tree(whole.path)


def test_a_damaged_root_without_shards_is_restored_by_the_same_job(tmp_path):
    create_store(*toy_job(tmp_path / "S", 4))
    before = tree(tmp_path / "S")
    (tmp_path / "S/zarr.json").write_bytes(b"{")
    with pytest.raises(StoreError):
        create_store(*toy_job(tmp_path / "S", 3))
    create_store(*toy_job(tmp_path / "S", 4))
    assert tree(tmp_path / "S") == before


def toy_job(out, limit):
    listing = list_shapes("toy", None)
    listing = replace(listing, shapes=listing.shapes[:limit])
    return listing, Job(str(out), "toy", None, "z", RenderConfig(find_rig("ortho6"), **SMALL))


def test_features_that_are_damaged_or_without_metadata_are_deleted(store):
    folder, key, other = Path(store.path), "0123456789abcdef", "00" * 8
    features = create_features(store, other, 3, {"teacher": other})
    features.write(features.images(0), np.zeros((2, 6, 3)))
    (folder / f"features/{other}/zarr.json").unlink()
    chance = random.Random(0)
    damage(folder / f"features/{key}/c/3/0/0", "flip", chance)
    damage(folder / f"commits/features-{key}/000005.json", "truncate", chance)
    damage(folder / "features/zarr.json", "flip", chance)
    done = repair(store.path, None, QUIET)
    assert done.verdict.ok
    assert done.shards == ()
    assert list_features(store) == [key]
    assert not list(folder.glob(f"*/*{other}*/**/*.json"))
    assert open_features(ViewStore.open(folder), key).pending() == [3, 5]


def test_leftovers_are_deleted_except_foreign_and_locked_files(whole, store):
    folder = Path(store.path)
    orphans = ["rgb/c/20/0/0/0/0", "depth/c/0/0/0/9", "commits/render/000020.json"]
    orphans += ["claims/000099.json"]
    locks = ["rgb/c/0/0/0/0/0.__lock", "commits/render/000001.json.__lock"]
    foreign = ["notes.txt", "rgb/notes.txt", "commits/other/1", "a/b.__lock2"]
    foreign += ["K/c/x", "claims/zzz"]  # in the store's folders, but nothing it could have written
    held = folder / "rgb/c/1/0/0/0/0.__lock"
    (folder / "a").mkdir()
    (folder / "a/b.__lock").write_bytes(b"another program's")
    for name in [*orphans, *locks, *foreign]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"left over")
    assert verify(store.path).ok
    with held.open("wb") as writer:
        fcntl.lockf(writer, fcntl.LOCK_EX)
        done = run_elsewhere(store.path)
    held.unlink()
    assert sorted(done["deleted"]) == sorted([*orphans, *locks])
    assert sorted(done["foreign"]) == sorted(foreign)
    assert done["ok"]
    left = tree(folder)
    assert {left.pop(name) for name in foreign} == {b"left over"}
    assert left.pop("a/b.__lock") == b"another program's"
    assert left == tree(whole.path)


def run_elsewhere(store, *more, code=0):
    """Run the command in another process, for which this one's locks count; return its JSON."""
    words = ("verify", store, "--repair", "--json", "--workers", 1, *more)
    done = pointcmt(*words, env=dict(os.environ))
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_repair_does_not_add_correspondences(tmp_path):
    store = render_toy(tmp_path / "S", limit=4, shard=2, correspondences=False, **SMALL)
    before = tree(store.path)
    (tmp_path / "S/rgb/c/1/0/0/0/0").unlink()
    assert repair(store.path, None, QUIET).shards == (1,)
    assert tree(store.path) == before


def test_a_repair_does_not_render_pending_shards(store):
    for shard in (0, 1):
        store.forget(shard)
    for path in [p for p in Path(store.path).rglob("c/1") if "features" not in p.parts]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    done = repair(store.path, None, QUIET)
    assert done.shards == (0,)  # it has files, from a killed writer or of a lost marker
    assert done.verdict.ok
    assert done.verdict.pending == 2


@pytest.fixture
def meshes(tmp_path):
    """A folder data set of six boxes, and its store of three shards."""
    root = tmp_path / "meshes"
    for i in range(6):
        write_off(root / f"box/train/{i}.off", shapes.box(0.2 + 0.1 * i))
    listing = list_shapes("folder", root)
    config = RenderConfig(find_rig("ortho6"), **SMALL)
    job = Job(str(tmp_path / "S"), "folder", listing.root, listing.up, config)
    store = create_store(listing, job, 2)
    runner = ShardRunner(job)
    for task in tasks(store, render=True, correspondences=True):
        runner(task, {}, lambda shape: None)
    return store


def test_a_changed_or_missing_source_is_reported_and_not_rendered(meshes, tmp_path):
    root, folder = tmp_path / "meshes", Path(meshes.path)
    good = tree(folder)
    write_off(root / "box/train/0.off", shapes.box(0.9))
    (root / "box/train/2.off").unlink()
    write_off(root / "box/train/4.off", shapes.box(0.9))
    damage(folder / "rgb/c/0/0/0/0/0", "flip", random.Random(0))
    damage(folder / "depth/c/1/0/0/0", "delete", random.Random(0))
    done = run_elsewhere(folder, code=3)
    assert {o["id"]: o["reason"] for o in done["lost"]} == {
        "box/train/0": "source_changed",
        "box/train/2": "missing_file",
    }
    assert done["ok"]
    store = ViewStore.open(folder)
    assert store.status().tolist() == [2, 1, 2, 1, 1, 1]  # the third shard was not broken
    assert not np.any(store.read("rgb", 0))
    for i in (0, 2):  # the old files are back
        write_off(root / f"box/train/{i}.off", shapes.box(0.2 + 0.1 * i))
    settings = ("--rig", "ortho6", "--size", 16, "--points", 32, "--shard-size", 2)
    job = ("render", "--dataset", "folder", "--root", root, "--out", folder, *settings)
    assert pointcmt(*job, "--retry-failed", "--changed-sources").returncode == 0
    assert tree(folder) == good


def test_only_correspondences_are_repaired_from_a_moved_data_set(meshes, tmp_path):
    folder, good = Path(meshes.path), tree(meshes.path)
    (tmp_path / "meshes").rename(tmp_path / "moved")
    damage(folder / "visible/c/1/0/0", "truncate", random.Random(0))
    damage(folder / "commits/visible/000002.json", "delete", random.Random(0))
    damage(folder / "shapes.jsonl", "truncate", random.Random(0))
    with pytest.raises(UsageError, match="no such folder"):
        repair(meshes.path, None, QUIET)
    rendered = stamps(folder / "rgb", {0, 1, 2})
    done = repair(meshes.path, tmp_path / "moved", QUIET)
    assert done.shards == (1, 2)
    assert done.verdict.ok
    assert tree(folder) == good
    assert stamps(folder / "rgb", {0, 1, 2}) == rendered


def test_a_lost_plan_is_restored_although_the_source_has_gained_shapes(meshes, tmp_path):
    plan = Path(meshes.path) / "shapes.jsonl"
    before = plan.read_bytes()
    write_off(tmp_path / "meshes/box/train/00.off", shapes.box(0.9))
    plan.unlink()
    assert repair(meshes.path, None, QUIET).verdict.ok
    assert plan.read_bytes() == before


def test_a_plan_that_the_source_no_longer_matches_is_reported(meshes, tmp_path):
    (tmp_path / "meshes" / meshes.shapes[0].source).rename(tmp_path / "meshes/box/train/00.off")
    (Path(meshes.path) / "shapes.jsonl").unlink()
    with pytest.raises(StoreError, match="the dataset now contains different shapes"):
        repair(meshes.path, None, QUIET)


def test_shapes_that_hung_are_not_retried_and_other_backends_are_noted(meshes):
    marker = meshes.markers(RENDER, [1])[1]
    ended = [decode_outcome(table) for table in marker["outcomes"]]
    hung = replace(ended[0], status="failed", reason=Reason.TIMEOUT, detail="took 1 s", sha256="")
    drawn = replace(ended[1], backend="egl", backend_reason="a GPU")
    outcomes = [encode_outcome(outcome) for outcome in (hung, drawn)]
    meshes.commit(RENDER, 1, {"outcomes": outcomes, "files": marker["files"]})
    done = repair(meshes.path, None, QUIET)  # the store says done, but the marker says failed
    assert done.shards == (1,)
    assert done.notes[0] == (
        "1 shapes were rendered with egl before and with embree now: their images differ slightly"
    )
    assert done.changed == (1,)
    again = ViewStore.open(meshes.path).outcomes()[2]
    assert (again.reason, again.detail) == (Reason.TIMEOUT, "took 1 s")
    assert done.lost == ()


def test_an_intact_store_is_left_unchanged(whole):
    before = stamps(Path(whole.path), set(range(20)))
    done = repair(whole.path, None, QUIET)
    assert (done.repaired, done.shards, done.deleted, done.foreign) == ((), (), (), ())
    assert stamps(Path(whole.path), set(range(20))) == before


def test_a_repair_uses_embree_for_its_shapes_even_if_auto_finds_a_gpu(meshes, monkeypatch):
    monkeypatch.setattr(repairing, "has_gpu", lambda: True)
    (Path(meshes.path) / "rgb/c/1/0/0/0/0").unlink()
    before = {name: data for name, data in tree(meshes.path).items() if "commits" not in name}
    done = repair(meshes.path, None, QUIET)
    assert done.notes == ()
    after = {name: data for name, data in tree(meshes.path).items() if "commits" not in name}
    assert {name: after[name] for name in before} == before
    assert ViewStore.open(meshes.path).outcomes()[2].backend_reason == "requested"


def test_a_job_whose_store_was_replaced_stops(meshes, tmp_path):
    job = Job(meshes.path, "folder", tmp_path, "y", RenderConfig(find_rig("ortho6"), **SMALL))
    with pytest.raises(StoreError, match="a different store here"):
        ShardRunner(replace(job, identity="of another"))
    assert ShardRunner(replace(job, identity=meshes.identity))
