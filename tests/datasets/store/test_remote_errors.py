"""Claims, races and errors on object storage, against real servers."""

import multiprocessing
import socket
import time

import pytest

from pointcmt.datasets.store import claims, storage
from pointcmt.datasets.store.creation import create, remove
from pointcmt.datasets.store.storage import Storage
from pointcmt.datasets.store.verify import verify
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.errors import StoreError
from tests.datasets.store.object_storage import (
    SECRETS,
    Wire,
    endless_listing,
    free_port,
)
from tests.datasets.store.remote_jobs import COMMAND, pointcmt
from tests.empty_stores import SHAPES, attributes, make_with


def test_a_remote_shard_has_one_owner(bucket, monkeypatch):
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


def test_a_claim_succeeds_even_if_the_servers_response_is_lost(s3, monkeypatch):
    """The write is repeated and refused, because the claim is already our own."""
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


def test_an_endless_listing_is_given_up(s3, monkeypatch):
    """Each page of its listing names the next one."""
    monkeypatch.setattr(storage, "LISTING", 1.0)
    with endless_listing() as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        endless = Storage("s3://bucket/store")
        began = time.monotonic()
        with pytest.raises(StoreError, match="took over"):
            endless.list_keys("commits/")
        assert time.monotonic() - began < 30


def test_foreign_objects_are_neither_used_nor_deleted(bucket):
    bucket.put("others/thing.txt", b"mine")
    with pytest.raises(StoreError, match=r"not empty \(it contains thing\.txt\)"):
        create(Storage(bucket.url("others")), attributes(), SHAPES)
    with pytest.raises(StoreError, match="nothing was deleted"):
        remove(Storage(bucket.url("others")))
    assert bucket.objects("others") == {"thing.txt": b"mine"}


@pytest.mark.parametrize("seeds", [(0, 0, 0, 0), (1, 2, 1, 2)])
def test_concurrent_creation_of_different_remote_stores_is_detected(bucket, seeds):
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
    """Run a command that must fail soon; check that its message contains no secrets."""
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


def test_a_wrong_bucket_path_or_url_is_reported(bucket, tmp_path):
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


def test_wrong_or_missing_credentials_are_reported_but_never_shown(s3, monkeypatch):
    s3.ask("POST", "moto-api/reset-auth", b"0")  # the number of requests that need no valid key
    try:
        said = refused(("info", s3.url("whole")), "access denied (403", "AWS_ACCESS_KEY_ID")
        assert "InvalidAccessKeyId" in said
    finally:
        s3.ask("POST", "moto-api/reset-auth", b"inf")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    refused(("info", s3.url("whole")), "no credentials were found")


def test_unreachable_silent_and_invalid_servers_are_reported(s3, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://user:pass@127.0.0.1:{free_port()}")
    said = refused(("info", s3.url("whole")), "no server answers at this address: http://127")
    assert "pass" not in said
    monkeypatch.setattr(storage, "FIRST_TRIES", 1)  # the default takes seconds, as above
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://nowhere.invalid")
    refused(("info", s3.url("whole")), "name cannot be resolved: http://nowhere.invalid")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "127.0.0.1:9000")
    refused(("info", s3.url("whole")), "not a valid S3 endpoint")
    monkeypatch.setattr(storage, "FIRST_ANSWER", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        refused(("info", s3.url("whole")), "the server does not answer")
