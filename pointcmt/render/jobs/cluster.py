"""Tasks on a dask.distributed cluster: one dask task per shard, in a window that moves over them.

dask chooses the worker and notices when one is lost. All else is as on one machine: a task claims
its shard and has it rendered by a supervised process, whatever happens to that one. A dask task
carries the job and a shard's number; nothing is unpickled from the store.
"""

import asyncio
import logging
import math
import socket
import struct
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import chain
from queue import Empty, SimpleQueue
from typing import Any

from distributed import Client, Future, KilledWorker, LocalCluster, Security
from distributed.comm.addressing import get_address_host_port
from distributed.comm.core import FatalCommClosedError, connect
from distributed.core import send_recv
from distributed.versions import get_versions

from pointcmt import __version__
from pointcmt.console import say
from pointcmt.datasets.store.claims import Held
from pointcmt.datasets.store.schema import digest
from pointcmt.errors import PointcmtError, UsageError
from pointcmt.render.jobs.backlog import LOCAL
from pointcmt.render.jobs.cluster_task import Failed, run_there
from pointcmt.render.jobs.job import Finished, Task
from pointcmt.render.jobs.runner import make_remote_runner
from pointcmt.render.jobs.supervisor import Work

FIRST_PATIENCE = 30.0  # seconds for a scheduler to answer that may not be there at all
PATIENCE = 300.0  # seconds without the scheduler that was there, or without a worker that does work
ANSWER = 10.0  # seconds for a scheduler to answer that is there
KNOCK_AGAIN = 0.5  # seconds between attempts to reach a scheduler
LOOK_AGAIN = 5.0  # seconds between looks at the workers
WINDOW = 2  # tasks submitted per thread of the workers
RETRIES = 2  # of a task that fails or kills its workers: elsewhere, where there is an elsewhere
NAMED = 5  # of many that are to blame


@dataclass(frozen=True)
class Cluster:
    """Where to find workers, and which.

    address: tcp://…, tls://…, or LOCAL with `count` processes. resources: what each task takes of
    those that workers declare, such as {"GPU": 1}.
    """

    address: str
    count: int = 1
    resources: dict[str, float] = field(default_factory=dict)


@dataclass
class _Attempt:
    task: Task
    tries: int = 0
    avoid: set[str] = field(default_factory=set)  # addresses of workers where it failed
    only: set[str] = field(default_factory=set)  # of those that it may go to; empty: to any


