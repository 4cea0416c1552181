"""The function that a dask worker runs for each task: one shard, if this machine is able to."""

import socket
from dataclasses import dataclass

from distributed import get_worker

from pointcmt import __version__
from pointcmt.datasets.store.claims import Held
from pointcmt.errors import PointcmtError
from pointcmt.render.jobs.job import Finished, Task
from pointcmt.render.jobs.memory import with_share
from pointcmt.render.jobs.runner import run_claimed
from pointcmt.render.jobs.supervisor import Work, WorkerPool

_pool = WorkerPool()  # the render processes of all threads of this dask worker


@dataclass(frozen=True)
class Failed:
    """A task that failed on a worker through no fault of a shape. worker: its address."""

    error: PointcmtError
    worker: str


def run_on_worker(
    work: Work, task: Task, version: str, threads: dict[str, int]
) -> Finished | Held | Failed:
    """Run one shard on the dask worker that calls this.

    work.argument: the Job. version: the client's. threads: the number of threads of each worker
    that the client knew; a worker that joined since counts as one of the largest.
    """
    worker = get_worker().address
    try:
        if version != __version__:
            raise PointcmtError(
                f"this worker has pointcmt {__version__}, but the job needs pointcmt {version}",
                fix="install the same version on all machines",
            )
        own = threads.get(worker) or max(threads.values(), default=1)
        return run_claimed(_pool, with_share(work, own), task)
    except PointcmtError as error:
        at = f"worker {worker} on {socket.gethostname()}"
        where = f"{error.where}, {at}" if error.where else at
        return Failed(type(error)(error.what, where=where, fix=error.fix), worker)
