"""`verify --repair`: make broken parts of a store again from its source, and delete leftovers.

What can be repaired gets the same bytes again: the list of shapes, the arrays' metadata, every
shard. Intact parts are not touched. A source that has changed since is never drawn in place of
the original: its shape is recorded as failed, with that reason. The only files deleted are those
that provably belong to a store and are of no use in it.
"""

from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pointcmt.console import meter
from pointcmt.datasets.sources import find_source, list_shapes, select
from pointcmt.datasets.store.creation import ensure_metadata, repair_root
from pointcmt.datasets.store.documents import Outcome, decode_outcome
from pointcmt.datasets.store.features import GROUP, forget_shard, list_features
from pointcmt.datasets.store.file_checks import MISSING
from pointcmt.datasets.store.leftovers import Survey, survey
from pointcmt.datasets.store.metadata import (
    array_metadata,
)
from pointcmt.datasets.store.schema import (
    CORRESPONDENCES,
    DONE,
    FEATURES,
    PLAN,
    RENDER,
    ROOT,
    SPLITS,
    ShapeRecord,
    array_specs,
    digest,
    encode_plan,
)
from pointcmt.datasets.store.storage import Storage
from pointcmt.datasets.store.verify import Broken, Verdict, verify, verify_features
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.errors import DamageError, StoreError, UsageError
from pointcmt.render.draw.egl.remedies import has_gpu
from pointcmt.render.jobs.job import Job, Task, checksum, job_of_store, render_task
from pointcmt.render.jobs.origins import require_some_sources
from pointcmt.render.jobs.run import Options, complete
from pointcmt.render.scenes.config import SceneConfig

Outcomes = dict[str, Outcome]  # by shape id


