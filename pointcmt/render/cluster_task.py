"""What runs on a dask worker: one shard, after a look whether this machine can do it at all."""

import math
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distributed import get_worker

from pointcmt import __version__
from pointcmt.datasets.claims import Held
from pointcmt.datasets.sources import find_source
from pointcmt.datasets.sources.listing import split_source
from pointcmt.errors import PointcmtError
from pointcmt.render.claimed import run_claimed
from pointcmt.render.job import Finished, Job, Task
from pointcmt.render.memory import with_share
from pointcmt.render.supervisor import Crew, Work

if TYPE_CHECKING:
    from pointcmt.render.shards import ShardRunner

SAMPLE = 16  # shapes that are looked for before a worker is taken to see the data set

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


def make_runner(job: Job, number: int) -> "ShardRunner":
    """`run.make_runner` on a machine that may not see the data set. Raises PointcmtError if so."""
    from pointcmt.render.run import make_runner as make

    runner = make(job, number)
    shapes, root = runner.store.shapes, job.root
    sample = [shapes[i] for i in range(0, len(shapes), math.ceil(len(shapes) / SAMPLE))]
    files_of = [split_source(shape.source)[0] for shape in sample]
    made = find_source(job.dataset).load_shape is not None
    if root is not None and not made and not any((root / name).exists() for name in files_of):
        raise PointcmtError(
            f"none of {len(sample)} shapes looked for is there",
            where=f"--root {root}",
            fix="the workers need the data set at the same path: mount it there",
        )
    return runner
