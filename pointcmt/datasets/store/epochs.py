"""What all streams of batches share: epochs, reading ahead, and a position to resume from."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from pointcmt.datasets.store.schema import CORRESPONDENCES, RENDER
from pointcmt.datasets.store.view_store import StoreReader, ViewStore
from pointcmt.errors import StoreError, UsageError

Batch = dict[str, torch.Tensor]
STATE_VERSION = 1


class Batching(Protocol):
    """How the samples of an epoch become batches: the settings that all streams have."""

    @property
    def batch_size(self) -> int: ...
    @property
    def drop_last(self) -> bool: ...
    @property
    def rank(self) -> int: ...
    @property
    def world_size(self) -> int: ...


class EpochStream(ABC):
    """A stream of batches: each iteration is one epoch. Its state can resume in mid-epoch.

    shapes: [n] indices of axis 0, those that it reads. epoch, position: what the next iteration
    yields first; the position counts batches of the epoch. prefetch: batches that are read in
    advance. notes: for the user, about shapes that cannot be read.
    """

    shapes: NDArray[np.int64]
    notes: tuple[str, ...] = ()

    def __init__(self, store: StoreReader, prefetch: int) -> None:
        self.store = store
        self.epoch, self.position = 0, 0
        self._prefetch = prefetch

    @abstractmethod
    def __len__(self) -> int:
        """Batches per epoch, the same on every rank."""

    @abstractmethod
    def _order(self, epoch: int) -> NDArray[np.int64]:
        """Return the samples of an epoch in training order."""

    @abstractmethod
    def _begin(self, order: NDArray[np.int64], epoch: int, step: int) -> Any:
        """Start reading this rank's share of a global batch."""

    @abstractmethod
    def _finish(self, begun: Any) -> Batch:
        """Wait for what `_begin` has started; return the batch."""

    def _abandon(self, begun: Any) -> None:  # noqa: B027
        """Cancel what `_begin` has started, if that is possible: nobody waits for it."""

    @abstractmethod
    def _fingerprint(self) -> str:
        """Return a digest of everything that decides the batches of all ranks together."""

    def __iter__(self) -> Iterator[Batch]:
        epoch = self.epoch
        for step, batch in self.batches(epoch, range(self.position, len(self))):
            self.epoch, self.position = epoch, step + 1
            yield batch
        self.epoch, self.position = epoch + 1, 0

    def batches(self, epoch: int, steps: Iterable[int]) -> Iterator[tuple[int, Batch]]:
        """Yield some steps of an epoch with their batches, without moving the stream's position."""
        order, todo = self._order(epoch), iter(steps)
        waiting = deque(
            (step, self._begin(order, epoch, step)) for step in _take(todo, self._prefetch)
        )
        try:
            while waiting:
                step, begun = waiting.popleft()
                for later in _take(todo, 1):
                    waiting.append((later, self._begin(order, epoch, later)))
                yield step, self._finish(begun)
        finally:
            for _, begun in waiting:
                self._abandon(begun)

    def state_dict(self) -> dict[str, Any]:
        """Return the stream's position; resuming from it does not repeat yielded batches."""
        return {
            "version": STATE_VERSION,
            "epoch": self.epoch,
            "position": self.position,
            "data": self._fingerprint(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from another stream's position. Raises UsageError if it read other data."""
        if state["version"] != STATE_VERSION or state["data"] != self._fingerprint():
            raise UsageError(
                "this run was started with other data, another batch size or another seed",
                where=self.store.path,
                fix="resume with the same --data and settings, or start a new --out",
            )
        self.epoch, self.position = int(state["epoch"]), int(state["position"])


def count_batches(samples: int, config: Batching) -> int:
    """Return how many batches an epoch of samples makes."""
    full, rest = divmod(samples, config.batch_size)
    return full + (rest > 0 and not config.drop_last)


def require_batches(samples: int, config: Batching, unit: str, whole: str) -> None:
    """Raise UsageError unless each process gets a share of each batch, and there is a batch.

    unit: what the samples are. whole: what they all are together, for the message.
    """
    if not 0 <= config.rank < config.world_size <= config.batch_size:
        raise UsageError(
            f"invalid rank {config.rank} for {config.world_size} processes with "
            f"{config.batch_size} {unit}s per batch",
            where="data.batch_size",
            fix=f"use a rank from 0 to the number of processes - 1, and at least one {unit} per "
            "process",
        )
    if not count_batches(samples, config):
        raise UsageError(
            f"a batch of {config.batch_size} is larger than the {whole} of {samples} {unit}s",
            where="data.batch_size",
            fix="use a smaller data.batch_size",
        )


def require_correspondences(store: ViewStore) -> None:
    """Raise StoreError unless the points of all rendered shapes are matched with the views."""
    missing = set(store.committed(RENDER)) - set(store.committed(CORRESPONDENCES))
    if missing:
        raise StoreError(
            f"{len(missing)} shards of this store have no correspondences",
            where=store.path,
            fix="run `pointcmt build-correspondences`",
        )


def _take(steps: Iterator[int], count: int) -> Iterator[int]:
    for _, step in zip(range(count), steps, strict=False):
        yield step
