"""Files of a store through tensorstore's key-value interface: atomic and synced writes."""

import errno
import fcntl
import os
import stat
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import tensorstore as ts

from pointcmt.datasets.store import forks
from pointcmt.datasets.store.locations import (
    FIRST_ANSWER,
    FIRST_TRIES,
    TRIES,
    context,
    is_remote,
    location,
    spec,
    storage_errors,
)
from pointcmt.errors import DamageError, StoreError, UsageError

AHEAD = 256  # values read side by side
LOCK = ".__lock"  # the suffix of files that tensorstore is still writing
LISTING = 60.0  # seconds; a place that takes longer to list holds more than a store or nothing
LISTED = 500.0  # keys per second that the slowest server lists
MOST_METADATA = 1 << 30  # bytes of a file that is not a shard's data; a plan of 8 million shapes
REPAIR = "`pointcmt verify` says what is broken, `pointcmt verify --repair` renders it again"


def open_kv(path: str, threads: int = 4, first: bool = False) -> Any:
    """Open a folder or a URL, which need not exist yet. first: without patience with its server.

    Returns a ts.KvStore, or in a forked process what stands for one (forks.py); `open_array` also.
    """
    if forks.use():
        return forks.Files(path, threads)
    try:
        shared = context(threads, FIRST_TRIES if first else TRIES)
        return ts.KvStore.open(spec(path), context=shared).result()
    except ValueError as error:
        raise UsageError("no bucket has such a name", where=path, fix="correct the URL") from error


def open_array(where: str, threads: int, **options: Any) -> Any:
    """Open an existing zarr v3 array. Raises DamageError where it is missing or damaged.

    Reading a chunk that is not there is a ValueError, never the fill value: a store writes every
    chunk, so one that is missing has been lost.
    """
    require_readable(open_kv(where, threads), "zarr.json")
    try:
        with storage_errors(where):
            table = {"driver": "zarr3", "kvstore": spec(where), "fill_missing_data_reads": False}
            table |= options
            if forks.use():
                return forks.Array(where, threads, options)
            return ts.open(table, open=True, context=context(threads, TRIES)).result()
    except ValueError as error:
        raise DamageError(
            f"the array cannot be opened: {error}",
            where=where,
            fix="`pointcmt verify` says what is broken, `pointcmt verify --repair` mends it",
        ) from error


def decode_array(metadata: bytes, key: str, data: bytes) -> ts.TensorStore:
    """An array in memory of which one shard file is there. Raises ValueError for a damaged one."""
    memory = ts.KvStore.open({"driver": "memory"}, context=ts.Context()).result()
    memory.write("zarr.json", metadata).result()
    memory.write(key, data).result()
    table = {"driver": "zarr3", "fill_missing_data_reads": False}
    return ts.open(table, kvstore=memory, open=True).result()


def read(kv: ts.KvStore, key: str, most: int | None = MOST_METADATA) -> bytes | None:
    """The value of a key of at most `most` bytes, None where there is none. Raises StoreError."""
    require_readable(kv, key, most)
    with storage_errors(kv):
        return _value(kv.read(key).result())


def require_readable(kv: ts.KvStore, key: str, most: int | None = MOST_METADATA) -> None:
    """Raise DamageError for a key in a folder that is a FIFO, a device, a ring of links or huge.

    Opening these would wait or read for ever. A key that does not exist is fine: reading tells.
    """
    wrong = trouble(kv, key, most)
    if wrong and wrong != MISSING:
        where = f"{location(kv)}/{key}"
        raise DamageError(f"this file cannot be read: {wrong}", where=where, fix=REPAIR)


def trouble(kv: ts.KvStore, key: str, most: int | None = None) -> str:
    """What keeps a key in a folder from being read, "" for nothing, without opening it."""
    folder = folder_of(kv)
    return "" if folder is None else _trouble(folder / key, most)


def absent(kv: ts.KvStore, wanted: Mapping[str, Collection[str]]) -> dict[str, str]:
    """What is wrong with each of some keys that cannot be read, by key, in order.

    wanted: the keys, by the prefix they share. Reads no data: in a folder each file is looked at,
    on object storage the prefixes are listed.
    """
    folder = folder_of(kv)
    if folder is not None:
        found = ((key, _trouble(folder / key)) for keys in wanted.values() for key in keys)
        return {key: wrong for key, wrong in found if wrong}
    with storage_errors(kv):
        lists = {prefix: kv.list(_range(prefix)) for prefix, keys in wanted.items() if keys}
        present = {
            prefix: {key.decode() for key in _listed(kv, future, len(wanted[prefix]))}
            for prefix, future in lists.items()
        }
    return {
        key: MISSING for prefix in lists for key in wanted[prefix] if key not in present[prefix]
    }


