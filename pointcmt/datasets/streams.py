"""Open the stream that a configuration asks for, whether it reads shapes or scenes."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pointcmt.datasets.store.epochs import Batch, EpochStream
from pointcmt.datasets.store.scene_streams.boxes import BoxConfig, BoxStream
from pointcmt.datasets.store.scene_streams.crops import CropConfig, CropStream
from pointcmt.datasets.store.scene_streams.pairs import PairConfig, PairStream
from pointcmt.datasets.store.streaming import StreamConfig, ViewStream, require_readable
from pointcmt.datasets.store.view_store import StoreReader

AnyConfig = StreamConfig | CropConfig | PairConfig | BoxConfig


def open_stream(store: StoreReader, shapes: NDArray[np.int64], config: AnyConfig) -> EpochStream:
    """Open the stream of these shapes [n] that belongs to the kind of configuration.

    Raises what their constructors raise.
    """
    if isinstance(config, CropConfig):
        return CropStream(store, shapes, config)
    if isinstance(config, PairConfig):
        return PairStream(store, shapes, config)
    if isinstance(config, BoxConfig):
        return BoxStream(store, shapes, config)
    return ViewStream(store, shapes, config)


def require_streamable(store: StoreReader, shapes: NDArray[np.int64], config: AnyConfig) -> None:
    """Raise what `open_stream` raises; of shapes, no array is opened."""
    if isinstance(config, StreamConfig):
        require_readable(store, shapes, config)
    else:
        open_stream(store, shapes, config)


def evaluation_config(
    training: AnyConfig, batch_size: int, all_views: bool = True, also: tuple[str, ...] = ()
) -> AnyConfig:
    """Return how to read what training reads for evaluation: every shape once, in order.

    Scenes are read whole instead of as crops, at full resolution and with all labels; pairs of
    frames are those of the first epoch, and random points of scenes with boxes the same ones for
    every seed. all_views: otherwise as many views of a shape as in training, the same ones each
    time. also: more arrays to read, of views or points.
    """
    if isinstance(training, CropConfig):
        whole = replace(training, crop=0, samples=1, labeled_points=0)
        return replace(whole, batch_size=batch_size, shuffle=False, drop_last=False)
    if isinstance(training, BoxConfig):
        same = replace(training, samples=1, seed=0)
        return replace(same, batch_size=batch_size, shuffle=False, drop_last=False)
    arrays = tuple(dict.fromkeys((*training.arrays, *also)))
    if isinstance(training, PairConfig):
        return replace(
            training, arrays=arrays, batch_size=batch_size, shuffle=False, drop_last=False
        )
    return replace(
        training,
        arrays=arrays,
        batch_size=batch_size,
        shuffle=False,
        balance=False,
        drop_last=False,
        views=0 if all_views else training.views,
    )


def read_batch(
    store: StoreReader,
    shapes: NDArray[np.int64],
    training: AnyConfig,
    all_views: bool = True,
    also: tuple[str, ...] = (),
) -> Batch:
    """Return one batch of these shapes, read as for evaluation; of scenes, one pair of each.

    all_views, also: see `evaluation_config`.
    """
    config = evaluation_config(training, len(shapes), all_views, also)
    if isinstance(config, PairConfig):
        config = replace(config, samples=1)
    (batch,) = open_stream(store, shapes, config)
    return batch
