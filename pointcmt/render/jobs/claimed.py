"""Run one task on any engine: claim its shard, render it under supervision, commit it.

The claim belongs to the process that supervises, not to the one that renders: it survives crashes
and hangs of the latter, and ends with the supervisor.
"""

from dataclasses import replace

from pointcmt.datasets.store import storage
from pointcmt.datasets.store.claims import ClaimLost, Held, open_claims, take
from pointcmt.datasets.store.documents import root_attributes
from pointcmt.datasets.store.view_store import ROOT, ViewStore
from pointcmt.errors import StoreError
from pointcmt.render.jobs.job import Finished, Job, Task, stage_to_run
from pointcmt.render.jobs.supervisor import Work, WorkerPool


def run_claimed(pool: WorkerPool, work: Work, task: Task) -> Finished | Held:
    """Finish a task's shard, unless another process is working on it.

    work.argument is the Job. Raises a PointcmtError that stops the job.
    """
    job: Job = work.argument
    store = _store_of(job)
    claim = take(open_claims(job.out), task.shard, task.void)
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


def _store_of(job: Job) -> ViewStore:
    """Open the job's store. Raises StoreError if this process sees another store, or none."""
    found = storage.read(storage.open_kv(job.out, 1), ROOT)
    store = ViewStore(job.out, root_attributes(found, f"{job.out}/{ROOT}"), 1) if found else None
    if store is None or job.identity not in ("", store.identity):
        raise StoreError(
            "there is another store here" if found else "there is no store here",
            where=job.out,
            fix="all machines of a job must share one --out at the same path, and no other job may "
            "replace the store while this one runs",
        )
    return store
