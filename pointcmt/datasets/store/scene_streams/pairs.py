"""Pairs of overlapping frames of scenes, for pre-training by view consistency."""

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from pointcmt.datasets.store.epochs import require_batches
from pointcmt.datasets.store.scene_streams.overlaps import frame_overlaps
from pointcmt.datasets.store.scene_streams.scenes import Scene
from pointcmt.datasets.store.scene_streams.stream import (
    Arrays,
    Sample,
    SceneStream,
    SceneStreamConfig,
    center_in_plan,
    require_positive,
)
from pointcmt.datasets.store.scene_streams.surroundings import near_visible
from pointcmt.datasets.store.schema import BLOCK, unpack_visible
from pointcmt.datasets.store.view_store import StoreReader
from pointcmt.errors import StoreError, UsageError

NEAR = 0.05  # meters from a visible point: what the frames do not show, but belongs to it
MOST_NAMED = 3  # scenes in a note


@dataclass(frozen=True, kw_only=True)
class PairConfig(SceneStreamConfig):
    """The contents and the order of batches of frame pairs.

    arrays: names of the store's arrays per view or per point, including those of open features.
    points: N per pair. overlap: the least and the most of it, of the two frames of a pair.
    samples: pairs of each scene and epoch.
    """

    arrays: tuple[str, ...] = ("points", "visible", "rgb", "depth", "K", "world_to_camera")
    points: int = 8192
    overlap: tuple[float, float] = (0.3, 0.9)
    samples: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, ("points",))
        low, high = self.overlap
        if not 0 < low <= high <= 1:
            raise UsageError(
                f"{low} to {high} is not a range of overlap",
                where="data.overlap",
                fix="use 0 < least ≤ most ≤ 1",
            )


