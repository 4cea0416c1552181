"""Run one task on any engine: claim its shard, render it in a worker process, commit it.

The claim belongs to the process that supervises, not to the one that renders: it survives crashes
and hangs of the latter, and ends with the supervisor.
"""

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from pointcmt import plugins
from pointcmt.datasets.sources import find_source
from pointcmt.datasets.sources.listing import split_source
from pointcmt.datasets.store.claims import ClaimLost, Held
from pointcmt.errors import PointcmtError
from pointcmt.render.jobs.job import Finished, Job, Task, stage_to_run, store_of_job
from pointcmt.render.jobs.processes import import_renderer
from pointcmt.render.jobs.supervisor import Work, WorkerPool

if TYPE_CHECKING:
    from pointcmt.render.jobs.shards import ShardRunner

SAMPLE = 16  # shapes to look for before concluding that a machine can read the dataset


def run_claimed(pool: WorkerPool, work: Work, task: Task) -> Finished | Held:
    """Finish a task's shard, unless another process is working on it.

    work.argument is the Job. Raises a PointcmtError that stops the job.
    """
    job: Job = work.argument
    store = store_of_job(job, threads=1)
    claim = store.claims.take(task.shard, task.void)
    if isinstance(claim, Held):
        return claim
    with claim:
        stage = stage_to_run(store, task, job.correspondences)
        if stage is None:
            return Finished(task, ())
        try:
            return pool.run(work, replace(task, stage=stage, claim=claim.owner), claim.renew)
        except ClaimLost as lost:
            return Held("", lost.what)


def make_runner(job: Job, worker: int) -> "ShardRunner":
    """Return the runner of one worker process, the only place that loads the large libraries."""
    import_renderer()
    plugins.trust(job.dataset)  # the process that made the job was allowed to import it
    if job.modules:
        plugins.look_in(job.modules)
    from pointcmt.render.jobs.shards import ShardRunner

    return ShardRunner(job, worker)


def make_remote_runner(job: Job, worker: int) -> "ShardRunner":
    """Return `make_runner`'s runner on a machine that may lack the dataset.

    Raises PointcmtError where the dataset's files are missing.
    """
    runner = make_runner(job, worker)
    shapes, root = runner.store.shapes, job.root
    sample = [shapes[i] for i in range(0, len(shapes), math.ceil(len(shapes) / SAMPLE))]
    files = [split_source(shape.source)[0] for shape in sample]
    makes_shapes = find_source(job.dataset).load_shape is not None
    if root is not None and not makes_shapes and not any((root / name).exists() for name in files):
        raise PointcmtError(
            f"none of {len(sample)} files of the dataset exists on this machine",
            where=f"--root {root}",
            fix="mount the dataset at the same path on all workers",
        )
    return runner
