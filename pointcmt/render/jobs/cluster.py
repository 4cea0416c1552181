"""Run tasks on a dask.distributed cluster: one dask task per shard, a bounded number at a time.

dask chooses the worker and notices when one is lost. The rest is as on one machine: a task claims
its shard and renders it in a supervised process, whatever happens to that process. A dask task
carries the job and a shard's number; nothing is unpickled from the store.
"""

import logging
import math
import time
from dataclasses import dataclass, field, replace
from importlib import metadata
from typing import Any

from distributed import Future, KilledWorker, LocalCluster

from pointcmt import __version__
from pointcmt.console import logger
from pointcmt.datasets.store.claims import Held
from pointcmt.datasets.store.schema import digest
from pointcmt.errors import PointcmtError
from pointcmt.render.jobs.backlog import LOCAL
from pointcmt.render.jobs.cluster_task import Failed, run_on_worker
from pointcmt.render.jobs.job import Finished, Task
from pointcmt.render.jobs.runner import make_remote_runner
from pointcmt.render.jobs.scheduler import SchedulerConnection
from pointcmt.render.jobs.supervisor import Work

CONNECT_TIMEOUT = 30.0  # seconds to wait for a scheduler that may not exist
RECONNECT_TIMEOUT = 300.0  # seconds to wait for a scheduler that existed, or for a usable worker
POLL_INTERVAL = 5.0  # seconds between requests for the list of workers
TASKS_PER_THREAD = 2  # submitted at a time, per thread of the workers
MAX_RETRIES = 2  # of a task that fails or kills its workers, on other workers if there are any
MOST_LISTED = 5  # processes that one message names


@dataclass(frozen=True)
class Cluster:
    """Where to find workers, and which ones to use.

    address: tcp://…, tls://…, or LOCAL to start `count` processes. resources: the amounts that each
    task takes of the resources that workers declare, such as {"GPU": 1}.
    """

    address: str
    count: int = 1
    resources: dict[str, float] = field(default_factory=dict)


@dataclass
class _Attempt:
    task: Task
    key: str = ""
    tries: int = 0
    excluded: set[str] = field(default_factory=set)  # addresses of workers where it failed
    allowed: set[str] = field(default_factory=set)  # the workers that may run it; empty: any


