"""A worker process: it runs the tasks that come through a pipe, and says which shape it begins.

supervisor.py starts it as `python -m pointcmt.render.jobs.child PIPE PARENT`: started afresh, never
forked (a fork breaks GL contexts, tensorstore and thread pools).
"""

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, Protocol

from pointcmt.errors import PointcmtError, Reason

IDLE = 60.0  # seconds without a task after which the process leaves, and its memory with it


class Runner(Protocol):
    """What runs tasks inside of a worker; see shards.ShardRunner."""

    def __call__(
        self, task: Any, blame: dict[int, tuple[Reason, str]], report: Callable[[int | None], None]
    ) -> Any: ...


def main(pipe: int, parent: int) -> None:
    """Serve the process at the other end of the pipe (a file descriptor) until it has no more."""
    _die_with(parent)
    _keep_one_arena()
    connection = Connection(pipe)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the parent is gone
        try:
            make_runner, argument, number = connection.recv()
            run = make_runner(argument, number)
            _announce_compiling(connection)
            while connection.poll(IDLE):
                task, blame = connection.recv()
                result = run(task, blame, lambda shape: connection.send(("shape", shape)))
                connection.send(("done", result))
        except PointcmtError as error:
            connection.send(("error", error))


def _announce_compiling(connection: Connection) -> None:
    """Say when numba begins to compile and when it has: that time is no shape's."""
    event: Any = sys.modules.get("numba.core.event")
    if event is None:
        return

    class Announcer(event.Listener):  # type: ignore[misc]
        depth = 0  # one function may have others compiled

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
    """Have all threads allocate from one heap (glibc): with one each, memory creeps upwards."""
    allocator = ctypes.CDLL(None)
    if hasattr(allocator, "mallopt"):
        M_ARENA_MAX = -8
        allocator.mallopt(M_ARENA_MAX, 1)


def _die_with(parent: int) -> None:
    """Have the kernel end this process when its parent ends, however it ends (Linux)."""
    if sys.platform == "linux":
        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