class ClusterWorkers:
    """An engine (backlog.Engine) on a dask cluster. work.argument: the Job, with its identity.

    Raises PointcmtError where no scheduler answers, or workers have another pointcmt.
    """

    _client: Client
    _looked_at: float  # when, in monotonic seconds, we last asked for the workers

    def __init__(self, work: Work, cluster: Cluster, log_format: str) -> None:
        _silence_dask()
        self.work = replace(work, make_runner=make_remote_runner)
        self.resources, self.log_format = cluster.resources, log_format
        facts = (work.argument, work.timeout, work.memory_limit, work.need, __version__)
        self._name = digest(str(facts).encode())
        self._waiting: list[_Attempt] = []  # to be submitted when the scheduler is there
        self._running: dict[Future[Any], _Attempt] = {}
        self._ended: SimpleQueue[Future[Any]] = SimpleQueue()
        self._submitted: dict[int, int] = {}  # shard → how often
        self._threads: dict[str, int] = {}  # of each worker
        self._told: set[str] = set()  # workers that were complained of
        self._stalled_since, self._stall_told = math.inf, False
        self._own = _local_cluster(cluster.count) if cluster.address == LOCAL else None
        self.address = self._own.scheduler_address if self._own else cluster.address
        try:
            self._connect(FIRST_PATIENCE)
        except BaseException:
            if self._own:
                self._own.close()
            raise

    def room(self) -> bool:
        window = max(1, WINDOW * sum(self._threads.values()))
        return len(self._running) + len(self._waiting) < window

    def submit(self, task: Task) -> None:
        self._waiting.append(_Attempt(task))

    def idle(self) -> bool:
        return not self._running and not self._waiting

    def finished(self, seconds: float) -> list[tuple[Any, Any]]:
        due = time.monotonic() - self._looked_at > LOOK_AGAIN
        if self._client.status != "running" or (due and not self._look()):
            self._reconnect()
        while self._waiting and self._client.status == "running":
            self._submit(self._waiting.pop(0))
        ended = []
        with suppress(Empty):
            ended.append(self._ended.get(timeout=seconds if self._running else 0))
            while True:
                ended.append(self._ended.get_nowait())
        attempts = [(future, self._running.pop(future, None)) for future in ended]
        results = [(a.task, self._judge(future, a)) for future, a in attempts if a is not None]
        return [(task, result) for task, result in results if result is not None]

    def close(self) -> None:
        self._running.clear()  # dask drops what has not begun; shards that have end by themselves
        with suppress(OSError):
            self._client.close(timeout=ANSWER)
        if self._own:
            self._own.close()

    def _submit(self, attempt: _Attempt) -> None:
        task = attempt.task
        count = self._submitted[task.shard] = self._submitted.get(task.shard, 0) + 1
        # The same job names its tasks the same: a client that comes back finds those still running.
        name = digest(f"{self._name} {task}".encode())[:16]
        attempt.only = self._threads.keys() - attempt.avoid if attempt.avoid else set()
        future = self._client.submit(
            run_there,
            self.work,
            task,
            __version__,
            key=f"pointcmt-{task.stage}-{task.shard:06d}-{name}-{count}",
            pure=False,
            resources=self.resources or None,
            workers=sorted(attempt.only) or None,
        )
        self._running[future] = attempt
        future.add_done_callback(self._ended.put)

    def _judge(self, future: "Future[Any]", attempt: _Attempt) -> Finished | Held | None:
        """A task's result; None where it is to be submitted again. Raises PointcmtError."""
        try:
            result = future.result(timeout=ANSWER)
        except Exception as error:
            if future.status == "error":
                self._try_again(attempt, self._explain(error, attempt.task))
            else:  # the scheduler, or who had the result, is gone
                self._waiting.append(attempt)
            return None
        if isinstance(result, Failed):
            if result.worker not in self._told:
                say(f"{result.error.what} ({result.error.where})", self.log_format)
            self._told.add(result.worker)
            attempt.avoid.add(result.worker)
            self._try_again(attempt, result.error)
            return None
        return result

    def _explain(self, error: Exception, task: Task) -> PointcmtError:
        """What it means that dask could not have a task run. Raises PointcmtError for all tasks."""
        if isinstance(error, KilledWorker):
            died = f"{error.allowed_failures + 1} workers died one after another"
            return PointcmtError(
                f"{died} with shard {task.shard}",
                where=self.address,
                fix="set --memory-limit to less than a worker's machine or container has",
            )
        with suppress(OSError):
            self._require_package()
        return PointcmtError(f"a task failed: {type(error).__name__}: {error}", where=self.address)

    def _try_again(self, attempt: _Attempt, error: PointcmtError) -> None:
        """Have a task that failed done by other workers. Raises its error where that is no use."""
        attempt.tries += 1
        if attempt.tries > RETRIES or not self._threads.keys() - attempt.avoid:
            raise error
        self._waiting.append(attempt)

    def _connect(self, patience: float) -> None:
        """Connect to the scheduler and see which workers it has. Raises PointcmtError."""
        try:
            asyncio.run(_knock(self.address, patience))
            self._client = Client(self.address, timeout=ANSWER, set_as_default=False)
        # TypeError: no certificates for TLS; RuntimeError: dask is configured to insist on TLS
        except (RuntimeError, TypeError, ValueError) as error:
            raise UsageError(
                f"no scheduler can have this address: {error}",
                where=f"--scheduler {self.address}",
                fix="tcp://host:port, tls://host:port with DASK_DISTRIBUTED__COMM__TLS__CA_FILE, "
                "…__TLS__CLIENT__CERT and …__TLS__CLIENT__KEY, or local",
            ) from error
        except (OSError, ImportError) as error:
            raise PointcmtError(
                f"no scheduler answers: {_reason(error)}",
                where=f"--scheduler {self.address}",
                fix="start it, or correct the address (tls:// if it has certificates); the same "
                "command goes on then",
            ) from error
        self._require_package()
        self._look()

    def _reconnect(self) -> None:
        """Wait for a scheduler that was there, and have all done again that it may have lost."""
        what = f"lost the scheduler at {self.address}"
        say(f"{what}: waiting up to {PATIENCE:g} s for it to come back", self.log_format)
        self._waiting += self._running.values()
        self._running = {}
        with suppress(OSError):
            self._client.close(timeout=ANSWER)
        self._connect(PATIENCE)
        say(f"the scheduler is back: {len(self._waiting)} shards are tried again", self.log_format)

    def _look(self) -> bool:
        """See which workers there are; whether the scheduler answers at all.

        Raises PointcmtError when no worker has had a task of ours for too long.
        """
        self._looked_at = time.monotonic()
        try:
            self._threads = self._ask("ncores")
            working = self._ask("processing")
        except OSError:
            return False
        for future, attempt in self._running.items():
            if attempt.only and not attempt.only & self._threads.keys():
                future.cancel()  # all that it could go to are gone
        ours = {future.key for future in self._running}  # of a cluster that others use as well
        if not self._running or not ours.isdisjoint(chain(*working.values())):
            self._stalled_since, self._stall_told = math.inf, False
        else:
            self._stalled_since = min(self._stalled_since, self._looked_at)
            self._wait_for_workers(self._looked_at - self._stalled_since)
        return True

    def _ask(self, question: str, **arguments: Any) -> Any:
        """The scheduler's answer. Raises OSError where there is none."""
        asked = getattr(self._client.scheduler, question)
        return self._client.sync(asked, callback_timeout=ANSWER, **arguments)

    def _wait_for_workers(self, seconds: float) -> None:
        """Say that nobody works. Raises PointcmtError when it has lasted for too long."""
        needs = ",".join(f"{name}={amount:g}" for name, amount in self.resources.items())
        kind = f"workers with --resources {needs}" if needs else "workers"
        what = f"no {kind} at {self.address}"
        if seconds >= PATIENCE:
            raise PointcmtError(
                f"{what} for {seconds:.0f} s",
                fix="start some with `dask worker`; then run the same command again",
            )
        if seconds >= LOOK_AGAIN and not self._stall_told:
            self._stall_told = True
            say(f"{what}: waiting up to {PATIENCE:g} s for some", self.log_format)

    def _require_package(self) -> None:
        """Raise PointcmtError where the scheduler or a worker has no pointcmt, or not the client's.

        Asked for before anything is submitted: a dask worker that cannot import a task ends.
        """
        question: dict[str, Any] = {"packages": ["pointcmt"]}
        everybody: dict[str, Any] = {}
        with suppress(OSError):  # some worker does not answer: it may just have died
            everybody["the scheduler"] = self._ask("versions", **question)
            msg = {"op": "versions", **question}
            everybody |= self._ask("broadcast", msg=msg, on_error="ignore")
        versions = {who: facts["packages"]["pointcmt"] for who, facts in everybody.items() if facts}
        ours = get_versions(**question)["packages"]["pointcmt"]
        wrong = [f"{who} has {has or 'none'}" for who, has in versions.items() if has != ours]
        if ours and wrong:  # without ours, this is a checkout that nobody has installed
            more = f" and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
            raise PointcmtError(
                f"pointcmt {ours} is needed everywhere: {', '.join(wrong[:NAMED])}{more}",
                where=self.address,
                fix="install it: where the scheduler runs with the extra 'cluster', where workers "
                "run with 'render,cluster'",
            )