def first_read(path: str, key: str, threads: int = 4) -> bytes | None:
    """`read` at a place that may be the wrong one: its server has to answer within seconds."""
    kv = open_kv(path, threads, first=True)
    require_readable(kv, key)
    with storage_errors(kv):
        value = _value(kv.read(key).result(timeout=FIRST_ANSWER))
        if value is None and is_remote(path):  # without a bucket, too, there is no such object
            kv.list(_range(key)).result(timeout=FIRST_ANSWER)
    return value


def read_many(kv: ts.KvStore, keys: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
    """(key, value) of many keys, read side by side, in order; None for what cannot be read."""
    left, waiting = iter(keys), deque[tuple[str, Any]]()
    with storage_errors(kv):
        while True:
            for key in islice(left, AHEAD - len(waiting)):
                waiting.append((key, None if trouble(kv, key) else kv.read(key)))
            if not waiting:
                return
            key, future = waiting.popleft()
            yield key, _value(future.result()) if future else None


def write(kv: ts.KvStore, key: str, value: bytes) -> None:
    """Write a key so that readers see all of it or nothing; stored safely when this returns."""
    empty_leftover(kv, key)
    with storage_errors(kv):
        kv.write(key, value).result()


def write_new(kv: ts.KvStore, key: str, value: bytes) -> bytes:
    """Write a key unless it exists; returns what is stored now, whoever wrote it.

    Of many writers at once one wins, on object storage too if its server honours conditional
    writes (If-None-Match, ifGenerationMatch). If not, the last one may win: what that leads to is
    noticed by the store's identity.
    """
    require_readable(kv, key)
    with storage_errors(kv):
        found = kv.read(key).result()
        if found.state == "missing":
            empty_leftover(kv, key)
            stamp = kv.write(key, value, if_equal=found.stamp.generation).result()
            if stamp.generation:
                return value
            found = kv.read(key).result()  # another process was faster
    return found.value


def empty_leftover(kv: ts.KvStore, key: str) -> None:
    """Empty what a killed writer has left of a key in a folder; to be called before each write.

    tensorstore writes into the leftover `key.__lock` without truncating it: where that is longer
    than the new value, its end would become the end of the file. A file that a living writer has
    renamed to `key` since it was opened here is left alone.
    """
    folder = folder_of(kv)
    if folder is None:
        return
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    path = folder / f"{key}{LOCK}"
    with suppress(OSError):  # there is none, or a living writer holds it
        handle = os.open(path, flags)
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(handle), os.lstat(path)):
                os.ftruncate(handle, 0)
        finally:
            os.close(handle)


def delete(kv: ts.KvStore, keys: Iterable[str]) -> None:
    """Delete keys, side by side; those that are not there are no error."""
    with storage_errors(kv):
        for future in [kv.write(key, None) for key in keys]:
            future.result()


def list_keys(kv: ts.KvStore, prefix: str = "", expected: int = 0) -> list[str]:
    """All keys that begin with `prefix`, sorted.

    expected: about how many, which decides how long a server may take. Raises StoreError.
    """
    with storage_errors(kv):
        keys = _listed(kv, kv.list(_range(prefix)), expected)
    return sorted(key.decode() for key in keys)


def top_names(kv: ts.KvStore) -> set[str]:
    """The names of what is in a folder or below a URL, not of what is further down."""
    with storage_errors(kv):
        folder = folder_of(kv)
        if folder is not None:
            return set(os.listdir(folder)) if folder.exists() else set()
        keys = _listed(kv, kv.list(), 0)
        return {key.decode().split("/")[0] for key in keys}


@dataclass(frozen=True)
class Inventory:
    """All there is in a folder or below a URL, by name relative to it.

    files: regular files, or objects. folders: each after those that lie in it. others: links,
    which are not followed, pipes, devices and sockets.
    """

    files: tuple[str, ...]
    folders: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


