"""The base of streams of scenes: one seeded order of samples, read by a pool of threads."""

import hashlib
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pointcmt.datasets.store import forks
from pointcmt.datasets.store.epochs import Batch, EpochStream, count_batches
from pointcmt.datasets.store.scene_streams.scenes import find_scenes, require_scenes
from pointcmt.datasets.store.view_store import StoreReader
from pointcmt.errors import UsageError

Arrays = dict[str, NDArray[Any]]
RUNTIME = ("rank", "world_size", "prefetch")  # settings that do not decide what is read


@dataclass(frozen=True, kw_only=True)
class SceneStreamConfig:
    """The order of batches of scenes.

    batch_size: samples per step over all ranks. samples: of each scene and epoch. shuffle: a new
    order and new samples each epoch. drop_last: skip the incomplete last batch.
    """

    batch_size: int = 32
    samples: int = 1
    seed: int = 0
    shuffle: bool = True
    drop_last: bool = True
    rank: int = 0
    world_size: int = 1  # processes that share each batch
    prefetch: int = 2  # batches read in advance

    def __post_init__(self) -> None:
        require_positive(self, ("batch_size", "samples"))


@dataclass(frozen=True)
class Sample:
    """One sample of an epoch. slot: its number among those of the scene in this epoch."""

    shape: int
    slot: int
    epoch: int


class SceneStream(EpochStream):
    """A stream of batches of samples of scenes, see `EpochStream`.

    shapes: [n] indices of axis 0, rendered scenes. The batches depend on the store, the scenes and
    the seed, not on the number of processes or threads. names: the arrays that it reads.

    Raises what `require_scenes` raises, on construction.
    """

    def __init__(
        self,
        store: StoreReader,
        shapes: NDArray[np.int64],
        config: SceneStreamConfig,
        names: Iterable[str],
        threads: int,
    ) -> None:
        super().__init__(store, config.prefetch)
        self.config: SceneStreamConfig = config
        self.shapes = np.asarray(shapes, np.int64)
        require_scenes(store, names, self.shapes)
        self.scenes = find_scenes(store, self.shapes)
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, "scenes")
        forks.reopen_in_children(self)

    @abstractmethod
    def _load(self, sample: Sample) -> Arrays:
        """Read a sample, in any thread. All arrays have a leading axis, to be concatenated."""

    def reopen(self) -> None:
        """Start new threads in a forked process, which has none of those of its parent."""
        self._pool = ThreadPoolExecutor(self._threads, "scenes")

    def __len__(self) -> int:
        """Batches per epoch, the same on every rank."""
        return count_batches(len(self.shapes) * self.config.samples, self.config)

    def _order(self, epoch: int) -> NDArray[np.int64]:
        """Return the numbers of an epoch's samples: scene · samples per scene + slot."""
        samples = np.arange(len(self.shapes) * self.config.samples)
        if not self.config.shuffle:
            return samples
        return np.random.default_rng([self.config.seed, epoch]).permutation(samples)

    def _begin(
        self, order: NDArray[np.int64], epoch: int, step: int
    ) -> tuple[int, list[Future[Arrays]]]:
        """Start reading this rank's share of a global batch, of `count` samples.

        An empty share, of an incomplete batch, is made from a sample of another rank.
        """
        c = self.config
        batch = order[step * c.batch_size : (step + 1) * c.batch_size]
        mine = np.array_split(batch, c.world_size)[c.rank]
        drawn = epoch if c.shuffle else 0
        chosen = mine if len(mine) else batch[:1]
        pairs = (divmod(number, c.samples) for number in chosen.tolist())
        samples = [Sample(int(self.shapes[scene]), slot, drawn) for scene, slot in pairs]
        return len(mine), [self._pool.submit(self._load, sample) for sample in samples]

    def _finish(self, begun: tuple[int, list[Future[Arrays]]]) -> Batch:
        count, futures = begun
        loaded = [future.result() for future in futures]
        if not count:
            loaded = [{name: array[:0] for name, array in loaded[0].items()}]
        return {name: torch.from_numpy(array) for name, array in self._join(loaded).items()}

    def _abandon(self, begun: tuple[int, list[Future[Arrays]]]) -> None:
        for future in begun[1]:
            future.cancel()

    def _join(self, loaded: Sequence[Arrays]) -> Arrays:
        """Return the arrays of a batch from those of its samples."""
        return {name: np.concatenate([each[name] for each in loaded]) for name in loaded[0]}

    def _fingerprint(self) -> str:
        settings = {k: v for k, v in asdict(self.config).items() if k not in RUNTIME}
        facts = type(self).__name__, settings, self.store.attributes["plan_sha256"]
        digest = hashlib.sha256(repr(facts).encode())
        digest.update(self.shapes.tobytes())
        return digest.hexdigest()


def center_in_plan(points: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Move points [n,3] to their mean in x and y; z stays the height over the floor.

    Return the moved points, and the point [3] that is the origin now.
    """
    exact = points.astype(np.float64)
    origin = np.array([*exact[:, :2].mean(axis=0), 0.0])
    return (exact - origin).astype(np.float32), origin


def require_positive(config: SceneStreamConfig, names: Iterable[str]) -> None:
    """Raise UsageError for settings that are not positive numbers."""
    for name in names:
        if not getattr(config, name) > 0:
            raise UsageError(
                f"{name} must be positive, not {getattr(config, name)}", where=f"data.{name}"
            )
