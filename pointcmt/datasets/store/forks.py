"""Read stores in forked processes, such as a DataLoader's workers, through a new process.

tensorstore aborts a process that uses it after a fork if its parent has used it before. Such a
process reads through another one (array_server.py), started on first use; all requests and answers
go through one pipe, in order. Open objects are reopened in the child.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, Protocol
from weakref import WeakSet

from pointcmt.errors import StoreError


class Open(Protocol):
    """A holder of tensorstore objects; `reopen` replaces them with new ones."""

    def reopen(self) -> None: ...


_opened: "WeakSet[Open]" = WeakSet()
_used = False  # whether this process has tensorstore's threads
_forked = False  # whether its parent had them
_kept: list[Any] = []  # the parent's objects, since destroying them would use tensorstore


def use() -> bool:
    """Record that tensorstore is in use; return whether it must run in another process."""
    global _used
    _used = True
    return _forked


def reopen_in_children(holder: Open) -> None:
    """Call `holder.reopen()` in each process that is forked from this one."""
    _opened.add(holder)


def keep(*parents_objects: Any) -> None:
    """Keep a parent's objects alive until this process ends."""
    if _forked:
        _kept.extend(parents_objects)


@dataclass(frozen=True)
class Array:
    """A proxy for a tensorstore array; only supports `array[index].read().result()`."""

    path: str
    name: str
    threads: int
    options: dict[str, Any]

    def __getitem__(self, index: Any) -> "Selection":
        return Selection(self, index)


@dataclass(frozen=True)
class Selection:
    """A selection of an array that is not read yet."""

    array: Array
    index: Any

    def read(self) -> "Future[Any]":
        own = self.array
        return _ask(("array", own.path, own.threads, own.name, own.options, self.index))


@dataclass(frozen=True)
class Files:
    """A proxy for the methods of tensorstore.KvStore that `Storage` uses."""

    path: str
    threads: int

    def __getattr__(self, method: str) -> Callable[..., "Future[Any]"]:
        if method not in ("read", "write", "list"):
            raise AttributeError(method)
        return lambda *given, **named: _ask(
            ("files", self.path, self.threads, method, given, named)
        )


def _ask(request: tuple[Any, ...]) -> "Future[Any]":
    thread, connection = _server()

    def exchange() -> Any:
        try:
            connection.send(request)
            worked, value = connection.recv()
        except (EOFError, OSError) as error:
            raise StoreError(
                "the helper process that reads stores has exited", where=str(request[1])
            ) from error
        if not worked:
            raise value
        return value

    return thread.submit(exchange)


@cache
def _server() -> tuple[ThreadPoolExecutor, Connection]:
    """Start the server, which ends with this process; return its executor and pipe."""
    ours, theirs = Pipe()
    command = [
        sys.executable,
        "-P",
        "-m",
        "pointcmt.datasets.store.array_server",
        str(theirs.fileno()),
    ]
    path = os.pathsep.join(map(os.path.abspath, sys.path))
    subprocess.Popen(
        command,
        pass_fds=[theirs.fileno()],
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": path},
    )
    theirs.close()
    return ThreadPoolExecutor(1, "array server"), ours


def _after_fork() -> None:
    global _forked
    _server.cache_clear()  # the cached server is the parent's
    _forked = _forked or _used
    if _forked:
        for holder in list(_opened):
            holder.reopen()


if hasattr(os, "register_at_fork"):  # not on Windows, where no process forks
    os.register_at_fork(after_in_child=_after_fork)
