"""Supervise worker processes: a crash or a hang costs only the shape in progress.

A worker process reports each shape it begins, so that its supervisor knows which shape to blame if
the process dies or hangs. The supervisor then starts another process, which tries the shape once
more before it is recorded as failed. It runs in the calling thread, on this machine (workers.py) or
on a dask worker (cluster_task.py); the caller does not notice that a process was replaced.
"""

import mmap
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any, NamedTuple

from pointcmt.errors import PointcmtError, Reason
from pointcmt.render.jobs import processes
from pointcmt.render.jobs.child import Runner

POLL_INTERVAL = 5.0  # seconds
# Resident memory is polled, not limited by the kernel: RLIMIT_DATA counts memory that drivers and
# ray casters reserve and never touch, and makes libraries abort at any point. A process gets new
# pages at a few GB/s, so it exceeds the limit by a few hundred MB at most.
MEMORY_POLL_INTERVAL = 0.05  # seconds
LOADING_TIMEOUT = 300.0  # seconds to load libraries, or to compile kernels
KILL_TIMEOUT = 10.0  # seconds for a killed process to end: a driver or a file server may hold it
CRASHES_TO_BLAME = 2  # the first may be the machine's fault (memory, a stray kill)
CRASHES_TO_STOP = 5  # of workers that were not working on any shape: the machine has a problem

CLOSE_TIMEOUT = 10.0  # seconds to wait for the threads to end


@dataclass(frozen=True)
class Work:
    """What worker processes run, and within which limits.

    make_runner(argument, number of the worker) is called once in each process, which must be able
    to import it; its result runs the tasks. timeout: seconds for one shape. memory_limit: GiB for
    one worker, 0 = no limit, None = decided on the machine where it runs. need: the least memory
    that one task takes, in GiB.
    """

    make_runner: Callable[[Any, int], Runner]
    argument: Any
    timeout: float
    memory_limit: float | None = 0.0
    need: float = 0.0


class Stopped(Exception):
    """A worker was closed while it ran a task."""


