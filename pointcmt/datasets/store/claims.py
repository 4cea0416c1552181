"""Claims: which process works on a shard, so that no other one does the same meanwhile.

A claim is a small file `claims/<shard>.json`: written where there is none, written anew every now
and then while its owner works, deleted when the shard is committed. Each write succeeds only if the
file is still the one that was read, so that of many processes one wins, on object storage too. No
two machines' clocks are compared: a claim is void once somebody has seen it unchanged for a whole
LEASE, or at once if it was made on this machine by a process that is gone.
"""

import os
import secrets
import socket
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorstore as ts

from pointcmt.datasets.store import schema as contract
from pointcmt.datasets.store import storage as files
from pointcmt.datasets.store.locations import TRIES, context, location, spec, storage_errors
from pointcmt.errors import StoreError
from pointcmt.json_files import parse_json

FOLDER = "claims"
LEASE = 60.0  # seconds without a sign of life after which an owner is taken for dead
SIGNS = 4  # of life in that time
# Some object stores check a write's condition first and write then: two may have won. Whoever was
# overwritten finds out this soon.
FIRST_SIGN = 2.0  # seconds


class ClaimLost(StoreError):
    """Another process has taken a shard over, from one that had not been heard of for too long."""


@dataclass(frozen=True)
class Held:
    """Somebody else's claim. token: changes with each sign of life; by: who it is, for people."""

    token: str
    by: str


class Claim:
    """A shard that is ours until it is released; leaving the `with` block does that."""

    def __init__(self, kv: ts.KvStore, shard: int) -> None:
        self.owner = secrets.token_hex(8)
        self._kv, self._key = kv, claim_key(shard)
        self._generation = b""
        self._signs = 0
        self._due = time.monotonic() + min(FIRST_SIGN, LEASE / SIGNS)

    def renew(self) -> None:
        """Give a sign of life when one is due. Raises ClaimLost, and StoreError."""
        if time.monotonic() < self._due:
            return
        self._signs += 1
        if not self.write(self._generation):
            raise _lost(self._kv, self._key)
        self._due = time.monotonic() + LEASE / SIGNS

    def write(self, generation: bytes) -> bool:
        """Write the claim if the file is still of that generation; whether it is ours now."""
        facts = {"owner": self.owner, "signs": self._signs, **_this_process()}
        stamp = _write(self._kv, self._key, contract.encode_json(facts), generation)
        if stamp is None:
            value, stamp = _read(self._kv, self._key)
            if _facts(value).get("owner") != self.owner:
                return False  # else the write was repeated, its first answer being lost
        self._generation = stamp
        return True

    def release(self) -> None:
        """Delete the claim, unless it is somebody else's by now."""
        with suppress(StoreError):  # it lapses by itself
            _write(self._kv, self._key, None, self._generation)

    def __enter__(self) -> "Claim":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def open_claims(path: str) -> ts.KvStore:
    """The store at `path`, for claims: they need not survive the machine, so nothing is synced."""
    table = spec(path)
    if table["driver"] == "file":
        table["file_io_sync"] = False
    return ts.KvStore.open(table, context=context(1, TRIES)).result()


def take(kv: ts.KvStore, shard: int, void: str = "") -> Claim | Held:
    """Claim a shard, or learn who has. void: the token of a claim that was unchanged for a LEASE.

    Raises StoreError where the claim cannot be written.
    """
    claim = Claim(kv, shard)
    value, generation = _read(kv, claim_key(shard))
    if value is None or _token(value) == void or _is_gone(value):
        if claim.write(generation):
            return claim
        value, _ = _read(kv, claim_key(shard))  # another process was faster
    return Held(_token(value), _owner(value))


def look(kv: ts.KvStore, shard: int) -> str:
    """The token of the claim on a shard; "" where there is none, or its owner is surely gone."""
    value, _ = _read(kv, claim_key(shard))
    return "" if _is_gone(value) else _token(value)


def require(kv: ts.KvStore, shard: int, owner: str) -> None:
    """Raise ClaimLost unless `owner` still has its claim on a shard."""
    key = claim_key(shard)
    value, _ = _read(kv, key)
    if _facts(value).get("owner") != owner:
        raise _lost(kv, key)


