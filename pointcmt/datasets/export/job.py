"""Export a store: choose shapes, skip those that are there, write the others, say what failed."""

import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pointcmt.console import Meter, meter
from pointcmt.datasets.export import colmap, nerfstudio, ply, png
from pointcmt.datasets.export.folder import ExportFolder, places
from pointcmt.datasets.export.shapes import ShapeViews, read_shape
from pointcmt.datasets.selection import Selection, choose
from pointcmt.datasets.store.documents import decode_outcome
from pointcmt.datasets.store.schema import CORRESPONDENCES, RENDER, digest, encode_line
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.errors import DamageError, StoreError, UsageError, nearest

AHEAD = 2  # shapes per thread that are read or written at a time
DAMAGED = "damaged"  # why a shape failed whose data is lost or has changed


@dataclass(frozen=True)
class Format:
    """A format: the files of a shape, a pattern of their names, and what it needs.

    suffix: of the only file of a shape, "" if it has a folder. visible: whether it needs
    correspondences.
    """

    files: Callable[[ShapeViews, bool], dict[str, bytes]]
    own: str
    suffix: str = ""
    visible: bool = True


FORMATS = {
    "png": Format(png.files, png.OWN, visible=False),
    "nerfstudio": Format(nerfstudio.files, nerfstudio.OWN),
    "colmap": Format(colmap.files, colmap.OWN),
    "ply": Format(ply.files, ply.OWN, suffix=".ply"),
}


@dataclass(frozen=True)
class Failure:
    """A shape that could not be exported. reason: one of docs/store.md, or `damaged`."""

    id: str
    reason: str
    detail: str


@dataclass(frozen=True)
class ExportSummary:
    """How an export ended. done: shapes that are there now, `skipped` of them before. pending:
    shapes that the store lacks yet.
    """

    to: str
    out: Path
    planned: int
    done: int
    skipped: int
    pending: int
    failures: tuple[Failure, ...]
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """Return the object that `--json` prints."""
        counts = {"planned": self.planned, "done": self.done, "failed": len(self.failures)}
        return {
            "to": self.to,
            "out": str(self.out),
            **counts,
            "skipped": self.skipped,
            "pending": self.pending,
            "failures": [vars(failure) for failure in self.failures],
            "seconds": round(self.seconds, 3),
        }


def export_store(
    store: ViewStore,
    to: str,
    out: str | Path,
    selection: Selection | None = None,
    *,
    text: bool = False,
    workers: int = 0,
    overwrite: bool = False,
) -> ExportSummary:
    """Write shapes of a store in a format of FORMATS; another call goes on where one has stopped.

    text: COLMAP's models as text. workers: threads, 0 = one per core. A shape that failed, or whose
    data is damaged, is recorded and does not stop the others. Raises UsageError for an unknown
    format, shape or split and for a folder that cannot be used, StoreError if there is nothing to
    export yet, if `out` holds other files, or if it cannot be written.
    """
    started, selection = time.monotonic(), selection or Selection()
    if to not in FORMATS:
        raise UsageError(f"unknown format '{to}'", where="--to", fix=nearest(to, FORMATS))
    store.require_objects("`export`")
    chosen = choose(store, selection)
    job = ExportJob(store, to, text)
    job.require_begun(chosen)
    own = {name: each.own for name, each in FORMATS.items()}
    folder = ExportFolder(out, job.facts(), own, overwrite)
    with meter("exporting", len(chosen), "shapes") as progress:
        ended = job.run(folder, chosen, workers or os.cpu_count() or 1, progress)
    failures = tuple(state for state in ended if isinstance(state, Failure))
    order = {record.id: number for number, record in enumerate(store.shapes)}
    folder.finish(order, [vars(failure) for failure in failures])
    return ExportSummary(
        to=to,
        out=Path(out),
        planned=len(chosen),
        done=sum(state in (WRITTEN, SKIPPED) for state in ended),
        skipped=sum(state == SKIPPED for state in ended),
        pending=sum(state == PENDING for state in ended),
        failures=failures,
        seconds=time.monotonic() - started,
    )


WRITTEN, SKIPPED, PENDING = "written", "skipped", "pending"


@dataclass(frozen=True)
class Source:
    """A shape that is rendered. made_from: digest of the files of its shard. visible: whether it
    has correspondences.
    """

    made_from: str
    visible: bool


