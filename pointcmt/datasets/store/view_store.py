"""View stores: open, read, write by shard, commit.

A shard counts once its commit marker `commits/<stage>/<shard>.json` is there; it is written last,
lists the shard's files with their SHA-256 and says how each shape ended. docs/store.md describes
all files.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import tensorstore as ts
from numpy.typing import NDArray

from pointcmt.cameras import Camera
from pointcmt.datasets.store import forks
from pointcmt.datasets.store import schema as contract
from pointcmt.datasets.store import storage as files
from pointcmt.datasets.store.documents import (
    Outcome,
    decode_marker,
    decode_outcome,
    identity_digest,
    require_marker,
    root_attributes,
)
from pointcmt.datasets.store.locations import absolute, is_remote, storage_errors, tidy
from pointcmt.datasets.store.schema import DONE, FAILED, PENDING, SPLITS, Plan, Schema, ShapeRecord
from pointcmt.datasets.store.storage import REPAIR
from pointcmt.errors import DamageError, StoreError

RENDER, CORRESPONDENCES = "render", "visible"  # the stages that have commit markers
RESULTS = {RENDER: "outcomes", CORRESPONDENCES: "failures"}  # what their markers tell of shapes
ROOT, PLAN = "zarr.json", "shapes.jsonl"
DERIVED = "features/"  # arrays that are computed from the images (datasets/features.py)
_MARKER = re.compile(r"(\d+)\.json")


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
        self.derived = self  # where its features are
        self._arrays: dict[str, ts.TensorStore] = {}
        self._looked: defaultdict[str, set[int]] = defaultdict(set)  # shards, by array
        self._features: str | Path | None = None
        forks.reopen_in_children(self)

    @classmethod
    def open(
        cls,
        path: str | Path,
        threads: int = 4,
        known: bool = False,
        features: str | Path | None = None,
    ) -> Self:
        """Open an existing store: a folder, s3://bucket/path or gs://bucket/path.

        known: it has been used before, so a server that does not answer is waited for. features: a
        place for derived features, where the store itself must not be written to; of many stores,
        each has a folder there. Raises StoreError where there is no store that can be read.
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
        store = cls(path, root_attributes(found, f"{path}/{ROOT}"), threads)
        if features is not None:
            # Two data sets with the same names make stores of one identity: the place tells them.
            own = contract.digest(f"{store.identity} {absolute(path)}".encode())[:16]
            place = f"{tidy(str(features))}/{own}"
            store.derived = cls(place, store.attributes, threads)
            store._features = absolute(tidy(str(features)))
        return store

    def reopen(self) -> None:
        """Open all files again: in a process that was forked from the one that opened them."""
        forks.keep(self.kv, self._arrays)
        self.kv, self._arrays = files.open_kv(self.path, self.threads), {}

    def __reduce__(self) -> tuple[Any, ...]:  # another process opens the store by itself
        return type(self).open, (absolute(self.path), self.threads, True, self._features)

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
            raise DamageError("the store has lost its list of shapes", where=where, fix=REPAIR)
        if contract.digest(data) != self.attributes["plan_sha256"]:
            raise DamageError("the list of shapes is damaged", where=where, fix=REPAIR)
        plan = Plan(data, where)
        if len(plan) != self.schema.shapes:
            what = f"{len(plan)} shapes are listed, the root says {self.schema.shapes}"
            raise DamageError(what, where=where, fix=REPAIR)
        return plan

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
        if self._is_elsewhere(name):
            return self.derived.array(name)
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

        Raises DamageError for a chunk that is lost or whose checksum does not match, StoreError for
        shapes that are not rendered yet.
        """
        if self._is_elsewhere(name):
            return self.derived.read(name, *index)
        array, first = self.array(name), index[0] if index else slice(None)
        shards = self.shards_of(slice(None) if first is ... else first)
        if not is_remote(self.path):  # a server has no FIFOs, and tells by itself what is missing
            self.require_files([name], shards - self._looked[name])
            self._looked[name] |= shards
        try:
            with storage_errors(f"{self.path}/{name}"):
                return np.asarray(array[index].read().result())
        except (ValueError, MemoryError) as error:
            raise self.unreadable(name, shards, error) from error

    def read_committed(self, name: str, shard: int, marker: dict[str, Any]) -> NDArray[Any]:
        """A whole shard of an array, [s, ...]. Raises as `open_committed`."""
        shapes = self.schema.shapes_of(shard)
        return self.open_committed(name, shard, marker)(slice(shapes.start, shapes.stop))

    def open_committed(
        self, name: str, shard: int, marker: dict[str, Any]
    ) -> Callable[..., NDArray[Any]]:
        """Return `read(*index)` for the shapes of a shard, from bytes with the marker's SHA-256.

        For data that is written again or that other data is made from: what was lost or changed
        since the commit must not live on in it. Both raise DamageError.
        """
        key = contract.shard_key(self.specs[name], name, shard)
        data, where = files.read(self.kv, key, most=None), f"{self.path}/{key}"
        if data is None:
            raise DamageError(f"shard {shard} has lost a file", where=where, fix=REPAIR)
        if contract.digest(data) != marker["files"].get(key):
            what = f"a file of shard {shard} is not the one that was committed"
            raise DamageError(what, where=where, fix=REPAIR)
        metadata = contract.spec_metadata(self.schema, self.specs[name])
        decoded = files.decode_array(metadata, key.removeprefix(f"{name}/"), data)

        def read(*index: Any) -> NDArray[Any]:
            try:
                return np.asarray(decoded[index].read().result())
            except ValueError as error:
                raise DamageError(f"damaged data: {error}", where=where, fix=REPAIR) from error

        return read

    def require_files(self, names: Iterable[str], shards: Collection[int]) -> None:
        """Raise DamageError where a file of these arrays and shards is lost or cannot be read.

        StoreError where a shard lacks them because it has not been committed yet.
        """
        names, ordered = list(names), sorted(shards)
        if any(map(self._is_elsewhere, names)):
            self.derived.require_files(filter(self._is_elsewhere, names), shards)
        wanted = {
            f"{name}/c/": [contract.shard_key(self.specs[name], name, i) for i in ordered]
            for name in names
            if not self._is_elsewhere(name)
        }
        absent = files.absent(self.kv, wanted)
        if not absent:
            return
        key = next(iter(absent))
        name, _, rest = key.partition("/c/")
        shard, stage = int(rest.split("/")[0]), stage_of(name)
        if absent[key] == files.MISSING and shard not in self.committed(stage):
            if name.startswith(DERIVED):
                raise StoreError(
                    f"shard {shard} has no such features yet",
                    where=f"{self.path}/{name}",
                    fix="any command that needs them computes them",
                )
            what = "correspondences" if stage == CORRESPONDENCES else "images"
            command = "build-correspondences" if stage == CORRESPONDENCES else "render"
            raise StoreError(
                f"shard {shard} has no {what} yet",
                where=self.path,
                fix=f"run `pointcmt {command}` to finish the store",
            )
        more = f", and so have {len(absent) - 1} more" if len(absent) > 1 else ""
        what = f"shard {shard} has lost a file ({absent[key]}){more}"
        raise DamageError(what, where=f"{self.path}/{key}", fix=REPAIR)

    def require_complete(self, share: tuple[int, int] = (0, 1)) -> None:
        """Raise DamageError unless every file is there that a committed shard must have.

        Cheap: files are looked at, not read; on object storage they are listed. share: (i, n) =
        every n-th shard from the i-th on.
        """
        for stage in (RENDER, CORRESPONDENCES):
            mine = [shard for shard in self.committed(stage) if shard % share[1] == share[0]]
            self.require_files(arrays_of(self.schema, stage), mine)

    def unreadable(self, name: str, shards: Collection[int], error: Exception) -> StoreError:
        """The error for an array that could not be read: what is lost, else what is damaged."""
        self = self.place(name)
        try:
            self.require_files([name], shards)
        except StoreError as found:
            return found
        where = f"{self.path}/{name}"
        if isinstance(error, MemoryError):
            return StoreError("there is not enough memory to read this", where=where)
        return DamageError(f"damaged data: {error}", where=where, fix=REPAIR)

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

    def shards_of(self, shapes: Any) -> set[int]:
        """The shards of shapes: an index, a slice, or an array of indices or bools, of axis 0."""
        if isinstance(shapes, slice):
            chosen = range(self.schema.shapes)[shapes]
            if not chosen:
                return set()
            first, last = sorted((chosen[0], chosen[-1]))
            return set(range(first // self.schema.shard, last // self.schema.shard + 1))
        indices = np.asarray(shapes)
        indices = np.flatnonzero(indices) if indices.dtype == bool else indices
        found = np.unique(indices // self.schema.shard).tolist()
        return {shard for shard in found if 0 <= shard < self.schema.shards}

    def place(self, name: str) -> "ViewStore":
        """Where an array lies: here, but for features that `ViewStore.open` was told to keep
        elsewhere."""
        return self.derived if self._is_elsewhere(name) else self

    def _is_elsewhere(self, name: str) -> bool:
        """Whether an array lies in another place than the store, as `--features` says."""
        return self.derived is not self and name.startswith(DERIVED)

    def committed(self, stage: str = RENDER) -> list[int]:
        """The shards that a stage has committed, in order. Reads no marker, only their names."""
        prefix, shards = f"commits/{stage}/", self.schema.shards
        names = set(files.list_keys(self.kv, prefix, expected=shards))
        numbers = (_MARKER.fullmatch(name.removeprefix(prefix)) for name in names)
        found = {int(number[1]) for number in numbers if number}
        return sorted(i for i in found if i < shards and marker_key(stage, i) in names)

    def pending(self, stage: str = RENDER) -> list[int]:
        """The shards that a stage has not committed, in order."""
        _ = self.shapes  # whose number a made-up root may exaggerate
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
            gone = data is None and files.trouble(self.kv, key) in ("", files.MISSING)
            if not gone or shards is not None:  # else another job tries it again just now
                where = f"{self.path}/{key}"
                marker = decode_marker(data or b"", where)
                if not self.owns(marker, stage, shard):
                    what = "the marker of another shard, or of another store"
                    raise DamageError(what, where=where, fix=REPAIR)
                own, count = self._keys(stage, shard), len(self.schema.shapes_of(shard))
                require_marker(marker, RESULTS.get(stage, "made_from"), own, count, where)
                yield shard, marker

    def _keys(self, stage: str, shard: int) -> set[str]:
        """The files that a stage writes for a shard."""
        names = arrays_of(self.schema, stage)
        return {contract.shard_key(self.specs[name], name, shard) for name in names}

    def owns(self, marker: dict[str, Any], stage: str, shard: int) -> bool:
        """Whether a marker is of this store, and not one of another that got here somehow."""
        owner = marker["shard"], marker["stage"], marker.get("store")
        return owner == (shard, stage, self.identity)

    def outcomes(self) -> list[Outcome | None]:
        """How each shape ended, in the order of axis 0; None = not rendered yet."""
        ended: list[Outcome | None] = [None] * len(self.shapes)
        for shape, table in self.ended():
            ended[shape] = decode_outcome(table)
        return ended

    def failures(self, share: tuple[int, int] = (0, 1)) -> tuple[Outcome, ...]:
        """Every shape of a share that failed at any stage, in the order of axis 0."""
        failed = {i: table for i, table in self.ended(share) if table["status"] == "failed"}
        for shard, marker in self.each_marker(CORRESPONDENCES, share=share):
            if marker["failures"]:
                shapes = {self.shapes[shape].id: shape for shape in self.schema.shapes_of(shard)}
                own = (table for table in marker["failures"] if table["id"] in shapes)
                failed |= {shapes[table["id"]]: table for table in own}
        return tuple(decode_outcome(failed[shape]) for shape in sorted(failed))

    def status(self) -> NDArray[np.uint8]:
        """PENDING, DONE or FAILED per shape, [O], from the commit markers."""
        codes = np.full(len(self.shapes), PENDING, np.uint8)
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


def stage_of(name: str) -> str:
    """The stage that writes an array."""
    if name.startswith(DERIVED):
        return name.replace("/", "-")
    return CORRESPONDENCES if name in contract.CORRESPONDENCE_ARRAYS else RENDER


def arrays_of(schema: Schema, stage: str) -> tuple[str, ...]:
    """The arrays that a stage writes."""
    if stage == CORRESPONDENCES:
        return contract.CORRESPONDENCE_ARRAYS
    return contract.render_arrays(schema) if stage == RENDER else (stage.replace("-", "/", 1),)


def marker_key(stage: str, shard: int) -> str:
    """The key of a commit marker."""
    return f"commits/{stage}/{shard:06d}.json"
