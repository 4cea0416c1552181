"""Worker processes on this machine: one task each at a time, looked after by a thread each."""

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from pointcmt.render.supervisor import Crew, Work


class LocalWorkers:
    """An engine (backlog.Engine) of `count` processes on this machine.

    run(crew, work, task) → the task's result; it is called in a thread.
    """

    def __init__(self, work: Work, count: int, run: Callable[[Crew, Work, Any], Any]) -> None:
        self.work, self.count, self._run = work, count, run
        self._crew, self._threads = Crew(), ThreadPoolExecutor(count, "supervisor")
        self._running: dict[Future[Any], Any] = {}

    def room(self) -> bool:
        return len(self._running) < self.count + 1  # one in reserve

    def submit(self, task: Any) -> None:
        self._running[self._threads.submit(self._run, self._crew, self.work, task)] = task

    def finished(self, seconds: float) -> list[tuple[Any, Any]]:
        ended, _ = wait(self._running, timeout=seconds, return_when=FIRST_COMPLETED)
        return [(self._running.pop(future), future.result()) for future in ended]

    def idle(self) -> bool:
        return not self._running

    def close(self) -> None:
        self._crew.close()
        self._threads.shutdown(cancel_futures=True)