class ClusterWorkers:
    """An engine (backlog.Engine) on a dask cluster. work.argument: the Job, with its identity.

    Raises PointcmtError if no scheduler answers or if workers have another version of pointcmt.
    """

    _scheduler: SchedulerConnection
    _last_poll: float  # monotonic seconds

    def __init__(self, work: Work, cluster: Cluster) -> None:
        _silence_dask()
        self.work = replace(work, make_runner=make_remote_runner)
        self.resources = cluster.resources
        facts = (work.argument, work.timeout, work.memory_limit, work.need, __version__)
        self._name = digest(str(facts).encode())
        self._waiting: list[_Attempt] = []  # to submit once the scheduler is there
        self._running: dict[Future[Any], _Attempt] = {}
        self._submissions: dict[int, int] = {}  # shard → how many so far
        self._threads: dict[str, int] = {}  # of each worker, by address
        self._reported: set[str] = set()  # workers whose failure has been printed
        self._stalled_since, self._stall_reported = math.inf, False
        self._local_cluster = _local_cluster(cluster.count) if cluster.address == LOCAL else None
        self.address = cluster.address
        if self._local_cluster:
            self.address = self._local_cluster.scheduler_address
        try:
            self._connect(CONNECT_TIMEOUT)
        except BaseException:
            if self._local_cluster:
                self._local_cluster.close()
            raise

    def room(self) -> bool:
        window = max(1, TASKS_PER_THREAD * sum(self._threads.values()))
        return len(self._running) + len(self._waiting) < window

    def submit(self, task: Task) -> None:
        self._waiting.append(_Attempt(task))

    def idle(self) -> bool:
        return not self._running and not self._waiting

    def finished(self, seconds: float) -> list[tuple[Any, Any]]:
        due = time.monotonic() - self._last_poll > POLL_INTERVAL
        if due and not self._poll():
            self._reconnect()
        while self._waiting:
            self._submit(self._waiting.pop(0))
        results = []
        disconnected = False
        for future in self._scheduler.ended(seconds):
            attempt = self._running.pop(future, None)
            if attempt is None:  # given up
                continue
            disconnected |= future.status == "cancelled"
            result = self._result(future, attempt)
            if result is not None:
                results.append((attempt.task, result))
        if disconnected:
            self._reconnect()
        return results

    def close(self) -> None:
        self._running.clear()  # tasks that have begun finish their shards
        self._scheduler.close()
        if self._local_cluster:
            self._local_cluster.close()

    def _submit(self, attempt: _Attempt) -> None:
        task = attempt.task
        count = self._submissions[task.shard] = self._submissions.get(task.shard, 0) + 1
        # Equal jobs have equal keys: a client that is started again finds tasks that still run.
        name = digest(f"{self._name} {task}".encode())[:16]
        attempt.key = f"pointcmt-{task.stage}-{task.shard:06d}-{name}-{count}"
        attempt.allowed = self._threads.keys() - attempt.excluded if attempt.excluded else set()
        future = self._scheduler.submit(
            run_on_worker,
            self.work,
            task,
            __version__,
            self._threads,
            key=attempt.key,
            resources=self.resources or None,
            workers=sorted(attempt.allowed) or None,
        )
        self._running[future] = attempt

    def _result(self, future: "Future[Any]", attempt: _Attempt) -> Finished | Held | None:
        """Return the result of a task that has ended, None if it is to be submitted again.

        Raises PointcmtError if the job has to stop.
        """
        if future.status not in ("finished", "error"):  # the scheduler or the result was lost
            self._waiting.append(attempt)
            return None
        try:
            result = self._scheduler.result(future)
        except Exception as error:
            if future.status == "error":
                self._retry(attempt, self._explain(error, attempt.task))
            else:  # the worker that held the result was lost
                self._waiting.append(attempt)
            return None
        if isinstance(result, Failed):
            if result.worker not in self._reported:
                logger.info(f"{result.error.what} ({result.error.where})")
            self._reported.add(result.worker)
            attempt.excluded.add(result.worker)
            self._retry(attempt, result.error)
            return None
        return result

    def _explain(self, error: Exception, task: Task) -> PointcmtError:
        """Return what the failure of a dask task means.

        Raises PointcmtError if all other tasks would fail the same way.
        """
        if isinstance(error, KilledWorker):
            return PointcmtError(
                f"several workers died while running shard {task.shard}",
                where=self.address,
                fix="set --memory-limit below the memory of a worker's machine or container",
            )
        self._require_package()
        return PointcmtError(f"a task failed: {type(error).__name__}: {error}", where=self.address)

    def _retry(self, attempt: _Attempt, error: PointcmtError) -> None:
        """Submit a failed task again, to other workers. Raises its error if that is of no use."""
        attempt.tries += 1
        if attempt.tries > MAX_RETRIES or not self._threads.keys() - attempt.excluded:
            raise error
        self._waiting.append(attempt)

    def _connect(self, timeout: float) -> None:
        """Connect to the scheduler and list its workers. Raises PointcmtError."""
        self._scheduler = SchedulerConnection(self.address, timeout)
        try:
            self._require_package()
            self._poll()
        except BaseException:
            self._scheduler.close()
            raise

    def _reconnect(self) -> None:
        """Wait for a scheduler that was there, and submit all unfinished tasks again."""
        what = f"lost the scheduler at {self.address}"
        logger.info(f"{what}: waiting up to {RECONNECT_TIMEOUT:g} s for it to return")
        self._waiting += self._running.values()
        self._running = {}
        self._scheduler.close()
        self._connect(RECONNECT_TIMEOUT)
        logger.info(f"the scheduler is back: retrying {len(self._waiting)} shards")

    def _poll(self) -> bool:
        """List the workers and what they do; return whether the scheduler answers.

        Raises PointcmtError if no worker has had a task of this job for too long.
        """
        self._last_poll = time.monotonic()
        try:
            self._threads = self._scheduler.threads()
            processing = self._scheduler.processing()
            self._resubmit_stranded()
        except OSError:
            return False
        ours = {attempt.key for attempt in self._running.values()}  # others may use the cluster too
        if not self._running or not ours.isdisjoint(processing):
            self._stalled_since, self._stall_reported = math.inf, False
        else:
            self._stalled_since = min(self._stalled_since, self._last_poll)
            self._wait_for_workers(self._last_poll - self._stalled_since)
        return True

    def _resubmit_stranded(self) -> None:
        """Submit the tasks again whose allowed workers are all gone. Raises OSError."""
        for future, attempt in list(self._running.items()):
            if attempt.allowed and not attempt.allowed & self._threads.keys():
                self._scheduler.cancel(future)
                self._waiting.append(self._running.pop(future))

    def _wait_for_workers(self, seconds: float) -> None:
        """Report that no worker takes tasks. Raises PointcmtError after RECONNECT_TIMEOUT."""
        needs = ",".join(f"{name}={amount:g}" for name, amount in self.resources.items())
        kind = f"workers with --resources {needs}" if needs else "workers"
        what = f"no {kind} at {self.address}"
        if seconds >= RECONNECT_TIMEOUT:
            raise PointcmtError(
                f"{what} for {seconds:.0f} s",
                fix="start workers with `dask worker`, then run the same command again",
            )
        if seconds >= POLL_INTERVAL and not self._stall_reported:
            self._stall_reported = True
            logger.info(f"{what}: waiting up to {RECONNECT_TIMEOUT:g} s for some")

    def _require_package(self) -> None:
        """Raise PointcmtError if the scheduler or a worker lacks this version of pointcmt.

        Called before the first task is submitted: a dask worker that cannot import a task exits.
        """
        try:
            ours = metadata.version("pointcmt")
        except metadata.PackageNotFoundError:  # a checkout that is not installed
            return
        versions = self._scheduler.versions("pointcmt")
        wrong = [f"{name} has {has or 'none'}" for name, has in versions.items() if has != ours]
        if wrong:
            more = len(wrong) - MOST_LISTED
            listed = ", ".join(wrong[:MOST_LISTED]) + (f" and {more} more" if more > 0 else "")
            raise PointcmtError(
                f"the scheduler and all workers need pointcmt {ours}: {listed}",
                where=self.address,
                fix="install this version, with the extra 'cluster' for the scheduler and "
                "'render,cluster' for workers",
            )


def _local_cluster(count: int) -> LocalCluster:
    """Start workers on this machine that only this machine can reach."""
    return LocalCluster(
        n_workers=count,
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        memory_limit=0,  # of dask's own processes, which hold nothing large
        silence_logs=logging.CRITICAL,
    )


def _silence_dask() -> None:
    """Turn off dask's messages on lost connections and workers: ours name the remedy."""
    for name in ("distributed", "distributed.client", "distributed.core"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
