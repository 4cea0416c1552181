"""Files of a committed shard that are lost: every reader says which, and how to mend it.

An interrupted copy loses them (commit markers travel before images), and so does a dying disk. A
missing chunk must never be read as black images and zero points.
"""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DataLoader
from typer.testing import CliRunner

from pointcmt.cli import app
from pointcmt.datasets.store.features import create_features
from pointcmt.datasets.store.schema import (
    CORRESPONDENCES,
    PLAN,
    RENDER,
    ROOT,
    arrays_of,
    marker_key,
    shard_key,
)
from pointcmt.datasets.store.streaming import (
    StreamConfig,
    ViewDataset,
    ViewStream,
    done_shapes,
)
from pointcmt.datasets.store.verify import verify
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.errors import DamageError, PointcmtError, StoreError
from pointcmt.render.jobs.repair import repair
from pointcmt.render.jobs.run import Options
from pointcmt.training.images.features import compute_features
from tests.stores import render_toy, tree

SHARD = 1  # the one that loses files
RENDERED = ("render", "--dataset", "toy", "--limit", "6", "--shard-size", "2", "--rig", "ortho6")
RENDERED += ("--size", "32", "--points", "64", "--workers", "1", "--out")
FACTS = {"teacher": "0123456789abcdef", "backbone": "mean", "image_size": 0}
pytestmark = pytest.mark.timeout(120)  # nothing may wait for a FIFO


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return render_toy(tmp_path_factory.mktemp("whole") / "S", limit=6, shard=2, size=32, points=64)


@pytest.fixture
def store(whole, tmp_path):
    return ViewStore.open(shutil.copytree(whole.path, tmp_path / "S"))


def pointcmt(*arguments):
    """Run a command in this process; returns its exit code and all it says."""
    found = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(found.exception, PointcmtError):
        return found.exception.exit_code, found.output + str(found.exception)
    assert found.exception is None or isinstance(found.exception, SystemExit), found.exception
    return found.exit_code, found.output


def key_of(store, name):
    return shard_key(store.specs[name], name, SHARD)


def remove(path):
    path.unlink()


def make_folder(path):
    path.unlink()
    path.mkdir()


def make_fifo(path):
    path.unlink()
    os.mkfifo(path)


def make_ring(path):
    path.unlink()
    path.symlink_to(path)


def lose(store, name, how=remove):
    """Returns the key of the file that is lost."""
    key = key_of(store, name)
    how(files_of(store) / key)
    return key


def files_of(store):
    return Path(store.path)


@pytest.mark.parametrize("how", [remove, make_folder, make_fifo, make_ring])
@pytest.mark.parametrize("stage", [RENDER, CORRESPONDENCES])
def test_reading_any_array_without_its_file_names_it_and_the_repair(store, stage, how):
    for name in arrays_of(store.schema, stage):
        key = lose(store, name, how)
        for index in ((), (2,), (slice(0, 4), 0), (np.array([0, 3]),), (...,)):
            if len(index) == 2 and len(store.specs[name].shape) == 0:
                continue
            with pytest.raises(
                DamageError, match=f"a file of shard {SHARD} is missing or unreadable"
            ) as lost:
                ViewStore.open(store.path).read(name, *index)
            assert lost.value.where == f"{store.path}/{key}"
            assert "verify" in lost.value.fix
        assert store.read(name, 0).shape == store.specs[name].shape, "the rest stays readable"


@pytest.mark.parametrize("how", [remove, make_fifo])
@pytest.mark.parametrize("name", ["rgb", "points", "visible", "status"])
def test_every_command_says_so_and_fails(store, tmp_path, name, how):
    """Looked at before anything is done, whatever arrays the command is going to use."""
    key = lose(store, name, how)
    run, S = tmp_path / "RUN", store.path
    for command in (
        ("info", S),
        ("info", S, "--json"),
        (*RENDERED, S),
        (*RENDERED, S, "--retry-failed"),
        ("build-correspondences", S),
        ("train", "student", "--data", S, "--out", run),
        ("train", "mvnet", "--data", S, "--out", run),
        ("train", "--data", S, "--out", run),
        ("evaluate", run, "--data", S),
    ):
        code, said = pointcmt(*command)
        assert code == 1, command
        assert f"a file of shard {SHARD} is missing or unreadable" in said, command
        assert f"{S}/{key}" in said, command
        assert "verify" in said, command
    assert not run.exists()


def test_an_interrupted_copy_is_noticed(store, tmp_path):
    for name in ("rgb", "points"):
        shutil.rmtree(files_of(store) / name / "c")
    for command in (("info",), ("preview", "--out", tmp_path / "P"), ("build-correspondences",)):
        code, said = pointcmt(command[0], store.path, *command[1:])
        assert code == 1, command
        assert "is missing or unreadable" in said, command
    assert not (tmp_path / "P/contact_sheet.png").exists()


def test_a_repair_brings_back_what_was_there(store, whole):
    for how, name in ((remove, "rgb"), (make_fifo, "points"), (make_ring, "visible")):
        lose(store, name, how)
    assert not verify(store.path).ok
    assert repair(store.path, None, Options(workers=1)).verdict.ok
    assert tree(store.path) == tree(whole.path)
    store.require_complete()


