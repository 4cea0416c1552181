"""One task, whichever engine runs it: its shard is claimed, rendered under supervision, committed.

The claim belongs to the process that supervises, not to the one that renders: it outlives crashes
and hangs, and ends with the supervisor.
"""

from dataclasses import replace

from pointcmt.datasets.store.claims import ClaimLost, Held
from pointcmt.render.jobs.job import Finished, Job, Task, stage_to_run, store_of_job
from pointcmt.render.jobs.supervisor import Crew, Work


def run_claimed(crew: Crew, work: Work, task: Task) -> Finished | Held:
    """Do what is left to do of a task's shard, unless somebody else works on it.

    work.argument is the Job. Raises the PointcmtError that is to stop the job.
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
            return crew.run(work, replace(task, stage=stage, claim=claim.owner), claim.renew)
        except ClaimLost as lost:
            return Held("", lost.what)
