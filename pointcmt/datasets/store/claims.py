"""Claims: which process works on a shard, so that no other process works on it meanwhile.

A claim is a small file `claims/<shard>.json`: created if it does not exist, rewritten now and then
while its owner works, deleted when the shard is committed. Each write succeeds only if the file is
still the one that was read, so that exactly one of many processes wins, on object storage too. The
clocks of two machines are never compared: a claim is void once a process has seen it unchanged for
a whole LEASE, or at once if its owner was a process of this machine that has ended.
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

from pointcmt.datasets.store.schema import digest, encode_json
from pointcmt.datasets.store.storage import Storage
from pointcmt.errors import StoreError
from pointcmt.files import parse_json

FOLDER = "claims"
LEASE = 60.0  # seconds without a sign of life after which an owner is presumed dead
SIGNS = 4  # of life in that time
# Some object stores check a write's condition first and write afterward: two processes may have
# won. The one that was overwritten finds out this soon.
FIRST_SIGN = 2.0  # seconds


class ClaimLost(StoreError):
    """Another process has taken over a shard whose owner had been silent for too long."""


@dataclass(frozen=True)
class Held:
    """The claim of another process. token: changes with each sign of life; by: the owner's name."""

    token: str
    by: str


class Claim:
    """A shard that is ours until it is released, at the end of the `with` block at the latest."""

    def __init__(self, storage: Storage, shard: int) -> None:
        self.owner = secrets.token_hex(8)
        self._storage, self._key = storage, claim_key(shard)
        self._generation = b""
        self._signs = 0
        self._due = time.monotonic() + min(FIRST_SIGN, LEASE / SIGNS)

    def renew(self) -> None:
        """Give a sign of life when one is due. Raises ClaimLost, and StoreError."""
        if time.monotonic() < self._due:
            return
        self._signs += 1
        if not self.write(self._generation):
            raise _lost(self._storage, self._key)
        self._due = time.monotonic() + LEASE / SIGNS

    def write(self, generation: bytes) -> bool:
        """Write the claim if the file still has this generation; returns whether it is ours now."""
        facts = {"owner": self.owner, "signs": self._signs, **_this_process()}
        stamp = self._storage.replace(self._key, encode_json(facts), generation)
        if stamp is None:
            value, stamp = self._storage.read_version(self._key)
            if _facts(value).get("owner") != self.owner:
                return False  # else the write was repeated because its first answer was lost
        self._generation = stamp
        return True

    def release(self) -> None:
        """Delete the claim, unless another process owns it by now."""
        with suppress(StoreError):  # it expires by itself
            self._storage.replace(self._key, None, self._generation)

    def __enter__(self) -> "Claim":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class Claims:
    """The claims on a store's shards.

    They need not survive the machine, so they are written without waiting for the disk.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage.unsynced()

    def take(self, shard: int, void: str = "") -> Claim | Held:
        """Claim a shard; returns the claim of its owner if it has one.

        void: the token of a claim that was unchanged for a LEASE. Raises StoreError where the claim
        cannot be written.
        """
        claim = Claim(self._storage, shard)
        value, generation = self._storage.read_version(claim_key(shard))
        if value is None or _token(value) == void or _is_gone(value):
            if claim.write(generation):
                return claim
            value, _ = self._storage.read_version(claim_key(shard))  # another process was faster
        return Held(_token(value), _owner(value))

    def look(self, shard: int) -> str:
        """Return the token of the claim on a shard; "" if it has none or its owner has ended."""
        value, _ = self._storage.read_version(claim_key(shard))
        return "" if _is_gone(value) else _token(value)

    def require(self, shard: int, owner: str) -> None:
        """Raise ClaimLost unless `owner` still has its claim on a shard."""
        key = claim_key(shard)
        value, _ = self._storage.read_version(key)
        if _facts(value).get("owner") != owner:
            raise _lost(self._storage, key)

    def sweep(self, finished: Collection[int]) -> list[str]:
        """Delete claims that killed processes left: on finished shards, and of ended processes.

        Returns their keys.
        """
        finished_keys = {claim_key(shard) for shard in finished}
        swept = []
        for key in self._storage.list_keys(f"{FOLDER}/"):
            value, generation = self._storage.read_version(key)
            if value is not None and (key in finished_keys or _is_gone(value)):
                self._storage.replace(key, None, generation)
                swept.append(key)
        return swept

    def require_idle(self) -> None:
        """Raise StoreError while a process works on the store.

        Waits up to a LEASE for a sign of life if the owner of a claim is on another machine.
        """
        began, first = time.monotonic(), self._living()
        while first and time.monotonic() - began < LEASE:
            now = self._living()
            alive = next((value for key, value in now.items() if value != first.get(key)), None)
            alive = alive or next((value for value in now.values() if _is_here(value)), None)
            if alive:
                raise StoreError(
                    f"{_owner(alive)} is working on this store",
                    where=self._storage.path,
                    fix="stop it first, or choose another --out",
                )
            first = {key: value for key, value in first.items() if key in now}
            time.sleep(min(1.0, LEASE / SIGNS / SIGNS))

    def _living(self) -> dict[str, bytes]:
        """Return by key all claims whose owners may be alive."""
        found = {
            key: self._storage.read_version(key)[0] for key in self._storage.list_keys(f"{FOLDER}/")
        }
        return {key: value for key, value in found.items() if value and not _is_gone(value)}


def claim_key(shard: int) -> str:
    """Return the key of a shard's claim."""
    return f"{FOLDER}/{shard:06d}.json"


def _lost(storage: Storage, key: str) -> ClaimLost:
    return ClaimLost("another process has taken over this shard", where=storage.where(key))


def _token(value: bytes | None) -> str:
    return "" if value is None else digest(value)


def _facts(value: bytes | None) -> dict[str, Any]:
    """Return what a claim says; nothing if it is damaged, so that only time can make it void."""
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
    """Return whether a claim was made on this machine by a process that has ended."""
    facts = _facts(value)
    pid = facts.get("pid")
    if not _machine() or facts.get("machine") != _machine() or not isinstance(pid, int):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # OSError: a living process of another user
        pass
    state, started = _state(pid)
    return state in ("Z", "X") or (started != "" and started != facts.get("started"))


def _is_here(value: bytes) -> bool:
    """Return whether a claim was made on this machine by a process that is still running."""
    return _facts(value).get("machine") == _machine() != "" and not _is_gone(value)


def _machine() -> str:
    """Return the boot of this machine and the namespace of its process ids; "" if unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _state(pid: int) -> tuple[str, str]:
    """Return a process's state and its start time in ticks since boot; empty if unknown."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return fields[0], fields[19]
    except (OSError, IndexError):
        return "", ""
