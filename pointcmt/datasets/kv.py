"""Files of a store through tensorstore's key-value interface: atomic and synced writes."""

import errno
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import tensorstore as ts

from pointcmt.errors import StoreError, UsageError, require_utf8

_REMEDIES = {
    errno.ENOSPC: ("the disk is full", "free some space and run the same command again"),
    errno.EDQUOT: ("the disk quota is used up", "free some space and run the same command again"),
    errno.EROFS: ("the file system is read-only", "choose a place that can be written"),
    errno.EACCES: ("permission denied", "choose a place that can be written, or fix its owner"),
    errno.EPERM: ("operation not permitted", "choose a place that can be written"),
    errno.ENOTDIR: ("a part of this path is a file, not a folder", "choose another path"),
    errno.EIO: ("the disk reports an input/output error", "check the disk"),
}


@cache
def context(threads: int) -> ts.Context:
    """One pool of `threads` for decoding, encoding and file access; nothing is cached in memory."""
    return ts.Context(
        {
            "data_copy_concurrency": {"limit": threads},
            "file_io_concurrency": {"limit": max(4, threads)},
            "cache_pool": {"total_bytes_limit": 0},
        }
    )


def spec(path: str) -> dict[str, Any]:
    """The key-value store of a folder, as a tensorstore spec."""
    if "://" in path:
        raise UsageError(
            "stores on object storage are not supported yet",
            where=path,
            fix="give a folder of a mounted file system",
        )
    require_utf8(path, where="the store")
    return {"driver": "file", "path": f"{Path(path).absolute()}/"}


def open_kv(path: str, threads: int = 4) -> ts.KvStore:
    """Open a folder, which need not exist yet."""
    return ts.KvStore.open(spec(path), context=context(threads)).result()


def open_array(where: str, threads: int, **options: Any) -> ts.TensorStore:
    """Open an existing zarr v3 array. Raises StoreError where it is missing or damaged."""
    try:
        table = {"driver": "zarr3", "kvstore": spec(where), **options}
        return ts.open(table, open=True, context=context(threads)).result()
    except ValueError as error:
        raise StoreError(
            f"the array cannot be opened: {error}",
            where=where,
            fix="run `pointcmt verify` to see what is broken, then render the store again",
        ) from error


def read(kv: ts.KvStore, key: str) -> bytes | None:
    """The value of a key, None where there is none. Raises StoreError."""
    with storage_errors(kv.path):
        result = kv.read(key).result()
    return result.value if result.state == "value" else None


def read_many(kv: ts.KvStore, keys: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
    """(key, value) of many keys, read side by side, in order."""
    with storage_errors(kv.path):
        futures = [(key, kv.read(key)) for key in keys]
        for key, future in futures:
            result = future.result()
            yield key, result.value if result.state == "value" else None


def write(kv: ts.KvStore, key: str, value: bytes) -> None:
    """Write a key so that readers see all of it or nothing; on disk when this returns."""
    with storage_errors(kv.path):
        kv.write(key, value).result()


def write_new(kv: ts.KvStore, key: str, value: bytes) -> bytes:
    """Write a key unless it exists; returns what is stored now, whoever wrote it."""
    with storage_errors(kv.path):
        found = kv.read(key).result()
        if found.state == "missing":
            stamp = kv.write(key, value, if_equal=found.stamp.generation).result()
            if stamp.generation:
                return value
            found = kv.read(key).result()  # another process was faster
    return found.value


def list_keys(kv: ts.KvStore, prefix: str) -> list[str]:
    """All keys that begin with `prefix`, sorted."""
    with storage_errors(kv.path):
        keys = kv.list(ts.KvStore.KeyRange(prefix, prefix[:-1] + chr(ord(prefix[-1]) + 1))).result()
    return sorted(key.decode() for key in keys)


@contextmanager
def storage_errors(path: str) -> Iterator[None]:
    """Turn tensorstore's and the system's storage errors into a StoreError with its remedy."""
    try:
        yield
    except (ValueError, OSError) as error:
        found = re.search(r"os_error_code='(\d+)'", str(error))
        number = int(found.group(1)) if found else getattr(error, "errno", None)
        if number is None:
            raise
        what, fix = _REMEDIES.get(number, (os.strerror(number), ""))
        raise StoreError(what, where=path, fix=fix) from error
