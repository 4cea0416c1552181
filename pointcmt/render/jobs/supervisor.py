"""Worker processes under supervision: a crash or a hang costs the shape in flight, no more.

A worker says which shape it begins, so that its supervisor knows what to blame when it dies or
stalls: it starts another one, which tries the shape once more and then records it. A supervisor
belongs to the thread that calls it, in a pool on this machine (workers.py) or on a dask worker
(cluster.py): neither notices what becomes of the process.
"""

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Lock, Thread
from typing import Any, NamedTuple

from pointcmt.errors import PointcmtError, Reason
from pointcmt.render.jobs.child import Runner

LONGEST_WAIT = 5.0  # seconds
# Resident memory is watched, not limited by the kernel: RLIMIT_DATA counts what drivers and ray
# casters reserve and never touch, and has libraries abort in the middle of whatever they do.
# Fresh pages come at a few GB/s, so the limit is overrun by some hundred MB at most.
MEMORY_WATCH = 0.05  # seconds between looks at a worker's memory
LOADING = 300.0  # seconds
ENDING = 10.0  # seconds that a killed process may take: a driver or a file server may hold it
CRASHES_TO_BLAME = 2  # the first may be the machine's fault (memory, a stray kill)
CRASHES_TO_STOP = 5  # of workers that were not busy with any shape: the machine is unwell


@dataclass(frozen=True)
class Work:
    """What worker processes are for.

    make_runner(argument, number of the worker) is called once in each and must be importable
    there; its result runs the tasks. timeout: seconds one shape may take. memory_limit: GiB that a
    worker may hold, 0 = no limit, None = to be decided where it runs. need: GiB that one task takes
    at least.
    """

    make_runner: Callable[[Any, int], Runner]
    argument: Any
    timeout: float
    memory_limit: float | None = 0.0
    need: float = 0.0


class Stopped(Exception):
    """A worker was closed while it ran a task."""


class Worker:
    """A process that runs one task at a time for whoever calls `run`, and is replaced when it dies.

    number: from 0, which of its owner's workers it is. The process starts with the first task; when
    it has left because there was none for long, with the next one.
    """

    def __init__(self, work: Work, number: int) -> None:
        self.work, self.number = work, number
        self._process: subprocess.Popen[bytes] | None = None
        self._closed, self._starting = False, Lock()
        self._abandoned = False  # the process, since it does not end
        self._shape: int | None = None  # in flight
        self._since = 0.0  # when it began, monotonic seconds
        self._held = 0.0  # GiB that the process held then
        self._compiling = False

    def run(self, task: Any, attend: Callable[[], None] = lambda: None) -> Any:
        """The result of a task, whatever its shapes do to the process.

        attend is called every few seconds meanwhile. Raises the PointcmtError that the process ran
        into (a full disk, a missing library), and Stopped when another thread closes the worker.
        """
        blame = _Blame()
        try:
            while True:
                self._begin(task, blame.recorded)
                trouble = None
                while trouble is None:
                    attend()
                    self._wait()
                    if self._closed:
                        raise Stopped
                    state = self._look()  # before what it has said is read: none of that is missed
                    for kind, value in self._messages():
                        if kind == "done":
                            return value
                        raise value
                    trouble = self._trouble(state)
                left = self._end()
                blame.lay(self._shape, replace(trouble, detail=trouble.detail + left))
        except BaseException:
            self._end()
            raise

    def close(self) -> None:
        """End the process; to be called from any thread."""
        with self._starting:
            self._closed = True
        self._end()

    def _begin(self, task: Any, blame: dict[int, tuple[Reason, str]]) -> None:
        if self._process is None or self._abandoned or self._process.poll() is not None:
            with self._starting:
                if self._closed:
                    raise Stopped
                self._process, self._connection = _start(self.work, self.number)
                self._abandoned = False
        self._shape, self._compiling, self._since = None, False, time.monotonic()
        with suppress(BrokenPipeError, ConnectionResetError):  # it has just died: see _trouble
            self._connection.send((task, blame))

    def _wait(self) -> None:
        """Sleep until the process says something, ends, or has used up its time."""
        before = time.monotonic()
        longest = MEMORY_WATCH if self.work.memory_limit else LONGEST_WAIT
        allowed = max(0.0, min(self._since + self._patience() - before, longest))
        self._connection.poll(allowed)
        overslept = time.monotonic() - before - allowed
        if overslept > LONGEST_WAIT:  # all stood still (Ctrl-Z, a suspended job): no shape's fault
            self._since += overslept

    def _messages(self) -> Iterator[tuple[str, Any]]:
        assert self._process is not None
        try:
            while self._connection.poll():
                kind, value = self._connection.recv()
                self._since = time.monotonic()
                if kind == "shape":
                    self._shape, self._held = value, self._memory()
                elif kind == "compiling":
                    self._compiling = value
                else:
                    yield kind, value
        except (EOFError, ConnectionResetError):
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(LONGEST_WAIT)  # it has died; its exit code tells how
            self._process.kill()

    def _look(self) -> "_State":
        assert self._process is not None
        return _State(self._process.poll(), self._memory(), time.monotonic())

    def _trouble(self, state: "_State") -> "_Trouble | None":
        """How the process died, that it hangs or takes too much; None while it is well."""
        code, limit = state.code, self.work.memory_limit
        if code is not None and code >= 0:
            return _Trouble(Reason.CRASHED, f"the worker process ended with exit code {code}")
        if code is not None:
            known = {each.value: each.name for each in signal.Signals}  # few real-time signals
            name = known.get(-code, f"signal {-code}")
            hint = "; out of memory?" if name == "SIGKILL" else ""
            return _Trouble(Reason.CRASHED, f"the worker process was killed by {name}{hint}")
        if limit and state.memory > limit:
            what = f"its worker needed more memory than --memory-limit {limit:g} (GiB)"
            return _Trouble(Reason.TOO_LARGE, what, certain=self._held < limit / 2)
        if state.at - self._since > self._patience():
            what = f"took longer than {self._patience():g} s"
            return _Trouble(Reason.TIMEOUT, what, certain=True)
        return None

    def _memory(self) -> float:
        """GiB of resident memory of the process, 0 where it is gone or nothing is limited."""
        if not self.work.memory_limit or self._process is None:
            return 0.0
        try:
            pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        except (OSError, IndexError):  # it has just ended
            return 0.0
        return pages * resource.getpagesize() / 2**30

    def _patience(self) -> float:
        """Seconds of silence: longer while libraries and drivers load, and kernels are compiled."""
        loading = self._shape is None or self._compiling
        return max(self.work.timeout, LOADING) if loading else self.work.timeout

    def _end(self) -> str:
        """End the process; returns what is to be said of one that cannot be ended."""
        if self._process is None or self._abandoned:
            return ""
        self._process.kill()
        try:
            self._process.wait(ENDING)
        except subprocess.TimeoutExpired:
            self._abandoned = True
            Thread(target=self._process.wait, daemon=True).start()  # until the kernel lets it go
            return f"; its process {self._process.pid} on {socket.gethostname()} cannot be killed"
        return ""


