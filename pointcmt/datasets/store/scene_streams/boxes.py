"""Random points of whole scenes with their boxes, for 3D object detection."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pointcmt.datasets.store.epochs import require_batches
from pointcmt.datasets.store.scene_streams.crops import CHANNELS, labels_as_i64
from pointcmt.datasets.store.scene_streams.stream import (
    Arrays,
    Sample,
    SceneStream,
    SceneStreamConfig,
    require_positive,
)
from pointcmt.datasets.store.view_store import StoreReader
from pointcmt.errors import UsageError, nearest

OF_POINTS = {**CHANNELS, "instance": "instance"}  # channels and their arrays
OF_BOXES = {"box": "boxes", "box_label": "box_label", "box_instance": "box_instance"}
FILL = {"box": 0.0, "box_label": -1, "box_instance": -1}  # of boxes that a scene does not have


@dataclass(frozen=True, kw_only=True)
class BoxConfig(SceneStreamConfig):
    """The contents and the order of batches of scenes with boxes.

    channels: of OF_POINTS. points: N, drawn at random from a scene's points, and some of them twice
    if there are fewer. Without `shuffle` the same ones are drawn in each epoch. boxes: whether
    boxes are read, too; prediction needs none.
    """

    channels: tuple[str, ...] = ("instance",)
    points: int = 40_000
    boxes: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, ("points",))
        for name in self.channels:
            if name not in OF_POINTS:
                raise UsageError(
                    f"unknown channel '{name}'", where="data.channels", fix=nearest(name, OF_POINTS)
                )


class BoxStream(SceneStream):
    """A stream of scenes with N random points each, and with boxes.

    A batch has "points" [B,N,3] f32 meters, as stored; "color" [B,N,3] u8, "normal" [B,N,3] f32,
    "semantic" and "instance" [B,N] i64 (-1 = none), as `config.channels` says; "box" [B,K,7] f32,
    see docs/conventions.md, "box_label" and "box_instance" [B,K] i64; and "shape" [B] i64. K is the
    most boxes of a scene in the batch, at least 1; rows without a box have the label -1. Boxes
    without a class are left out, and all of them without `config.boxes`.
    """

    config: BoxConfig

    def __init__(
        self, store: StoreReader, shapes: NDArray[np.int64], config: BoxConfig, threads: int = 2
    ) -> None:
        channels = (OF_POINTS[channel] for channel in config.channels)
        names = ("points", *channels, *(OF_BOXES.values() if config.boxes else ()))
        super().__init__(store, shapes, config, names, threads)
        samples = len(self.shapes) * config.samples
        require_batches(samples, config, unit="scene", whole="epoch")

    def _load(self, sample: Sample) -> Arrays:
        """Read a scene: arrays [1,N,...] and, of boxes, [1,K,...]."""
        scene, config = self.scenes[sample.shape], self.config
        names = {"points": "points"} | {name: OF_POINTS[name] for name in config.channels}
        reads = {name: scene.start_points(array) for name, array in names.items()}
        boxed = OF_BOXES.items() if config.boxes else ()
        boxes = {name: scene.start(array) for name, array in boxed}
        seed = (config.seed, sample.epoch, sample.shape, sample.slot)
        chosen = draw_points(scene.points, config.points, seed)
        arrays = {name: np.take(read.result(), chosen, axis=0) for name, read in reads.items()}
        rows = {name: read.result() for name, read in boxes.items()}
        if rows:
            known = rows["box_label"] >= 0  # others are padding, or without a class
            arrays |= {name: row[known] for name, row in rows.items()}
        arrays["shape"] = np.array(sample.shape)
        return {name: labels_as_i64(array)[None] for name, array in arrays.items()}

    def _join(self, loaded: Sequence[Arrays]) -> Arrays:
        """Return the batch; boxes are padded to the most of a scene."""
        boxed = FILL if self.config.boxes else {}
        most = max([1, *(each["box"].shape[1] for each in loaded if boxed)])
        for each in loaded:
            for name, fill in boxed.items():
                rows = each[name]
                missing = most - rows.shape[1]
                width = [(0, 0), (0, missing), *[(0, 0)] * (rows.ndim - 2)]
                each[name] = np.pad(rows, width, constant_values=fill)
        return super()._join(loaded)


def draw_points(count: int, wanted: int, seed: Sequence[int]) -> NDArray[np.int64]:
    """Draw some of `count` points, [wanted], each at most once unless there are fewer."""
    return np.random.default_rng(seed).choice(count, wanted, replace=count < wanted)
