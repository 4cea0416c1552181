"""Worker processes on this machine: one task each at a time, looked after by a thread each."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from pointcmt.render.supervisor import Crew, Work


def run_tasks(tasks: Sequence[Any], work: Work, workers: int) -> Iterator[Any]:
    """Run tasks in worker processes; yields each task's result as it finishes.

    Stops all workers when the caller stops iterating. Raises the PointcmtError a worker ran into (a
    full disk, a missing library).
    """
    crew, threads = Crew(), ThreadPoolExecutor(workers)
    running: set[Future[Any]] = set()
    waiting = iter(tasks)
    try:
        while True:
            while len(running) < 2 * workers:
                task = next(waiting, None)
                if task is None:
                    break
                running.add(threads.submit(crew.run, work, task))
            if not running:
                return
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                yield future.result()
    finally:
        crew.close()
        threads.shutdown(cancel_futures=True)


def usable_cores() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux; counts a container's or a batch system's share
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
