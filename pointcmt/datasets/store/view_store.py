"""View stores: open them, read their arrays, write them shard by shard."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import tensorstore as ts
from numpy.typing import NDArray

from pointcmt.cameras import Camera
from pointcmt.datasets.store import forks
from pointcmt.datasets.store.file_checks import MISSING
from pointcmt.datasets.store.locations import absolute, storage_errors, tidy
from pointcmt.datasets.store.metadata import (
    spec_metadata,
)
from pointcmt.datasets.store.records import StoreRecords
from pointcmt.datasets.store.root import (
    root_attributes,
)
from pointcmt.datasets.store.schema import (
    CORRESPONDENCES,
    COUNTS,
    RENDER,
    ROOT,
    SCENES,
    ArraySpec,
    Schema,
    ShapeRecord,
    arrays_of,
    digest,
    is_derived,
    shard_key,
    stage_of,
    unpack_visible,
)
from pointcmt.datasets.store.storage import REPAIR, Storage, decode_array
from pointcmt.errors import DamageError, StoreError


class Records(Protocol):
    """The shapes of a plan, decoded on access."""

    def __len__(self) -> int: ...
    def __getitem__(self, shape: int, /) -> ShapeRecord: ...
    def __iter__(self) -> Iterator[ShapeRecord]: ...


class StoreReader(Protocol):
    """What training reads: a `ViewStore`, or several that are joined (`datasets.joint`).

    Shapes are numbered over all stores. `schema`, `specs` and `attributes` hold what is common.
    """

    @property
    def path(self) -> str: ...
    @property
    def members(self) -> "tuple[ViewStore, ...]": ...
    @property
    def attributes(self) -> dict[str, Any]: ...
    @property
    def schema(self) -> Schema: ...
    @property
    def specs(self) -> dict[str, ArraySpec]: ...
    @property
    def class_names(self) -> list[str]: ...
    @property
    def shapes(self) -> Records: ...
    @property
    def labels(self) -> NDArray[np.int64]: ...
    @property
    def splits(self) -> NDArray[np.uint8]: ...
    def status(self) -> NDArray[np.uint8]: ...
    def shares(self, shapes: NDArray[np.int64]) -> "list[Share]": ...
    def read(self, name: str, shapes: NDArray[np.int64]) -> NDArray[Any]: ...
    def require_complete(self) -> None: ...
    def __reduce__(self) -> tuple[Any, ...]: ...


@dataclass(frozen=True)
class Share:
    """Those of some shapes that one store holds.

    number: of the store among the `members`. rows: their places among these shapes. shapes: their
    indices in the store, [m]. part_orders: the joint part labels of the store's classes and
    labels, [C, 256]; None = its own.
    """

    number: int
    store: "ViewStore"
    rows: slice | NDArray[np.int64]
    shapes: NDArray[np.int64]
    part_orders: NDArray[np.uint8] | None = None

    @property
    def shards(self) -> set[int]:
        """The shards of the store that hold the shapes."""
        return self.store.schema.shards_of(self.shapes)

    def read(self, name: str) -> NDArray[Any]:
        """Return an array's rows of the shapes, [m, ...]. Raises like `ViewStore.read`."""
        return self.relabeled(name, self.store.read(name, self.shapes))

    def relabeled(self, name: str, data: NDArray[Any]) -> NDArray[Any]:
        """Return rows [m, N] of `part` with the joint labels; other arrays as they are."""
        if name != "part" or self.part_orders is None:
            return data
        labels = self.store.labels[self.shapes]
        return np.where((labels < 0)[:, None], data, self.part_orders[labels[:, None], data])


def joined(parts: Sequence[NDArray[Any]], shares: Sequence[Share]) -> NDArray[Any]:
    """Put the rows that were read from each store back into the order that was asked for."""
    if len(parts) == 1:
        return parts[0]
    whole = np.empty((sum(map(len, parts)), *parts[0].shape[1:]), parts[0].dtype)
    for part, share in zip(parts, shares, strict=True):
        whole[share.rows] = part
    return whole


