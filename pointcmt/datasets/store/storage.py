"""A location that holds a store, opened once, with atomic, synced writes.

A folder, a bucket, or a zip file, which can only be read.
"""

import os
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import tensorstore as ts

from pointcmt.datasets.store import forks
from pointcmt.datasets.store.file_checks import (
    HAS_LOCKS,
    MISSING,
    Inventory,
    delete_empty_root,
    delete_files,
    empty_leftover,
    file_problem,
    folder_size,
    list_folder,
    sweep_leftovers,
)
from pointcmt.datasets.store.locations import (
    FIRST_ANSWER,
    FIRST_TRIES,
    TRIES,
    is_remote,
    is_zip,
    kvstore_spec,
    limit_waiting,
    shared_context,
    storage_errors,
    tidy,
)
from pointcmt.errors import DamageError, StoreError, UsageError

PREFETCH = 256  # values read, or keys deleted, at the same time
LISTING = 60.0  # seconds; a location that takes longer to list is not that of a store
LISTED = 500.0  # keys per second that the slowest server lists
MOST_METADATA = 1 << 30  # bytes of a file other than a shard's data: a plan of 8 million shapes
REPAIR = (
    "run `pointcmt verify` to see what is broken, and `pointcmt verify --repair` to render it again"
)


class Storage:
    """The files of a folder, or the objects below a URL, by key: their path relative to it.

    path: the folder, s3://bucket/path or gs://bucket/path as given, without a trailing slash; it
    need not exist yet. threads: of decoding, encoding and file access. folder: the absolute path,
    None on object storage and for a zip file, which can only be read. Every method raises
    StoreError, with its remedy, where the location cannot be read or written.

    Example: `Storage("S").read("zarr.json")` is the bytes of the file S/zarr.json.
    """

    def __init__(self, path: str | Path, threads: int = 4, *, sync: bool = True) -> None:
        """Open a location. sync: whether a write waits until its data is on disk.

        Raises UsageError for a path or a URL that cannot be a location.
        """
        self.path, self.threads = tidy(str(path)), threads
        self.is_remote, self.is_zip = is_remote(self.path), is_zip(self.path)
        self._spec = kvstore_spec(self.path)
        is_folder = not (self.is_remote or self.is_zip)
        self.folder = Path(self._spec["path"]) if is_folder else None
        if self.is_remote:
            limit_waiting()
        elif self.folder is not None and not sync:
            self._spec["file_io_sync"] = False
        self.kv = self._open(TRIES)

    def __repr__(self) -> str:
        return f"Storage({self.path!r})"

    def unsynced(self) -> "Storage":
        """Return the same location for small files that need not survive the machine."""
        return Storage(self.path, threads=1, sync=False)

    def reopen(self) -> None:
        """Open the location again, in a process that was forked from the one that opened it."""
        forks.keep(self.kv)
        self.kv = self._open(TRIES)

    def where(self, key: str) -> str:
        """Return the path or URL of a key, for messages."""
        return f"{self.path}/{key}"

    # ---- reading

    def read(self, key: str, most: int | None = MOST_METADATA) -> bytes | None:
        """Return the value of a key of at most `most` bytes, None if it does not exist."""
        self.require_readable(key, most)
        with storage_errors(self.path):
            return _value(self.kv.read(key).result())

    def first_read(self, key: str) -> bytes | None:
        """`read` from a location that may be wrong: its server has to answer within seconds."""
        self.require_readable(key)
        kv = self._open(FIRST_TRIES)
        with storage_errors(self.path):
            value = _value(kv.read(key).result(timeout=FIRST_ANSWER))
            if value is None and self.is_remote:  # a missing bucket looks like a missing object
                kv.list(_range(key)).result(timeout=FIRST_ANSWER)
        return value

    def read_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        """Yield (key, value) of many keys in order, reading ahead; None for unreadable ones."""
        left, waiting = iter(keys), deque[tuple[str, Any]]()
        with storage_errors(self.path):
            while True:
                for key in islice(left, PREFETCH - len(waiting)):
                    waiting.append((key, None if self.problem(key) else self.kv.read(key)))
                if not waiting:
                    return
                key, future = waiting.popleft()
                yield key, _value(future.result()) if future else None

    def read_version(self, key: str) -> tuple[bytes | None, bytes]:
        """Return a key's value (None if it does not exist) and its generation, for `replace`."""
        self.require_readable(key)
        with storage_errors(self.path):
            found = self.kv.read(key).result()
        return _value(found), found.stamp.generation

    def open_array(self, name: str, threads: int | None = None, **options: Any) -> Any:
        """Open an existing zarr v3 array. Raises DamageError if it is missing or damaged.

        threads: instead of the storage's. Reading a missing chunk raises ValueError and never gives
        the fill value: a store writes every chunk, so a missing one has been lost.
        """
        self.require_readable(f"{name}/zarr.json")
        try:
            with storage_errors(self.where(name)):
                kvstore = {**self._spec, "path": f"{self._spec['path']}{name}/"}
                table = {"driver": "zarr3", "kvstore": kvstore, "fill_missing_data_reads": False}
                if forks.use():
                    return forks.Array(self.path, name, threads or self.threads, options)
                shared = shared_context(threads or self.threads, TRIES)
                return ts.open(table | options, open=True, context=shared).result()
        except ValueError as error:
            raise DamageError(
                f"the array cannot be opened: {error}",
                where=self.where(name),
                fix="run `pointcmt verify` to see what is broken, and `pointcmt verify --repair` "
                "to repair it",
            ) from error

    # ---- looking without reading

    def problem(self, key: str, most: int | None = None) -> str:
        """Return why a key in a folder cannot be read, "" if it can, without opening the file."""
        return "" if self.folder is None else file_problem(self.folder / key, most)

    def require_readable(self, key: str, most: int | None = MOST_METADATA) -> None:
        """Raise DamageError for a key in a folder that is a FIFO, a device, a circle of links, or
        larger than `most` bytes.

        Reading one of these could block forever. A key that does not exist is fine.
        """
        problem = self.problem(key, most)
        if problem and problem != MISSING:
            what = f"this file cannot be read: {problem}"
            raise DamageError(what, where=self.where(key), fix=REPAIR)

    def absent(self, wanted: Mapping[str, Collection[str]]) -> dict[str, str]:
        """Return the keys that cannot be read and why, in order.

        wanted: the keys, grouped by a prefix that they share. Reads no data: in a folder it looks
        at each file, on object storage it lists the prefixes.
        """
        if self.folder is not None:
            found = ((key, self.problem(key)) for keys in wanted.values() for key in keys)
            return {key: problem for key, problem in found if problem}
        with storage_errors(self.path):
            lists = {
                prefix: self.kv.list(_range(prefix)) for prefix, keys in wanted.items() if keys
            }
            present = {
                prefix: set(self._listed(future, len(wanted[prefix])))
                for prefix, future in lists.items()
            }
        return {
            key: MISSING for prefix in lists for key in wanted[prefix] if key not in present[prefix]
        }

    def list_keys(self, prefix: str = "", expected: int = 0) -> list[str]:
        """Return all keys that begin with `prefix`, sorted.

        expected: about how many there are, which decides how long a server may take.
        """
        with storage_errors(self.path):
            return sorted(self._listed(self.kv.list(_range(prefix)), expected))

    def top_names(self) -> set[str]:
        """Return the names of files and folders at the top level."""
        with storage_errors(self.path):
            if self.folder is not None:
                return set(os.listdir(self.folder)) if self.folder.exists() else set()
            return {key.split("/")[0] for key in self._listed(self.kv.list(), 0)}

    def inventory(self) -> Inventory:
        """List everything in the folder or below the URL."""
        if self.folder is None:
            return Inventory(tuple(self.list_keys()))
        with storage_errors(self.path):
            return list_folder(self.folder)

    def size(self, name: str = "") -> int | None:
        """Return the bytes of all files in a folder of it, or in all of it.

        None on object storage, where the size of each object would take a request, and for a part
        of a zip file.
        """
        if self.is_zip and not name:
            with storage_errors(self.path):
                return os.stat(self.path).st_size
        return None if self.folder is None else folder_size(self.folder / name)

    # ---- writing

    def require_writable(self) -> None:
        """Raise StoreError for a zip file, and on a system where stores can only be read."""
        if self.is_zip:
            raise StoreError(
                "a store in a zip file can only be read",
                where=self.path,
                fix="unpack it and use the folder",
            )
        if not HAS_LOCKS:
            raise StoreError(
                "stores can only be read on this system",
                where=self.path,
                fix="write them on Linux or macOS",
            )

    def write(self, key: str, value: bytes) -> None:
        """Write a key so that readers see all of it or nothing; on disk when this returns."""
        self.require_writable()
        self.empty_leftover(key)
        with storage_errors(self.path):
            self.kv.write(key, value).result()

    def write_new(self, key: str, value: bytes) -> bytes:
        """Write a key unless it exists; returns the stored value, also if another wrote it.

        Of many concurrent writers one wins, on object storage too if its server honors conditional
        writes (If-None-Match, ifGenerationMatch). On other servers the last one may win, which the
        store's identity reveals later.
        """
        self.require_readable(key)
        with storage_errors(self.path):
            found = self.kv.read(key).result()
            if found.state == "missing":
                self.require_writable()
                self.empty_leftover(key)
                stamp = self.kv.write(key, value, if_equal=found.stamp.generation).result()
                if stamp.generation:
                    return value
                found = self.kv.read(key).result()  # another process was faster
        return found.value

    def replace(self, key: str, value: bytes | None, generation: bytes) -> bytes | None:
        """Write a key, or delete it (None), if it still has this generation.

        Returns the new generation, None if the key has changed.
        """
        self.require_writable()
        if value is not None:
            self.empty_leftover(key)
        with storage_errors(self.path):
            return self.kv.write(key, value, if_equal=generation).result().generation or None

    def delete(self, keys: Iterable[str]) -> None:
        """Delete keys, all at the same time; missing ones are ignored."""
        self.require_writable()
        with storage_errors(self.path):
            for future in [self.kv.write(key, None) for key in keys]:
                future.result()

    def delete_in_order(self, found: Inventory, first: str, last: str) -> None:
        """Delete files and empty folders by name: the folder `first` before all others, the file
        `last` after them, then the folder that held them. Raises StoreError if it is not empty.
        """
        self.require_writable()
        sooner = [name for name in found.files if name.startswith(f"{first}/")]
        later = [name for name in found.files if not name.startswith(f"{first}/") and name != last]
        if self.folder is None:
            for names in (sooner, later, [last]):
                for start in range(0, len(names), PREFETCH):
                    self.delete(names[start : start + PREFETCH])
            return
        early = [name for name in found.folders if f"{name}/".startswith(f"{first}/")]
        with storage_errors(self.path):
            delete_files(self.folder, sooner, early)
            delete_files(self.folder, later, list(found.folders))
            delete_files(self.folder, [last], [])
            delete_empty_root(self.folder)

    def empty_leftover(self, key: str) -> None:
        """Empty what a killed writer has left of a key in a folder; call it before each write."""
        if self.folder is not None:
            empty_leftover(self.folder / key)

    def sweep_leftovers(self, is_ours: Callable[[str], bool]) -> list[str]:
        """Delete half-written files that killed writers left in a folder; returns their names.

        Object storage keeps no half-written objects.
        """
        self.require_writable()
        if self.folder is None:
            return []
        with storage_errors(self.path):
            return sweep_leftovers(self.folder, is_ours)

    def _open(self, tries: int) -> Any:
        """Return a ts.KvStore or, in a forked process, an object that stands for one (forks.py)."""
        if forks.use():
            return forks.Files(self.path, self.threads)
        try:
            shared = shared_context(self.threads, tries)
            return ts.KvStore.open(self._spec, context=shared).result()
        except ValueError as error:
            raise UsageError(
                "this is not a valid bucket name", where=self.path, fix="correct the URL"
            ) from error

    def _listed(self, listing: "ts.Future[list[bytes]]", expected: int) -> list[str]:
        """Return the keys of a listing. Raises StoreError for a server that lists without end."""
        patience = LISTING + expected / LISTED
        try:
            return [key.decode() for key in listing.result(timeout=patience)]
        except TimeoutError:
            slow = f"listing this location took over {patience:.0f} s"
            raise StoreError(
                f"{slow}; it is probably not a view store",
                where=self.path,
                fix="choose a path of the bucket that contains nothing else",
            ) from None


def decode_array(metadata: bytes, key: str, data: bytes) -> ts.TensorStore:
    """Return an array in memory that holds one shard file. Raises ValueError if it is damaged."""
    memory = ts.KvStore.open({"driver": "memory"}, context=ts.Context()).result()
    memory.write("zarr.json", metadata).result()
    memory.write(key, data).result()
    table = {"driver": "zarr3", "fill_missing_data_reads": False}
    return ts.open(table, kvstore=memory, open=True).result()


def _value(result: ts.KvStore.ReadResult) -> bytes | None:
    return result.value if result.state == "value" else None


def _range(prefix: str) -> ts.KvStore.KeyRange:
    """Return the range of all keys that begin with a prefix."""
    if not prefix:
        return ts.KvStore.KeyRange()
    return ts.KvStore.KeyRange(prefix, prefix[:-1] + chr(ord(prefix[-1]) + 1))
