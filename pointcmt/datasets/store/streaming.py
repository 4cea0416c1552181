"""Read training batches directly from a view store, without worker processes.

The arrays of a batch are read by tensorstore, whose threads decode the next batches while the
training step runs. (A DataLoader's workers would spend more time transferring batches
than reading them.) The order is one seeded permutation of all shapes per epoch, cut into global
batches and those into ranks: the training data does not depend on the number of processes.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import tensorstore as ts
import torch
from numpy.typing import NDArray
from torch.utils.data import IterableDataset, get_worker_info

from pointcmt.datasets.store import forks
from pointcmt.datasets.store.epochs import Batch as Batch
from pointcmt.datasets.store.epochs import (
    EpochStream,
    count_batches,
    require_batches,
    require_correspondences,
)
from pointcmt.datasets.store.locations import storage_errors
from pointcmt.datasets.store.schema import DONE, SPLITS, unpack_visible
from pointcmt.datasets.store.view_store import Share, StoreReader, joined
from pointcmt.errors import StoreError, UsageError, nearest
from pointcmt.input_frame import AS_STORED, InputFrame, place, place_normals

Arrays = dict[str, "ts.TensorStore"]
Reads = list[tuple[Share, dict[str, "ts.Future[Any]"]]]  # in progress, by array


@dataclass(frozen=True)
class StreamConfig:
    """The contents and the order of batches.

    arrays: names of the store's arrays, including those of open features. batch_size: shapes per
    step over all ranks. views: random views per shape and epoch, 0 = all in the rig's order.
    points: the first n, 0 = all. frame: the frame to turn the points and normals into. shuffle:
    a new permutation, and other views, each epoch. drop_last: skip the incomplete last batch.
    balance: draw the same number of each class in an epoch, see `balanced_order`; only with
    shuffle.
    """

    arrays: tuple[str, ...] = ("rgb", "points")
    batch_size: int = 32
    views: int = 0
    points: int = 1024
    frame: InputFrame = AS_STORED
    seed: int = 0
    shuffle: bool = True
    drop_last: bool = True
    balance: bool = False
    rank: int = 0
    world_size: int = 1  # processes that share each batch
    prefetch: int = 2  # batches read in advance

    @property
    def reads(self) -> tuple[str, ...]:
        """The arrays to read: those of a batch, and what placing its points needs."""
        places = "points" in self.arrays and self.frame.needs_source
        return tuple(dict.fromkeys((*self.arrays, *(("source_to_world",) * places))))


def done_shapes(store: StoreReader, split: str) -> NDArray[np.int64]:
    """Return indices of a split's rendered shapes. Raises StoreError if there are none."""
    shapes = np.flatnonzero((store.status() == DONE) & (store.splits == SPLITS.index(split)))
    if not len(shapes):
        planned = bool(np.any(store.splits == SPLITS.index(split)))
        raise StoreError(
            f"this store has no rendered shape in its {split} split",
            where=store.path,
            fix="run `pointcmt info` to see its splits, or render this one"
            if planned or split != "test"
            else "render the shapes into a new store with --holdout 0.2, which sets that share of "
            "each class aside for the test; or evaluate with --split val, on the shapes that "
            "select the best epoch",
        )
    return shapes