class ViewStore(StoreRecords):
    """A store that is open for reading and, shard by shard, for writing.

    Example: `ViewStore.open("S").read("rgb", 0)` is the [V,H,W,3] u8 images of the first shape.
    """

    def __init__(self, storage: Storage, attributes: dict[str, Any]) -> None:
        super().__init__(storage, attributes)
        self.derived = self  # the store that holds its features
        self._arrays: dict[str, ts.TensorStore] = {}
        self._checked: defaultdict[str, set[int]] = defaultdict(set)  # shards, by array
        self._features: str | Path | None = None
        forks.reopen_in_children(self)

    @classmethod
    def open(
        cls,
        place: str | Path | Storage,
        threads: int = 4,
        known: bool = False,
        features: str | Path | None = None,
    ) -> Self:
        """Open an existing store: a folder, a zip file, s3://bucket/path or gs://bucket/path.

        threads: of decoding, unless the storage is open already. known: the store has been used
        before, so a server that does not answer is given minutes instead of seconds. features: a
        location for derived features, for a store that must not be written to; each store has a
        folder of its own there. Raises StoreError where there is no readable store.
        """
        storage = place if isinstance(place, Storage) else Storage(place, threads)
        found = storage.read(ROOT) if known else storage.first_read(ROOT)
        if found is None:
            raise StoreError(
                "there is no view store here",
                where=storage.path,
                fix="create one with `pointcmt render --out`, or correct the path",
            )
        store = cls(storage, root_attributes(found, storage.where(ROOT)))
        if features is not None:
            # Datasets with equal names make stores of equal identity: the location decides.
            first = store.generations[0].store  # the same one after the store has grown
            own = digest(f"{first} {absolute(store.path)}".encode())[:16]
            home = Storage(f"{tidy(str(features))}/{own}", storage.threads)
            store.derived = cls(home, store.attributes)
            store._features = absolute(tidy(str(features)))
        return store

    def reopen(self) -> None:
        """Open all files again, in a process that was forked from the one that opened them."""
        forks.keep(self._arrays)
        self.storage.reopen()
        self._arrays = {}

    def __reduce__(self) -> tuple[Any, ...]:  # another process opens the store by itself
        return type(self).open, (absolute(self.path), self.storage.threads, True, self._features)

    def array(self, name: str) -> ts.TensorStore:
        """Return an array, opened once. Raises DamageError if it is missing or damaged."""
        home = self.home_of(name)
        if name not in home._arrays:
            if name not in self.specs:
                where = self.storage.where(name)
                raise StoreError(f"this store has no array '{name}'", where=where)
            opened = home.storage.open_array(name, store_data_equal_to_fill_value=True)
            home._arrays[name] = opened
        return home._arrays[name]

    def read(self, name: str, *index: Any) -> NDArray[Any]:
        """Return `array[index]` as numpy; basic indices, or index arrays of equal length.

        Of a scene (an integer as the first index), the views, points and boxes that it has: see
        `counts`. Raises DamageError for a chunk that is lost or whose checksum does not match,
        StoreError for shapes that are not rendered yet.
        """
        home = self.home_of(name)
        array, first = self.array(name), index[0] if index else slice(None)
        shards = self.schema.shards_of(slice(None) if first is ... else first)
        if home.storage.folder is not None:  # elsewhere missing files are reported, and no FIFOs
            home.require_files([name], shards - home._checked[name])
            home._checked[name] |= shards
        index = self._within_counts(name, index)
        try:
            with storage_errors(home.storage.where(name)):
                return np.asarray(array[index].read().result())
        except (ValueError, MemoryError) as error:
            raise self.unreadable(name, shards, error) from error

    def counts(self, shape: int) -> dict[str, int]:
        """Return how many views, points and boxes of its row a scene uses, by `COUNTS`' arrays."""
        names = [name for name in dict.fromkeys(COUNTS.values()) if name in self.specs]
        return {name: int(self.read(name, shape)) for name in names}

    def _within_counts(self, name: str, index: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the index of a scene's values without the padding behind them."""
        spec = self.specs[name]
        axes = {axis: COUNTS[axis] for axis in spec.axes if axis in COUNTS}
        is_scene = self.schema.kind == SCENES and axes and len(index) > 0
        if not is_scene or not isinstance(index[0], int | np.integer):
            return index
        rest = []
        for axis, given in zip_longest(spec.axes, index[1:], fillvalue=slice(None)):
            if axis in axes and isinstance(given, slice):
                count = int(self.read(axes[axis], index[0]))
                count = -(-count // 8) if axis == "byte" else count
                given = slice(*given.indices(count))
            rest.append(given)
        return (index[0], *rest)

    def read_committed(self, name: str, shard: int, marker: dict[str, Any]) -> NDArray[Any]:
        """Return a whole shard of an array, [s, ...]. Raises as `open_committed`."""
        shapes = self.schema.shapes_of(shard)
        return self.open_committed(name, shard, marker)(slice(shapes.start, shapes.stop))

    def open_committed(
        self, name: str, shard: int, marker: dict[str, Any]
    ) -> Callable[..., NDArray[Any]]:
        """Return `read(*index)` for the shapes of a shard, from bytes with the marker's SHA-256.

        For data that is written again or that other data is made from: what was lost or changed
        since the commit must not be passed on. This function and `read` raise DamageError.
        """
        key = shard_key(self.specs[name], name, shard)
        data, where = self.storage.read(key, most=None), self.storage.where(key)
        if data is None:
            raise DamageError(
                f"a file of shard {shard} is missing or unreadable", where=where, fix=REPAIR
            )
        if digest(data) != marker["files"].get(key):
            what = f"a file of shard {shard} has changed since it was committed"
            raise DamageError(what, where=where, fix=REPAIR)
        metadata = spec_metadata(self.schema, self.specs[name])
        decoded = decode_array(metadata, key.removeprefix(f"{name}/"), data)

        def read(*index: Any) -> NDArray[Any]:
            try:
                return np.asarray(decoded[index].read().result())
            except ValueError as error:
                raise DamageError(f"damaged data: {error}", where=where, fix=REPAIR) from error

        return read

    def write_shard(self, shard: int, arrays: Mapping[str, NDArray[Any]]) -> dict[str, str]:
        """Write whole shards of arrays; returns each file's key and SHA-256 once all are on disk.

        arrays: name → [shapes of this shard, ...]. Raises StoreError where the disk refuses.
        """
        self.storage.require_writable()
        shapes = self.schema.shapes_of(shard)
        keys = [shard_key(self.specs[name], name, shard) for name in arrays]
        for key in keys:
            self.storage.empty_leftover(key)
        with storage_errors(self.path):
            writes = [
                self.array(name)[shapes.start : shapes.stop].write(np.ascontiguousarray(data))
                for name, data in arrays.items()
            ]
            for future in writes:
                future.result()
        written = {}
        for key, data in self.storage.read_many(keys):
            if data is None:
                what = "a file was deleted while it was being written"
                raise StoreError(what, where=self.storage.where(key))
            written[key] = digest(data)
        return written

    def depth(self, *index: Any) -> NDArray[np.float32]:
        """Return depth in world units, 0 = background."""
        return self.read("depth", *index) * np.float32(self.schema.depth_scale)

    def visible(self, *index: Any) -> NDArray[np.bool_]:
        """Return the visibility of points, [..., V, N] bool."""
        points = self.schema.points
        if self.schema.kind == SCENES and index and isinstance(index[0], int | np.integer):
            points = int(self.read("point_count", index[0]))
        return unpack_visible(self.read("visible", *index), points)

    def camera(self, *index: Any) -> Camera:
        """Return the cameras of a shape ([V]), of a view of it (single), or of a list of both."""
        K, pose = self.read("K", *index), self.read("world_to_camera", *index)
        height, width = self.schema.image
        return Camera(K, pose, width, height)

    def home_of(self, name: str) -> "ViewStore":
        """Return the store that holds an array: this one, or that of features kept elsewhere."""
        return self.derived if is_derived(name) else self

    def require_files(self, names: Iterable[str], shards: Collection[int]) -> None:
        """Raise DamageError where a file of these arrays and shards is lost or unreadable.

        Raises StoreError where a shard lacks them because it has not been committed yet.
        """
        names, ordered = list(names), sorted(shards)
        elsewhere = [name for name in names if self.home_of(name) is not self]
        if elsewhere:
            self.derived.require_files(elsewhere, shards)
        wanted = {
            f"{name}/c/": [shard_key(self.specs[name], name, shard) for shard in ordered]
            for name in names
            if name not in elsewhere
        }
        absent = self.storage.absent(wanted)
        if not absent:
            return
        key = next(iter(absent))
        name, _, rest = key.partition("/c/")
        shard = int(rest.split("/")[0])
        if absent[key] == MISSING and shard not in self.committed(stage_of(name)):
            raise self._not_committed(name, shard)
        more = f", and {len(absent) - 1} more" if len(absent) > 1 else ""
        what = f"a file of shard {shard} is missing or unreadable ({absent[key]}){more}"
        raise DamageError(what, where=self.storage.where(key), fix=REPAIR)

    @property
    def members(self) -> "tuple[ViewStore, ...]":
        """This store: see `StoreReader`."""
        return (self,)

    def shares(self, shapes: NDArray[np.int64]) -> list[Share]:
        """Return all of these shapes as those of this store: see `StoreReader`."""
        return [Share(0, self, slice(None), np.asarray(shapes, np.int64))]

    def require_complete(self, share: tuple[int, int] = (0, 1)) -> None:
        """Raise DamageError unless every file of the committed shards and of their arrays exists.

        Cheap: it looks at the files and does not read them; on object storage it lists them. share:
        (i, n) = every n-th shard from the i-th on.
        """
        for stage in (RENDER, CORRESPONDENCES):
            names = arrays_of(self.schema, stage)
            mine = [shard for shard in self.committed(stage) if shard % share[1] == share[0]]
            if mine:
                self._require_metadata(names)
            self.require_files(names, mine)

    def _require_metadata(self, names: Iterable[str]) -> None:
        """Raise DamageError where the `zarr.json` of an array is lost or unreadable."""
        keys = [f"{name}/{ROOT}" for name in names]
        for key, problem in self.storage.absent({key: [key] for key in keys}).items():
            what = f"an array has lost its metadata ({problem})"
            raise DamageError(what, where=self.storage.where(key), fix=REPAIR)

    def unreadable(self, name: str, shards: Collection[int], error: Exception) -> StoreError:
        """Return the error for an array that could not be read: lost files, else damaged data."""
        home = self.home_of(name)
        try:
            home.require_files([name], shards)
        except StoreError as found:
            return found
        where = home.storage.where(name)
        if isinstance(error, MemoryError):
            return StoreError("not enough memory to read this array", where=where)
        return DamageError(f"damaged data: {error}", where=where, fix=REPAIR)

    def _not_committed(self, name: str, shard: int) -> StoreError:
        """Return the error for an array of a shard that its stage has not reached yet."""
        if is_derived(name):
            return StoreError(
                f"the features of shard {shard} have not been computed yet",
                where=self.storage.where(name),
                fix="they are computed by the next command that needs them",
            )
        matched = stage_of(name) == CORRESPONDENCES
        command = "build-correspondences" if matched else "render"
        return StoreError(
            f"shard {shard} has no {'correspondences' if matched else 'images'} yet",
            where=self.path,
            fix=f"run `pointcmt {command}` to finish the store",
        )
