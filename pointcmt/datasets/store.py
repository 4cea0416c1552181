"""View stores on disk: create, open, read, write by shard, commit.

A shard counts once its commit marker `commits/<stage>/<shard>.json` is there; it is written last,
lists the shard's files with their SHA-256 and says how each shape ended. docs/store.md describes
all files.
"""

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts
from numpy.typing import NDArray

from pointcmt.cameras import Camera
from pointcmt.datasets import kv as files
from pointcmt.datasets import schema as contract
from pointcmt.datasets.places import storage_errors
from pointcmt.datasets.schema import DONE, FAILED, PENDING, SPLITS, Schema, ShapeRecord
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
    def open(cls, path: str | Path, threads: int = 4) -> "ViewStore":
        """Open an existing store: a folder, s3://bucket/path or gs://bucket/path.

        Raises StoreError where there is none that can be read.
        """
        path = str(path).rstrip("/") or "/"
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
        return _identity_digest(self.attributes)

    @cached_property
    def shapes(self) -> list[ShapeRecord]:
        """The plan, in the order of axis 0. Raises DamageError where it is missing or damaged."""
        data = files.read(self.kv, PLAN)
        where = f"{self.path}/{PLAN}"
        if data is None:
            raise DamageError("the store has lost its list of shapes", where=where, fix=_REPAIR)
        if contract.digest(data) != self.attributes["plan_sha256"]:
            raise DamageError("the list of shapes is damaged", where=where, fix=_REPAIR)
        return contract.decode_plan(data)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """Class index per shape, [O]; -1 = unknown."""
        index = {name: i for i, name in enumerate(self.class_names)}
        return np.array([index.get(s.class_name or "", -1) for s in self.shapes], np.int64)

    @cached_property
    def splits(self) -> NDArray[np.uint8]:
        """Split per shape, [O]: index into SPLITS."""
        return np.array([SPLITS.index(s.split) for s in self.shapes], np.uint8)

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
        self,
        stage: str = RENDER,
        shards: Iterable[int] | None = None,
        share: tuple[int, int] = (0, 1),
    ) -> dict[int, dict[str, Any]]:
        """Commit markers by shard. Raises DamageError for a damaged one.

        All of them by default, without those that are deleted meanwhile. share: (i, n), every n-th
        shard's from the i-th on.
        """
        wanted = list(shards or [])
        if shards is None:
            wanted = [i for i in self.committed(stage) if i % share[1] == share[0]]
        keys = [marker_key(stage, shard) for shard in wanted]
        found = zip(wanted, files.read_many(self.kv, keys), strict=True)
        return {
            shard: decode_marker(data or b"", f"{self.path}/{key}")
            for shard, (key, data) in found
            if data is not None or shards is not None
        }

    def owns(self, marker: dict[str, Any], stage: str, shard: int) -> bool:
        """Whether a marker is of this store, and not one of another that got here somehow."""
        owner = marker["shard"], marker["stage"], marker.get("store")
        return owner == (shard, stage, self.identity)

    def outcomes(self, share: tuple[int, int] = (0, 1)) -> list[Outcome | None]:
        """How each shape ended, in the order of axis 0; None = not rendered yet, or of no share."""
        ended: list[Outcome | None] = [None] * self.schema.shapes
        for shard, marker in self.markers(share=share).items():
            for shape, table in zip(self.schema.shapes_of(shard), marker["outcomes"], strict=True):
                ended[shape] = decode_outcome(table)
        return ended

    def correspondence_failures(self, share: tuple[int, int] = (0, 1)) -> list[Outcome]:
        """The rendered shapes whose correspondences could not be built later."""
        markers = self.markers(CORRESPONDENCES, share=share).values()
        return [decode_outcome(table) for marker in markers for table in marker["failures"]]

    def status(self) -> NDArray[np.uint8]:
        """PENDING, DONE or FAILED per shape, [O], from the commit markers."""
        codes = {None: PENDING, "done": DONE, "failed": FAILED}
        return np.array([codes[o.status if o else None] for o in self.outcomes()], np.uint8)

    def write_shard(self, shard: int, arrays: Mapping[str, NDArray[Any]]) -> dict[str, str]:
        """Write whole shards of arrays; returns each file's key and SHA-256 once all are on disk.

        arrays: name → [shapes of this shard, ...]. Raises StoreError where the disk refuses.
        """
        shapes = self.schema.shapes_of(shard)
        with storage_errors(self.path):
            writes = [
                self.array(name)[shapes.start : shapes.stop].write(np.ascontiguousarray(data))
                for name, data in arrays.items()
            ]
            for future in writes:
                future.result()
        keys = [contract.shard_key(self.specs[name], name, shard) for name in arrays]
        written = {}
        for key, data in files.read_many(self.kv, keys):
            if data is None:
                raise StoreError("a file vanished while it was written", where=f"{self.path}/{key}")
            written[key] = contract.digest(data)
        return written

    def commit(self, stage: str, shard: int, marker: dict[str, Any]) -> None:
        """Write a shard's commit marker: from now on it counts."""
        marker = {"shard": shard, "stage": stage, "store": self.identity, **marker}
        marker["checksum"] = contract.digest(contract.encode_json(marker))
        files.write(self.kv, marker_key(stage, shard), contract.encode_json(marker))

    def forget(self, shard: int, stage: str = RENDER) -> None:
        """Remove a shard's commit marker, so that the stage runs again (and those that follow)."""
        for each in (CORRESPONDENCES, RENDER) if stage == RENDER else (stage,):
            files.delete(self.kv, [marker_key(each, shard)])


