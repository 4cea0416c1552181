"""`ViewStore`: the shapes of a store as Python objects, and as batches for torch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from pointcmt.cameras import Camera
from pointcmt.datasets.joint import JointStore
from pointcmt.datasets.store import view_store
from pointcmt.datasets.store.documents import Outcome, decode_outcome
from pointcmt.datasets.store.schema import RENDER, SPLITS
from pointcmt.datasets.store.view_store import StoreReader
from pointcmt.errors import StoreError, UsageError, nearest, printable
from pointcmt.extras import needs

if TYPE_CHECKING:
    from pointcmt.datasets.store.streaming import ViewDataset


def open_store(path: str | Path, *, features: str | Path | None = None) -> "ViewStore":
    """Open a view store: a folder, a zip file, s3://bucket/path or gs://bucket/path.

    features: where derived features are kept, if not in the store. Raises StoreError if there is no
    readable store.

    >>> pc.open_store("S")
    ViewStore('S', 40 shapes of 10 classes, 6 views of 32² pixels, 256 points)
    """
    return ViewStore.open(path, features=features)


def join_stores(*stores: "str | Path | ViewStore") -> "JoinedStores":
    """Join stores, to train on them as on one: classes and parts are matched by name.

    stores: locations or open stores, two or more, rendered with the same cameras, image size,
    number of points and look; their order matters. Raises StoreError for stores with different
    settings, naming these, UsageError for one that is given twice.

    >>> same = {"rig": "ortho6", "size": 32, "points": 256, "workers": 1}
    >>> _ = pc.render("toy", out="S2", limit=4, **same)
    >>> stores = pc.join_stores("S", "S2")
    >>> stores.class_names == pc.open_store("S").class_names
    True
    """
    return JoinedStores([s if isinstance(s, ViewStore) else open_store(s) for s in stores])


@dataclass(frozen=True, repr=False)
class StoredShape:
    """One shape of a store; each array is read on first access.

    Letters: V views, H = W pixels, N points. All arrays raise StoreError if the shape is not
    rendered, with the reason if it failed, and DamageError if data is lost or damaged.

    >>> shape = pc.open_store("S")["chair/0000"]
    >>> shape
    StoredShape('chair/0000', chair, train)
    >>> shape.rgb.shape, shape.visible.shape, len(shape.camera)
    ((6, 32, 32, 3), (6, 256), 6)
    """

    store: "ViewStore"
    index: int  # on axis 0

    @property
    def id(self) -> str:
        """Its name in the store, such as `chair/0001`."""
        return self.store.shapes[self.index].id

    @property
    def class_name(self) -> str | None:
        """None if the class is unknown."""
        return self.store.shapes[self.index].class_name

    @property
    def label(self) -> int:
        """Index into the store's `class_names`, -1 = unknown."""
        return int(self.store.labels[self.index])

    @property
    def split(self) -> str:
        """train, test or val."""
        return self.store.shapes[self.index].split

    @cached_property
    def rgb(self) -> NDArray[np.uint8]:
        """[V,H,W,3] u8, sRGB."""
        return self.read("rgb")

    @cached_property
    def depth(self) -> NDArray[np.float32]:
        """[V,H,W] f32 along the optical axis, world units, 0 = background."""
        return self.read("depth") * np.float32(self.store.schema.depth_scale)

    @cached_property
    def face_index(self) -> NDArray[np.int32]:
        """[V,H,W] i32, -1 = background."""
        return self.read("face_index")

    @cached_property
    def points(self) -> NDArray[np.float32]:
        """[N,3] f32 in the unit sphere, in farthest-point order."""
        return self.read("points")

    @cached_property
    def normals(self) -> NDArray[np.float32]:
        """[N,3] f32."""
        return self.read("normals")

    @cached_property
    def point_face(self) -> NDArray[np.int32]:
        """[N] i32: the face that each point lies on."""
        return self.read("point_face")

    @cached_property
    def visible(self) -> NDArray[np.bool_]:
        """[V,N]: which views see which points."""
        self._require_done()
        return self.store.visible(self.index)

    @cached_property
    def camera(self) -> Camera:
        """All V cameras."""
        return self.store.camera(self.index)

    @cached_property
    def source_to_world(self) -> NDArray[np.float64]:
        """[4,4] f64, from the source file's coordinates to the store's world."""
        return self.read("source_to_world")

    def read(self, name: str) -> NDArray[Any]:
        """Read any array of the store (`part`, `normal`, `albedo`, …) for this shape."""
        self._require_done()
        return self.store.read(name, self.index)

    def __repr__(self) -> str:
        class_name = None if self.class_name is None else printable(self.class_name)
        return f"StoredShape({self.id!r}, {class_name}, {self.split})"

    def _require_done(self) -> None:
        ended = self.store.outcome(self.index)
        if ended is not None and ended.status != "done":
            raise StoreError(
                f"{self.id} could not be rendered ({ended.reason}): {ended.detail}",
                where=self.store.path,
                fix="fix the file, then run `pointcmt render --retry-failed`",
            )