class PairStream(SceneStream):
    """A stream of pairs of frames of scenes, each with the points that belong to them.

    The overlap of two frames a, b is |vis a ∧ vis b| / min(|vis a|, |vis b|), where vis is the set
    of points that a frame sees. The points of a pair are those that a or b sees and all within
    NEAR of these; the first N of them in stored order, an even sample, and repeated cyclically if
    there are fewer. They are moved, but not scaled: x and y are relative to their mean, z is the
    height over the floor, as in crops; world_to_camera moves with them, so that they project to
    the same pixels.

    A batch maps each name of `config.arrays` to a tensor: per view [B,2,...], per point [B,N,...],
    `visible` [B,2,N] bool, `depth` in meters f32; plus "label" [B], "shape" [B] and "view" [B,2],
    all i64. Images stay u8 in HWC.

    Scenes without such a pair are left out, which `notes` says. Raises StoreError if no scene has
    one, and UsageError for an array that is neither per view nor per point.
    """

    config: PairConfig

    def __init__(
        self, store: StoreReader, shapes: NDArray[np.int64], config: PairConfig, threads: int = 2
    ) -> None:
        names = dict.fromkeys((*config.arrays, "points", "visible", "world_to_camera"))
        super().__init__(store, shapes, config, names, threads)
        axes = {name: store.specs[name].axes for name in config.arrays}
        for name, own in axes.items():
            if "view" not in own and "point" not in own:
                what = f"'{name}' is an array of neither views nor points"
                raise UsageError(what, where="data.arrays", fix="leave it out")
        per_view = (name for name, own in axes.items() if "view" in own and name != "visible")
        self._of_views = list(dict.fromkeys((*per_view, "world_to_camera")))
        per_point = (name for name, own in axes.items() if "point" in own)
        self._of_points = list(dict.fromkeys((*per_point, "points")))
        self._partners = self._find_pairs()
        self._near: dict[int, list[NDArray[np.uint8]]] = {}
        self._locks = {shape: Lock() for shape in self._partners}

    def reopen(self) -> None:
        super().reopen()
        self._locks = {shape: Lock() for shape in self._partners}  # a lost thread may hold some

    def _find_pairs(self) -> dict[int, NDArray[np.bool_]]:
        """Return by scene which frames make a pair, [v,v]; keep only scenes that have one."""
        low, high = self.config.overlap

        def partners(scene: Scene) -> NDArray[np.bool_]:
            visible = scene.start_visible(slice(0, scene.views)).result()
            overlap = frame_overlaps(visible)
            np.fill_diagonal(overlap, 0)
            return (overlap >= low) & (overlap <= high)

        every = self._pool.map(partners, (self.scenes[shape] for shape in self.shapes.tolist()))
        found = dict(zip(self.shapes.tolist(), every, strict=True))
        kept = {shape: own for shape, own in found.items() if own.any()}
        said = f"no two frames whose overlap is {low:g} to {high:g}"
        fix = "use a wider range of overlap, or render with more --frames"
        if not kept:
            raise StoreError(f"these scenes have {said}", where=self.store.path, fix=fix)
        lost = [shape for shape in found if shape not in kept]
        if lost:
            names = ", ".join(self.store.shapes[shape].id for shape in lost[:MOST_NAMED])
            more = ", …" if len(lost) > MOST_NAMED else ""
            what = f"{len(lost)} of {len(found)} scenes are left out, since they have {said}"
            self.notes = (f"{what}: {names}{more}",)
        self.shapes = self.shapes[np.isin(self.shapes, [*kept])]
        samples = len(self.shapes) * self.config.samples
        require_batches(samples, self.config, unit="pair", whole="epoch")
        return kept

    def _load(self, sample: Sample) -> Arrays:
        return self.read_pair(sample.shape, *self._choose_frames(sample))

    def partners(self, shape: int) -> NDArray[np.bool_]:
        """Return which frames of a scene make a pair, [v,v]."""
        return self._partners[shape]

    def read_pair(self, shape: int, a: int, b: int) -> Arrays:
        """Read two frames of a scene, each array with a leading axis of length 1."""
        scene, frames = self.scenes[shape], np.array([a, b])
        reads = [scene.start(name, frames) for name in self._of_views]
        visible = scene.start_visible(frames)
        chosen = self._choose_points(shape, a, b)
        end = min(scene.points, -(-int(chosen.max() + 1) // BLOCK) * BLOCK)  # whole chunks
        reads += [scene.start_points(name, end) for name in self._of_points]
        values = {read.name: read.result() for read in reads}
        for name in self._of_points:
            values[name] = values[name][chosen]
        values["visible"] = unpack_visible(visible.result(), scene.points)[:, chosen]
        if "depth" in values:
            values["depth"] = values["depth"] * np.float32(scene.store.schema.depth_scale)
        values["points"], origin = center_in_plan(values["points"])
        values["world_to_camera"] = move_cameras(values["world_to_camera"], origin)
        arrays = {name: values[name][None] for name in self.config.arrays}
        arrays["label"] = self.store.labels[[shape]]
        return arrays | {"shape": np.array([shape]), "view": frames[None]}

    def _choose_frames(self, sample: Sample) -> tuple[int, int]:
        """Return frames a and b: each a of a scene comes once before any comes again."""
        partners, seed = self._partners[sample.shape], (self.config.seed, sample.epoch)
        order = np.random.default_rng([*seed, sample.shape])
        firsts = order.permutation(np.flatnonzero(partners.any(axis=1)))
        a = int(firsts[sample.slot % len(firsts)])
        rng = np.random.default_rng([*seed, sample.shape, sample.slot])
        return a, int(rng.choice(np.flatnonzero(partners[a])))

    def _choose_points(self, shape: int, a: int, b: int) -> NDArray[np.int64]:
        """Return the indices [N] of a pair's points in the scene."""
        N = self.config.points
        near = self._near_rows(shape)
        size = min(len(near[a]), len(near[b]))  # enough: each row ends where it alone has N
        members = np.flatnonzero(np.unpackbits(near[a][:size] | near[b][:size]))
        return np.resize(members[:N], N)

    def _near_rows(self, shape: int) -> Sequence[NDArray[np.uint8]]:
        """Return which points belong to each frame, packed, as far as N of them reach.

        Found once per scene, and kept: about N / 2 bytes per frame.
        """
        with self._locks[shape]:
            if shape not in self._near:
                scene = self.scenes[shape]
                visible = scene.start_visible(slice(0, scene.views))
                points = scene.start_points("points").result()
                rows = near_visible(points, visible.result(), NEAR)
                self._near[shape] = [_first_bits(row, self.config.points) for row in rows]
            return self._near[shape]


def move_cameras(
    world_to_camera: NDArray[np.float64], origin: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return cameras [...,4,4] of a world whose origin is moved to this point [3]."""
    moved = world_to_camera.copy()
    moved[..., :3, 3] += moved[..., :3, :3] @ origin
    return moved


def _first_bits(row: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """Return a copy of the shortest start of a packed row that has `count` bits, or all of it."""
    places = np.flatnonzero(np.unpackbits(row))
    return row.copy() if len(places) < count else row[: places[count - 1] // 8 + 1].copy()
