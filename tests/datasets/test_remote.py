"""Stores on object storage, against real servers: the bytes of a folder, and nothing lost."""

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np
import pytest
from typer.testing import CliRunner

from pointcmt.cli import app
from pointcmt.datasets.store import claims, storage
from pointcmt.datasets.store.creation import create, remove
from pointcmt.datasets.store.features import create_features, open_features
from pointcmt.datasets.store.schema import shard_key
from pointcmt.datasets.store.storage import Storage
from pointcmt.datasets.store.streaming import StreamConfig, ViewStream, done_shapes
from pointcmt.datasets.store.verify import verify
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.datasets.summary import summarize
from pointcmt.errors import DamageError, PointcmtError, StoreError
from tests.datasets.object_storage import (
    SECRETS,
    Wire,
    endless_listing,
    free_port,
    gcs_server,
    s3_server,
)
from tests.datasets.test_store import SHAPES, attributes, make_with
from tests.stores import render_toy, settled, tree

SMALL = {"limit": 40, "shard": 4, "points": 64, "size": 32}
COMMAND = ("render", "--dataset", "toy", "--rig", "ortho6", "--limit", "40", "--shard-size", "4")
COMMAND += ("--size", "32", "--points", "64", "--workers", "2", "--out")
HALF_WAY = 330_000  # bytes of requests; the whole job sends twice as many


@pytest.fixture(scope="module")
def servers():
    """A bucket by scheme, and the environment in which they are found."""
    with s3_server() as s3, gcs_server() as gs, pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
            patch.delenv(name, raising=False)
        found = {**SECRETS, "AWS_ENDPOINT_URL": s3.server, "AWS_EC2_METADATA_DISABLED": "true"}
        found |= {"TENSORSTORE_GCS_HTTP_URL": gs.server, "GOOGLE_AUTH_TOKEN_FOR_TESTING": "token"}
        for name, value in found.items():
            patch.setenv(name, value)
        yield {"s3": s3, "gs": gs}


@pytest.fixture(params=["s3", "gs"])
def bucket(request, servers):
    return servers[request.param]


@pytest.fixture
def s3(servers):
    return servers["s3"]


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """40 toy shapes in a folder, in ten shards."""
    return render_toy(tmp_path_factory.mktemp("local") / "S", **SMALL)


@pytest.fixture(scope="module")
def remote(servers, local):
    """The same store in both buckets, below `whole`; tests read it only."""
    return {scheme: upload(bucket, local, "whole") for scheme, bucket in servers.items()}


def upload(bucket, store, path):
    """Copy a store's files into a bucket, past the package."""
    for file in sorted(store.storage.folder.rglob("*")):
        if file.is_file():
            name = file.relative_to(store.path).as_posix()
            bucket.put(f"{path}/{name}", file.read_bytes())
    return ViewStore.open(bucket.url(path))


def test_a_shard_has_one_owner(bucket, monkeypatch):
    store_claims = claims.Claims(Storage(bucket.url("claimed")))
    monkeypatch.setattr(claims, "LEASE", 0.0)  # signs of life are always due
    first = store_claims.take(3)
    seen = store_claims.look(3)
    assert store_claims.take(3).token == seen
    first.renew()
    store_claims.require(3, first.owner)
    assert isinstance(store_claims.take(3, void=seen), claims.Held), "it has given a sign of life"
    second = store_claims.take(3, void=store_claims.look(3))
    for lost in (first.renew, lambda: store_claims.require(3, first.owner)):
        with pytest.raises(claims.ClaimLost, match="taken over") as raised:
            lost()
        assert raised.value.where == f"{bucket.url('claimed')}/claims/000003.json"
    first.release()
    second.renew()
    second.release()
    assert store_claims.look(3) == ""
    assert isinstance(store_claims.take(3), claims.Claim)
    assert store_claims.sweep({3}) == ["claims/000003.json"]


def test_a_claim_is_ours_though_the_servers_answer_was_lost(s3, monkeypatch):
    """The write is repeated, and refused: what it was to replace is our own by now."""
    wire = Wire(s3.server, 1 << 60)
    monkeypatch.setenv("AWS_ENDPOINT_URL", wire.address)
    monkeypatch.setattr(claims, "LEASE", 0.0)  # signs of life are always due
    store_claims = claims.Claims(Storage(s3.url("unheard")))
    wire.forget = b"PUT "
    claim = store_claims.take(3)
    assert not wire.forget
    assert isinstance(claim, claims.Claim)
    for forgotten in (b"PUT ", b""):
        wire.forget = forgotten
        claim.renew()
        assert not wire.forget
    store_claims.require(3, claim.owner)
    claim.release()
    assert not s3.names("unheard/claims/")
    wire.cut()


def test_a_lost_object_is_named_by_every_reader(bucket, local):
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


