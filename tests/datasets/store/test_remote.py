"""Stores on object storage, against real servers: the same bytes as in a folder."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from pointcmt.datasets.store import storage
from pointcmt.datasets.store.creation import remove
from pointcmt.datasets.store.features import create_features, open_features
from pointcmt.datasets.store.schema import shard_key
from pointcmt.datasets.store.storage import Storage
from pointcmt.datasets.store.streaming import StreamConfig, ViewStream, done_shapes
from pointcmt.datasets.store.verify import verify
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.datasets.summary import summarize
from pointcmt.errors import DamageError, StoreError
from tests.datasets.store.object_storage import (
    Wire,
)
from tests.datasets.store.remote_jobs import COMMAND, HALF_WAY, SMALL, pointcmt, running
from tests.render.load.scenes.recordings import write_exported
from tests.stores import render_toy, settled, tree


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """40 toy shapes in a folder, in ten shards."""
    return render_toy(tmp_path_factory.mktemp("local") / "S", **SMALL)


@pytest.fixture(scope="module")
def remote(servers, local):
    """The same store in both buckets, below `whole`; tests read it only."""
    return {scheme: upload(bucket, local, "whole") for scheme, bucket in servers.items()}


def upload(bucket, store, path):
    """Copy a store's files into a bucket over plain HTTP, without the package."""
    for file in sorted(store.storage.folder.rglob("*")):
        if file.is_file():
            name = file.relative_to(store.path).as_posix()
            bucket.put(f"{path}/{name}", file.read_bytes())
    return ViewStore.open(bucket.url(path))


def test_every_reader_reports_a_lost_object(bucket, local):
    store = upload(bucket, local, "lost")
    for name in ("rgb", "points", "visible"):
        key = shard_key(store.specs[name], name, 3)
        kept = store.storage.read(key)
        store.storage.delete([key])
        again = ViewStore.open(store.path)
        for use in (
            again.require_complete,
            lambda store=again, name=name: store.read(name),
            lambda store=again, name=name: store.read(name, 13),
            lambda store=again, name=name: ViewStream(
                store, np.arange(40), StreamConfig(arrays=(name,), batch_size=4, points=8)
            ),
        ):
            with pytest.raises(
                DamageError, match="a file of shard 3 is missing or unreadable"
            ) as lost:
                use()
            assert lost.value.where == f"{store.path}/{key}"
        assert not verify(store.path).ok
        store.storage.write(key, kept)
    store.require_complete()


def test_a_remote_store_has_the_same_bytes_as_a_local_one(bucket, local):
    render_toy(bucket.url("rendered"), **SMALL)
    assert settled(bucket.objects("rendered")) == tree(local.path)
    assert verify(bucket.url("rendered/")).ok


def test_scenes_go_into_a_bucket_and_are_repaired_there(s3, tmp_path):
    root, remote = tmp_path / "recordings", s3.url("scenes")
    for name in ("a", "b"):
        write_exported(root / name)
    command = ("render", "--dataset", "frames", "--root", root, "--resolution", "32x24")
    command += ("--frames", "4", "--points", "2000", "--shard-size", "1", "--workers", "1", "--out")
    for out in (tmp_path / "S", remote):
        assert pointcmt(*command, out)[0] == 0
    local, store = ViewStore.open(tmp_path / "S"), ViewStore.open(remote)
    assert settled(s3.objects("scenes")) == tree(local.path)
    for name in ("rgb", "points", "visible"):
        np.testing.assert_array_equal(store.read(name, 1), local.read(name, 1))
    s3.delete(f"scenes/{shard_key(store.specs['points'], 'points', 1)}")
    assert pointcmt("verify", remote)[0] == 1
    assert pointcmt("verify", remote, "--repair", "--root", root, "--workers", "1")[0] == 0
    assert settled(s3.objects("scenes")) == tree(local.path)


def test_every_remote_array_equals_the_local_one(bucket, local, remote):
    store = remote[bucket.scheme]
    for name in local.specs:
        np.testing.assert_array_equal(store.read(name), local.read(name))
    assert list(store.shapes) == list(local.shapes)
    assert store.outcomes() == local.outcomes()