async def _knock(address: str, patience: float) -> None:
    """Return when a scheduler answers: a Client that fails leaves threads behind.

    Raises OSError when none has for so long, and ValueError for what is no address.
    """
    port = get_address_host_port(address)[1]
    if not 0 < port < 2**16:
        raise ValueError(f"there is no port {port}")
    deadline = time.monotonic() + patience
    while True:
        seconds = min(ANSWER, deadline - time.monotonic())
        try:
            return await asyncio.wait_for(_greet(address, 0.9 * seconds), seconds)
        except FatalCommClosedError:  # its certificate is not ours
            raise
        except TimeoutError:  # dask's own errors, which say more, come before
            error = OSError("something listens there, but says nothing that a scheduler would")
        except OSError as refused:
            error = _refusal(address) or refused
        if time.monotonic() + KNOCK_AGAIN >= deadline:
            raise error
        await asyncio.sleep(KNOCK_AGAIN)


def _refusal(address: str) -> OSError | None:
    """What the system says of an address: dask's last attempt often has no time left to hear it."""
    try:
        socket.create_connection(get_address_host_port(address), KNOCK_AGAIN).close()
    except TimeoutError:  # dask's text has more
        return None
    except OSError as error:
        return error
    return None


async def _greet(address: str, seconds: float) -> None:
    """Raise OSError unless a scheduler answers. seconds: to connect; what it says has no limit."""
    try:
        comm = await connect(address, seconds, **Security().get_connection_args("client"))
        try:
            who = (await send_recv(comm, op="identity"))["type"]
        finally:
            comm.abort()
    except (struct.error, MemoryError, ValueError) as error:  # what dask makes of other protocols
        raise OSError("something listens there that is not dask's") from error
    if who != "Scheduler":
        raise OSError(f"this is the address of a {who.lower()}, not of a scheduler")


def _reason(error: BaseException) -> str:
    """What led to an error: dask's own texts name objects and their addresses in memory."""
    return (_reason(error.__cause__) if error.__cause__ else "") or str(error)


def _local_cluster(count: int) -> LocalCluster:
    """Workers on this machine, reachable from this machine alone."""
    return LocalCluster(
        n_workers=count,
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        memory_limit=0,  # of dask's own processes, where nothing large happens
        silence_logs=logging.CRITICAL,
    )


def _silence_dask() -> None:
    """What dask would log of lost connections and workers is said here, with its remedy."""
    for name in ("distributed", "distributed.client", "distributed.core"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
