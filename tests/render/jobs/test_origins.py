"""Data sets with the same names never mix in one store: source hashes and roots are compared."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from pointcmt.cameras import find_rig
from pointcmt.datasets.sources import list_shapes
from pointcmt.datasets.store.creation import create
from pointcmt.datasets.store.documents import Outcome, encode_outcome
from pointcmt.datasets.store.schema import RENDER, ShapeRecord
from pointcmt.datasets.store.storage import Storage
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.errors import Reason, UsageError
from pointcmt.render.config import RenderConfig, fit
from pointcmt.render.jobs.job import Job, job_of_store
from pointcmt.render.jobs.origins import SAMPLE, changed_sources, sample
from pointcmt.render.jobs.repair import repair
from pointcmt.render.jobs.run import Options, build_correspondences, render
from tests.clouds import SHAPES, write_shapenetpart_hdf5, write_shapenetpart_pts
from tests.commands import pointcmt
from tests.empty_stores import attributes
from tests.render import shapes
from tests.render.job_commands import facts, write_off
from tests.stores import named_files, render_listing, render_toy, tree

SMALL = {"size": 16, "points": 32}
QUIET = Options(workers=1, shard=2)


def boxes(root, offset=0.0):
    for i in range(6):
        write_off(root / f"box/train/{i}.off", shapes.box(0.2 + 0.1 * i + offset))
    return root


@pytest.fixture(scope="module")
def meshes(tmp_path_factory):
    return boxes(tmp_path_factory.mktemp("meshes"))


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """Another data set with the same names."""
    return boxes(tmp_path_factory.mktemp("others"), 0.01)


@pytest.fixture(scope="module")
def whole(meshes, tmp_path_factory):
    """A finished store in three shards."""
    out = tmp_path_factory.mktemp("whole") / "S"
    return render_listing(list_shapes("folder", meshes), out, shard=2, **SMALL)


@pytest.fixture
def copy(whole, tmp_path):
    return ViewStore.open(shutil.copytree(whole.path, tmp_path / "S"))


@pytest.fixture
def half(copy):
    """The same store without its last shard."""
    copy.forget(2)
    return copy


def run(root, store, **more):
    """Do what `pointcmt render` does after parsing its options."""
    listing = list_shapes("folder", root)
    config = fit(RenderConfig(find_rig("ortho6"), **SMALL), listing.kind)
    job = Job(store.path, listing.name, listing.root, listing.up, config)
    return render(listing, job, replace(QUIET, **more))


@pytest.mark.parametrize("name", ["half", "copy"], ids=["half done", "complete"])
def test_another_data_set_with_the_same_names_is_refused(others, meshes, name, request):
    store = request.getfixturevalue(name)
    before = tree(store.path)
    with pytest.raises(UsageError, match="rendered from another folder") as raised:
        run(others, store)
    assert str(meshes) in raised.value.what
    assert "--moved" in raised.value.fix
    with pytest.raises(UsageError, match="are not those that the store was rendered") as raised:
        run(others, store, moved=True)
    assert "box/train/0, box/train/1" in raised.value.what
    assert raised.value.where == f"--root {others}"
    assert tree(store.path) == before


def test_replaced_files_are_refused_unless_allowed(half, whole, meshes, tmp_path):
    root = shutil.copytree(meshes, tmp_path / "meshes")
    run(root, half, moved=True)
    half.forget(2)
    write_off(root / "box/train/1.off", shapes.box(0.9))
    before = tree(half.path)
    with pytest.raises(UsageError, match=r"1 of 4 files compared .*: box/train/1\n") as raised:
        run(root, half, moved=True)
    assert "--changed-sources" in raised.value.fix
    assert tree(half.path) == before
    assert run(root, half, moved=True, changed_sources=True).done == 2
    assert tree(half.path) == tree(whole.path)


def test_a_moved_data_set_resumes_with_the_flag(half, whole, meshes, tmp_path):
    root = shutil.copytree(meshes, tmp_path / "moved")
    command = ("render", "--dataset", "folder", "--root", root, "--out", half.path, "--workers", 1)
    command += ("--rig", "ortho6", "--size", 16, "--points", 32, "--shard-size", 2)
    done = pointcmt(*command)
    assert done.returncode == 2
    assert f"the store was rendered from another folder: {meshes}" in done.stderr
    done = pointcmt(*command, "--moved")
    assert done.returncode == 0, done.stderr
    said = f"was at {meshes} and is now at {root}: 4 of 4 files compared are identical"
    assert said in done.stderr
    assert tree(half.path) == tree(whole.path)


def test_another_path_to_the_same_root_is_accepted(half, meshes, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(meshes)
    monkeypatch.chdir(meshes.parent)
    for root in (tmp_path / "link", Path(meshes.name), meshes / "../" / meshes.name):
        assert run(root, half).planned == 6


def test_correspondences_from_another_data_set_are_refused(meshes, others, tmp_path):
    listing = list_shapes("folder", meshes)
    store = render_listing(
        listing, tmp_path / "S", shard=2, correspondences=False, rig="ortho6", **SMALL
    )
    before = tree(store.path)
    with pytest.raises(UsageError, match="6 of 6 files compared"):
        build_correspondences(store, job_of_store(store, others), QUIET)
    assert tree(store.path) == before
    moved = shutil.copytree(meshes, tmp_path / "moved")
    assert build_correspondences(store, job_of_store(store, moved), QUIET).done == 6


def test_a_shard_that_has_lost_its_marker_is_not_repaired_from_another_data_set(half, others):
    before = tree(half.path)
    with pytest.raises(UsageError, match="4 of 4 files compared"):
        repair(half.path, others, QUIET)
    assert tree(half.path) == before


def test_verify_compares_all_sources_on_request(copy, meshes, tmp_path):
    root = shutil.copytree(meshes, tmp_path / "meshes")
    done = pointcmt("verify", copy.path, "--sources", "--json")
    assert done.returncode == 0, done.stderr
    checked = facts(done)["checked"]
    assert checked == facts(pointcmt("verify", copy.path, "--json"))["checked"] + 6
    write_off(root / "box/train/3.off", shapes.box(0.9))
    (root / "box/train/5.off").unlink()
    done = pointcmt("verify", copy.path, "--sources", "--root", root, "--json")
    assert done.returncode == 1
    assert facts(done)["broken"] == [
        {
            "where": f"{root}/box/train/3.off",
            "what": "the file has changed since it was rendered",
        },
        {"where": f"{root}/box/train/5.off", "what": "no such file"},
    ]
    done = pointcmt("verify", copy.path, "--root", root)
    assert done.returncode == 2
    assert "--sources" in done.stderr
    assert pointcmt("verify", copy.path, "--sources", "--repair").returncode == 2


def test_a_store_can_be_verified_without_its_sources(meshes, tmp_path):
    root = shutil.copytree(meshes, tmp_path / "meshes")
    listing = list_shapes("folder", root)
    store = render_listing(listing, tmp_path / "S", shard=2, **SMALL)
    shutil.rmtree(root)
    assert pointcmt("verify", store.path).returncode == 0
    done = pointcmt("verify", store.path, "--sources")
    assert done.returncode == 2
    assert str(root) in done.stderr


def test_toy_shapes_have_no_files_to_compare(tmp_path):
    store = render_toy(tmp_path / "S", 3, **SMALL)
    done = pointcmt("verify", store.path, "--sources")
    assert done.returncode == 0
    assert "there are no source files to compare" in done.stderr


@pytest.mark.parametrize("write", [write_shapenetpart_pts, write_shapenetpart_hdf5])
def test_the_hashes_of_clouds_are_compared(write, tmp_path):
    root = write(tmp_path / "parts", SHAPES)
    store = render_listing(list_shapes("shapenetpart", root), tmp_path / "S", **SMALL)
    job = job_of_store(store, None)
    assert changed_sources(store, job) == ([], 5)
    changed = dict(SHAPES)
    points, normals, parts = SHAPES["03001627", "ccc", "train"]
    changed["03001627", "ccc", "train"] = points, normals, parts[::-1].copy()
    shutil.rmtree(root)
    write(root, changed)
    broken, _ = changed_sources(store, job)
    assert [finding.what for finding in broken] == ["the file has changed since it was rendered"]


def test_sources_of_a_large_store_are_compared_on_a_fixed_sample(tmp_path):
    many = [ShapeRecord(f"{i:03}", "thing", "train", f"{i:03}.off") for i in range(360)]
    table = attributes()
    table["schema"] |= {"shapes": 360, "shard": 4}
    store = create(Storage(tmp_path / "S"), table, many)
    for shard in range(0, 90, 2):
        of_shard = [many[i] for i in store.schema.shapes_of(shard)]
        ended = [encode_outcome(Outcome(record.id, "done", sha256="x")) for record in of_shard]
        ended[0] = encode_outcome(Outcome(of_shard[0].id, "failed", Reason.NO_FACES))
        named = named_files(store, RENDER, shard)
        store.commit(RENDER, shard, {"outcomes": ended, "files": named})
    chosen = [int(shape.record.id) for shape in sample(store)]
    assert len(set(chosen)) == len(chosen) == SAMPLE
    assert len({shape // 4 for shape in chosen}) == SAMPLE  # of as many shards
    assert not [shape for shape in chosen if shape % 4 == 0], "those that failed have no hash"
    assert (min(chosen) // 4, max(chosen) // 4) == (0, 88)
    assert [int(shape.record.id) for shape in sample(ViewStore.open(store.path))] == chosen