class ViewStream(EpochStream):
    """A stream of batches of shapes, see `EpochStream`.

    shapes: [n] indices of axis 0, rendered ones. A batch maps each array's name to a tensor with
    the batch dimension first ([B,v,...] for per-view arrays), plus "label" [B] i64, "shape" [B] i64
    and "view" [B,v] i64. Images stay u8 in HWC, to be converted on the model's device.

    Raises UsageError for an unknown array or a batch larger than the split, and DamageError if a
    file of these shapes is lost, on construction and not only when its batch is read.
    """

    def __init__(
        self, store: StoreReader, shapes: NDArray[np.int64], config: StreamConfig, threads: int = 2
    ) -> None:
        super().__init__(store, config.prefetch)
        self.config = config
        self.shapes = np.asarray(shapes, np.int64)
        self.views = config.views or store.schema.views
        require_readable(store, self.shapes, config)
        self._threads = threads
        self._arrays = self._open()
        forks.reopen_in_children(self)

    def _open(self) -> list[Arrays]:
        """Open the arrays of each store."""
        return [
            {
                name: member.home_of(name).storage.open_array(name, self._threads)
                for name in self.config.reads
            }
            for member in self.store.members
        ]

    def reopen(self) -> None:
        """Reopen the arrays in a process forked from the one that opened them."""
        forks.keep(self._arrays)
        self._arrays = self._open()

    def __len__(self) -> int:
        """Batches per epoch, the same on every rank."""
        return count_batches(len(self.shapes), self.config)

    def _order(self, epoch: int) -> NDArray[np.int64]:
        """Return the shapes of an epoch in training order."""
        if not self.config.shuffle:
            return self.shapes
        rng = np.random.default_rng([self.config.seed, epoch])
        if self.config.balance:
            return balanced_order(self.shapes, self.store.labels[self.shapes], rng)
        return rng.permutation(self.shapes)

    def _begin(
        self, order: NDArray[np.int64], epoch: int, step: int
    ) -> tuple[tuple[NDArray[np.int64], NDArray[np.int64]], Reads]:
        """Start reading this rank's share of a global batch."""
        size = self.config.batch_size
        shapes = order[step * size : (step + 1) * size]
        views = self._views(len(shapes), epoch, step)
        share = np.array_split(np.arange(len(shapes)), self.config.world_size)[self.config.rank]
        picked = shapes[share], views[share]
        return picked, [self._read(each, picked[1]) for each in self.store.shares(picked[0])]

    def _views(self, count: int, epoch: int, step: int) -> NDArray[np.int64]:
        """Return views [count,v] of a global batch, drawn before it is cut into ranks."""
        every = self.store.schema.views
        if self.views == every and not self.config.views:
            return np.tile(np.arange(every), (count, 1))
        drawn = epoch if self.config.shuffle else 0
        rng = np.random.default_rng([self.config.seed, drawn, step])
        return rng.random((count, every)).argsort(axis=1)[:, : self.views]

    def _read(self, share: Share, views: NDArray[np.int64]) -> tuple[Share, dict[str, Any]]:
        """Start reading the rows of a batch that one store holds. views: of the whole batch."""
        shapes, views = share.shapes, views[share.rows]
        arrays: dict[str, Any] = self._arrays[share.number]
        reads: dict[str, Any] = {}
        for name, array in arrays.items():
            axes = share.store.specs[name].axes
            if "view" in axes:
                pairs = np.repeat(shapes, views.shape[1]), views.ravel()
                by_view = share.store.specs[name].chunk == "view"
                if by_view and len(pairs[0]) and not isinstance(array, forks.Array):
                    reads[name] = ViewReads(array, pairs)
                    continue
                part = array[pairs]
            elif "point" in axes and self.config.points:
                part = array[shapes, : self.config.points]
            else:
                part = array[shapes]
            reads[name] = part.read()
        return share, reads

    def _finish(self, begun: tuple[tuple[NDArray[np.int64], NDArray[np.int64]], Reads]) -> Batch:
        (shapes, views), reads = begun
        batch = {}
        found: dict[str, NDArray[Any]] = {}
        for name in self.config.reads:
            parts = [self._decode(share, name, futures[name]) for share, futures in reads]
            found[name] = joined(parts, [share for share, _ in reads])
        if "points" in found:
            found["points"] = place(
                found["points"], self.config.frame, found.get("source_to_world")
            )
        if "normals" in found:
            found["normals"] = place_normals(found["normals"], self.config.frame)
        for name in self.config.arrays:
            batch[name] = torch.from_numpy(np.ascontiguousarray(found[name]))
        batch["label"] = torch.from_numpy(self.store.labels[shapes])
        batch["shape"], batch["view"] = torch.from_numpy(shapes), torch.from_numpy(views)
        return batch

    def _decode(
        self, share: Share, name: str, future: "ts.Future[Any] | ViewReads"
    ) -> NDArray[Any]:
        """Wait for an array's rows; return them as a batch holds them."""
        data = self._wait(share, name, future)
        if "view" in share.store.specs[name].axes:
            data = data.reshape(len(share.shapes), self.views, *data.shape[1:])
        if name == "visible":
            data = unpack_visible(data, self.config.points or self.store.schema.points)
        if data.dtype == np.uint16:  # torch has little support for uint16
            data = data.astype(np.float32) * np.float32(self.store.schema.depth_scale)
        return share.relabeled(name, data)

    def _wait(self, share: Share, name: str, future: "ts.Future[Any] | ViewReads") -> NDArray[Any]:
        try:
            with storage_errors(share.store.home_of(name).storage.where(name)):
                return np.asarray(future.result())
        except (ValueError, MemoryError) as error:
            raise share.store.unreadable(name, share.shards, error) from error

    def _fingerprint(self) -> str:
        c = self.config
        facts: tuple[Any, ...] = (c.batch_size, c.views, c.points, c.seed, c.shuffle, c.drop_last)
        facts += ("balance",) if c.balance else ()
        facts += (c.frame,) if c.frame != AS_STORED else ()
        digest = hashlib.sha256(repr((facts, self.store.attributes["plan_sha256"])).encode())
        digest.update(self.shapes.tobytes())
        return digest.hexdigest()


