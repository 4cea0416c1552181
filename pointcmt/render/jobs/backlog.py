"""What is left of a job: tasks go to an engine; those that others have claimed come back later.

An engine runs tasks: processes on this machine (workers.py) or a dask cluster (cluster.py).
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

from pointcmt.console import say
from pointcmt.datasets.store import claims
from pointcmt.datasets.store.claims import Held

LOCAL = "local"  # a scheduler's address: a dask cluster on this machine, for this job
LOOK_AGAIN = 1.0  # seconds between looks at a claim that is waited for
# Seconds after which a claimed task is tried again in any case: only processes of the claim's own
# machine see that its owner is gone.
ASK_AGAIN = 10.0


class Engine(Protocol):
    """What runs tasks, as many at once as it has room for."""

    def room(self) -> bool:
        """Whether another task would be started soon."""

    def submit(self, task: Any) -> None:
        """Have a task run."""

    def finished(self, seconds: float) -> list[tuple[Any, Any]]:
        """(task, result) of what has ended, waiting up to some seconds for the first.

        Raises the PointcmtError that is to stop the job.
        """

    def idle(self) -> bool:
        """Whether no task is running or waiting to."""

    def close(self) -> None:
        """Stop everything, at once."""


class Backlog:
    """Tasks that neither run nor are finished; those that nobody has claimed come first.

    look: a shard → the token of the claim on it, "" where there is none (Claims.look).
    """

    def __init__(self, tasks: Iterable[Any], look: Callable[[int], str]) -> None:
        self.ready, self.look = deque(tasks), look
        self.held: list[_Waiting] = []
        self._seen: dict[int, tuple[str, float]] = {}  # shard → a claim and since when it is so

    def next(self) -> Any:
        """A task that can be tried now, or None."""
        if self.ready:
            return self.ready.popleft()
        now = time.monotonic()
        for waiting in self.held:
            if now >= waiting.look_at:
                waiting.look_at = now + LOOK_AGAIN
                task = self._freed(waiting, now)
                if task is not None:
                    self.held.remove(waiting)
                    return task
        return None

    def again(self, task: Any) -> None:
        """Have a task tried again, after the others."""
        self.ready.append(task)

    def hold(self, task: Any, claim: Held) -> None:
        """Have a task tried again when the claim on its shard is gone, or void."""
        now = time.monotonic()
        self._watch(task.shard, claim.token, now)
        waiting = _Waiting(replace(task, void=""), claim.by, now + LOOK_AGAIN, now + ASK_AGAIN)
        self.held.append(waiting)

    def _freed(self, waiting: "_Waiting", now: float) -> Any:
        """The waiting task if there is any point in trying it, else None."""
        token = self.look(waiting.task.shard)
        since = self._watch(waiting.task.shard, token, now)
        if token and now - since >= claims.LEASE:
            return replace(waiting.task, void=token)
        return waiting.task if not token or now >= waiting.ask_at else None

    def _watch(self, shard: int, token: str, now: float) -> float:
        """Since when the claim on a shard is this one."""
        if self._seen.get(shard, ("", 0.0))[0] != token:
            self._seen[shard] = token, now
        return self._seen.get(shard, ("", now))[1]


@dataclass
class _Waiting:
    task: Any
    by: str  # who holds the claim
    look_at: float  # monotonic seconds, as is ask_at
    ask_at: float


def carry_out(backlog: Backlog, engine: Engine, log_format: str = "auto") -> Iterator[Any]:
    """Have an engine run all tasks; yields the result of each as it finishes.

    Stops the engine when the caller stops iterating. Raises the PointcmtError a task ran into.
    """
    waits = False
    try:
        while True:
            while engine.room() and (task := backlog.next()) is not None:
                engine.submit(task)
            if engine.idle():
                if not backlog.held:
                    return
                if not waits:
                    count, by = len(backlog.held), backlog.held[0].by
                    say(f"waiting for {count} shards that others work on, as {by}", log_format)
                waits = True
                time.sleep(LOOK_AGAIN / 4)
            for task, result in engine.finished(LOOK_AGAIN):
                if isinstance(result, Held):
                    backlog.hold(task, result)
                else:
                    yield result
    finally:
        engine.close()