def test_remote_batches_equal_local_ones(bucket, local, remote):
    config = StreamConfig(("rgb", "depth", "points", "visible"), batch_size=3, views=2, points=32)
    streams = [
        ViewStream(s, done_shapes(s, "train"), config) for s in (local, remote[bucket.scheme])
    ]
    for ours, theirs in zip(*streams, strict=True):
        for name, value in ours.items():
            np.testing.assert_array_equal(value.numpy(), theirs[name].numpy(), err_msg=name)


def test_a_killed_remote_job_resumes_to_the_same_bytes(s3, local):
    wire = Wire(s3.server, HALF_WAY)
    with running(wire, *COMMAND, s3.url("killed")) as job:
        assert 0 < len(s3.names("killed/commits/render/")) < 10
        job.kill()
    assert pointcmt(*COMMAND, s3.url("killed"))[0] == 0
    assert settled(s3.objects("killed")) == tree(local.path)


def test_a_job_survives_a_temporary_outage_of_the_server(s3, local):
    wire = Wire(s3.server, HALF_WAY)
    with running(wire, *COMMAND, s3.url("away")) as job:
        time.sleep(2)
        assert 0 < len(s3.names("away/commits/render/")) < 10
        wire.mend()
        said = job.communicate()[1]
    assert job.returncode == 0, said
    assert settled(s3.objects("away")) == tree(local.path)


@pytest.mark.slow  # half a minute
def test_a_job_survives_an_outage_while_its_workers_start(s3, local):
    wire = Wire(s3.server, 1 << 60)
    environment = {**os.environ, "AWS_ENDPOINT_URL": wire.address}
    command = [sys.executable, "-m", "pointcmt", *COMMAND, s3.url("starting")]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as job:
        while not s3.names("starting/claims/"):  # its supervisor then starts a worker
            assert job.poll() is None
        wire.cut()
        time.sleep(12)  # longer than the four attempts of a first connection
        wire.mend()
        said = job.communicate()[1]
    wire.cut()
    assert job.returncode == 0, said
    assert settled(s3.objects("starting")) == tree(local.path)


def test_an_interrupted_job_does_not_wait_for_an_unreachable_server(s3):
    wire = Wire(s3.server, HALF_WAY)
    with running(wire, *COMMAND, s3.url("stopped")) as job:
        time.sleep(2)
        job.send_signal(signal.SIGINT)
        said = job.communicate(timeout=40)[1]  # giving it up would take two minutes
    assert job.returncode == 130, said
    assert "run the same command again" in said
    assert "Traceback" not in said


def test_a_job_ends_if_the_server_stays_down_and_can_be_resumed(s3, local, monkeypatch):
    wire = Wire(s3.server, HALF_WAY)
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", wire.address)
        patch.setattr(storage, "TRIES", 2)
        with pytest.raises(
            StoreError, match=f"no server answers at this address.*: {wire.address}"
        ):
            render_toy(s3.url("gone"), **SMALL)
    assert 0 < len(s3.names("gone/commits/render/")) < 10
    render_toy(s3.url("gone"), **SMALL)
    assert settled(s3.objects("gone")) == tree(local.path)


def test_verify_does_not_report_damage_if_the_server_goes_down(s3, remote, monkeypatch):
    wire = Wire(s3.server, 30_000)  # bytes, of about 100,000 that verify sends
    monkeypatch.setenv("AWS_ENDPOINT_URL", wire.address)
    monkeypatch.setattr(storage, "TRIES", 2)
    with pytest.raises(StoreError, match="no server answers at this address"):
        verify(remote["s3"].path)
    assert wire.broken.is_set()


def test_verify_finds_damaged_and_lost_objects(bucket, local):
    store = upload(bucket, local, "damaged")
    name = "damaged/rgb/c/1/0/0/0/0"
    whole = bucket.get(name)
    flipped = bytes([whole[0] ^ 4]) + whole[1:]
    for data in (flipped, whole[:-7], None):
        bucket.delete(name) if data is None else bucket.put(name, data)
        assert [broken.where for broken in verify(store.path).broken] == ["rgb/c/1/0/0/0/0"]
    bucket.put(name, flipped)
    with pytest.raises(StoreError, match="damaged data"):
        store.read("rgb", slice(4, 8))
    bucket.put(name, whole)
    assert verify(store.path).ok


