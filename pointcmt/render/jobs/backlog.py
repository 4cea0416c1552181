"""Give the unfinished tasks of a job to an engine; tasks whose shard is claimed wait in between.

An engine runs tasks: processes on this machine (workers.py) or a dask cluster (cluster.py).
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

from pointcmt.console import logger
from pointcmt.datasets.store import claims
from pointcmt.datasets.store.claims import Held

LOCAL = "local"  # a scheduler address that means: start a dask cluster here, for this job only
POLL_INTERVAL = 1.0  # seconds between checks of a claim that a task waits for
# Seconds after which a claimed task is tried again in any case: only processes on the machine of
# the claim's owner can see that the owner is gone.
RETRY_INTERVAL = 10.0


class Engine(Protocol):
    """Runs tasks, as many at a time as it has room for."""

    def room(self) -> bool:
        """Return whether another task would start soon."""

    def submit(self, task: Any) -> None:
        """Accept a task."""

    def finished(self, seconds: float) -> list[tuple[Any, Any]]:
        """Return (task, result) of the tasks that have ended; wait up to `seconds` for the first.

        Raises a PointcmtError that stops the job.
        """

    def idle(self) -> bool:
        """Return whether no task is running or waiting to run."""

    def close(self) -> None:
        """Stop all tasks at once."""


class Backlog:
    """Tasks that are neither running nor finished; unclaimed ones come first.

    look: a shard → the token of the claim on it, "" without one (Claims.look).
    """

    def __init__(self, tasks: Iterable[Any], look: Callable[[int], str]) -> None:
        self.ready, self.look = deque(tasks), look
        self.held: list[_Waiting] = []
        self._seen: dict[int, tuple[str, float]] = {}  # shard → claim, first seen when

    def next(self) -> Any:
        """Return a task that can be tried now, or None."""
        if self.ready:
            return self.ready.popleft()
        now = time.monotonic()
        for waiting in self.held:
            if now >= waiting.poll_at:
                waiting.poll_at = now + POLL_INTERVAL
                task = self._freed(waiting, now)
                if task is not None:
                    self.held.remove(waiting)
                    return task
        return None

    def hold(self, task: Any, claim: Held) -> None:
        """Keep a task until the claim on its shard is released, or void."""
        now = time.monotonic()
        self._watch(task.shard, claim.token, now)
        task = replace(task, void="")
        self.held.append(_Waiting(task, claim.by, now + POLL_INTERVAL, now + RETRY_INTERVAL))

    def _freed(self, waiting: "_Waiting", now: float) -> Any:
        """Return the waiting task if it may succeed now, else None."""
        token = self.look(waiting.task.shard)
        since = self._watch(waiting.task.shard, token, now)
        if token and now - since >= claims.LEASE:
            return replace(waiting.task, void=token)
        return waiting.task if not token or now >= waiting.retry_at else None

    def _watch(self, shard: int, token: str, now: float) -> float:
        """Return since when this claim on a shard has been seen, in monotonic seconds."""
        if self._seen.get(shard, ("", 0.0))[0] != token:
            self._seen[shard] = token, now
        return self._seen.get(shard, ("", now))[1]


@dataclass
class _Waiting:
    task: Any
    by: str  # the owner of the claim
    poll_at: float  # monotonic seconds, like retry_at
    retry_at: float


def carry_out(backlog: Backlog, engine: Engine) -> Iterator[Any]:
    """Run all tasks on an engine; yield the result of each as it finishes.

    Stops the engine when the caller stops iterating. Raises the PointcmtError of a task.
    """
    waiting_reported = False
    try:
        while True:
            while engine.room() and (task := backlog.next()) is not None:
                engine.submit(task)
            if engine.idle():
                if not backlog.held:
                    return
                if not waiting_reported:
                    count, by = len(backlog.held), backlog.held[0].by
                    logger.info(
                        f"waiting for {count} shards that other processes are working on, such as "
                        f"{by}"
                    )
                waiting_reported = True
                time.sleep(POLL_INTERVAL / 4)
            for task, result in engine.finished(POLL_INTERVAL):
                if isinstance(result, Held):
                    backlog.hold(task, result)
                else:
                    yield result
    finally:
        engine.close()
