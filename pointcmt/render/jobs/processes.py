"""Start worker processes, some of them before the job is known: most of a start is imports.

Cheap to import, so that a command can start them first of all.
"""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection

Process = tuple["subprocess.Popen[bytes]", Connection]  # and the pipe to it
# More are started when the job is known: it may be small, or memory may be too short for them.
MOST_SPARE = 4


def start_spare(count: int) -> None:
    """Start processes for workers to come, at most MOST_SPARE; they import what renders."""
    while len(_spare) < min(count, MOST_SPARE):
        process, connection = _start()
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.send(import_renderer)
        _spare.append((process, connection))


def import_renderer() -> None:
    """Import what every worker needs. Errors that concern the user are PointcmtErrors."""
    from pointcmt.render.startup import import_lightly

    import_lightly()
    import pointcmt.render.jobs.shards  # noqa: F401


def end_spare() -> None:
    """End the processes that no worker has taken."""
    while _spare:
        process, connection = _spare.pop()
        process.kill()
        process.wait()
        connection.close()


def take() -> Process:
    """Return a process that waits for its work: a spare one, if there is one, or a new one."""
    with suppress(IndexError):
        while True:
            process, connection = _spare.pop(0)
            if process.poll() is None:
                return process, connection
    return _start()


def _start() -> Process:
    """Start a process; return it and the pipe to it.

    It is not one of multiprocessing's: daemonic processes, as dask workers are, cannot start those.
    """
    ours, theirs = Pipe()
    command = [sys.executable, "-P", "-m", "pointcmt.render.jobs.child"]
    command += [str(theirs.fileno()), str(os.getpid())]
    path = os.pathsep.join(map(os.path.abspath, sys.path))
    process = _launcher.submit(
        subprocess.Popen,
        command,
        pass_fds=[theirs.fileno()],
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": path},
    ).result()
    theirs.close()
    return process, ours


def _block_interrupts() -> None:
    """Block Ctrl-C in this thread, and thus in the processes that it starts."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


# The kernel ends a worker with the THREAD that started it: one lasting thread starts them all.
_launcher = ThreadPoolExecutor(1, "launcher", initializer=_block_interrupts)
_spare: list[Process] = []
