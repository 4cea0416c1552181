"""`render` and `build-correspondences`: find what is missing, run it on workers, sum up."""

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pointcmt.console import meter, say
from pointcmt.datasets.sources import Listing
from pointcmt.datasets.store import CORRESPONDENCES, RENDER, Outcome, ViewStore, remove
from pointcmt.render.job import Finished, Job, create_store, tasks
from pointcmt.render.supervisor import Work
from pointcmt.render.workers import run_tasks, usable_cores

if TYPE_CHECKING:
    from pointcmt.render.shards import ShardRunner

DEFAULT_TIMEOUT = 600.0  # seconds for one shape: minutes more than the largest meshes need


@dataclass(frozen=True)
class Options:
    """How a job runs; none of it changes a byte of the result, but for what other GPUs round.

    workers: processes, 0 = one per core. timeout: seconds for one shape. shard: shapes per shard,
    None = chosen.
    """

    workers: int = 0
    timeout: float = DEFAULT_TIMEOUT
    shard: int | None = None
    overwrite: bool = False
    retry_failed: bool = False
    device: str = "auto"  # of GPU backends
    log_format: str = "auto"


@dataclass(frozen=True)
class Summary:
    """What a run did. planned = done + failed + skipped, and what waits for `render`."""

    planned: int
    done: int  # rendered by this run
    skipped: int  # finished by an earlier run
    failures: tuple[Outcome, ...]  # every failed shape of the store
    seconds: float
    views: int  # rendered by this run

    def as_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        return {
            "planned": self.planned,
            "done": self.done,
            "failed": len(self.failures),
            "skipped": self.skipped,
            "seconds": round(self.seconds, 3),
            "views_per_second": round(self.views / max(self.seconds, 1e-9), 2),
            "failures": [
                {"id": o.id, "reason": o.reason, "detail": o.detail} for o in self.failures
            ],
        }


def render(listing: Listing, job: Job, options: Options) -> Summary:
    """Render what the store lacks of a listing; all of it when it is new.

    Raises StoreError where the store holds something else, cannot be written, or the disk is full.
    """
    if options.overwrite:
        remove(job.out)
    store = create_store(listing, job, options.shard)
    if options.retry_failed:
        _forget_failed(store, (RENDER, CORRESPONDENCES))
    before = _rendered_shapes(store)
    if before:
        say(f"{before} of {store.schema.shapes} shapes were tried before", options.log_format)
    return _complete(store, job, RENDER, options)


def build_correspondences(store: ViewStore, job: Job, options: Options) -> Summary:
    """Add point visibility to the rendered shapes that lack it. Raises StoreError."""
    if options.retry_failed:
        _forget_failed(store, (CORRESPONDENCES,))
    waiting = store.schema.shapes - _rendered_shapes(store)
    if waiting:
        say(f"{waiting} shapes are not rendered yet and wait for `render`", options.log_format)
    return _complete(store, job, CORRESPONDENCES, options)


def make_runner(job: Job, worker: int) -> "ShardRunner":
    """What runs the job's tasks, in a worker process: only there are the heavy libraries loaded."""
    from pointcmt.render.startup import import_lightly

    import_lightly()
    from pointcmt.render.shards import ShardRunner

    return ShardRunner(job, worker)


def _complete(store: ViewStore, job: Job, stage: str, options: Options) -> Summary:
    """Run all tasks that are missing, with progress, and count the shapes `stage` has finished."""
    started = time.monotonic()
    missing = tasks(store, stage == RENDER, job.correspondences or stage == CORRESPONDENCES)
    workers = min(options.workers or usable_cores(), max(1, len(missing)))
    job = replace(job, threads=max(1, usable_cores() // workers), device=options.device)
    total = sum(len(store.schema.shapes_of(task.shard)) for task in missing)
    done = 0
    backends: set[tuple[str, str]] = set()
    with meter(_TITLES[stage], total, "shapes", options.log_format) as progress:
        for finished in run_tasks(missing, Work(make_runner, job, options.timeout), workers):
            if finished.task.stage == stage:
                done += sum(outcome.status == "done" for outcome in finished.outcomes)
            for backend in {(o.backend, o.backend_reason) for o in finished.outcomes} - backends:
                backends.add(backend)
                if backend[0]:
                    say(f"drawn by {backend[0]} ({backend[1]})", options.log_format)
            shard = finished.task.shard
            count = len(store.schema.shapes_of(shard))
            progress.advance(count, _trouble(finished), shard=shard)
    failures = _failures(store)
    tried = sum(len(store.schema.shapes_of(shard)) for shard in store.committed(stage))
    return Summary(
        planned=store.schema.shapes,
        done=done,
        skipped=tried - done - len(failures),
        failures=failures,
        seconds=time.monotonic() - started,
        views=done * store.schema.views,
    )


_TITLES = {RENDER: "rendering", CORRESPONDENCES: "correspondences"}


def _trouble(finished: Finished) -> str:
    """The shapes of a task that failed, in a few words."""
    failed = [f"{o.id}: {o.reason}" for o in finished.outcomes if o.status == "failed"]
    more = f" and {len(failed) - 3} more" if len(failed) > 3 else ""
    return "; ".join(failed[:3]) + more


def _rendered_shapes(store: ViewStore) -> int:
    return sum(len(store.schema.shapes_of(shard)) for shard in store.committed(RENDER))


def _forget_failed(store: ViewStore, stages: tuple[str, ...]) -> None:
    keys = {RENDER: "outcomes", CORRESPONDENCES: "failures"}
    for stage in stages:
        for shard, marker in store.markers(stage).items():
            if any(outcome["status"] == "failed" for outcome in marker[keys[stage]]):
                store.forget(shard, stage)


def _failures(store: ViewStore) -> tuple[Outcome, ...]:
    """Every shape that failed at any stage, in the order of the plan."""
    failed = {o.id: o for o in store.outcomes() if o is not None and o.status == "failed"}
    failed |= {outcome.id: outcome for outcome in store.correspondence_failures()}
    return tuple(failed[record.id] for record in store.shapes if record.id in failed)
