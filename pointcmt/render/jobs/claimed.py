"""One task, whichever engine runs it: its shard is claimed, rendered under supervision, committed.

The claim belongs to the process that supervises, not to the one that renders: it outlives crashes
and hangs, and ends with the supervisor.
"""

from dataclasses import replace

from pointcmt.datasets.store import storage as files
from pointcmt.datasets.store.claims import ClaimLost, Held, open_claims, take
from pointcmt.datasets.store.documents import root_attributes
from pointcmt.datasets.store.view_store import ROOT, ViewStore
from pointcmt.errors import StoreError
from pointcmt.render.jobs.job import Finished, Job, Task, stage_to_run
from pointcmt.render.jobs.supervisor import Crew, Work


def run_claimed(crew: Crew, work: Work, task: Task) -> Finished | Held:
    """Do what is left to do of a task's shard, unless somebody else works on it.

    work.argument is the Job. Raises the PointcmtError that is to stop the job.
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
            return crew.run(work, replace(task, stage=stage, claim=claim.owner), claim.renew)
        except ClaimLost as lost:
            return Held("", lost.what)


def _store_of(job: Job) -> ViewStore:
    """The store that the job is for, as this process sees it. Raises StoreError."""
    found = files.read(files.open_kv(job.out, 1), ROOT)
    store = ViewStore(job.out, root_attributes(found, f"{job.out}/{ROOT}"), 1) if found else None
    if store is None or job.identity not in ("", store.identity):
        raise StoreError(
            "there is another store here" if found else "there is no store here",
            where=job.out,
            fix="all machines of a job need one shared place for --out, at the same path, and no "
            "other job may replace the store meanwhile",
        )
    return store
