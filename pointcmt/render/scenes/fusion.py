"""Fuse posed depth images to points: one per voxel, with the mean of what the pixels show there."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pointcmt.cameras import pixel_centers
from pointcmt.scenes import IGNORE, Image, ScenePoints

FEWEST_PIXELS = 2  # that must show a voxel: single ones are mostly noise at edges of objects
EDGE = 0.05  # of the depth: a larger step to a neighboring pixel is an edge, without a normal
AXIS_BITS = 21  # of a voxel's place along each axis


@dataclass(frozen=True, eq=False)
class View:
    """A posed image in the world. K, camera_to_world: its camera. image: what it shows."""

    K: NDArray[np.float64]  # [3,3]
    camera_to_world: NDArray[np.float64]  # [4,4]
    image: Image


def fuse(views: Iterable[View], voxel: float) -> ScenePoints:
    """Return a point per voxel of this size (meters) that at least FEWEST_PIXELS pixels show.

    Position, color and normal are means, class and instance those of most pixels (of the lowest
    index if several have as many). Points are in the order of their voxels.
    """
    sums, votes = [], []
    has_labels = False
    for view in views:
        keys, values, labels = _pixels(view, voxel)
        has_labels = has_labels or view.image.semantic is not None
        sums.append(_summed(keys, values))
        votes.append(_counted(keys, labels))
    keys = np.concatenate([found for found, _ in sums]) if sums else np.zeros(0, np.int64)
    values = np.concatenate([found for _, found in sums]) if sums else np.zeros((0, 10))
    keys, values = _summed(keys, values)
    kept = values[:, 9] >= FEWEST_PIXELS
    keys, values = keys[kept], values[kept]
    count = values[:, 9:]
    normals = values[:, 6:9]
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    semantic = instance = None
    if has_labels:
        semantic, instance = _majority(np.concatenate(votes), keys)
    return ScenePoints(
        values[:, :3] / count,
        np.rint(values[:, 3:6] / count).astype(np.uint8),
        np.divide(normals, length, where=length > 0, out=np.zeros_like(normals)).astype(np.float32),
        semantic,
        instance,
    )


def back_project(view: View) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the place in the world of every pixel [H,W,3], and where depth is known [H,W]."""
    depth = view.image.depth
    rays = pixel_centers(depth.shape[1], depth.shape[0])
    rays = np.concatenate([rays, np.ones_like(rays[..., :1])], axis=-1) @ np.linalg.inv(view.K).T
    local = rays * depth[..., None].astype(np.float64)
    pose = view.camera_to_world
    return local @ pose[:3, :3].T + pose[:3, 3], depth > 0


def normals_of(places: NDArray[np.float64], depth: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return normals [H,W,3], turned to the camera, from neighboring pixels; 0 at edges.

    places: of the pixels, in any frame of reference with the right handedness. Differences go from
    the left to the right neighbor and from the upper to the lower one.
    """
    normals = np.zeros_like(places)
    center = depth[1:-1, 1:-1]
    sides = depth[1:-1, :-2], depth[1:-1, 2:], depth[:-2, 1:-1], depth[2:, 1:-1]
    smooth = center > 0
    for side in sides:
        smooth &= (side > 0) & (np.abs(side - center) <= EDGE * center)
    across = places[1:-1, 2:] - places[1:-1, :-2]
    down = places[2:, 1:-1] - places[:-2, 1:-1]
    found = np.cross(down, across)  # x right, y down, z forward: toward the camera
    length = np.linalg.norm(found, axis=-1, keepdims=True)
    unit = np.divide(found, length, where=length > 0, out=np.zeros_like(found))
    normals[1:-1, 1:-1] = np.where(smooth[..., None], unit, 0)
    return normals


def _pixels(
    view: View, voxel: float
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Return of each known pixel its voxel [n], values to sum [n,10], and its two labels [n,2]."""
    places, known = back_project(view)
    image = view.image
    values = np.empty((int(known.sum()), 10))
    values[:, :3] = places[known]
    values[:, 3:6] = image.color[known]
    values[:, 6:9] = normals_of(places, image.depth)[known]
    values[:, 9] = 1
    labels = np.full((len(values), 2), IGNORE, np.int64)
    for column, array in enumerate((image.semantic, image.instance)):
        if array is not None:
            labels[:, column] = array[known]
    middle = 1 << (AXIS_BITS - 1)
    cells = np.clip(np.floor(values[:, :3] / voxel).astype(np.int64) + middle, 0, 2 * middle - 1)
    keys = cells[:, 0] << (2 * AXIS_BITS) | cells[:, 1] << AXIS_BITS | cells[:, 2]
    return keys, values, labels


def _summed(
    keys: NDArray[np.int64], values: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the distinct keys, sorted, and the sum of the values of each."""
    order = np.argsort(keys, kind="stable")
    distinct, starts = np.unique(keys[order], return_index=True)
    if not len(distinct):
        return distinct, values[:0]
    return distinct, np.add.reduceat(values[order], starts, axis=0)


def _counted(keys: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the distinct rows of keys [n] and labels [n,2], each with its count, [m,4]."""
    order = np.lexsort((labels[:, 1], labels[:, 0], keys))
    return _merged(np.column_stack([keys, labels, np.ones_like(keys)])[order])


def _merged(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Add up the last column of sorted rows [n,4] that are equal in the others."""
    new = np.any(rows[1:, :3] != rows[:-1, :3], axis=1)
    starts = np.flatnonzero(np.concatenate([[True], new])[: len(rows)])
    return np.column_stack([rows[starts, :3], np.add.reduceat(rows[:, 3], starts)])


def _majority(
    votes: NDArray[np.int64], keys: NDArray[np.int64]
) -> tuple[NDArray[np.int16], NDArray[np.int32]]:
    """Return the class and instance with the most votes at each key; votes: rows of `_counted`."""
    order = np.lexsort((votes[:, 2], votes[:, 1], votes[:, 0]))
    rows = _merged(votes[order])
    rows = rows[np.lexsort((rows[:, 2], rows[:, 1], -rows[:, 3], rows[:, 0]))]
    _, first = np.unique(rows[:, 0], return_index=True)
    rows = rows[first]
    mine = rows[np.searchsorted(rows[:, 0], keys)]
    return mine[:, 1].astype(np.int16), mine[:, 2].astype(np.int32)
