"""Run one shard in a worker process: load, draw, sample, test visibility, write, commit."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointcmt.console import logger
from pointcmt.datasets.store.claims import ClaimLost
from pointcmt.datasets.store.documents import Outcome, decode_outcome, encode_outcome
from pointcmt.datasets.store.schema import (
    CORRESPONDENCES,
    DONE,
    FAILED,
    RENDER,
    ShapeRecord,
    array_specs,
    blank,
    pack_visible,
    quantize_depth,
    render_arrays,
)
from pointcmt.errors import MOST_DETAIL, DamageError, PointcmtError, Reason, ShapeRefused, shortened
from pointcmt.render.draw.views import Views
from pointcmt.render.jobs.job import Finished, Job, Task, checksum, store_of_job
from pointcmt.render.jobs.kinds import kind_of
from pointcmt.render.jobs.scenes import Scenes

Arrays = dict[str, NDArray[Any]]
MATCHED = ("points", "point_face", "face_index")  # inputs of correspondences
ENDED_WORKERS = (Reason.CRASHED, Reason.TIMEOUT, Reason.TOO_LARGE)
FAINT_SHARE = 0.1  # of the covered pixels: if more are hard to see, a note says so
NO_PIXEL = "not visible in any pixel: it is thinner than a pixel, or outside all images"
Blame = Mapping[int, tuple[Reason, str]]  # shapes of a shard that crashed or hung earlier, and how


class ShardRunner:
    """Run tasks of one job in this process. Call it with a task, a blame mapping and a reporter.

    The reporter is called with the plan index of the current shape, and with None after the last
    one, so that a crash or hang can be attributed to a shape. worker: number of this process.
    """

    def __init__(self, job: Job, worker: int = 0) -> None:
        self.job = job
        self.kind = kind_of(job, worker)
        self.store = store_of_job(job, job.threads)

    def __call__(self, task: Task, blame: Blame, report: Callable[[int | None], None]) -> Finished:
        if task.stage == CORRESPONDENCES:
            return self._correspond(task, blame, report)
        return (self._retry if task.keep else self._render)(task, blame, report)

    def _render(self, task: Task, blame: Blame, report: Callable[[int | None], None]) -> Finished:
        """Render a whole shard."""
        shapes = self.store.schema.shapes_of(task.shard)
        arrays = self._blank_arrays(shapes)
        _ = self.kind.drawer  # create the renderer first, so that no shape is blamed if that fails
        outcomes = [
            self._render_into(arrays, slot, shape, self.job.correspondences, blame, report)
            for slot, shape in enumerate(shapes)
        ]
        report(None)
        visible = arrays.pop("visible")
        self._commit(task, RENDER, arrays, _encoded("outcomes", outcomes))
        if self.job.correspondences:
            self._commit(task, CORRESPONDENCES, {"visible": visible}, _encoded("failures", []))
        return Finished(task, tuple(outcomes))

    def _retry(self, task: Task, blame: Blame, report: Callable[[int | None], None]) -> Finished:
        """Do the failed and the new shapes of a shard; keep finished shapes as they are stored."""
        shapes = self.store.schema.shapes_of(task.shard)
        grown = self.store.unfinished(RENDER, task.shard)
        try:
            marker = grown or self.store.markers(RENDER, [task.shard])[task.shard]
            unmatched = self._unmatched(task.shard)
            arrays = self._stored_arrays(marker)
        except DamageError as damage:
            if not grown:
                raise
            logger.warning(f"note: shard {task.shard} is rendered again as a whole: {damage.what}")
            return self._render(task, blame, report)
        outcomes = [decode_outcome(table) for table in marker["outcomes"]]
        _ = self.kind.drawer
        visible, tried = unmatched is not None or self.job.correspondences, []
        for slot, shape in enumerate(shapes):
            if slot < len(outcomes) and outcomes[slot].status == "done":
                continue
            ended = self._render_into(arrays, slot, shape, visible, blame, report)
            outcomes[slot : slot + 1] = [ended]
            tried.append(ended)
        report(None)
        seen = arrays.pop("visible")
        self._commit(task, RENDER, arrays, _encoded("outcomes", outcomes))
        if unmatched is not None:
            failures = _encoded("failures", unmatched.values())
            self._commit(task, CORRESPONDENCES, {"visible": seen}, failures)
        if self.job.correspondences and unmatched != {}:  # not matched yet, or some failed
            self._correspond(task, blame, report)
        return Finished(task, tuple(tried))

    def _correspond(
        self, task: Task, blame: Blame, report: Callable[[int | None], None]
    ) -> Finished:
        """Compute visibility of a shard's rendered shapes, or only failed ones (`task.keep`)."""
        shapes = self.store.schema.shapes_of(task.shard)
        marker = self.store.markers(RENDER, [task.shard])[task.shard]
        failed = self._unmatched(task.shard) if task.keep else None
        visible, outcomes = self._visible(task.shard, stored=failed is not None), []
        match = self._matcher(task.shard, marker)
        for slot, shape in enumerate(shapes):
            rendered = marker["outcomes"][slot]
            is_due = failed is None or rendered["id"] in failed
            if rendered["status"] != "done" or not is_due:
                continue
            record = self.store.shapes[shape]
            report(shape)
            make = partial(match, shape, record, rendered["sha256"])
            made, outcome = attempt(make, record, blame.get(shape))
            outcomes.append(outcome)
            visible[slot] = made["visible"] if made else 0
        report(None)
        failures = _encoded("failures", [o for o in outcomes if o.status == "failed"])
        self._commit(task, CORRESPONDENCES, {"visible": visible}, failures)
        return Finished(task, tuple(outcomes))

    def _render_into(
        self,
        arrays: Arrays,
        slot: int,
        shape: int,
        visible: bool,
        blame: Blame,
        report: Callable[[int | None], None],
    ) -> Outcome:
        """Render a shape into its slot of a shard's arrays, or record its failure."""
        record = self.store.shapes[shape]
        report(shape)
        started = time.perf_counter()
        make = partial(self.render_shape, record, visible)
        made, outcome = attempt(make, record, blame.get(shape) or self._known(record))
        for name, value in (made or {}).items():
            arrays[name][slot] = value
        arrays["status"][slot] = DONE if outcome.status == "done" else FAILED
        return replace(outcome, seconds=time.perf_counter() - started)

    def render_shape(self, record: ShapeRecord, visible: bool = True) -> tuple[Arrays, Outcome]:
        """Return all arrays of one shape, without axis 0. Raises ShapeRefused."""
        schema, before = self.store.schema, self.job.before.get(record.id)
        sha256 = before.sha256 if before else ""
        if isinstance(self.kind, Scenes):
            return self.kind.render(record, sha256, schema)
        shape = self.kind.load(record, sha256)
        sample, views = shape.sample(), shape.draw()
        arrays: Arrays = {
            "rgb": views.rgb,
            "depth": quantize_depth(views.depth, schema.depth_scale),
            "face_index": views.face_index,
            **views.layers,
            "points": sample.points,
            "normals": sample.normals,
            "point_face": sample.point_face,
            "source_to_world": shape.source.source_to_world,
        }
        if sample.part is not None and schema.parts:
            arrays["part"] = sample.part
        shown = _views_that_show(views.face_index)
        if visible:
            seen = shape.visible(sample.points, sample.point_face) & shown[:, None]
            arrays["visible"] = pack_visible(seen)
        backend, reason = self.kind.drawer
        outcome = Outcome(
            record.id,
            "done",
            sha256=shape.source.sha256,
            faces=shape.source.faces,
            backend=backend,
            backend_reason=reason,
            notes=shape.source.notes + sample.notes + _remarks(views, self.kind.config.background),
        )
        return arrays, outcome

    def _matcher(
        self, shard: int, marker: dict[str, Any]
    ) -> Callable[[int, ShapeRecord, str], tuple[Arrays, Outcome]]:
        """Return the function that makes the `visible` array of a shape whose points are stored.

        It takes a shape, its record and the hash of its source, and raises ShapeRefused.
        """
        kind, schema = self.kind, self.store.schema
        if isinstance(kind, Scenes):  # the row is made again, since its points are a result, too

            def match_scene(shape: int, record: ShapeRecord, sha256: str) -> tuple[Arrays, Outcome]:
                arrays, outcome = kind.render(record, sha256, schema)
                return {"visible": arrays["visible"]}, outcome

            return match_scene
        stored = {name: self.store.open_committed(name, shard, marker) for name in MATCHED}

        def match(shape: int, record: ShapeRecord, sha256: str) -> tuple[Arrays, Outcome]:
            views = range(schema.views)  # one at a time: they may be large
            shows = np.array([stored["face_index"](shape, view).max() >= 0 for view in views])
            points, point_face = stored["points"](shape), stored["point_face"](shape)
            visible = kind.load(record, sha256).visible(points, point_face) & shows[:, None]
            return {"visible": pack_visible(visible)}, Outcome(record.id, "done")

        return match

    def _unmatched(self, shard: int) -> dict[str, Outcome] | None:
        """Return the shapes of a shard whose matching failed, by id; None if it was not tried."""
        marker = self._matched(shard)
        if marker is None:
            return None
        return {table["id"]: decode_outcome(table) for table in marker["failures"]}

    def _matched(self, shard: int) -> dict[str, Any] | None:
        """Return the commit marker of a shard's correspondences; None if they were not made."""
        if not checksum(self.store, CORRESPONDENCES, shard):
            return None
        grown = self.store.unfinished(CORRESPONDENCES, shard)
        return grown or self.store.markers(CORRESPONDENCES, [shard])[shard]

    def _visible(self, shard: int, stored: bool) -> NDArray[np.uint8]:
        """Return a shard's committed `visible`, or a blank one if not stored."""
        marker = self._matched(shard) if stored else None
        if marker:
            return self.store.read_committed("visible", shard, marker)
        shapes = self.store.schema.shapes_of(shard)
        return blank(array_specs(self.store.schema)["visible"], len(shapes))

    def _stored_arrays(self, marker: dict[str, Any]) -> Arrays:
        """Return a shard's committed arrays; `visible` is blank if it is not known yet.

        Shapes that were added since are blank, too. Raises DamageError if an array is lost or
        changed: written again, it would count as intact.
        """
        shard, kept = marker["shard"], len(marker["outcomes"])
        shapes = self.store.schema.shapes_of(shard)
        arrays = self._blank_arrays(shapes)
        committed = dict.fromkeys(render_arrays(self.store.schema), marker)
        matched = self._matched(shard)
        if matched:
            committed["visible"] = matched
        for name, its_marker in committed.items():
            read = self.store.open_committed(name, shard, its_marker)
            arrays[name][:kept] = read(slice(shapes.start, shapes.start + kept))
        return arrays

    def _known(self, record: ShapeRecord) -> tuple[Reason, str] | None:
        """Return why a shape ended its worker before a repair; such a shape is not tried again."""
        before = self.job.before.get(record.id)
        if before is None or before.reason not in ENDED_WORKERS:
            return None
        return before.reason, before.detail

    def _blank_arrays(self, shapes: range) -> Arrays:
        """Return blank arrays for a shard; those that do not depend on rendering are filled in."""
        specs = array_specs(self.store.schema)
        arrays = {name: blank(spec, len(shapes)) for name, spec in specs.items()}
        if isinstance(self.kind, Scenes):
            self.kind.fill(arrays)
        else:
            arrays["K"][:] = self.kind.camera.K
            arrays["world_to_camera"][:] = self.kind.camera.world_to_camera
        arrays["source_to_world"][:] = np.eye(4)
        records = [self.store.shapes[shape] for shape in shapes]
        facts = [self.store.label_and_split(record) for record in records]
        arrays["label"][:], arrays["split"][:] = zip(*facts, strict=True)
        return arrays

    def _commit(self, task: Task, stage: str, arrays: Arrays, ended: dict[str, Any]) -> None:
        """Write a shard's arrays and commit them. Raises ClaimLost if the claim was taken over."""
        self._require_claim(task)
        if task.retry and stage == RENDER:  # old correspondences must not outlive the images
            self.store.forget(task.shard, CORRESPONDENCES)
        files = self.store.write_shard(task.shard, arrays)
        try:
            self._require_claim(task)
        except ClaimLost:
            self._undo(task.shard, stage, files)
            raise
        self.store.commit(stage, task.shard, {**ended, "files": files})

    def _undo(self, shard: int, stage: str, files: dict[str, str]) -> None:
        """Have a shard redone if we overwrote its files after another process had committed it."""
        if checksum(self.store, stage, shard):
            committed = self.store.markers(stage, [shard])[shard]["files"]
            if any(committed.get(key) != sha256 for key, sha256 in files.items()):
                self.store.forget(shard, stage)

    def _require_claim(self, task: Task) -> None:
        if task.claim:
            self.store.claims.require(task.shard, task.claim)