class ExportJob:
    """An export of a store in one format."""

    def __init__(self, store: ViewStore, to: str, text: bool) -> None:
        self.store, self.to, self.text = store, to, text and to == "colmap"
        self.format = FORMATS[to]
        self._places = places((record.id for record in store.shapes), self.format.suffix)
        self._rendered = set(store.committed(RENDER))
        self._matched = set(store.committed(CORRESPONDENCES))
        self._shard = -1
        self._sources: list[Source | Failure | None] = []  # of the shapes of that shard

    def facts(self) -> dict[str, Any]:
        """Return what `export.json` says."""
        schema, source = self.store.schema, self.store.attributes["source"]
        return {
            "to": self.to,
            "store": self.store.identity,
            "settings": {"text": self.text},
            "views": schema.views,
            "size": schema.size,
            "points": schema.points,
            "depth_scale": schema.depth_scale,
            "class_names": self.store.class_names,
            "source": {"name": source["name"], "license": source["licence"]},
        }

    def require_begun(self, chosen: Sequence[int]) -> None:
        """Raise StoreError if the store has nothing yet of the chosen shapes."""
        shards = self.store.schema.shards_of(chosen)
        if not shards & self._rendered:
            raise StoreError(
                "none of these shapes is rendered yet",
                where=self.store.path,
                fix="run `pointcmt render`",
            )
        if self.format.visible and not shards & self._rendered & self._matched:
            raise StoreError(
                f"{self.to} needs correspondences, and none of these shapes has them yet",
                where=self.store.path,
                fix="run `pointcmt build-correspondences`",
            )

    def run(
        self, folder: ExportFolder, chosen: Sequence[int], threads: int, progress: Meter
    ) -> list[str | Failure]:
        """Export shapes, a few at the same time; return how each ended, in order."""
        ended: list[str | Failure] = []
        waiting: deque[Future[dict[str, Any] | str | Failure]] = deque()

        def end_next() -> None:
            state = waiting.popleft().result()
            if isinstance(state, dict):
                folder.record(state)
                state = WRITTEN
            ended.append(state)
            note = f"{state.id} failed: {state.reason}" if isinstance(state, Failure) else ""
            progress.advance(1, note)

        with ThreadPoolExecutor(threads, "export") as pool:
            try:
                for index in chosen:
                    waiting.append(self._begin(folder, index, pool))
                    if len(waiting) >= AHEAD * threads:
                        end_next()
                while waiting:
                    end_next()
            finally:
                pool.shutdown(cancel_futures=True)
        return ended

    def _begin(
        self, folder: ExportFolder, index: int, pool: ThreadPoolExecutor
    ) -> "Future[dict[str, Any] | str | Failure]":
        """Start to export a shape, unless there is nothing to do."""
        source, record = self._source(index), self.store.shapes[index]
        if isinstance(source, Source):
            place = self._places[index]
            line = {
                "id": record.id,
                "place": place,
                "class": record.class_name,
                "label": int(self.store.labels[index]),
                "split": record.split,
                "made_from": source.made_from,
            }
            if folder.done.get(record.id) != line or not (folder.out / place).exists():
                return pool.submit(self._export, folder, index, source.visible, line)
        known: Future[dict[str, Any] | str | Failure] = Future()
        state = SKIPPED if isinstance(source, Source) else source or PENDING
        known.set_result(state)
        return known

    def _export(
        self, folder: ExportFolder, index: int, visible: bool, line: dict[str, Any]
    ) -> dict[str, Any] | Failure:
        """Write the files of a shape; return its line of the index. Raises StoreError."""
        try:
            shape = read_shape(self.store, index, visible)
        except DamageError as error:
            return Failure(line["id"], DAMAGED, f"{error.what}: {error.where}")
        folder.write(line["place"], self.format.files(shape, self.text))
        return line

    def _source(self, index: int) -> Source | Failure | None:
        """Return what a shape is exported from, or why it is not; None if it is not there yet."""
        shard = index // self.store.schema.shard
        if shard != self._shard:
            self._shard, self._sources = shard, self._sources_of(shard)
        return self._sources[index % self.store.schema.shard]

    def _sources_of(self, shard: int) -> list[Source | Failure | None]:
        ids = [self.store.shapes[index].id for index in self.store.schema.shapes_of(shard)]
        matched = shard in self._matched
        if shard not in self._rendered or (self.format.visible and not matched):
            return [None] * len(ids)
        try:
            markers = [self.store.markers(RENDER, [shard])[shard]]
            if matched:
                markers.append(self.store.markers(CORRESPONDENCES, [shard])[shard])
        except DamageError as error:
            return [Failure(shape, DAMAGED, f"{error.what}: {error.where}") for shape in ids]
        made_from = digest(encode_line([marker["files"] for marker in markers]))
        unmatched = {table["id"]: table for table in markers[-1].get("failures", ())}
        found: list[Source | Failure | None] = []
        for shape, table in zip(ids, markers[0]["outcomes"], strict=True):
            failed = table if table["status"] != "done" else None
            if self.format.visible:
                failed = failed or unmatched.get(shape)
            if failed:
                ended = decode_outcome(failed)
                found.append(Failure(shape, str(ended.reason), ended.detail))
            else:
                found.append(Source(made_from, matched and shape not in unmatched))
        return found
