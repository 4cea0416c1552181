"""The main program of a worker process: run tasks from a pipe, and report each shape it begins.

processes.py starts it as `python -m pointcmt.render.jobs.child PIPE PARENT`. It is never
forked: a fork breaks GL contexts, tensorstore and thread pools.
"""

import ctypes
import gc
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, Protocol

from pointcmt.errors import PointcmtError, Reason

IDLE_TIMEOUT = 60.0  # seconds without a task after which the process exits, to free its memory


class Runner(Protocol):
    """Runs tasks inside a worker process; see shards.ShardRunner."""

    def __call__(
        self, task: Any, blame: dict[int, tuple[Reason, str]], report: Callable[[int | None], None]
    ) -> Any: ...


def main(pipe: int, parent: int) -> None:
    """Run the tasks that arrive through the pipe (a file descriptor) until it closes."""
    _die_with(parent)
    _keep_one_arena()
    connection = Connection(pipe)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the parent is gone
        try:
            # Imports make many lasting objects, among which the collector would look for garbage.
            gc.disable()
            run = _receive_runner(connection)
            gc.freeze()
            gc.enable()
            _announce_compiling(connection)
            while connection.poll(IDLE_TIMEOUT):
                task, blame = connection.recv()
                result = run(task, blame, lambda shape: connection.send(("shape", shape)))
                connection.send(("done", result))
        except PointcmtError as error:
            connection.send(("error", error))


def _receive_runner(connection: Connection) -> Runner:
    """Make the runner that the parent asks for; before, do what it sends to prepare for one."""
    message = connection.recv()
    while callable(message):
        message()
        message = connection.recv()
    make_runner, argument, number = message
    runner: Runner = make_runner(argument, number)
    return runner


def _announce_compiling(connection: Connection) -> None:
    """Report when numba begins and ends compiling: that time does not count for any shape."""
    event: Any = sys.modules.get("numba.core.event")
    if event is None:
        return

    class Announcer(event.Listener):  # type: ignore[misc]
        depth = 0  # compiling one function may compile others

        def on_start(self, _: Any) -> None:
            self.depth += 1
            if self.depth == 1:
                connection.send(("compiling", True))

        def on_end(self, _: Any) -> None:
            self.depth -= 1
            if self.depth == 0:
                connection.send(("compiling", False))

    event.register("numba:compile", Announcer())


def _keep_one_arena() -> None:
    """Make all threads allocate from one heap (glibc): with a heap each, memory use creeps up."""
    allocator = ctypes.CDLL(None)
    if hasattr(allocator, "mallopt"):
        M_ARENA_MAX = -8
        allocator.mallopt(M_ARENA_MAX, 1)


def _die_with(parent: int) -> None:
    """Make the kernel kill this process when its parent ends, however it ends (Linux)."""
    if sys.platform == "linux":
        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