@dataclass(frozen=True)
class Repair:
    """Results of a repair. repaired: findings that are gone. deleted: files deleted.

    foreign: files that do not belong to a store, not changed. lost: shapes that were done before
    and could not be rendered as before. changed: shards whose bytes differ from before, although no
    shape was lost. notes: other remarks.
    """

    verdict: Verdict  # on the store after the repair
    repaired: tuple[Broken, ...] = ()
    shards: tuple[int, ...] = ()  # rendered again, or only their correspondences
    deleted: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    lost: tuple[Outcome, ...] = ()
    changed: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the object that `--json` prints: the verdict's, plus the repair's results."""
        return {
            **self.verdict.as_json(),
            "repaired": [{"where": b.where, "what": b.what} for b in self.repaired],
            "shards": list(self.shards),
            "deleted": list(self.deleted),
            "foreign": list(self.foreign),
            "lost": [{"id": o.id, "reason": o.reason, "detail": o.detail} for o in self.lost],
            "changed": list(self.changed),
            "notes": list(self.notes),
        }


def repair(path: str, root: Path | None, options: Options) -> Repair:
    """Check a store, make broken parts again, delete leftovers, and check it once more.

    root: where the dataset is now, if it moved. Raises StoreError if there is no store, its root
    or its list of shapes cannot be restored from the source, or if it cannot be read or written;
    UsageError if the source is not found.
    """
    storage = Storage(path)
    repaired = [Broken(ROOT, "the root zarr.json was damaged")] if repair_root(storage) else []
    store = ViewStore.open(storage)
    repaired += _repair_metadata(store, root)
    verdict = _checked(store)
    found = survey(store)
    finished = set(store.committed(RENDER)) & set(store.committed(CORRESPONDENCES))
    deleted = [*found.orphans, *store.claims.sweep(finished)]
    deleted += storage.sweep_leftovers(found.names.file)
    storage.delete(found.orphans)
    again = _again(store, verdict.broken, found)
    correspondences = bool(_with_visible(found) or store.committed(CORRESPONDENCES))
    made = _render(store, again, correspondences, root, options) if again else Made((), (), ())
    forgotten = _forget_features(store)
    if repaired or deleted or again or forgotten:
        repaired += verdict.broken
        verdict = _checked(store)
    still = {(broken.where, broken.what) for broken in verdict.broken}
    return Repair(
        verdict,
        tuple(b for b in repaired if (b.where, b.what) not in still),
        tuple(sorted(task.shard for task in again)),
        tuple(deleted),
        tuple(found.foreign),
        made.lost,
        made.changed,
        made.notes,
    )


def _again(store: ViewStore, broken: Iterable[Broken], found: Survey) -> list[Task]:
    """Return tasks for shards with findings, or with files of a stage but no commit marker."""
    findings = {(b.stage, b.shard) for b in broken}
    images = {shard for stage, shard in findings if stage == RENDER}
    begun = set(found.begun) - set(store.committed(RENDER)) - images
    visible = {shard for stage, shard in findings if stage == CORRESPONDENCES}
    visible |= _with_visible(found) - set(store.committed(CORRESPONDENCES))
    return [
        *(Task(RENDER, shard) for shard in sorted(images)),
        *(render_task(store, shard) for shard in sorted(begun)),
        *(Task(CORRESPONDENCES, shard) for shard in sorted(visible - images - begun)),
    ]


def _with_visible(found: Survey) -> set[int]:
    return {shard for shard, names in found.begun.items() if "visible" in names}


def _checked(store: ViewStore) -> Verdict:
    with meter("verifying", store.schema.shapes, "shapes") as progress:
        return verify(store.storage, progress.advance)


def _repair_metadata(store: ViewStore, root: Path | None) -> Iterable[Broken]:
    """Write damaged array metadata and a damaged plan again; yield each finding repaired."""
    try:
        _ = store.shapes
    except DamageError as error:
        store.storage.write(PLAN, _plan(store, root))
        yield Broken(PLAN, error.what)
    for name in array_specs(store.schema):
        key, right = f"{name}/{ROOT}", array_metadata(store.schema, name)
        lost = store.storage.problem(key)
        if lost and lost != MISSING:
            store.storage.write(key, right)  # in place of a FIFO, a device or the like
        lost = lost or ("" if store.storage.read(key) else MISSING)
        if ensure_metadata(store.storage, store.schema, name) or lost:
            yield Broken(key, "the file was missing or damaged")


def _plan(store: ViewStore, root: Path | None) -> bytes:
    """List the shapes again; the SHA-256 in the root confirms the result. Raises StoreError.

    A store that has grown has them in an order of its own, which its commit markers tell.
    """
    source = store.attributes["source"]
    root = root or (source["root"] and Path(source["root"]))
    follow = bool(source.get("follow_links", True))  # stores without it followed links
    find_source(source["name"], store.path)
    listing = list_shapes(source["name"], root, follow_links=follow)
    candidates = [_in_order_of_outcomes(store, listing.shapes)]
    for split in (None, *SPLITS):
        with suppress(UsageError):  # the dataset has no such split
            candidates.append(select(listing, split, store.schema.shapes).shapes)
    for shapes in candidates:
        plan = encode_plan(shapes)
        if digest(plan) == store.attributes["plan_sha256"]:
            return plan
    raise StoreError(
        "the list of shapes is lost, and the dataset now contains different shapes",
        where=store.storage.where(PLAN),
        fix="restore the dataset, or set --root to it",
    )


def _in_order_of_outcomes(
    store: ViewStore, shapes: Iterable[ShapeRecord]
) -> tuple[ShapeRecord, ...]:
    """Return the listed shapes that commit markers name, in the order of the store."""
    listed = {record.id: record for record in shapes}
    names = [
        table["id"]
        for marker in sorted(
            _markers(store, RENDER, range(store.schema.shards)), key=lambda marker: marker["shard"]
        )
        for table in marker["outcomes"]
    ]
    return tuple(listed[name] for name in names if name in listed)


@dataclass(frozen=True)
class Made:
    """Results of making shards again; see `Repair`."""

    lost: tuple[Outcome, ...]
    changed: tuple[int, ...]
    notes: tuple[str, ...]


def _render(
    store: ViewStore, again: list[Task], correspondences: bool, root: Path | None, options: Options
) -> Made:
    """Make shards again."""
    shards = [task.shard for task in again]
    before = _Known.of(store, shards)
    for stage in (RENDER, CORRESPONDENCES):  # unreadable markers would block new ones
        for shard in set(store.committed(stage)) & set(shards) - before.files[stage].keys():
            store.forget(shard, stage)
    job = job_of_store(store, root)
    if root is not None:  # if a shard's marker is lost, nothing else distinguishes the datasets
        require_some_sources(store, job)
    job = replace(job, correspondences=correspondences, before=before.ended)
    todo = [replace(task, retry=checksum(store, task.stage, task.shard)) for task in again]
    complete(store, _with_backend_of(before.ended, job), RENDER, options, todo)
    after = _Known.of(store, shards)
    lost = {id_: outcome for id_, outcome in after.failed.items() if id_ in before.done}
    whole = [i for i in shards if not lost.keys() & {record.id for record in _records(store, i)}]
    changed = [shard for shard in whole if before.differs(after, shard)]
    notes = _redrawn(before.ended, after.ended)
    if changed:
        what = f"{len(changed)} shards have different bytes than before, such as {changed[0]}"
        why = "the backend, the versions of libraries, or materials and textures have changed"
        notes.append(f"{what}: {why}")
    return Made(tuple(lost.values()), tuple(changed), tuple(notes))


@dataclass(frozen=True)
class _Known:
    """A store's records of some shards.

    ended: outcomes of rendering by shape id; failed: shapes that failed at any stage; done: ids of
    shapes with images. files: SHA-256 of each file by stage and shard, only for shards whose commit
    markers can be read.
    """

    ended: Outcomes
    failed: Outcomes
    done: frozenset[str]
    files: dict[str, dict[int, dict[str, str]]]

    @classmethod
    def of(cls, store: ViewStore, shards: Iterable[int]) -> "_Known":
        rendered, matched = (
            {marker["shard"]: marker for marker in _markers(store, stage, shards)}
            for stage in (RENDER, CORRESPONDENCES)
        )
        tables = [table for marker in rendered.values() for table in marker["outcomes"]]
        ended = {o.id: o for o in map(decode_outcome, tables)}
        failed = {id_: outcome for id_, outcome in ended.items() if outcome.status == "failed"}
        unmatched = [table for marker in matched.values() for table in marker["failures"]]
        done = {id_ for id_ in ended if id_ not in failed} - {table["id"] for table in unmatched}
        for shard in set(shards) - rendered.keys():
            done |= _marked_done(store, shard)
        failed |= {o.id: o for o in map(decode_outcome, unmatched)}
        files_of = {
            stage: {shard: marker["files"] for shard, marker in markers.items()}
            for stage, markers in ((RENDER, rendered), (CORRESPONDENCES, matched))
        }
        return cls(ended, failed, frozenset(done), files_of)

    def differs(self, after: "_Known", shard: int) -> bool:
        """Return whether a file of a shard is known to differ from before."""
        return any(
            after.files[stage].get(shard, {}).get(key) != sha256
            for stage in self.files
            for key, sha256 in self.files[stage].get(shard, {}).items()
        )


def _marked_done(store: ViewStore, shard: int) -> set[str]:
    """Return the shapes of a shard that its array `status` marks as done, if its marker is lost."""
    shapes = store.schema.shapes_of(shard)
    with suppress(StoreError):
        status = store.read("status", slice(shapes.start, shapes.stop))
        return {
            s.id for s, code in zip(_records(store, shard), status, strict=True) if code == DONE
        }
    return set()


def _records(store: ViewStore, shard: int) -> list[ShapeRecord]:
    return [store.shapes[shape] for shape in store.schema.shapes_of(shard)]


def _markers(store: ViewStore, stage: str, shards: Iterable[int]) -> list[dict[str, Any]]:
    """Return the existing commit markers of shards that belong to this store."""
    found = []
    for shard in set(store.committed(stage)) & set(shards):
        with suppress(DamageError):
            found.append(store.markers(stage, [shard])[shard])
    return found


def _with_backend_of(before: Outcomes, job: Job) -> Job:
    """Keep Embree if it drew all shapes: `auto` may prefer this machine's GPU."""
    drawn = {outcome.backend for outcome in before.values() if outcome.backend}
    if isinstance(job.config, SceneConfig):
        return job
    if job.config.backend != "auto" or drawn != {"embree"} or not has_gpu():
        return job
    return replace(job, config=replace(job.config, backend="embree"))


def _redrawn(before: Outcomes, after: Outcomes) -> list[str]:
    """Return a note on shapes that are now drawn by another backend."""
    changes = Counter(
        (before[id_].backend, now.backend)
        for id_, now in after.items()
        if id_ in before and before[id_].backend and now.backend
    )
    return [
        f"{count} shapes were rendered with {old} before and with {new} now: their images differ "
        "slightly"
        for (old, new), count in changes.items()
        if old != new
    ]


def _forget_features(store: ViewStore) -> list[Broken]:
    """Delete features that are damaged or belong to other images; return the findings."""
    findings = []
    for key in list_features(store):
        for broken in verify_features(store, key)[0]:
            findings.append(broken)
            if broken.shard >= 0:
                forget_shard(store, key, broken.shard)
            elif broken.where == f"{FEATURES}/{ROOT}":
                store.storage.write(broken.where, GROUP)
    return findings
