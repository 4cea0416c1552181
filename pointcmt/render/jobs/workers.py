"""Worker processes on this machine: one task each at a time, looked after by a thread each."""

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from queue import SimpleQueue
from threading import Thread
from typing import Any

from pointcmt.render.jobs.supervisor import Crew, Work

CLOSING = 10.0  # seconds that threads may take to end when they are told to


class LocalWorkers:
    """An engine (backlog.Engine) of `count` processes on this machine.

    run(crew, work, task) → the task's result; it is called in a thread.
    """

    def __init__(self, work: Work, count: int, run: Callable[[Crew, Work, Any], Any]) -> None:
        self.work, self.count, self._run = work, count, run
        self._crew = Crew()
        self._running: dict[Future[Any], Any] = {}
        self._queue: SimpleQueue[Future[Any] | None] = SimpleQueue()
        # Not an executor's: the interpreter would not end before a dead server is given up by them.
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
        self._crew.close()
        begun = [future for future in self._running if not future.cancel()]
        for _ in range(self.count):
            self._queue.put(None)
        wait(begun, timeout=CLOSING)

    def _supervise(self) -> None:
        while (future := self._queue.get()) is not None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(self._run(self._crew, self.work, self._running[future]))
                except BaseException as error:
                    future.set_exception(error)