def test_a_file_that_goes_while_batches_are_read_ends_the_stream(store):
    shapes = done_shapes(store, "train")
    config = StreamConfig(arrays=("rgb",), batch_size=1, points=8, shuffle=False, prefetch=1)
    batches = iter(ViewStream(store, shapes, config))
    next(batches)
    for shard in range(store.schema.shards):
        (files_of(store) / shard_key(store.specs["rgb"], "rgb", shard)).unlink()
    with pytest.raises(DamageError, match=r"a file of shard \d is missing or unreadable") as lost:
        list(batches)
    assert "/rgb/c/" in lost.value.where


@pytest.mark.parametrize(
    ("start", "name"),
    [("fork", "rgb/c/1/0/0/0/0"), ("spawn", "rgb/c/1/0/0/0/0"), ("spawn", ROOT)],
)
def test_a_loss_before_workers_start_is_an_error_of_ours_in_their_parent(store, start, name):
    """torch passes on what a worker raises while it iterates, but not while it is unpickled."""
    data = ViewDataset(store, np.arange(6), StreamConfig(arrays=("rgb",), batch_size=2, points=8))
    (files_of(store) / name).unlink()
    loader = DataLoader(data, batch_size=None, num_workers=1, multiprocessing_context=start)
    with pytest.raises(StoreError, match=r"has lost a file|no view store here"):
        list(loader)


@pytest.mark.parametrize("how", [make_fifo, make_ring])
@pytest.mark.parametrize("name", [ROOT, PLAN, f"rgb/{ROOT}", marker_key(RENDER, SHARD)])
def test_metadata_that_cannot_be_read_is_said_at_once(store, whole, name, how):
    how(files_of(store) / name)
    for command in (("info",), ("build-correspondences",), ("verify",)):
        code, said = pointcmt(command[0], store.path)
        assert code == 1, command
        assert name in said, command
    if name != ROOT:  # it names the settings, which nothing else does
        assert repair(store.path, None, Options(workers=1)).verdict.ok
        assert tree(store.path) == tree(whole.path)


@pytest.mark.parametrize("how", [remove, make_folder, make_fifo, make_ring])
@pytest.mark.parametrize("name", ["rgb", "visible", "label"])
def test_metadata_of_an_array_is_looked_for_before_anything_is_done(
    store, whole, tmp_path, name, how
):
    """`render` alone writes it again: it knows what it has to say."""
    path = files_of(store) / f"{name}/{ROOT}"
    how(path)
    run, S = tmp_path / "RUN", store.path
    for command in (
        ("info", S),
        ("build-correspondences", S),
        ("train", "student", "--data", S, "--out", run),
        ("evaluate", run, "--data", S),
    ):
        code, said = pointcmt(*command)
        assert code == 1, command
        assert f"{S}/{name}/{ROOT}" in said, command
        assert "--repair" in said, command
    assert not run.exists()
    if how is remove:
        code, said = pointcmt(*RENDERED, S)
        assert code == 0, said
    else:
        path.rmdir() if path.is_dir() else path.unlink()
        assert repair(S, None, Options(workers=1)).verdict.ok
    assert tree(S) == tree(whole.path)


def test_a_stream_looks_before_its_first_batch(store):
    key = lose(store, "points")
    with pytest.raises(DamageError) as lost:
        ViewStream(store, np.arange(6), StreamConfig(arrays=("points",), batch_size=2, points=8))
    assert lost.value.where == f"{store.path}/{key}"
    ViewStream(store, np.array([0, 1, 4]), StreamConfig(arrays=("points",), batch_size=2, points=8))


def test_what_is_not_rendered_yet_is_not_called_lost(store):
    store.forget(SHARD, CORRESPONDENCES)
    lose(store, "visible")
    with pytest.raises(StoreError, match="no correspondences yet") as pending:
        store.read("visible")
    assert "build-correspondences" in pending.value.fix
    store.forget(SHARD)
    lose(store, "rgb")
    with pytest.raises(StoreError, match="no images yet") as pending:
        store.read("rgb")
    assert not isinstance(pending.value, DamageError)
    store.require_complete()


# What is read to be written again, or to make something of, is what was committed.


def mean_of_views(views):
    return views.float().mean(dim=(1, 2))


@pytest.mark.parametrize("damage", ["lost", "changed"])
def test_features_are_never_made_from_other_images_than_were_committed(store, damage):
    features = create_features(store, FACTS["teacher"], 3, FACTS)
    if damage == "lost":
        key = lose(store, "rgb")
    else:  # whole and readable, but of another shard
        key, other = key_of(store, "rgb"), shard_key(store.specs["rgb"], "rgb", 0)
        shutil.copyfile(files_of(store) / other, files_of(store) / key)
    with pytest.raises(DamageError, match=f"shard {SHARD}") as refused:
        compute_features(mean_of_views, features, np.arange(6))
    assert refused.value.where == f"{store.path}/{key}"
    assert features.pending() == [1, 2]
    repair(store.path, None, Options(workers=1))
    compute_features(mean_of_views, features, np.arange(6))
    expected = store.read("rgb").astype(np.float32).mean(axis=(2, 3))
    np.testing.assert_allclose(features.read(np.arange(6)), expected, rtol=1e-3)