def test_verify_repairs_a_remote_store(s3, local):
    store = upload(s3, local, "broken")
    for name in ("rgb/c/1/0/0/0/0", "commits/visible/000002.json", "shapes.jsonl"):
        s3.put(f"broken/{name}", s3.get(f"broken/{name}")[:-7])
    s3.delete("broken/depth/c/3/0/0/0")
    s3.put("broken/K/c/10/0/0/0", b"of no shard")
    s3.put("broken/notes.txt", b"mine")
    code, said = pointcmt("verify", store.path, "--repair", "--json", "--workers", 1)
    assert code == 0, said
    done = json.loads(said.splitlines()[-1])
    assert (done["shards"], done["deleted"]) == ([1, 2, 3], ["K/c/10/0/0/0"])
    assert done["foreign"] == ["notes.txt"]
    assert settled(s3.objects("broken")) == {**tree(local.path), "notes.txt": b"mine"}


def test_features_are_stored_on_object_storage(bucket, local):
    store = upload(bucket, local, "features")
    features = create_features(store, "0123", 5, {"teacher": "0123"})
    expected = np.random.default_rng(0).normal(size=(40, 6, 5)).astype(np.float16)
    for shard in features.pending():
        shapes = store.schema.shapes_of(shard)
        features.write(features.images(shard), expected[shapes.start : shapes.stop])
    again = open_features(ViewStore.open(store.path), "0123")
    np.testing.assert_array_equal(again.read(np.arange(40)), expected)
    assert verify(store.path).ok
    assert summarize(store.path)["features"][0]["shapes"] == 40


def test_commands_accept_urls(bucket, local, remote, tmp_path):
    url = remote[bucket.scheme].path
    code, said = pointcmt("info", url, "--json")
    facts, expected = json.loads(said), summarize(local.path)
    assert code == 0
    assert facts.pop("bytes") is None
    assert expected.pop("bytes") > 0
    assert {**facts, "path": ""} == {**expected, "path": ""}
    assert "40 done" in pointcmt("info", url)[1]
    assert pointcmt("verify", url)[0] == 0
    assert pointcmt("preview", url, "--out", tmp_path / "P")[0] == 0
    assert (tmp_path / "P/points.png").stat().st_size > 1000


def test_training_and_evaluation_read_a_remote_store(s3, local, remote, tmp_path):
    url = remote["s3"].path
    overrides = [f"--set={override}" for override in ("data.points=32", "data.batch_size=5")]
    for store, run in ((url, tmp_path / "R"), (local.path, tmp_path / "L")):
        options = ("--data", store, "--out", run, "--epochs", 1, "--device", "cpu", *overrides)
        assert pointcmt("train", "student", *options)[0] == 0
    for name in ("R", "L"):
        command = ("evaluate", tmp_path / name, "--data", url, "--checkpoint", "last", "--json")
        code, said = pointcmt(*command)
        assert code == 0
        (tmp_path / name / "said").write_text(said.splitlines()[-1])
    assert (tmp_path / "R/said").read_text() == (tmp_path / "L/said").read_text()
    assert json.loads((tmp_path / "R/run.json").read_text())["data"]["path"] == url


def test_removing_a_store_keeps_its_neighbors(bucket, local):
    upload(bucket, local, "old")
    upload(bucket, local, "older")
    remove(Storage(bucket.url("old/")))
    assert bucket.names("old/") == []
    assert len(bucket.names("older/")) == len(tree(local.path))
    remove(Storage(bucket.url("old")))  # nothing is there, which is not an error


def test_a_remote_store_with_foreign_objects_is_not_deleted(bucket, local):
    store = upload(bucket, local, "shared")
    create_features(store, "0123456789abcdef", 3, {})
    foreign = {"shared/run/best/model.safetensors", "shared/rgb/c/notes.txt", "shared/notes"}
    for name in foreign:
        bucket.put(name, b"mine")
    before = set(bucket.names("shared/"))
    with pytest.raises(StoreError, match="nothing was deleted") as raised:
        remove(Storage(bucket.url("shared")))
    assert "notes, rgb/c/notes.txt, run/" in raised.value.what
    assert set(bucket.names("shared/")) == before
    for name in foreign:
        Storage(bucket.url("shared")).delete([name.removeprefix("shared/")])
    remove(Storage(bucket.url("shared")))
    assert bucket.names("shared/") == []


def test_the_region_and_the_endpoint_variable_of_s3_are_used(s3, remote, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3.server + "/")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://nowhere.invalid")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    own = ViewStore.open(s3.url("whole")).storage.kv.spec().to_json()
    assert (own["endpoint"], own["aws_region"]) == (s3.server, "eu-central-1")
