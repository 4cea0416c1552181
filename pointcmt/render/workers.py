"""Worker processes: one task each at a time; a crash or a hang costs the shape in flight, no more.

Workers are spawned, never forked (a fork breaks GL contexts, tensorstore and thread pools). They
tell the parent which shape they begin, so that it knows what to blame when one dies or stalls: a
dead worker's task is given to a new one, which tries the shape once more and then records it.
"""

import ctypes
import multiprocessing as mp
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

from pointcmt.errors import PointcmtError, Reason

LONGEST_WAIT = 5.0  # seconds
LOADING = 300.0  # seconds
CRASHES_TO_BLAME = 2  # the first may be the machine's fault (memory, a stray kill)
CRASHES_TO_STOP = 5  # of workers that were not busy with any shape: the machine is unwell


class Runner(Protocol):
    """What runs tasks inside of a worker; see shards.ShardRunner."""

    def __call__(
        self, task: Any, blame: dict[int, tuple[Reason, str]], report: Callable[[int | None], None]
    ) -> Any: ...


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    number: int  # from 0; a worker that replaces a dead one takes its number
    task: Any = None
    shape: int | None = None  # in flight
    since: float = 0.0  # when it began, monotonic seconds


@dataclass
class _Blame:
    """What is known against the shapes of one task."""

    recorded: dict[int, tuple[Reason, str]] = field(default_factory=dict)
    crashes: dict[int | None, int] = field(default_factory=dict)


def run_tasks(
    tasks: Sequence[Any],
    make_runner: Callable[[Any, int], Runner],
    argument: Any,
    workers: int,
    timeout: float,
) -> Iterator[Any]:
    """Run hashable tasks in worker processes; yields each task's result as it finishes.

    make_runner(argument, number of the worker) is called once in each worker and must be importable
    there; its result runs the tasks. timeout: seconds one shape may take. Stops all workers when
    the caller stops iterating. Raises the PointcmtError a worker ran into (a full disk, a missing
    library).
    """
    waiting, blames = deque(tasks), {task: _Blame() for task in tasks}
    busy: list[_Worker] = []
    context = mp.get_context("spawn")
    try:
        for number in range(min(workers, len(tasks))):
            busy.append(_start(context, make_runner, argument, number))
        while True:
            for worker in busy:
                if worker.task is None and waiting:
                    _assign(worker, waiting.popleft(), blames)
            if all(worker.task is None for worker in busy):
                return
            _wait(busy, timeout)
            for worker in list(busy):
                yield from _receive(worker)
                reason = _trouble(worker, timeout)
                if reason is not None:
                    busy.remove(worker)
                    _bury(worker)
                    if worker.task is not None:
                        _lay_blame(worker, reason, blames[worker.task])
                        waiting.appendleft(worker.task)
                    if waiting:
                        busy.append(_start(context, make_runner, argument, worker.number))
    finally:
        for worker in busy:
            worker.process.kill()
        for worker in busy:
            _bury(worker)


def usable_cores() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux; counts a container's or a batch system's share
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _start(
    context: Any, make_runner: Callable[[Any, int], Runner], argument: Any, number: int
) -> _Worker:
    ours, theirs = context.Pipe()
    process = context.Process(
        target=_serve, args=(theirs, os.getpid(), make_runner, argument, number), daemon=True
    )
    process.start()
    theirs.close()
    return _Worker(process, ours, number)


def _assign(worker: _Worker, task: Any, blames: dict[Any, _Blame]) -> None:
    worker.task, worker.shape, worker.since = task, None, time.monotonic()
    with suppress(BrokenPipeError, ConnectionResetError):  # it has just died: see _trouble
        worker.connection.send((task, blames[task].recorded))


def _receive(worker: _Worker) -> Iterator[Any]:
    try:
        while worker.connection.poll():
            kind, value = worker.connection.recv()
            worker.since = time.monotonic()
            if kind == "shape":
                worker.shape = value
            elif kind == "done":
                worker.task = worker.shape = None
                yield value
            elif kind == "error":
                raise value
    except (EOFError, ConnectionResetError):
        worker.process.join()  # it has died; its exit code tells how


def _trouble(worker: _Worker, timeout: float) -> tuple[Reason, str] | None:
    """How a worker died or that it hangs; None while it is well."""
    if not worker.process.is_alive():
        code = worker.process.exitcode or 0
        if code >= 0:
            return Reason.CRASHED, f"the worker process ended with exit code {code}"
        name = signal.Signals(-code).name
        hint = "; out of memory?" if name == "SIGKILL" else ""
        return Reason.CRASHED, f"the worker process was killed by {name}{hint}"
    if worker.task is not None and time.monotonic() - worker.since > _limit(worker, timeout):
        return Reason.TIMEOUT, f"took longer than {_limit(worker, timeout):g} s"
    return None


def _limit(worker: _Worker, timeout: float) -> float:
    """Seconds of silence: longer before the first shape, when libraries and drivers load."""
    return timeout if worker.shape is not None else max(timeout, LOADING)


def _bury(worker: _Worker) -> None:
    worker.process.kill()
    worker.process.join()
    worker.connection.close()


def _lay_blame(worker: _Worker, reason: tuple[Reason, str], blame: _Blame) -> None:
    """Note what a worker was busy with when it failed. Raises PointcmtError if with no shape."""
    crashes = blame.crashes[worker.shape] = blame.crashes.get(worker.shape, 0) + 1
    if worker.shape is None:
        if crashes >= CRASHES_TO_STOP:
            raise PointcmtError(
                f"worker processes die while they are busy with no shape: {reason[1]}",
                fix="run `pointcmt doctor`; with too little memory, use fewer --workers",
            )
    elif reason[0] is Reason.TIMEOUT or crashes >= CRASHES_TO_BLAME:
        blame.recorded[worker.shape] = reason


def _wait(busy: list[_Worker], timeout: float) -> None:
    """Sleep until a worker says something, ends, or has used up its time."""
    running = [w for w in busy if w.task is not None]
    before = time.monotonic()
    left = [worker.since + _limit(worker, timeout) - before for worker in running]
    things = [thing for w in busy for thing in (w.connection, w.process.sentinel)]
    allowed = max(0.0, min([*left, LONGEST_WAIT]))
    wait(things, timeout=allowed)
    overslept = time.monotonic() - before - allowed
    if overslept > LONGEST_WAIT:  # all stood still (Ctrl-Z, a suspended job): no shape's fault
        for worker in running:
            worker.since += overslept


def _serve(
    connection: Connection,
    parent: int,
    make_runner: Callable[[Any, int], Runner],
    argument: Any,
    number: int,
) -> None:
    """The body of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    _die_with(parent)
    _keep_one_arena()
    try:
        runner = make_runner(argument, number)
        while True:
            task, blame = connection.recv()
            connection.send(("done", runner(task, blame, lambda s: connection.send(("shape", s)))))
    except PointcmtError as error:
        connection.send(("error", error))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # the parent is gone


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
