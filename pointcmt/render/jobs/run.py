"""`render` and `build-correspondences`: find missing shards, run them on workers, summarize."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pointcmt import plugins
from pointcmt.console import logger, meter
from pointcmt.datasets.sources import Listing
from pointcmt.datasets.store.creation import remove
from pointcmt.datasets.store.documents import Outcome
from pointcmt.datasets.store.locations import absolute
from pointcmt.datasets.store.schema import CORRESPONDENCES, RENDER, ROOT, SCENES, Schema
from pointcmt.datasets.store.storage import Storage
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.errors import StoreError
from pointcmt.render.jobs.backlog import LOCAL, Backlog, Engine, carry_out
from pointcmt.render.jobs.job import Finished, Job, Task, create_store, grow_store, schema_of, tasks
from pointcmt.render.jobs.memory import (
    LIBRARIES,
    require_memory,
    shard_memory,
    share_out,
    usable_memory,
)
from pointcmt.render.jobs.origins import (
    require_same_root,
    require_same_sources,
    require_some_sources,
)
from pointcmt.render.jobs.runner import make_runner, run_claimed
from pointcmt.render.jobs.supervisor import LocalWorkers, Work
from pointcmt.render.limits import usable_cores

DEFAULT_TIMEOUT = 600.0  # seconds per shape: minutes more than the largest meshes need


@dataclass(frozen=True)
class Options:
    """Execution options. None of them affects the output, except that GPUs may round differently.

    workers: processes, 0 = one per core. timeout: seconds per shape. memory_limit: GiB per worker,
    0 = none, None = its share of the machine or container. shard: shapes per shard, None = chosen.
    codec: compression of the store, one of schema.CODECS; None = as stored, or the first.
    share: (i, n) does every n-th shard, from the i-th on. moved: accept that the dataset is in
    another directory than before. changed_sources: accept that its files have changed since shapes
    were rendered from them (render).
    """

    workers: int = 0
    timeout: float = DEFAULT_TIMEOUT
    memory_limit: float | None = None
    shard: int | None = None
    codec: str | None = None
    share: tuple[int, int] = (0, 1)
    scheduler: str | None = None
    resources: dict[str, float] = field(default_factory=dict)
    overwrite: bool = False
    retry_failed: bool = False
    moved: bool = False
    changed_sources: bool = False
    device: str = "auto"  # for GPU backends


@dataclass(frozen=True)
class Summary:
    """Results of a run on its share. planned = done + failed + skipped + waiting for `render`."""

    planned: int
    done: int  # rendered by this run
    skipped: int  # finished by an earlier run, or by a concurrent one
    failures: tuple[Outcome, ...]  # all failed shapes of the share, from any run
    seconds: float
    views: int  # rendered by this run
    # Shapes of the share by kind of note, and files of the listing that are not read.
    notes: dict[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the object that `--json` prints."""
        return {
            "planned": self.planned,
            "done": self.done,
            "failed": len(self.failures),
            "skipped": self.skipped,
            "notes": self.notes,
            "seconds": round(self.seconds, 3),
            "views_per_second": round(self.views / max(self.seconds, 1e-9), 2),
            "failures": [
                {"id": o.id, "reason": o.reason, "detail": o.detail} for o in self.failures
            ],
        }


def render(listing: Listing, job: Job, options: Options) -> Summary:
    """Render the shapes of a listing that the store lacks; all of them if the store is new.

    Shapes that are not in the store's list yet are added at its end.

    Raises StoreError if the store holds something else, cannot be written, or the disk is full, and
    UsageError if it was rendered from other files, or from another directory.
    """
    storage = Storage(job.out, job.threads)
    if options.overwrite or storage.first_read(ROOT) is None:  # before doing anything
        require_room(schema_of(job, listing, options.shard, options.codec), options)
    if options.overwrite:
        remove(storage)
    store = create_store(listing, job, options.shard, storage, options.codec)
    require_same_root(store, job, options.moved)
    store.require_complete(options.share)
    require_same_sources(store, job, options.changed_sources)
    store = grow_store(store, listing, job)  # now that it is known to be the same dataset
    before = _shapes(store, _share(options, store.committed(RENDER)))
    if before:
        planned = _shapes(store, _share(options, range(store.schema.shards)))
        logger.info(f"resuming: {before} of {planned} shapes were processed before")
    summary = complete(store, job, RENDER, options)
    return replace(summary, notes={**summary.notes, **listing.not_read})


def build_correspondences(store: ViewStore, job: Job, options: Options) -> Summary:
    """Add point visibility to the rendered shapes that lack it.

    Raises StoreError, and UsageError if the store was rendered from another dataset.
    """
    store.require_complete(options.share)
    require_some_sources(store, job)
    waiting = _shapes(store, _share(options, store.pending(RENDER)))
    if waiting:
        logger.info(f"{waiting} shapes are not rendered yet; run `pointcmt render` for them")
    return complete(store, job, CORRESPONDENCES, options)