def test_a_server_that_lists_for_ever_is_given_up(s3, monkeypatch):
    """Each page of its listing names the next one."""
    monkeypatch.setattr(storage, "LISTING", 1.0)
    with endless_listing() as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        endless = Storage("s3://bucket/store")
        began = time.monotonic()
        with pytest.raises(StoreError, match="took over"):
            endless.list_keys("commits/")
        assert time.monotonic() - began < 30


def pointcmt(*arguments, **more):
    """Run a command in this process; returns its exit code and all it says."""
    found = CliRunner().invoke(app, [str(argument) for argument in arguments], **more)
    error = found.exception
    if isinstance(error, PointcmtError):
        return error.exit_code, found.output + str(error)
    assert error is None or isinstance(error, SystemExit), repr(error)
    return found.exit_code, found.output


def test_a_store_on_object_storage_has_the_bytes_of_one_in_a_folder(bucket, local):
    render_toy(bucket.url("rendered"), **SMALL)
    assert settled(bucket.objects("rendered")) == tree(local.path)
    assert verify(bucket.url("rendered/")).ok


def test_every_array_reads_the_same(bucket, local, remote):
    store = remote[bucket.scheme]
    for name in local.specs:
        np.testing.assert_array_equal(store.read(name), local.read(name))
    assert list(store.shapes) == list(local.shapes)
    assert store.outcomes() == local.outcomes()


def test_batches_are_the_same(bucket, local, remote):
    config = StreamConfig(("rgb", "depth", "points", "visible"), batch_size=3, views=2, points=32)
    streams = [
        ViewStream(s, done_shapes(s, "train"), config) for s in (local, remote[bucket.scheme])
    ]
    for ours, theirs in zip(*streams, strict=True):
        for name, value in ours.items():
            np.testing.assert_array_equal(value.numpy(), theirs[name].numpy(), err_msg=name)


@contextmanager
def running(wire, *command):
    """A job whose requests go over a wire that is about to break."""
    environment = {**os.environ, "AWS_ENDPOINT_URL": wire.address}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, "-m", "pointcmt", *command]
    with subprocess.Popen(command, env=environment, **quiet) as job:
        assert wire.broken.wait(60)
        yield job
    wire.cut()


def test_a_killed_job_goes_on_to_the_same_bytes(s3, local):
    wire = Wire(s3.server, HALF_WAY)
    with running(wire, *COMMAND, s3.url("killed")) as job:
        assert 0 < len(s3.names("killed/commits/render/")) < 10
        job.kill()
    assert pointcmt(*COMMAND, s3.url("killed"))[0] == 0
    assert settled(s3.objects("killed")) == tree(local.path)


def test_a_job_outlives_a_server_that_is_away_for_a_while(s3, local):
    wire = Wire(s3.server, HALF_WAY)
    with running(wire, *COMMAND, s3.url("away")) as job:
        time.sleep(2)
        assert 0 < len(s3.names("away/commits/render/")) < 10
        wire.mend()
        said = job.communicate()[1]
    assert job.returncode == 0, said
    assert settled(s3.objects("away")) == tree(local.path)


def test_so_does_one_whose_workers_start_meanwhile(s3, local):
    wire = Wire(s3.server, 1 << 60)
    environment = {**os.environ, "AWS_ENDPOINT_URL": wire.address}
    command = [sys.executable, "-m", "pointcmt", *COMMAND, s3.url("starting")]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as job:
        while not s3.names("starting/claims/"):  # then its supervisor starts a worker
            assert job.poll() is None
        wire.cut()
        time.sleep(12)  # longer than the four tries of a first contact take
        wire.mend()
        said = job.communicate()[1]
    wire.cut()
    assert job.returncode == 0, said
    assert settled(s3.objects("starting")) == tree(local.path)


def test_a_job_that_is_stopped_does_not_wait_for_a_server_that_is_away(s3):
    wire = Wire(s3.server, HALF_WAY)
    with running(wire, *COMMAND, s3.url("stopped")) as job:
        time.sleep(2)
        job.send_signal(signal.SIGINT)
        said = job.communicate(timeout=40)[1]  # giving it up would take two minutes
    assert job.returncode == 130, said
    assert "run the same command again" in said
    assert "Traceback" not in said


def test_a_server_that_stays_away_ends_the_job_and_the_next_one_goes_on(s3, local, monkeypatch):
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


def test_a_server_that_goes_away_is_no_damage(s3, remote, monkeypatch):
    wire = Wire(s3.server, 30_000)  # bytes, of some 100,000 that it takes to ask for everything
    monkeypatch.setenv("AWS_ENDPOINT_URL", wire.address)
    monkeypatch.setattr(storage, "TRIES", 2)
    with pytest.raises(StoreError, match="no server answers at this address"):
        verify(remote["s3"].path)
    assert wire.broken.is_set()


def test_damaged_and_lost_objects_are_found(bucket, local):
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


