"""Worker processes on this machine: each runs one task at a time, supervised by its own thread."""

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from queue import SimpleQueue
from threading import Thread
from typing import Any

from pointcmt.render.jobs.supervisor import Work, WorkerPool

CLOSE_TIMEOUT = 10.0  # seconds to wait for the threads to end


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
