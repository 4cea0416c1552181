"""What runs on a dask worker: one shard, after a look whether this machine can do it at all."""

import socket
from dataclasses import dataclass

from distributed import get_worker

from pointcmt import __version__
from pointcmt.datasets.store.claims import Held
from pointcmt.errors import PointcmtError
from pointcmt.render.jobs.claimed import run_claimed
from pointcmt.render.jobs.job import Finished, Task
from pointcmt.render.jobs.memory import with_share
from pointcmt.render.jobs.supervisor import Crew, Work

_crew = Crew()  # the render processes of all threads of this dask worker


@dataclass(frozen=True)
class Failed:
    """A task could not be done here, and no shape is to blame. worker: its address."""

    error: PointcmtError
    worker: str


def run_there(work: Work, task: Task, version: str) -> Finished | Held | Failed:
    """The body of a dask task. work.argument: the Job; version: the client's own."""
    this = get_worker()
    worker = this.address
    try:
        if version != __version__:
            raise PointcmtError(
                f"this worker has pointcmt {__version__}, the job is one of pointcmt {version}",
                fix="install the same version everywhere",
            )
        return run_claimed(_crew, with_share(work, this.state.nthreads), task)
    except PointcmtError as error:
        at = f"worker {worker} on {socket.gethostname()}"
        where = f"{error.where}, {at}" if error.where else at
        return Failed(type(error)(error.what, where=where, fix=error.fix), worker)