def create(
    path: str, attributes: dict[str, Any], shapes: Iterable[ShapeRecord], threads: int = 4
) -> ViewStore:
    """Create a store, or open it where it exists with the same plan and configuration.

    Safe when many processes start at once: the first one's root counts, and all other files
    follow from it. Raises StoreError with the differences where the store holds something else.
    """
    path = path.rstrip("/") or "/"
    plan = contract.encode_plan(shapes)
    attributes = {**attributes, "plan_sha256": contract.digest(plan)}
    stored = _claim_root(path, attributes, plan, threads)
    different = differences(stored, attributes)
    if different:
        raise StoreError(
            "this store was made with another configuration:\n  " + "\n  ".join(different),
            where=path,
            fix="repeat the settings it was made with, choose another --out, or use --overwrite",
        )
    store = ViewStore(path, stored, threads)
    _ensure(store.kv, PLAN, plan)
    for name in contract.array_specs(store.schema):
        _ensure(store.kv, f"{name}/{ROOT}", contract.array_metadata(store.schema, name))
    return store


def remove(path: str) -> None:
    """Delete a store. Raises StoreError for a place that holds anything but a view store.

    What says that shards are finished goes first and what says that this is a store goes last, so
    that whatever a kill leaves behind can be deleted again, or rendered again.
    """
    path = path.rstrip("/") or "/"
    kv = files.open_kv(path)
    try:
        attributes = json.loads(files.first_read(path, ROOT) or b"")["attributes"]
        is_store = "schema_version" in attributes and "plan_sha256" in attributes
    except (ValueError, KeyError, TypeError):
        is_store = False
    if is_store:
        files.delete_all(kv, first="commits", last=ROOT)
    elif files.top_names(kv):
        raise StoreError(
            "this folder is no view store: it is not deleted",
            where=path,
            fix="choose another --out, or delete the folder yourself",
        )


def differences(stored: dict[str, Any], asked: dict[str, Any]) -> list[str]:
    """What distinguishes two stores' attributes, a line each; versions and paths do not count."""
    left, right = _flatten(_identity(stored)), _flatten(_identity(asked))
    return [
        f"{key}: {_brief(left.get(key))} in the store, {_brief(right.get(key))} asked for"
        for key in [*left, *(key for key in right if key not in left)]
        if left.get(key) != right.get(key)
    ]


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
        body = contract.encode_json(marker)
        marker["checksum"] = checksum
        if contract.digest(body) != checksum or contract.encode_json(marker) != data:
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
        **asdict(outcome),
        "seconds": round(outcome.seconds, 3),
        "detail": _encodable(outcome.detail),
        "notes": [_encodable(note) for note in outcome.notes],
    }


def decode_outcome(table: dict[str, Any]) -> Outcome:
    """The inverse of `encode_outcome`."""
    reason = Reason(table["reason"]) if table["reason"] else None
    return Outcome(**{**table, "reason": reason, "notes": tuple(table["notes"])})


def _encodable(text: str) -> str:
    """Text that UTF-8 can hold: what comes from files may hold half characters."""
    return text.encode("utf-8", "replace").decode()


_REPAIR = "`pointcmt verify` says what is broken, with --repair it is rendered again"
_REMAKE = (
    "run `pointcmt render` with the settings it was made with: they are written again if all "
    "that is rendered agrees with them"
)


def _claim_root(path: str, attributes: dict[str, Any], plan: bytes, threads: int) -> dict[str, Any]:
    """The attributes of the root that is there; ours, where there was none or a broken one.

    A root that was lost or damaged is made again only where all else is of the same store.
    """
    found = files.first_read(path, ROOT, threads)
    kv = files.open_kv(path, threads)
    root = contract.group_metadata(attributes)
    if found is None:
        names = files.top_names(kv)  # once, since others may be creating the same store just now
        foreign = sorted(name for name in names if not name.startswith(ROOT))
        if ROOT not in names and foreign and not _is_ours(kv, attributes, plan):
            raise StoreError(
                f"this folder holds other things (such as {foreign[0]}) and no view store",
                where=path,
                fix="choose an empty or a new folder for --out",
            )
        found = files.write_new(kv, ROOT, root)
    try:
        return root_attributes(found, path)
    except DamageError:
        if not _is_ours(kv, attributes, plan):
            raise
        files.write(kv, ROOT, root)
        return attributes


def _is_ours(kv: ts.KvStore, attributes: dict[str, Any], plan: bytes) -> bool:
    """Whether what lies beside a lost or damaged root belongs to a store of these attributes.

    Commit markers tell; without any, the list of shapes has to do.
    """
    owners = set()
    for key, data in files.read_many(kv, files.list_keys(kv, "commits/")):
        with suppress(DamageError):
            owners.add(decode_marker(data or b"", key).get("store"))
    if owners:
        return owners == {_identity_digest(attributes)}
    return files.read(kv, PLAN) == plan


def _ensure(kv: ts.KvStore, key: str, value: bytes) -> None:
    """Have a file hold what the root prescribes: written if it is missing, mended if damaged."""
    if files.write_new(kv, key, value) != value:
        files.write(kv, key, value)


def _identity(attributes: dict[str, Any]) -> dict[str, Any]:
    """What must agree for two runs to fill the same store."""
    keys = ("schema_version", "schema", "render", "class_names", "plan_sha256")
    source = {"dataset": attributes["source"]["name"], "up": attributes["source"]["up"]}
    return {**source, **{key: attributes[key] for key in keys}}


def _identity_digest(attributes: dict[str, Any]) -> str:
    return contract.digest(contract.encode_json(_identity(attributes)))


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, part in value.items():
        flat |= _flatten(part, f"{prefix}.{key}" if prefix else key)
    return flat


def _brief(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:45]}… ({len(text)} characters)"