def complete(
    store: ViewStore, job: Job, stage: str, options: Options, missing: Sequence[Task] | None = None
) -> Summary:
    """Run all missing tasks, with progress, and count the shapes that `stage` has finished.

    missing: the tasks, None = all shards without a commit marker.
    """
    started = time.monotonic()
    correspondences = job.correspondences or stage == CORRESPONDENCES
    job = replace(job, identity=store.identity, correspondences=correspondences)
    if missing is None:
        missing = tasks(store, stage == RENDER, correspondences, options.retry_failed)
        missing = [task for task in missing if _share(options, [task.shard])]
    need = LIBRARIES
    if any(task.stage == RENDER for task in missing):
        require_room(store.schema, options)
        need = shard_memory(store.schema)
    engine = _engine(job, options, len(missing), need)
    backlog = Backlog(missing, store.claims.look)
    total = _shapes(store, [task.shard for task in missing])
    done = views = 0
    backends: set[tuple[str, str]] = set()
    with meter(_TITLES[stage], total, "shapes") as progress:
        for finished in carry_out(backlog, engine):
            if finished.task.stage == stage:
                own = _done(store, finished)
                done += len(own)
                views += _views(store, own)
            for backend in {(o.backend, o.backend_reason) for o in finished.outcomes} - backends:
                backends.add(backend)
                if backend[0]:
                    logger.info(f"rendering with {backend[0]} ({backend[1]})")
            shard = finished.task.shard
            progress.advance(_shapes(store, [shard]), _trouble(finished), shard=shard)
    rendered, matched = (set(store.committed(each)) for each in (RENDER, CORRESPONDENCES))
    _require_done(store, missing, rendered, matched, correspondences)
    store.claims.sweep(rendered & matched)
    failures = store.failures(options.share)
    tried = _shapes(store, _share(options, rendered if stage == RENDER else matched))
    return Summary(
        planned=_shapes(store, _share(options, range(store.schema.shards))),
        done=done,
        skipped=tried - done - len(failures),
        failures=failures,
        seconds=time.monotonic() - started,
        views=views,
        notes=store.notes(options.share) if stage == RENDER else {},
    )


def _done(store: ViewStore, finished: Finished) -> list[int]:
    """Return the shapes that a task has rendered."""
    ids = {outcome.id for outcome in finished.outcomes if outcome.status == "done"}
    shapes = store.schema.shapes_of(finished.task.shard)
    return [shape for shape in shapes if store.shapes[shape].id in ids]


def _views(store: ViewStore, shapes: list[int]) -> int:
    """Return how many views shapes have: scenes have as many as frames were chosen."""
    if store.schema.kind != SCENES:
        return len(shapes) * store.schema.views
    return sum(store.counts(shape)["view_count"] for shape in shapes)


def _require_done(
    store: ViewStore,
    missing: Sequence[Task],
    rendered: set[int],
    matched: set[int],
    correspondences: bool,
) -> None:
    """Raise StoreError if shards that a job has finished are not in its store."""
    wanted = {task.shard for task in missing}
    lost = wanted - rendered | (wanted - matched if correspondences else set())
    if lost:
        raise StoreError(
            f"{len(lost)} of {len(wanted)} shards that this job has finished are missing",
            where=store.path,
            fix="they were deleted or replaced, or written to a different folder with the same "
            "path on another machine; check --out, then run the same command again",
        )


def require_room(schema: Schema, options: Options) -> None:
    """Raise UsageError if no worker can hold a shard, as far as this machine can tell."""
    if options.scheduler in (None, LOCAL) or options.memory_limit is not None:
        require_memory(schema, options.memory_limit, usable_memory())


def _engine(job: Job, options: Options, missing: int, need: float) -> Engine:
    """Return the engine that runs the tasks: local processes or dask. Raises PointcmtError.

    need: minimum GiB for a task.
    """
    work = Work(make_runner, job, options.timeout, options.memory_limit, need)
    wanted = min(options.workers or usable_cores(), max(1, missing))
    shares = share_out(wanted, options.memory_limit, need, usable_memory())
    if options.scheduler in (None, LOCAL):
        work = replace(work, memory_limit=shares.limit)
        if shares.workers < wanted:
            what = (
                f"using {shares.workers} workers instead of {wanted}, since each needs at least "
                f"{need:.1f} GiB"
            )
            logger.info(what)
    workers = shares.workers
    if options.scheduler is None:
        threads = max(1, usable_cores() // workers)
        job = replace(job, threads=threads, device=options.device)
        return LocalWorkers(replace(work, argument=job), workers, run_claimed)
    from pointcmt.render.jobs.cluster import Cluster, ClusterWorkers

    root = job.root and job.root.absolute()
    # Each thread of a dask worker stands for a core.
    job = replace(job, threads=1, device=options.device, out=absolute(job.out), root=root)
    if plugins.is_reference(job.dataset):
        job = replace(job, modules=str(Path.cwd()))
    cluster = Cluster(options.scheduler, workers, options.resources)
    return ClusterWorkers(replace(work, argument=job), cluster)


_TITLES = {RENDER: "rendering", CORRESPONDENCES: "correspondences"}


def _trouble(finished: Finished) -> str:
    """Summarize the failed shapes of a task in a few words."""
    failed = [f"{o.id}: {o.reason}" for o in finished.outcomes if o.status == "failed"]
    more = f" and {len(failed) - 3} more" if len(failed) > 3 else ""
    return "; ".join(failed[:3]) + more


def _share(options: Options, shards: Iterable[int]) -> list[int]:
    """Return which of some shards this run has to do."""
    index, count = options.share
    return [shard for shard in shards if shard % count == index]


def _shapes(store: ViewStore, shards: Iterable[int]) -> int:
    """Count the shapes in some shards."""
    return sum(len(store.schema.shapes_of(shard)) for shard in shards)