def inventory(kv: ts.KvStore) -> Inventory:
    """List everything in a folder or below a URL. Raises StoreError."""
    root = folder_of(kv)
    if root is None:
        return Inventory(tuple(list_keys(kv)))
    found: dict[str, list[str]] = {"files": [], "folders": [], "others": []}
    waiting = [""]
    with storage_errors(kv):
        while waiting:
            with suppress(FileNotFoundError), os.scandir(root / waiting.pop()) as entries:
                for entry in entries:
                    name = Path(entry.path).relative_to(root).as_posix()
                    if entry.is_dir(follow_symlinks=False):
                        found["folders"].append(name)
                        waiting.append(name)
                    else:
                        regular = entry.is_file(follow_symlinks=False)
                        found["files" if regular else "others"].append(name)
    deepest_first = sorted(found["folders"], key=lambda name: (-name.count("/"), name))
    return Inventory(tuple(sorted(found["files"])), tuple(deepest_first), tuple(found["others"]))


def delete_in_order(kv: ts.KvStore, found: Inventory, first: str, last: str) -> None:
    """Delete files and empty folders by name: the folder `first` before all others, the file `last`
    after them, then the folder that held them. Raises StoreError, also where a folder is not empty.
    """
    sooner = [name for name in found.files if name.startswith(f"{first}/")]
    later = [name for name in found.files if not name.startswith(f"{first}/") and name != last]
    root = folder_of(kv)
    if root is None:
        for names in (sooner, later, [last]):
            for start in range(0, len(names), AHEAD):
                delete(kv, names[start : start + AHEAD])
        return
    early = [name for name in found.folders if f"{name}/".startswith(f"{first}/")]
    with storage_errors(kv):
        for names, folders in ((sooner, early), (later, found.folders), ([last], ())):
            for name in names:
                with suppress(FileNotFoundError):
                    os.unlink(root / name)
            for name in folders:
                with suppress(FileNotFoundError):
                    os.rmdir(root / name)
        try:
            if not root.is_symlink():
                root.rmdir()
        except OSError as error:  # a mount point, or a parent that cannot be written, stays
            if error.errno == errno.ENOTEMPTY:
                raise


def sweep_locks(kv: ts.KvStore, is_ours: Callable[[str], bool]) -> list[str]:
    """Delete the half-written files that killed writers left in a folder; returns their names.

    tensorstore writes `name.__lock` and renames it. Those that a living writer holds are let alone.
    """
    folder, swept = folder_of(kv), []
    if folder is None:
        return []  # servers keep no halves
    for name in inventory(kv).files:
        if name.endswith(LOCK) and is_ours(name):
            with storage_errors(kv), suppress(FileNotFoundError, BlockingIOError):
                path = folder / name
                with path.open("r+b") as file:
                    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()
                    swept.append(name)
    return swept


def folder_of(kv: ts.KvStore) -> Path | None:
    """The folder of a key-value store, None where it is on object storage."""
    return None if is_remote(location(kv)) else Path(kv.path)


def size(kv: ts.KvStore, folder: str = "") -> int | None:
    """Bytes of all files in a folder of it, or in all; writers may rename some meanwhile.

    None on object storage, where each file would have to be asked.
    """
    root = folder_of(kv)
    if root is None:
        return None
    total, folders = 0, [str(root / folder)]
    while folders:
        with suppress(FileNotFoundError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    with suppress(OSError):  # a ring of links, too
                        total += entry.stat().st_size
    return total


MISSING = "the file is missing"


def _trouble(path: Path, most: int | None = None) -> str:
    """What keeps a file from being read, "" for nothing, without opening it."""
    try:
        status = os.stat(path)
    except OSError as error:
        lost = error.errno in (errno.ENOENT, errno.ENOTDIR)
        return MISSING if lost else os.strerror(error.errno or 0)
    if stat.S_ISDIR(status.st_mode):
        return MISSING
    if not stat.S_ISREG(status.st_mode):
        return "it is not a regular file"
    if most is not None and status.st_size > most:
        return f"it has {status.st_size} bytes, at most {most} are read"
    return ""


def _listed(kv: ts.KvStore, listing: "ts.Future[list[bytes]]", expected: int) -> list[bytes]:
    """The keys of a listing. Raises StoreError for a server that goes on listing for ever."""
    patience = LISTING + expected / LISTED
    try:
        return listing.result(timeout=patience)
    except TimeoutError:
        raise StoreError(
            f"listing this location took over {patience:.0f} s: it is probably not a view store",
            where=location(kv),
            fix="choose a path of the bucket that holds nothing else",
        ) from None


def _value(result: ts.KvStore.ReadResult) -> bytes | None:
    return result.value if result.state == "value" else None


def _range(prefix: str) -> ts.KvStore.KeyRange:
    if not prefix:
        return ts.KvStore.KeyRange()
    return ts.KvStore.KeyRange(prefix, prefix[:-1] + chr(ord(prefix[-1]) + 1))
