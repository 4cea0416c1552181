"""Stores in forked processes, such as a DataLoader's workers: read by a process started afresh.

tensorstore aborts a process that uses it after a fork if its parent has used it before. Such a
process has its reading done by another one (array_server.py), started when it is first needed; all
that it sends or gets goes through one pipe, in order. What is open is opened again in the child.
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
    """What holds tensorstore's objects; `reopen` replaces them by new ones."""

    def reopen(self) -> None: ...


_opened: "WeakSet[Open]" = WeakSet()
_used = False  # whether this process has tensorstore's threads
_forked = False  # whether its parent had them
_kept: list[Any] = []  # the parent's objects: to destroy them is to use them


def use() -> bool:
    """Note that tensorstore is used from now on; returns whether another process must do it."""
    global _used
    _used = True
    return _forked


def reopen_in_children(holder: Open) -> None:
    """Call `holder.reopen()` in each process that is forked from this one."""
    _opened.add(holder)


def keep(*parents_objects: Any) -> None:
    """Keep a parent's objects until this process ends."""
    if _forked:
        _kept.extend(parents_objects)


@dataclass(frozen=True)
class Array:
    """Stands for a tensorstore array: `array[index].read().result()`, and nothing else of it."""

    path: str
    name: str
    threads: int
    options: dict[str, Any]

    def __getitem__(self, index: Any) -> "Selection":
        return Selection(self, index)


@dataclass(frozen=True)
class Selection:
    """A part of an array, not read yet."""

    array: Array
    index: Any

    def read(self) -> "Future[Any]":
        own = self.array
        return _ask(("array", own.path, own.threads, own.name, own.options, self.index))


@dataclass(frozen=True)
class Files:
    """Stands for a tensorstore.KvStore, as far as `Storage` uses it."""

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
                "the process that reads stores for this one has ended", where=str(request[1])
            ) from error
        if not worked:
            raise value
        return value

    return thread.submit(exchange)


@cache
def _server() -> tuple[ThreadPoolExecutor, Connection]:
    """The one thread that may use the pipe, and the pipe; the process ends with this one."""
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
    _server.cache_clear()  # it is the parent's
    _forked = _forked or _used
    if _forked:
        for holder in list(_opened):
            holder.reopen()


os.register_at_fork(after_in_child=_after_fork)
