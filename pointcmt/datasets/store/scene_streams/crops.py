"""Voxels of scenes, whole or as crops of their nearest ones, for semantic segmentation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointcmt.datasets.store.epochs import require_batches
from pointcmt.datasets.store.scene_streams.stream import (
    Arrays,
    Sample,
    SceneStream,
    SceneStreamConfig,
)
from pointcmt.datasets.store.scene_streams.voxels import MARGIN, Voxels, find_crop
from pointcmt.datasets.store.view_store import StoreReader
from pointcmt.errors import UsageError, nearest

CHANNELS = {"color": "color", "normal": "normals", "semantic": "semantic"}  # and their arrays
SMALLEST, LARGEST = 0.001, 1.0  # voxels, in meters


@dataclass(frozen=True, kw_only=True)
class CropConfig(SceneStreamConfig):
    """The contents and the order of batches of crops.

    channels: of CHANNELS. voxel: size in meters; S3DIS is usually read at 0.05, ScanNet at 0.02.
    crop: voxels of a crop, 0 = whole scenes, with `inverse`. samples: crops of each scene and
    epoch. shuffle: also draws which point stands for a voxel, else its first one does.
    """

    channels: tuple[str, ...] = ("color", "semantic")
    voxel: float = 0.05
    crop: int = 100_000

    def __post_init__(self) -> None:
        super().__post_init__()
        if not SMALLEST <= self.voxel <= LARGEST:
            raise UsageError(
                f"{self.voxel} is out of range: expected {SMALLEST} to {LARGEST} meters",
                where="data.voxel",
            )
        if self.crop < 0:
            raise UsageError(
                f"crop must be 0 or a number of voxels, not {self.crop}", where="data.crop"
            )
        for name in self.channels:
            if name not in CHANNELS:
                raise UsageError(
                    f"unknown channel '{name}'", where="data.channels", fix=nearest(name, CHANNELS)
                )


class CropStream(SceneStream):
    """A stream of scenes, or crops of scenes, with one point per voxel.

    A crop is the `config.crop` voxels nearest to that of a random point, all if there are fewer.
    Points are one of each voxel, sorted by the voxels' places. x and y are relative to the mean of
    the crop, z is the height over the floor: as stored, see docs/datasets.md.

    A batch is packed: "points" [ΣN,3] f32 meters, "color" [ΣN,3] u8, "normal" [ΣN,3] f32 and
    "semantic" [ΣN] i64 (-1 = ignore) as `config.channels` says, "batch" [ΣN] i64, the sample of
    each point, and "shape" [B] i64. Whole scenes also have "inverse" [ΣM] i64, the row of the
    voxel of each original point, "point_count" [B] i64, how many of these each scene has, and with
    the semantic channel "point_semantic" [ΣM] i64: predictions are scored at full resolution as
    `predicted[inverse]` against it.
    """

    config: CropConfig

    def __init__(
        self, store: StoreReader, shapes: NDArray[np.int64], config: CropConfig, threads: int = 2
    ) -> None:
        names = ("points", *(CHANNELS[channel] for channel in config.channels))
        super().__init__(store, shapes, config, names, threads)
        samples = len(self.shapes) * config.samples
        require_batches(samples, config, unit="crop", whole="epoch")
        self._points_per_voxel = 1.0  # of the last crop: where to begin with the next

    def _load(self, sample: Sample) -> Arrays:
        """Read a crop: arrays [N,...] and, of a whole scene, [M]."""
        scene, config = self.scenes[sample.shape], self.config
        points = scene.start_points("points")
        reads = {name: scene.start_points(CHANNELS[name]) for name in config.channels}
        places = points.result()
        rng = np.random.default_rng([config.seed, sample.epoch, sample.shape, sample.slot])
        if config.crop:
            center = int(rng.integers(len(places)))
            inside, voxels, kept = find_crop(
                places, config.voxel, center, config.crop, self._points_per_voxel
            )
            self._points_per_voxel = MARGIN * len(inside) / max(len(voxels), 1)
        else:
            inside, voxels = np.arange(len(places)), Voxels.of(places, config.voxel)
            kept = np.arange(len(voxels))
        own = voxels.random_points(kept, rng) if config.shuffle else voxels.first_points(kept)
        chosen = inside[own]
        arrays: Arrays = {"points": _centered_in_plan(np.take(places, chosen, axis=0))}
        values = {name: read.result() for name, read in reads.items()}
        arrays |= {
            name: labels_as_i64(np.take(array, chosen, axis=0)) for name, array in values.items()
        }
        arrays["shape"] = np.array([sample.shape])
        if not config.crop:
            arrays |= {"inverse": voxels.of_points(), "point_count": np.array([scene.points])}
            if "semantic" in values:
                arrays["point_semantic"] = labels_as_i64(values["semantic"])
        return arrays

    def _join(self, loaded: Sequence[Arrays]) -> Arrays:
        """Return the packed batch; indices of voxels become those of its rows."""
        first = 0
        for index, each in enumerate(loaded):
            each["batch"] = np.full(len(each["points"]), index)
            if "inverse" in each:
                each["inverse"] += first
            first += len(each["points"])
        return super()._join(loaded)


def _centered_in_plan(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Move points [n,3] to their mean in x and y; z stays the height over the floor."""
    exact = points.astype(np.float64)
    exact[:, :2] -= exact[:, :2].mean(axis=0)
    return exact.astype(np.float32)


def labels_as_i64(array: NDArray[Any]) -> NDArray[Any]:
    """Return i16 and i32 labels as torch indexes with them, other arrays as they are."""
    return array.astype(np.int64) if array.dtype in (np.int16, np.int32) else array
