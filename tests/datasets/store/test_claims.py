"""Claims: one process owns a shard at a time; dead owners lose it, at once or after a lease."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from pointcmt.datasets.store import claims
from pointcmt.datasets.store.claims import (
    Claim,
    ClaimLost,
    Claims,
    Held,
)
from pointcmt.datasets.store.storage import Storage


@pytest.fixture
def store_claims(tmp_path):
    return Claims(Storage(tmp_path))


def stored(tmp_path, shard=3):
    return json.loads((tmp_path / claims.claim_key(shard)).read_bytes())


def forge(tmp_path, shard=3, **facts):
    """Change what a claim says about its owner."""
    path = tmp_path / claims.claim_key(shard)
    path.write_text(json.dumps(stored(tmp_path, shard) | facts))


def elsewhere(tmp_path, shard=3):
    """Make a claim look as if another machine owned it."""
    forge(tmp_path, shard, machine="another boot pid:[1]", host="node17", pid=4242)


def test_a_shard_has_one_owner_until_it_is_released(tmp_path, store_claims):
    with store_claims.take(3) as claim:
        store_claims.require(3, claim.owner)
        refused = store_claims.take(3)
        assert refused == Held(store_claims.look(3), refused.by)
        assert str(os.getpid()) in refused.by
        assert isinstance(store_claims.take(4), Claim)
    assert store_claims.look(3) == ""
    assert not (tmp_path / claims.claim_key(3)).exists()
    assert isinstance(store_claims.take(3), Claim)


def test_many_processes_never_own_a_shard_at_once(tmp_path):
    """Each process records when it owned which shard; no two spans of a shard overlap."""
    script = (
        "import sys, time\n"
        "from pointcmt.datasets.store.claims import Claim, Claims\n"
        "from pointcmt.datasets.store.storage import Storage\n"
        "claims = Claims(Storage(sys.argv[1]))\n"
        "input()\n"
        "for shard in 40 * [0, 1, 2]:\n"
        "    claim = claims.take(shard)\n"
        "    if isinstance(claim, Claim):\n"
        "        began = time.monotonic_ns()\n"
        "        time.sleep(0.001)\n"
        "        print(shard, began, time.monotonic_ns())\n"
        "        claim.release()\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(4)]
    spans = []
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for number, process in enumerate(processes):
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        spans += [(*map(int, line.split()), number) for line in out.splitlines()]
    assert len({number for *_, number in spans}) == 4
    for shard in range(3):
        own = sorted(span[1:] for span in spans if span[0] == shard)
        assert len(own) > 3
        assert all(own[i][1] <= own[i + 1][0] for i in range(len(own) - 1))


def test_a_killed_process_of_this_machine_loses_its_claim_at_once(tmp_path, store_claims):
    script = (
        "import sys, time\n"
        "from pointcmt.datasets.store.claims import Claims\n"
        "from pointcmt.datasets.store.storage import Storage\n"
        "claim = Claims(Storage(sys.argv[1])).take(3)\n"
        "print('mine', flush=True)\n"
        "time.sleep(60)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout.readline() == "mine\n"
        assert isinstance(store_claims.take(3), Held)
        assert store_claims.look(3)
        owner.send_signal(signal.SIGSTOP)
        assert isinstance(store_claims.take(3), Held), "a stopped process may go on"
        owner.kill()
    assert store_claims.look(3) == ""
    assert isinstance(store_claims.take(3), Claim)


def test_a_zombie_process_counts_as_dead(tmp_path, store_claims):
    store_claims.take(3)
    zombie = subprocess.Popen([sys.executable, "-c", ""])
    while claims._state(zombie.pid)[0] != "Z":
        time.sleep(0.01)
    forge(tmp_path, pid=zombie.pid, started=claims._state(zombie.pid)[1])
    assert isinstance(store_claims.take(3), Claim)
    zombie.wait()


def test_the_owner_is_dead_if_its_pid_belongs_to_another_process(tmp_path, store_claims):
    store_claims.take(3)
    forge(tmp_path, started="1")
    assert isinstance(store_claims.take(3), Claim)


def test_another_machines_claim_is_void_only_if_unchanged_for_a_lease(tmp_path, store_claims):
    store_claims.take(3)
    elsewhere(tmp_path)
    held = store_claims.take(3)
    assert held.by == "process 4242 on node17"
    forge(tmp_path, signs=1)  # its owner lives
    assert isinstance(store_claims.take(3, void=held.token), Held)
    claim = store_claims.take(3, void=store_claims.look(3))
    assert isinstance(claim, Claim)
    store_claims.require(3, claim.owner)


def test_only_one_of_two_processes_takes_over_an_expired_claim(tmp_path, store_claims):
    store_claims.take(3)
    elsewhere(tmp_path)
    token = store_claims.look(3)
    first, second = store_claims.take(3, void=token), store_claims.take(3, void=token)
    assert isinstance(first, Claim)
    assert isinstance(second, Held)


def test_a_damaged_claim_expires_like_any_other(tmp_path, store_claims):
    store_claims.take(3)
    huge = json.dumps({"machine": claims._machine(), "pid": 10**30}).encode()
    for damage in (b"", b"\xff{", b"[1]", b'{"machine": 7}', huge):
        (tmp_path / claims.claim_key(3)).write_bytes(damage)
        held = store_claims.take(3)
        assert isinstance(held, Held), damage
    assert isinstance(store_claims.take(3, void=held.token), Claim)


def test_claims_are_renewed_when_due(tmp_path, store_claims, monkeypatch):
    monkeypatch.setattr(claims, "LEASE", 0.4)
    claim = store_claims.take(3)
    claim.renew()
    assert stored(tmp_path)["signs"] == 0
    token = store_claims.look(3)
    time.sleep(0.11)
    claim.renew()
    claim.renew()
    assert stored(tmp_path)["signs"] == 1
    assert store_claims.look(3) != token
    store_claims.require(3, claim.owner)


def test_an_owner_that_lost_its_claim_notices_and_changes_nothing(
    tmp_path, store_claims, monkeypatch
):
    monkeypatch.setattr(claims, "LEASE", 0.0)
    late = store_claims.take(3)
    new = store_claims.take(3, void=store_claims.look(3))
    with pytest.raises(ClaimLost):
        late.renew()
    with pytest.raises(ClaimLost):
        store_claims.require(3, late.owner)
    late.release()
    store_claims.require(3, new.owner)
    new.renew()


def test_a_deleted_store_has_no_owners(tmp_path, store_claims, monkeypatch):
    monkeypatch.setattr(claims, "LEASE", 0.0)
    claim = store_claims.take(3)
    (tmp_path / claims.claim_key(3)).unlink()
    with pytest.raises(ClaimLost):
        store_claims.require(3, claim.owner)
    with pytest.raises(ClaimLost):
        claim.renew()


def test_sweeping_keeps_the_claims_of_processes_that_may_be_alive(tmp_path, store_claims):
    for shard in range(4):
        store_claims.take(shard)
    forge(tmp_path, 1, started="1")  # gone
    elsewhere(tmp_path, 2)
    elsewhere(tmp_path, 3)
    store_claims.sweep({3})
    assert [bool(store_claims.look(shard)) for shard in range(4)] == [True, False, True, False]
    assert sorted(path.name for path in (tmp_path / "claims").iterdir()) == [
        "000000.json",
        "000002.json",
    ]