class Worker:
    """A process that runs one task at a time, and is replaced when it dies.

    number: its index in the pool. The process starts with the first task, and again with the next
    one after it has exited because it was idle.
    """

    def __init__(self, work: Work, number: int) -> None:
        self.work, self.number = work, number
        self._process: subprocess.Popen[bytes] | None = None
        self._closed, self._starting = False, Lock()
        self._abandoned = False  # the process, since it cannot be killed
        self._shape: int | None = None  # in progress
        self._since = 0.0  # when the process last reported something, monotonic seconds
        self._held = 0.0  # GiB that the process held when it began the shape
        self._compiling = False

    def run(self, task: Any, heartbeat: Callable[[], None] = lambda: None) -> Any:
        """Run a task and return its result, whatever its shapes do to the process.

        heartbeat is called every few seconds. Raises a PointcmtError of the process (a full disk, a
        missing library), and Stopped if another thread closes the worker.
        """
        failures = _Failures()
        try:
            while True:
                self._begin(task, failures.recorded)
                failure = None
                while failure is None:
                    heartbeat()
                    self._wait()
                    if self._closed:
                        raise Stopped
                    state = self._observe()  # before its messages are read: none of them is missed
                    for kind, value in self._messages():
                        if kind == "done":
                            return value
                        raise value
                    failure = self._failure(state)
                unkillable = self._end()
                failures.add(self._shape, replace(failure, detail=failure.detail + unkillable))
        except BaseException:
            self._end()
            raise

    def close(self) -> None:
        """End the process. May be called from any thread."""
        with self._starting:
            self._closed = True
        self._end()

    def _begin(self, task: Any, blame: dict[int, tuple[Reason, str]]) -> None:
        if self._process is None or self._abandoned or self._process.poll() is not None:
            with self._starting:
                if self._closed:
                    raise Stopped
                self._process, self._connection = processes.take()
                with suppress(BrokenPipeError, ConnectionResetError):  # see _failure
                    self._connection.send((self.work.make_runner, self.work.argument, self.number))
                self._abandoned = False
        self._shape, self._compiling, self._since = None, False, time.monotonic()
        with suppress(BrokenPipeError, ConnectionResetError):  # it has just died: see _failure
            self._connection.send((task, blame))

    def _wait(self) -> None:
        """Sleep until the process sends a message, ends, or exceeds its time limit."""
        before = time.monotonic()
        longest = MEMORY_POLL_INTERVAL if self.work.memory_limit else POLL_INTERVAL
        allowed = max(0.0, min(self._since + self._time_limit() - before, longest))
        self._connection.poll(allowed)
        overslept = time.monotonic() - before - allowed
        if overslept > POLL_INTERVAL:  # everything was suspended (Ctrl-Z): not a shape's fault
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
                self._process.wait(POLL_INTERVAL)  # it has died; its exit code says how
            self._process.kill()

    def _observe(self) -> "_State":
        assert self._process is not None
        return _State(self._process.poll(), self._memory(), time.monotonic())

    def _failure(self, state: "_State") -> "_Failure | None":
        """Return how the process died or which limit it exceeded, None if it is healthy."""
        code, limit = state.code, self.work.memory_limit
        if code is not None and code >= 0:
            return _Failure(Reason.CRASHED, f"the worker process exited with code {code}")
        if code is not None:
            known = {each.value: each.name for each in signal.Signals}  # few real-time ones
            name = known.get(-code, f"signal {-code}")
            hint = "; out of memory?" if name == "SIGKILL" else ""
            return _Failure(Reason.CRASHED, f"the worker process was killed by {name}{hint}")
        if limit and state.memory > limit:
            what = f"its worker exceeded --memory-limit {limit:g} (GiB)"
            return _Failure(Reason.TOO_LARGE, what, certain=self._held < limit / 2)
        if state.at - self._since > self._time_limit():
            what = f"took longer than {self._time_limit():g} s"
            return _Failure(Reason.TIMEOUT, what, certain=True)
        return None

    def _memory(self) -> float:
        """Return the resident memory of the process in GiB, 0 if it has ended or has no limit."""
        if not self.work.memory_limit or self._process is None:
            return 0.0
        try:
            pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        except (OSError, IndexError):  # it has just ended
            return 0.0
        return pages * mmap.PAGESIZE / 2**30

    def _time_limit(self) -> float:
        """Return the allowed seconds without a message: more for loading and compiling."""
        loading = self._shape is None or self._compiling
        return max(self.work.timeout, LOADING_TIMEOUT) if loading else self.work.timeout

    def _end(self) -> str:
        """Kill the process. Return a note for the user if it cannot be killed, else ""."""
        if self._process is None or self._abandoned:
            return ""
        self._process.kill()
        try:
            self._process.wait(KILL_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._abandoned = True
            Thread(target=self._process.wait, daemon=True).start()  # until the kernel releases it
            return (
                f"; its worker process {self._process.pid} on {socket.gethostname()} cannot be "
                "killed"
            )
        return ""


class WorkerPool:
    """The workers of this process: each task borrows an idle one, or a new one."""

    def __init__(self) -> None:
        self._idle: list[Worker] = []
        self._busy: list[Worker] = []
        self._lock = Lock()
        self._closed = False

    def run(self, work: Work, task: Any, heartbeat: Callable[[], None] = lambda: None) -> Any:
        """Run a task on a worker for this work; see `Worker.run`."""
        worker = self._borrow(work)
        try:
            return worker.run(task, heartbeat)
        finally:
            with self._lock:
                self._busy.remove(worker)
                self._idle.append(worker)

    def close(self) -> None:
        """End all processes; running tasks raise Stopped."""
        with self._lock:
            self._closed = True
            workers = [*self._idle, *self._busy]
        for worker in workers:
            worker.close()

    def _borrow(self, work: Work) -> Worker:
        with self._lock:
            if self._closed:
                raise Stopped
            outdated = [worker for worker in self._idle if worker.work != work]
            self._idle = [worker for worker in self._idle if worker.work == work]
            for worker in outdated:  # from a job that is over
                worker.close()
            if not self._idle:
                taken = {worker.number for worker in self._busy}
                number = next(n for n in range(len(taken) + 1) if n not in taken)
                self._idle.append(Worker(work, number))
            worker = self._idle.pop()
            self._busy.append(worker)
            return worker


class _State(NamedTuple):
    """A process at a time in monotonic seconds. code: None while it runs. memory: GiB."""

    code: int | None
    memory: float
    at: float


@dataclass(frozen=True)
class _Failure:
    """Why a worker ended. certain: only its current shape can be the cause."""

    reason: Reason
    detail: str
    certain: bool = False


@dataclass
class _Failures:
    """The failures of one task: crashes by shape, and the shapes recorded as failed."""

    recorded: dict[int, tuple[Reason, str]] = field(default_factory=dict)
    crashes: dict[int | None, int] = field(default_factory=dict)

    def add(self, shape: int | None, failure: _Failure) -> None:
        """Count a failure for the shape that the worker was working on, None = no shape.

        Raises PointcmtError if workers keep failing without a shape.
        """
        crashes = self.crashes[shape] = self.crashes.get(shape, 0) + 1
        if shape is None:
            if crashes >= CRASHES_TO_STOP:
                raise PointcmtError(
                    f"worker processes keep dying before they work on a shape: {failure.detail}",
                    fix="run `pointcmt doctor`; if memory is low, use fewer --workers",
                )
        elif failure.certain or crashes >= CRASHES_TO_BLAME:
            self.recorded[shape] = failure.reason, failure.detail


class LocalWorkers:
    """An engine (backlog.Engine) of `count` processes on this machine.

    run(pool, work, task) returns the task's result; it is called in a thread.
    """

    def __init__(self, work: Work, count: int, run: Callable[[WorkerPool, Work, Any], Any]) -> None:
        self.work, self.count, self._run = work, count, run
        self._pool = WorkerPool()
        self._running: dict[Future[Any], Any] = {}
        self._queue: SimpleQueue[Future[Any] | None] = SimpleQueue()
        # Daemon threads, unlike an executor's: at exit, the interpreter does not wait for a thread
        # that a storage server leaves without an answer.
        for _ in range(count):
            Thread(target=self._supervise, name="supervisor", daemon=True).start()

    def room(self) -> bool:
        return len(self._running) < self.count + 1  # one in reserve

    def submit(self, task: Any) -> None:
        future: Future[Any] = Future()
        self._running[future] = task
        self._queue.put(future)

    def finished(self, seconds: float) -> list[tuple[Any, Any]]:
        ended, _ = wait(self._running, timeout=seconds, return_when=FIRST_COMPLETED)
        return [(self._running.pop(future), future.result()) for future in ended]

    def idle(self) -> bool:
        return not self._running

    def close(self) -> None:
        self._pool.close()
        processes.end_spare()
        started = [future for future in self._running if not future.cancel()]
        for _ in range(self.count):
            self._queue.put(None)
        wait(started, timeout=CLOSE_TIMEOUT)

    def _supervise(self) -> None:
        while (future := self._queue.get()) is not None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(self._run(self._pool, self.work, self._running[future]))
                except BaseException as error:
                    future.set_exception(error)
