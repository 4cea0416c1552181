"""`render` and `build-correspondences`: find what is missing, run it on workers, sum up."""

import time
from dataclasses import dataclass, replace
from typing import Any

from pointcmt.console import meter, say
from pointcmt.datasets.sources import Listing
from pointcmt.datasets.store import CORRESPONDENCES, RENDER, Outcome, ViewStore, remove
from pointcmt.render.job import Finished, Job, Task, create_store, make_runner, tasks
from pointcmt.render.workers import run_tasks, usable_cores

DEFAULT_TIMEOUT = 600.0  # seconds for one shape: minutes more than the largest meshes need


@dataclass(frozen=True)
class Options:
    """How a job runs; none of it changes a byte of the result.

    workers: processes, 0 = one per core. timeout: seconds for one shape. shard: shapes per shard,
    None = chosen.
    """

    workers: int = 0
    timeout: float = DEFAULT_TIMEOUT
    shard: int | None = None
    overwrite: bool = False
    retry_failed: bool = False
    log_format: str = "auto"


@dataclass(frozen=True)
class Summary:
    """What a run did. planned = done + failed + skipped."""

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
    started = time.monotonic()
    if options.overwrite:
        remove(job.out)
    store = create_store(listing, job, options.shard)
    if options.retry_failed:
        _forget_failed(store, (RENDER, CORRESPONDENCES))
    missing = tasks(store, render=True, correspondences=job.correspondences)
    before = _finished_shapes(store)
    if before:
        say(f"{before} of {len(listing.shapes)} shapes are rendered already", options.log_format)
    done = 0
    for finished in _run(store, job, missing, options, "rendering"):
        if finished.task.stage == RENDER:
            done += sum(outcome.status == "done" for outcome in finished.outcomes)
    failures = _failures(store, job.correspondences)
    return Summary(
        planned=store.schema.shapes,
        done=done,
        skipped=store.schema.shapes - done - len(failures),
        failures=failures,
        seconds=time.monotonic() - started,
        views=done * store.schema.views,
    )


def build_correspondences(store: ViewStore, job: Job, options: Options) -> Summary:
    """Add point visibility to the rendered shapes that lack it. Raises StoreError."""
    started = time.monotonic()
    if options.retry_failed:
        _forget_failed(store, (CORRESPONDENCES,))
    rendered = _finished_shapes(store)
    missing = tasks(store, render=False, correspondences=True)
    waiting = store.schema.shapes - rendered
    if waiting:
        say(f"{waiting} shapes are not rendered yet and wait for `render`", options.log_format)
    done = 0
    for finished in _run(store, job, missing, options, "correspondences"):
        shapes = len(store.schema.shapes_of(finished.task.shard))
        done += shapes - len(finished.outcomes)
    failures = _failures(store, correspondences=True)
    return Summary(
        planned=store.schema.shapes,
        done=done,
        skipped=store.schema.shapes - done - len(failures),
        failures=failures,
        seconds=time.monotonic() - started,
        views=done * store.schema.views,
    )


def _run(store: ViewStore, job: Job, missing: list[Task], options: Options, title: str):  # type: ignore[no-untyped-def]
    """Run tasks with progress; yields Finished."""
    workers = min(options.workers or usable_cores(), max(1, len(missing)))
    job = replace(job, threads=max(1, usable_cores() // workers))
    total = sum(len(store.schema.shapes_of(task.shard)) for task in missing)
    with meter(title, total, "shapes", options.log_format) as progress:
        for finished in run_tasks(missing, make_runner, job, workers, options.timeout):
            assert isinstance(finished, Finished)
            failed = [o for o in finished.outcomes if o.status == "failed"]
            note = "; ".join(f"{o.id}: {o.reason}" for o in failed[:3])
            note += f" and {len(failed) - 3} more failed" if len(failed) > 3 else ""
            shard = finished.task.shard
            progress.advance(len(store.schema.shapes_of(shard)), note, shard=shard)
            yield finished


def _finished_shapes(store: ViewStore) -> int:
    return sum(len(store.schema.shapes_of(shard)) for shard in store.committed(RENDER))


def _forget_failed(store: ViewStore, stages: tuple[str, ...]) -> None:
    keys = {RENDER: "outcomes", CORRESPONDENCES: "failures"}
    for stage in stages:
        key = keys[stage]
        for shard, marker in store.markers(stage).items():
            if any(outcome["status"] == "failed" for outcome in marker[key]):
                store.forget(shard, stage)


def _failures(store: ViewStore, correspondences: bool) -> tuple[Outcome, ...]:
    """Every shape that failed at any stage, in the order of the plan."""
    failed = {o.id: o for o in store.outcomes() if o is not None and o.status == "failed"}
    if correspondences:
        for outcome in store.correspondence_failures():
            failed.setdefault(outcome.id, outcome)
    order = {record.id: index for index, record in enumerate(store.shapes)}
    return tuple(sorted(failed.values(), key=lambda outcome: order[outcome.id]))
