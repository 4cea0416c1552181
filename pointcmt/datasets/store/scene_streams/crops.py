"""Voxels of scenes, whole or as crops of their nearest ones, for semantic segmentation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointcmt.datasets.store.epochs import require_batches
from pointcmt.datasets.store.scene_streams.labels import choose_labeled, only_labels
from pointcmt.datasets.store.scene_streams.stream import (
    Arrays,
    Sample,
    SceneStream,
    SceneStreamConfig,
    center_in_plan,
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
    labeled_points: of each scene, those whose labels are read, 0 = all. They are chosen by
    label_seed, the same ones in every epoch, see `choose_labeled`.
    """

    channels: tuple[str, ...] = ("color", "semantic")
    voxel: float = 0.05
    crop: int = 100_000
    labeled_points: int = 0
    label_seed: int = 0

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
        if self.labeled_points < 0:
            raise UsageError(
                f"labeled_points must be 0 or a number of points, not {self.labeled_points}",
                where="data.labeled_points",
            )
        if self.labeled_points and "semantic" not in self.channels:
            raise UsageError(
                "labels are not read, so labeled_points must be 0",
                where="data.labeled_points",
                fix="add 'semantic' to the channels",
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

    With `config.labeled_points` all other labels are -1. Those of these points that are in the
    crop are always read, whichever points stand for their voxels: they come last, besides the one
    point per voxel, as in Pointcept.

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
        self._labeled: dict[int, NDArray[np.int64]] = {}  # by scene: the points with labels

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
        values = {name: read.result() for name, read in reads.items()}
        if config.labeled_points:
            labeled = self._find_labeled(sample.shape, values["semantic"])
            values["semantic"] = only_labels(values["semantic"], labeled)
            among = np.flatnonzero(np.isin(inside, labeled))  # in the numbering of `own`
            own = np.append(own, _missing(among, own, voxels, kept))
        arrays = _taken(places, values, inside[own])
        arrays["shape"] = np.array([sample.shape])
        if not config.crop:
            arrays |= {"inverse": voxels.of_points(), "point_count": np.array([scene.points])}
            if "semantic" in values:
                arrays["point_semantic"] = labels_as_i64(values["semantic"])
        return arrays

    def _find_labeled(self, shape: int, labels: NDArray[Any]) -> NDArray[np.int64]:
        """Return the points of a scene whose labels are read. labels: of all of its points."""
        if shape not in self._labeled:
            count, seed = self.config.labeled_points, self.config.label_seed
            scene = self.store.shapes[shape].id
            self._labeled[shape] = choose_labeled(labels, count, scene, seed)
        return self._labeled[shape]

    def _join(self, loaded: Sequence[Arrays]) -> Arrays:
        """Return the packed batch; indices of voxels become those of its rows."""
        first = 0
        for index, each in enumerate(loaded):
            each["batch"] = np.full(len(each["points"]), index)
            if "inverse" in each:
                each["inverse"] += first
            first += len(each["points"])
        return super()._join(loaded)


def whole_scene(
    points: NDArray[np.float32], channels: dict[str, NDArray[Any]], voxel: float
) -> Arrays:
    """Return a scene that is in no store as a batch of its own, as `CropStream` reads whole scenes.

    points: [M, 3] meters, +Z up, the floor at z = 0. channels: arrays [M, ...] by name. voxel: size
    in meters. The first point of each voxel stands for it, so the order of the points matters:
    stores have `voxel_order`.
    """
    voxels = Voxels.of(points, voxel)
    arrays = _taken(points, channels, voxels.first_points(np.arange(len(voxels))))
    batch = np.zeros(len(voxels), np.int64)
    return {**arrays, "inverse": voxels.of_points(), "batch": batch, "shape": np.zeros(1, np.int64)}


def _taken(
    points: NDArray[np.float32], channels: dict[str, NDArray[Any]], chosen: NDArray[np.integer]
) -> Arrays:
    """Return the points and channels of a sample: those that were chosen [N]."""
    arrays: Arrays = {"points": center_in_plan(np.take(points, chosen, axis=0))[0]}
    return arrays | {
        name: labels_as_i64(np.take(array, chosen, axis=0)) for name, array in channels.items()
    }


def _missing(
    points: NDArray[np.int64],
    own: NDArray[np.int32],
    voxels: Voxels,
    kept: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Return those of some points that are in the kept voxels, but not among `own`."""
    in_crop = np.isin(voxels.of_points()[points], kept)
    return np.setdiff1d(points[in_crop], own)


def labels_as_i64(array: NDArray[Any]) -> NDArray[Any]:
    """Return i16 and i32 labels as torch indexes with them, other arrays as they are."""
    return array.astype(np.int64) if array.dtype in (np.int16, np.int32) else array