def _remarks(views: Views, background: tuple[int, int, int]) -> tuple[str, ...]:
    """Return what a user should know of a shape's images."""
    if not (views.face_index >= 0).any():
        return (NO_PIXEL,)
    faint = views.faint_share(background)
    if faint <= FAINT_SHARE:
        return ()
    return (f"{faint:.0%} of what is seen has nearly the background's color",)


def _views_that_show(face_index: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return which views [V] of a shape's face_index [V,H,W] show anything; others see no point.

    A shape thinner than a pixel may lie between all pixel centers.
    """
    shows: NDArray[np.bool_] = face_index.reshape(len(face_index), -1).max(axis=1) >= 0
    return shows


def _encoded(name: str, outcomes: Iterable[Outcome]) -> dict[str, Any]:
    return {name: [encode_outcome(outcome) for outcome in outcomes]}


def attempt(
    make: Callable[[], tuple[Arrays, Outcome]],
    record: ShapeRecord,
    blame: tuple[Reason, str] | None,
) -> tuple[Arrays | None, Outcome]:
    """Run `make` for one shape; turn errors caused by the shape into its recorded reason.

    Errors of the store or the machine (a PointcmtError) are not the shape's fault and are raised.
    """
    try:
        if blame is not None:
            raise ShapeRefused(*blame)
        return make()
    except PointcmtError:
        raise
    except ShapeRefused as refused:
        reason, detail = refused.reason, refused.detail
    except MemoryError:
        reason, detail = Reason.TOO_LARGE, "out of memory"
    except Exception as error:  # a bug here or in a library must not stop 50,000 other shapes
        reason, detail = Reason.INTERNAL_ERROR, f"{type(error).__name__}: {error}"
    return None, Outcome(record.id, "failed", reason, shortened(detail, MOST_DETAIL))