def test_what_is_broken_is_mended_there(s3, local):
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


def test_features_are_kept_there(bucket, local):
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


def test_the_commands_take_urls(bucket, local, remote, tmp_path):
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


def test_training_and_evaluation_read_it(s3, local, remote, tmp_path):
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


def test_what_belongs_to_others_is_neither_used_nor_deleted(bucket):
    bucket.put("others/thing.txt", b"mine")
    with pytest.raises(StoreError, match=r"not empty \(it contains thing\.txt\)"):
        create(Storage(bucket.url("others")), attributes(), SHAPES)
    with pytest.raises(StoreError, match="nothing was deleted"):
        remove(Storage(bucket.url("others")))
    assert bucket.objects("others") == {"thing.txt": b"mine"}


def test_removing_a_store_leaves_its_neighbours(bucket, local):
    upload(bucket, local, "old")
    upload(bucket, local, "older")
    remove(Storage(bucket.url("old/")))
    assert bucket.names("old/") == []
    assert len(bucket.names("older/")) == len(tree(local.path))
    remove(Storage(bucket.url("old")))  # there is nothing: no error


def test_a_store_with_anything_else_below_its_url_is_not_deleted(bucket, local):
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


@pytest.mark.parametrize("seeds", [(0, 0, 0, 0), (1, 2, 1, 2)])
def test_many_may_create_a_store_at_once_and_those_who_differ_notice(bucket, seeds):
    context = multiprocessing.get_context("spawn")
    url, said = bucket.url(f"race{seeds[1]}"), context.SimpleQueue()
    processes = [context.Process(target=make_with, args=(url, seed, said)) for seed in seeds]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    store = ViewStore.open(url)
    winner = store.attributes["render"]["seed"]
    found = [said.get() for _ in seeds]
    assert found.count(winner) == seeds.count(winner)
    for what in found:
        assert what == winner or f"render.seed: {winner} in the store" in what
    assert len(store.shapes) == 7
    assert verify(url).ok


def refused(command, *match, within=10.0):
    """A command's message, which has to come soon and to hold no secrets."""
    started = time.monotonic()
    code, said = pointcmt(*command)
    assert time.monotonic() - started < within
    assert code != 0
    assert "  where: " in said
    assert "  fix:   " in said
    for secret in SECRETS.values():
        assert secret not in said
    for text in match:
        assert text in said
    return said


def test_a_wrong_bucket_path_or_url_is_said(bucket, tmp_path):
    lost = bucket.url("x").replace("bucket", "bocket")
    refused((*COMMAND, lost), "no such bucket", lost)
    says = "no such bucket" if bucket.scheme == "s3" else "there is no view store here"
    for command in ("info", "verify"):
        refused((command, lost), says, lost)  # for GCS, an empty listing
    refused(("info", bucket.url("nowhere")), "there is no view store here")
    refused(("info", f"{bucket.scheme}://No/x"), "not a valid bucket name")
    refused(("info", bucket.url("a/../b")), "this URL is not a valid location")
    refused(("info", f"{bucket.scheme}:/bucket/x"), "neither a folder nor a URL")
    refused(("preview", bucket.url("x"), "--out", bucket.url("P")), "only view stores")
    refused(("info", "s4://bucket/x"), "did you mean 's3'")


def test_wrong_and_missing_credentials_are_said_but_never_shown(s3, monkeypatch):
    s3.ask("POST", "moto-api/reset-auth", b"0")  # how many requests need no valid key
    try:
        said = refused(("info", s3.url("whole")), "access denied (403", "AWS_ACCESS_KEY_ID")
        assert "InvalidAccessKeyId" in said
    finally:
        s3.ask("POST", "moto-api/reset-auth", b"inf")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    refused(("info", s3.url("whole")), "no credentials were found")


def test_servers_that_are_none_do_not_answer_or_hang_are_said(s3, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://user:pass@127.0.0.1:{free_port()}")
    said = refused(("info", s3.url("whole")), "no server answers at this address: http://127")
    assert "pass" not in said
    monkeypatch.setattr(storage, "FIRST_TRIES", 1)  # that the default takes seconds is seen above
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://nowhere.invalid")
    refused(("info", s3.url("whole")), "name cannot be resolved: http://nowhere.invalid")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "127.0.0.1:9000")
    refused(("info", s3.url("whole")), "not a valid S3 endpoint")
    monkeypatch.setattr(storage, "FIRST_ANSWER", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        refused(("info", s3.url("whole")), "the server does not answer")


def test_the_region_and_the_endpoint_of_s3_alone_are_honoured(s3, remote, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3.server + "/")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://nowhere.invalid")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    own = ViewStore.open(s3.url("whole")).storage.kv.spec().to_json()
    assert (own["endpoint"], own["aws_region"]) == (s3.server, "eu-central-1")