def sweep(kv: ts.KvStore, finished: Collection[int]) -> list[str]:
    """Delete the claims that killed processes left: on finished shards, and those known as void.

    Returns their keys.
    """
    finished_keys = {claim_key(shard) for shard in finished}
    swept = []
    for key in files.list_keys(kv, f"{FOLDER}/"):
        value, generation = _read(kv, key)
        if value is not None and (key in finished_keys or _is_gone(value)):
            _write(kv, key, None, generation)
            swept.append(key)
    return swept


def require_idle(kv: ts.KvStore) -> None:
    """Raise StoreError while a process works on a store.

    Waits up to a LEASE for a sign of life where the owner of a claim is on another machine.
    """
    began, first = time.monotonic(), _claimed(kv)
    while first and time.monotonic() - began < LEASE:
        now = _claimed(kv)
        alive = next((value for key, value in now.items() if value != first.get(key)), None)
        alive = alive or next((value for value in now.values() if _is_here(value)), None)
        if alive:
            raise StoreError(
                f"{_owner(alive)} is at work on this store",
                where=location(kv),
                fix="stop it first, or choose another --out",
            )
        first = {key: value for key, value in first.items() if key in now}
        time.sleep(min(1.0, LEASE / SIGNS / SIGNS))


def _claimed(kv: ts.KvStore) -> dict[str, bytes]:
    """All claims whose owners are not surely gone, by key."""
    found = {key: _read(kv, key)[0] for key in files.list_keys(kv, f"{FOLDER}/")}
    return {key: value for key, value in found.items() if value and not _is_gone(value)}


def claim_key(shard: int) -> str:
    """The key of a shard's claim."""
    return f"{FOLDER}/{shard:06d}.json"


def _read(kv: ts.KvStore, key: str) -> tuple[bytes | None, bytes]:
    """A key's value (None: there is none) and its generation."""
    files.require_readable(kv, key)
    with storage_errors(kv):
        found = kv.read(key).result()
    return (found.value if found.state == "value" else None), found.stamp.generation


def _write(kv: ts.KvStore, key: str, value: bytes | None, generation: bytes) -> bytes | None:
    """Write or delete (None) a key if it is of this generation; the new one, None if it was not."""
    if value is not None:
        files.empty_leftover(kv, key)
    with storage_errors(kv):
        return kv.write(key, value, if_equal=generation).result().generation or None


def _lost(kv: ts.KvStore, key: str) -> ClaimLost:
    return ClaimLost("another process has taken over this shard", where=f"{location(kv)}/{key}")


def _token(value: bytes | None) -> str:
    return "" if value is None else contract.digest(value)


def _facts(value: bytes | None) -> dict[str, Any]:
    """What a claim says; nothing where it is damaged, so that only time can make it void."""
    with suppress(ValueError):
        facts = parse_json(value or b"")
        return facts if isinstance(facts, dict) else {}
    return {}


def _owner(value: bytes | None) -> str:
    facts = _facts(value)
    return f"process {facts.get('pid', '?')} on {facts.get('host', '?')}"


def _this_process() -> dict[str, Any]:
    pid = os.getpid()
    _, started = _state(pid)
    return {"host": socket.gethostname(), "pid": pid, "started": started, "machine": _machine()}


def _is_gone(value: bytes | None) -> bool:
    """Whether a claim was made on this machine by a process that has ended."""
    facts = _facts(value)
    pid = facts.get("pid")
    if not _machine() or facts.get("machine") != _machine() or not isinstance(pid, int):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # OSError: another user's, which lives
        pass
    state, started = _state(pid)
    return state in ("Z", "X") or (started != "" and started != facts.get("started"))


def _is_here(value: bytes) -> bool:
    """Whether a claim was made on this machine by a process that is there."""
    return _facts(value).get("machine") == _machine() != "" and not _is_gone(value)


def _machine() -> str:
    """This boot of this machine and the name space of its process numbers; "" where unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _state(pid: int) -> tuple[str, str]:
    """The state of a process and when it started, in ticks since boot; empty where unknown."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return fields[0], fields[19]
    except (OSError, IndexError):
        return "", ""