class Batched:
    """Batches for torch, of a store or of several."""

    def dataset(
        self: StoreReader,
        split: str | Sequence[int] = "train",
        *,
        arrays: Sequence[str] = ("rgb", "points"),
        batch_size: int = 32,
        views: int = 0,
        points: int = 0,
        seed: int = 0,
        shuffle: bool | None = None,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> "ViewDataset":
        """Return batches of a split's rendered shapes as a torch IterableDataset.

        split: train, test or val, or indices of shapes. arrays: those in a batch, in addition to
        `label`, `shape` and `view`; each is a tensor with the batch dimension first. views: random
        views per shape, 0 = all. points: the first n, 0 = all. shuffle: by the seed and the epoch;
        default: only the train split. rank, world_size: this process's share of each batch.

        Raises UsageError for what the store does not have, StoreError if no shape is rendered.

        >>> data = pc.open_store("S").dataset("train", batch_size=8, views=4)
        >>> batch = next(iter(data))
        >>> tuple(batch["rgb"].shape), tuple(batch["points"].shape), tuple(batch["label"].shape)
        ((8, 4, 32, 32, 3), (8, 256, 3), (8,))
        """
        with needs("train", "a dataset of batches"):
            from pointcmt.datasets.store.streaming import StreamConfig, ViewDataset, done_shapes
        if isinstance(split, str):
            _require("split", split, SPLITS)
            shapes = done_shapes(self, split)
        else:
            shapes = np.asarray(split, np.int64)
        if batch_size < 1:
            raise UsageError(
                f"batch_size must be at least 1, not {batch_size}", where="batch_size="
            )
        config = StreamConfig(
            arrays=tuple(arrays),
            batch_size=batch_size,
            views=views,
            points=points,
            seed=seed,
            shuffle=split == "train" if shuffle is None else shuffle,
            drop_last=drop_last,
            rank=rank,
            world_size=world_size,
        )
        try:
            return ViewDataset(self, shapes, config)
        except UsageError as error:  # it names settings of `pointcmt train`
            own = error.where.startswith("data.")
            where = f"{error.where.removeprefix('data.')}=" if own else error.where
            fix = error.fix.replace("--set data.", "").replace("data.", "")
            raise UsageError(error.what, where=where, fix=fix) from None


class ViewStore(Batched, view_store.ViewStore):
    """A view store, open for reading; `open_store` opens it.

    `store[7]`, `store[-1]` and `store["chair/0001"]` are shapes, `store[10:20]` is a list of them,
    and iterating yields all of them, without reading any array. `class_names` is in label order. A
    store can be used after a fork, and pickled: each process opens it itself.

    >>> store = pc.open_store("S")
    >>> len(store), store[0], [shape.id for shape in store[:2]]
    (40, StoredShape('chair/0000', chair, train), ['chair/0000', 'chair/0001'])
    >>> [shape.id for shape in store.select(split="test", class_name="chair")]
    ['chair/0200', 'chair/0201']
    """

    def __len__(self) -> int:
        return self.schema.shapes

    @overload
    def __getitem__(self, key: int | str) -> StoredShape: ...
    @overload
    def __getitem__(self, key: slice) -> list[StoredShape]: ...
    def __getitem__(self, key: int | str | slice) -> StoredShape | list[StoredShape]:
        if isinstance(key, slice):
            return [StoredShape(self, index) for index in range(len(self))[key]]
        if isinstance(key, str):
            if key not in self._index_of:
                raise UsageError(
                    f"unknown shape '{key}'",
                    where=self.path,
                    fix=nearest(key, list(self._index_of)).split(" known:")[0],
                )
            return StoredShape(self, self._index_of[key])
        index = int(key)
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is out of range for a store of {len(self)} shapes")
        return StoredShape(self, index % len(self))

    def __iter__(self) -> Iterator[StoredShape]:
        return (StoredShape(self, index) for index in range(len(self)))

    def __contains__(self, shape_id: object) -> bool:
        return shape_id in self._index_of

    def __repr__(self) -> str:
        s = self.schema
        return (
            f"ViewStore({self.path!r}, {s.shapes} shapes of {len(self.class_names)} classes, "
            f"{s.views} views of {s.size}² pixels, {s.points} points)"
        )

    def select(
        self, *, split: str | None = None, class_name: str | None = None
    ) -> list[StoredShape]:
        """Return the shapes of a split, of a class, or of both, in the store's order.

        Raises UsageError for an unknown split or class.
        """
        chosen = np.ones(len(self), bool)
        if split is not None:
            _require("split", split, SPLITS)
            chosen &= self.splits == SPLITS.index(split)
        if class_name is not None:
            _require("class", class_name, self.class_names)
            chosen &= self.labels == self.class_names.index(class_name)
        return [StoredShape(self, int(index)) for index in np.flatnonzero(chosen)]

    def outcome(self, index: int) -> Outcome | None:
        """Return the outcome of a shape's rendering, None if it has not been rendered yet."""
        shard = index // self.schema.shard
        if shard not in self._outcomes:
            found = self.markers(RENDER, [shard]) if shard in self._rendered else {}
            tables = found[shard]["outcomes"] if found else []
            self._outcomes[shard] = [decode_outcome(table) for table in tables]
        ended = self._outcomes[shard]
        return ended[index % self.schema.shard] if ended else None

    @cached_property
    def _outcomes(self) -> dict[int, list[Outcome]]:
        return {}

    @cached_property
    def _rendered(self) -> set[int]:
        return set(self.committed(RENDER))

    @cached_property
    def _index_of(self) -> dict[str, int]:
        return {shape.id: index for index, shape in enumerate(self.shapes)}


class JoinedStores(Batched, JointStore):
    """Several stores as one, for training; `join_stores` makes it.

    `class_names` is in label order. Shapes are numbered store by store.

    >>> same = {"rig": "ortho6", "size": 32, "points": 256, "workers": 1}
    >>> _ = pc.render("toy", out="S2", limit=4, **same)
    >>> stores = pc.join_stores("S", "S2")
    >>> stores
    JoinedStores('S, S2', 44 shapes of 10 classes)
    >>> batch = next(iter(stores.dataset("train", arrays=("points",), batch_size=8)))
    >>> tuple(batch["points"].shape)
    (8, 256, 3)
    """

    def __len__(self) -> int:
        return self.schema.shapes

    def __repr__(self) -> str:
        count = len(self.class_names)
        return f"JoinedStores({self.path!r}, {len(self)} shapes of {count} classes)"


def _require(kind: str, name: str, known: Sequence[str]) -> None:
    if name not in known:
        where = "split=" if kind == "split" else "class_name="
        raise UsageError(f"unknown {kind} '{name}'", where=where, fix=nearest(name, known))