class Crew:
    """The workers of this process: a task borrows one that is idle, or a new one."""

    def __init__(self) -> None:
        self._idle: list[Worker] = []
        self._busy: list[Worker] = []
        self._lock = Lock()
        self._closed = False

    def run(self, work: Work, task: Any, attend: Callable[[], None] = lambda: None) -> Any:
        """`Worker.run` by a worker that is there for this work alone."""
        worker = self._borrow(work)
        try:
            return worker.run(task, attend)
        finally:
            with self._lock:
                self._busy.remove(worker)
                self._idle.append(worker)

    def close(self) -> None:
        """End all processes; tasks that run raise Stopped."""
        with self._lock:
            self._closed = True
            workers = [*self._idle, *self._busy]
        for worker in workers:
            worker.close()

    def _borrow(self, work: Work) -> Worker:
        with self._lock:
            if self._closed:
                raise Stopped
            strangers = [worker for worker in self._idle if worker.work != work]
            self._idle = [worker for worker in self._idle if worker.work == work]
            for worker in strangers:  # of a job that is over
                worker.close()
            if not self._idle:
                taken = {worker.number for worker in self._busy}
                number = next(n for n in range(len(taken) + 1) if n not in taken)
                self._idle.append(Worker(work, number))
            worker = self._idle.pop()
            self._busy.append(worker)
            return worker


class _State(NamedTuple):
    """Of a process, at a time in monotonic seconds. code: None while it runs. memory: GiB."""

    code: int | None
    memory: float
    at: float


@dataclass(frozen=True)
class _Trouble:
    """What ended a worker. certain: that its shape was the cause, nothing before or beside it."""

    reason: Reason
    detail: str
    certain: bool = False


@dataclass
class _Blame:
    """What is known against the shapes of one task."""

    recorded: dict[int, tuple[Reason, str]] = field(default_factory=dict)
    crashes: dict[int | None, int] = field(default_factory=dict)

    def lay(self, shape: int | None, trouble: _Trouble) -> None:
        """Note what a failed worker was busy with. Raises PointcmtError if with no shape."""
        crashes = self.crashes[shape] = self.crashes.get(shape, 0) + 1
        if shape is None:
            if crashes >= CRASHES_TO_STOP:
                raise PointcmtError(
                    f"worker processes die while they are busy with no shape: {trouble.detail}",
                    fix="run `pointcmt doctor`; with too little memory, use fewer --workers",
                )
        elif trouble.certain or crashes >= CRASHES_TO_BLAME:
            self.recorded[shape] = trouble.reason, trouble.detail


def _start(work: Work, number: int) -> tuple["subprocess.Popen[bytes]", Connection]:
    """A new process and the pipe to it. Not multiprocessing's: dask workers may have no such."""
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
    with suppress(BrokenPipeError, ConnectionResetError):
        ours.send((work.make_runner, work.argument, number))
    return process, ours


def _leave_interrupts_to_us() -> None:
    """Block Ctrl-C in this thread, and so in the processes that it starts."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


# The kernel ends a worker with the THREAD that started it: one thread that lasts starts them all.
_launcher = ThreadPoolExecutor(1, "launcher", initializer=_leave_interrupts_to_us)