class ViewReads:
    """Reads of single views, to be waited for as one.

    One read with index arrays takes more CPU time, since tensorstore then copies value by value
    (benchmarks/codecs.py). What the reads have in common, such as a shard's index, is still read
    once, since they belong to one batch of tensorstore's.
    """

    def __init__(self, array: Any, pairs: tuple[NDArray[np.int64], NDArray[np.int64]]) -> None:
        with ts.Batch() as batch:
            self._futures = [array[pair].read(batch=batch) for pair in zip(*pairs, strict=True)]

    def result(self) -> NDArray[Any]:
        """Return the views [n,...]; only once, as each is dropped when it is copied."""
        last = self._futures[-1].result()
        rows = np.empty((len(self._futures), *last.shape), last.dtype)
        for number in reversed(range(len(rows))):
            rows[number] = self._futures.pop().result()
        return rows


def balanced_order(
    shapes: NDArray[np.int64], labels: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw as many shapes as there are, [n], the same number of each class, in random order.

    Counts of classes differ by at most one, and within a class so do those of its shapes: a shape
    comes again only when all of its class have come.
    """
    classes = np.unique(labels)
    each, more = divmod(len(shapes), len(classes))
    quota = dict.fromkeys(classes.tolist(), each)
    for label in rng.permutation(classes)[:more].tolist():
        quota[label] += 1
    drawn = []
    for label, count in quota.items():
        members = shapes[labels == label]
        rounds = [rng.permutation(members) for _ in range(-(-count // len(members)))]
        drawn.append(np.concatenate([members[:0], *rounds])[:count])
    return rng.permutation(np.concatenate(drawn))


def require_readable(store: StoreReader, shapes: NDArray[np.int64], config: StreamConfig) -> None:
    """Check that these shapes can be streamed, without opening a stream.

    Raises UsageError for an unknown array or a batch larger than the split, and DamageError if a
    file of these shapes is lost.
    """
    schema = store.schema
    for member in store.members:
        for name in config.arrays:
            if name not in member.specs:
                where = member.path if len(store.members) > 1 else ""
                fix = nearest(name, member.specs)
                raise UsageError(f"unknown array '{name}'", where=where, fix=fix)
        if "visible" in config.arrays:
            require_correspondences(member)
    if not 0 <= config.views <= schema.views:
        raise UsageError(
            f"{config.views} views per shape, but the store has {schema.views}",
            where="data.views",
            fix=f"use --set data.views={schema.views} or fewer, or render with a larger --rig",
        )
    if not 0 <= config.points <= schema.points:
        raise UsageError(
            f"{config.points} points per shape, but the store has {schema.points}",
            where="data.points",
            fix=f"use --set data.points={schema.points} or fewer, or render with more --points",
        )
    require_batches(len(shapes), config, unit="shape", whole="split")
    for share in store.shares(shapes):
        share.store.require_files(config.reads, share.shards)


class ViewDataset(IterableDataset[Batch]):
    """Batches of a store's shapes for torch: `pointcmt.ViewStore.dataset` makes it.

    Iterate over it, or pass it to a DataLoader with `batch_size=None`, since it makes batches
    itself. The batches and their order do not depend on the number of workers or on how they are
    started, only on the seed and the epoch. As with torch's samplers, call `set_epoch` before each
    epoch. Batches are those of `ViewStream`.

    >>> data = pc.open_store("S").dataset("train", arrays=("points",), batch_size=8)
    >>> for epoch in range(2):
    ...     data.set_epoch(epoch)
    ...     print(sum(len(batch["label"]) for batch in data))
    20
    20
    """

    def __init__(
        self, store: StoreReader, shapes: NDArray[np.int64], config: StreamConfig, threads: int = 2
    ) -> None:
        self._made = store.__reduce__(), shapes, config, threads
        self._stream = ViewStream(store, shapes, config, threads)
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # persistent workers too

    def __len__(self) -> int:
        """Batches per epoch, the same on every rank."""
        return len(self._stream)

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        first, count = (0, 1) if worker is None else (worker.id, worker.num_workers)
        steps = range(first, len(self), count)  # a DataLoader polls its workers in turn
        for _, batch in self._stream.batches(int(self._epoch), steps):
            yield batch

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, and so the order and random views of the next pass, in all workers."""
        self._epoch.fill_(epoch)

    def __getstate__(self) -> dict[str, Any]:
        return {"made": self._made, "epoch": self._epoch}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._made, self._epoch = state["made"], state["epoch"]

    @cached_property
    def _stream(self) -> ViewStream:
        """The stream, opened on first use in another process.

        A DataLoader passes on what its worker raises then, but not what unpickling raises.
        """
        (open_store, place), shapes, config, threads = self._made
        return ViewStream(open_store(*place), shapes, config, threads)
