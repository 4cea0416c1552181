"""View stores: open, read, write by shard, commit.

A shard counts once its commit marker `commits/<stage>/<shard>.json` is there; it is written last,
lists the shard's files with their SHA-256 and says how each shape ended. docs/store.md describes
all files.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts
from numpy.typing import NDArray

from pointcmt.cameras import Camera
from pointcmt.datasets import kv as files
from pointcmt.datasets import schema as contract
from pointcmt.datasets.places import storage_errors, tidy
from pointcmt.datasets.schema import DONE, FAILED, PENDING, SPLITS, Plan, Schema, ShapeRecord
from pointcmt.errors import DamageError, Reason, StoreError

RENDER, CORRESPONDENCES = "render", "visible"  # the stages that have commit markers
ROOT, PLAN = "zarr.json", "shapes.jsonl"


@dataclass(frozen=True)
class Outcome:
    """How one shape ended. seconds: time it took; all else is the same at every repetition."""

    id: str
    status: str  # "done" or "failed"
    reason: Reason | None = None
    detail: str = ""
    sha256: str = ""  # of the source file
    faces: int = 0
    backend: str = ""  # what drew it, and why that was chosen
    backend_reason: str = ""
    seconds: float = 0.0
    notes: tuple[str, ...] = ()


class ViewStore:
    """A store that is open for reading and, shard by shard, for writing.

    Example: `ViewStore.open("S").read("rgb", 0)` is the [V,H,W,3] u8 images of the first shape.
    """

    def __init__(self, path: str, attributes: dict[str, Any], threads: int) -> None:
        self.path = path  # a folder, or a URL
        self.attributes = attributes
        self.schema: Schema = contract.schema_from_attributes(attributes)
        self.class_names: list[str] = attributes["class_names"]
        self.threads = threads
        self.kv = files.open_kv(path, threads)
        self.specs = contract.array_specs(self.schema)  # of every array; `features` adds its own
        self._arrays: dict[str, ts.TensorStore] = {}

    @classmethod
    def open(cls, path: str | Path, threads: int = 4, known: bool = False) -> "ViewStore":
        """Open an existing store: a folder, s3://bucket/path or gs://bucket/path.

        known: it has been used before, so a server that does not answer is waited for. Raises
        StoreError where there is none that can be read.
        """
        path = tidy(str(path))
        if known:
            found = files.read(files.open_kv(path, threads), ROOT)
        else:
            found = files.first_read(path, ROOT, threads)
        if found is None:
            raise StoreError(
                "there is no view store here",
                where=path,
                fix="make one with `pointcmt render --out`, or correct the path",
            )
        return cls(path, root_attributes(found, path), threads)

    @cached_property
    def identity(self) -> str:
        """SHA-256 of all that decides the store's bytes; every commit marker repeats it.

        So shards made for another store are noticed, should their writers ever have disagreed on
        whose root it is, and a lost root can be made again without a doubt.
        """
        return identity_digest(self.attributes)

    @cached_property
    def shapes(self) -> Plan:
        """The plan, in the order of axis 0. Raises DamageError where it is missing or damaged."""
        data = files.read(self.kv, PLAN)
        where = f"{self.path}/{PLAN}"
        if data is None:
            raise DamageError("the store has lost its list of shapes", where=where, fix=_REPAIR)
        if contract.digest(data) != self.attributes["plan_sha256"]:
            raise DamageError("the list of shapes is damaged", where=where, fix=_REPAIR)
        return Plan(data)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """Class index per shape, [O]; -1 = unknown."""
        return self._labels_and_splits[0]

    @cached_property
    def splits(self) -> NDArray[np.uint8]:
        """Split per shape, [O]: index into SPLITS."""
        return self._labels_and_splits[1]

    @cached_property
    def _labels_and_splits(self) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        found = [self.label_and_split(record) for record in self.shapes]
        labels, splits = zip(*found, strict=True)
        return np.array(labels, np.int64), np.array(splits, np.uint8)

    def label_and_split(self, record: ShapeRecord) -> tuple[int, int]:
        """A shape's values of `label` and `split`."""
        return self._class_index.get(record.class_name or "", -1), SPLITS.index(record.split)

    @cached_property
    def _class_index(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.class_names)}

    def array(self, name: str) -> ts.TensorStore:
        """An array, opened once. Raises DamageError where it is missing or damaged."""
        if name not in self._arrays:
            where = f"{self.path}/{name}"
            if name not in self.specs:
                raise StoreError(f"this store has no array '{name}'", where=where)
            self._arrays[name] = files.open_array(
                where, self.threads, store_data_equal_to_fill_value=True
            )
        return self._arrays[name]

    def read(self, name: str, *index: Any) -> NDArray[Any]:
        """`array[index]` as numpy; indices as numpy's basic ones, or index arrays of equal length.

        Raises DamageError for a chunk whose checksum does not match.
        """
        where = f"{self.path}/{name}"
        try:
            with storage_errors(where):
                return np.asarray(self.array(name)[index].read().result())
        except ValueError as error:
            raise DamageError(f"damaged data: {error}", where=where, fix=_REPAIR) from error

    def depth(self, *index: Any) -> NDArray[np.float32]:
        """Depth in world units, 0 = background."""
        return self.read("depth", *index) * np.float32(self.schema.depth_scale)

    def visible(self, *index: Any) -> NDArray[np.bool_]:
        """Visibility of points, [..., V, N] bool."""
        return contract.unpack_visible(self.read("visible", *index), self.schema.points)

    def camera(self, *index: Any) -> Camera:
        """The cameras of a shape ([V]), of a view of it (single), or of a list of both."""
        K, pose = self.read("K", *index), self.read("world_to_camera", *index)
        return Camera(K, pose, self.schema.size, self.schema.size)

    def committed(self, stage: str = RENDER) -> list[int]:
        """The shards that a stage has committed, in order. Reads no marker, only their names."""
        found = set(files.list_keys(self.kv, f"commits/{stage}/"))
        return [i for i in range(self.schema.shards) if marker_key(stage, i) in found]

    def pending(self, stage: str = RENDER) -> list[int]:
        """The shards that a stage has not committed, in order."""
        return sorted(set(range(self.schema.shards)) - set(self.committed(stage)))

    def markers(
        self, stage: str = RENDER, shards: Iterable[int] | None = None
    ) -> dict[int, dict[str, Any]]:
        """Commit markers by shard, all of them by default.

        Raises DamageError for one that is damaged, or not of this store and shard.
        """
        return dict(self.each_marker(stage, shards))

    def each_marker(
        self,
        stage: str = RENDER,
        shards: Iterable[int] | None = None,
        share: tuple[int, int] = (0, 1),
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """`markers` one after the other: of a million shapes they fill gigabytes.

        Without shards those of a share, (i, n) = every n-th from the i-th on, that are there.
        """
        wanted = list(shards or [])
        if shards is None:
            wanted = [i for i in self.committed(stage) if i % share[1] == share[0]]
        keys = [marker_key(stage, shard) for shard in wanted]
        for shard, (key, data) in zip(wanted, files.read_many(self.kv, keys), strict=True):
            if data is not None or shards is not None:  # else another job tries it again just now
                where = f"{self.path}/{key}"
                marker = decode_marker(data or b"", where)
                if not self.owns(marker, stage, shard):
                    what = "the marker of another shard, or of another store"
                    raise DamageError(what, where=where, fix=_REPAIR)
                yield shard, marker

    def owns(self, marker: dict[str, Any], stage: str, shard: int) -> bool:
        """Whether a marker is of this store, and not one of another that got here somehow."""
        owner = marker["shard"], marker["stage"], marker.get("store")
        return owner == (shard, stage, self.identity)

    def outcomes(self) -> list[Outcome | None]:
        """How each shape ended, in the order of axis 0; None = not rendered yet."""
        ended: list[Outcome | None] = [None] * self.schema.shapes
        for shape, table in self.ended():
            ended[shape] = decode_outcome(table)
        return ended

    def failures(self, share: tuple[int, int] = (0, 1)) -> tuple[Outcome, ...]:
        """Every shape of a share that failed at any stage, in the order of axis 0."""
        failed = {i: table for i, table in self.ended(share) if table["status"] == "failed"}
        for shard, marker in self.each_marker(CORRESPONDENCES, share=share):
            for table in marker["failures"]:
                shapes = self.schema.shapes_of(shard)
                failed[next(i for i in shapes if self.shapes[i].id == table["id"])] = table
        return tuple(decode_outcome(failed[shape]) for shape in sorted(failed))

    def status(self) -> NDArray[np.uint8]:
        """PENDING, DONE or FAILED per shape, [O], from the commit markers."""
        codes = np.full(self.schema.shapes, PENDING, np.uint8)
        for shape, table in self.ended():
            codes[shape] = DONE if table["status"] == "done" else FAILED
        return codes

    def ended(self, share: tuple[int, int] = (0, 1)) -> Iterator[tuple[int, dict[str, Any]]]:
        """Each rendered shape and how it ended, an encoded `Outcome`, in the order of axis 0."""
        for shard, marker in self.each_marker(share=share):
            yield from zip(self.schema.shapes_of(shard), marker["outcomes"], strict=True)

    def write_shard(self, shard: int, arrays: Mapping[str, NDArray[Any]]) -> dict[str, str]:
        """Write whole shards of arrays; returns each file's key and SHA-256 once all are on disk.

        arrays: name → [shapes of this shard, ...]. Raises StoreError where the disk refuses.
        """
        shapes = self.schema.shapes_of(shard)
        keys = [contract.shard_key(self.specs[name], name, shard) for name in arrays]
        for key in keys:
            files.empty_leftover(self.kv, key)
        with storage_errors(self.path):
            writes = [
                self.array(name)[shapes.start : shapes.stop].write(np.ascontiguousarray(data))
                for name, data in arrays.items()
            ]
            for future in writes:
                future.result()
        written = {}
        for key, data in files.read_many(self.kv, keys):
            if data is None:
                raise StoreError("a file vanished while it was written", where=f"{self.path}/{key}")
            written[key] = contract.digest(data)
        return written

    def commit(self, stage: str, shard: int, marker: dict[str, Any]) -> None:
        """Write a shard's commit marker: from now on it counts."""
        marker = {"shard": shard, "stage": stage, "store": self.identity, **marker}
        marker["checksum"] = contract.digest(contract.encode_line(marker))
        files.write(self.kv, marker_key(stage, shard), contract.encode_line(marker))

    def forget(self, shard: int, stage: str = RENDER) -> None:
        """Remove a shard's commit marker, so that the stage runs again (and those that follow)."""
        for each in (CORRESPONDENCES, RENDER) if stage == RENDER else (stage,):
            files.delete(self.kv, [marker_key(each, shard)])


def root_attributes(data: bytes, path: str) -> dict[str, Any]:
    """The attributes of a root `zarr.json`. Raises DamageError; StoreError for another version."""
    where = f"{path}/{ROOT}"
    try:
        attributes = json.loads(data)["attributes"]
        version = attributes["schema_version"]
    except (ValueError, KeyError, TypeError):
        raise DamageError(
            "this is no view store, or its root is damaged", where=where, fix=_REMAKE
        ) from None
    body = {key: value for key, value in attributes.items() if key != "checksum"}
    intact = contract.group_metadata(body) == data
    if version != contract.SCHEMA_VERSION:
        kind = StoreError if intact else DamageError
        raise kind(
            f"the store has schema version {version}, this pointcmt reads "
            f"{contract.SCHEMA_VERSION}",
            where=where,
            fix="use the pointcmt version that wrote it, or render again",
        )
    if not intact:
        raise DamageError("the root of this store is damaged", where=where, fix=_REMAKE)
    return body


def decode_marker(data: bytes, where: str) -> dict[str, Any]:
    """A commit marker. Raises DamageError where a bit of it has changed."""
    try:
        marker = json.loads(data)
        checksum = marker.pop("checksum")
        body = contract.encode_line(marker)
        marker["checksum"] = checksum
        if contract.digest(body) != checksum or contract.encode_line(marker) != data:
            raise ValueError("checksum")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DamageError("a commit marker is damaged", where=where, fix=_REPAIR) from None
    return marker


def marker_key(stage: str, shard: int) -> str:
    """The key of a commit marker."""
    return f"commits/{stage}/{shard:06d}.json"


def encode_outcome(outcome: Outcome) -> dict[str, Any]:
    """An outcome as JSON-able values."""
    return {
        **vars(outcome),
        "seconds": round(outcome.seconds, 6),
        "detail": _encodable(outcome.detail),
        "notes": [_encodable(note) for note in outcome.notes],
    }


def decode_outcome(table: dict[str, Any]) -> Outcome:
    """The inverse of `encode_outcome`."""
    reason = Reason(table["reason"]) if table["reason"] else None
    return Outcome(**{**table, "reason": reason, "notes": tuple(table["notes"])})


def identity(attributes: dict[str, Any]) -> dict[str, Any]:
    """What must agree for two runs to fill the same store."""
    keys = ("schema_version", "schema", "render", "class_names", "plan_sha256")
    source = {"dataset": attributes["source"]["name"], "up": attributes["source"]["up"]}
    return {**source, **{key: attributes[key] for key in keys}}


def identity_digest(attributes: dict[str, Any]) -> str:
    """`identity` as a SHA-256."""
    return contract.digest(contract.encode_json(identity(attributes)))


def _encodable(text: str) -> str:
    """Text that UTF-8 can hold: what comes from files may hold half characters."""
    return text.encode("utf-8", "replace").decode()


_REPAIR = "`pointcmt verify` says what is broken, with --repair it is rendered again"
_REMAKE = (
    "run `pointcmt render` with the settings it was made with: they are written again if all "
    "that is rendered agrees with them"
)
