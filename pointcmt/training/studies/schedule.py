"""Perform the jobs of a study, each after those that it starts from, several at a time."""

import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

import torch

from pointcmt import plugins
from pointcmt.console import duration, hide_messages, logger
from pointcmt.errors import PointcmtError
from pointcmt.training.studies.plan import Job

Perform = Callable[[Job], None]


def perform_all(jobs: Iterable[Job], perform: Perform, workers: int) -> None:
    """Perform jobs; the first error ends the study, after the jobs that are running.

    perform: can be sent to other processes. workers: 1 = in this process, with all its threads;
    more = that many processes of one thread each, which may import what this one may. Raises what
    `perform` raises, and PointcmtError if a process is killed.
    """
    jobs = list(jobs)
    began = time.monotonic()

    def report(number: int, key: str) -> None:
        passed = duration(time.monotonic() - began)
        logger.info(f"study: {number} of {len(jobs)} runs finished in {passed}: {key}")

    if workers == 1:
        for number, job in enumerate(jobs, 1):
            perform(job)
            report(number, job.key)
        return
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"  # for the workers, before they import torch
    try:
        with ProcessPoolExecutor(
            workers, get_context("spawn"), _begin, (plugins.trusted(),)
        ) as pool:
            for number, key in enumerate(_in_pool(jobs, perform, pool, workers), 1):
                report(number, key)
    except BrokenProcessPool as error:
        raise PointcmtError(
            "a worker of the study was killed, probably because memory ran out",
            where=f"--workers {workers}",
            fix="run the same command again with fewer --workers: it continues",
        ) from error
    finally:
        os.environ.pop("OMP_NUM_THREADS")
        if before is not None:
            os.environ["OMP_NUM_THREADS"] = before


def _in_pool(
    jobs: list[Job], perform: Perform, pool: ProcessPoolExecutor, workers: int
) -> Iterable[str]:
    """Yield the key of each job as it finishes. No more are handed out than there are workers."""
    waiting, finished = {job.key: job for job in jobs}, set[str]()
    running: dict[Future[None], str] = {}
    while waiting or running:
        ready = [job for job in waiting.values() if finished.issuperset(job.needs)]
        for job in ready[: workers - len(running)]:
            running[pool.submit(perform, waiting.pop(job.key))] = job.key
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            key = running.pop(future)
            future.result()
            finished.add(key)
            yield key


def _begin(trusted: tuple[str, ...]) -> None:
    plugins.trust(*trusted)
    torch.set_num_threads(1)
    hide_messages()  # the study's own process reports
