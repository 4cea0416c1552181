"""Frames of a scene whose boxes were detected: those that show the most boxes."""

import numpy as np
from numpy.typing import NDArray

from pointcmt.cameras import Camera
from pointcmt.datasets.store.scene_streams.scenes import find_scenes
from pointcmt.datasets.store.view_store import StoreReader
from pointcmt.training.evaluation.scene_frames import choose_views
from pointcmt.training.figures.box_frames import BoxedFrame
from pointcmt.training.figures.boxes import Labeled


def find_box_frames(
    store: StoreReader, scene: int, true: Labeled | None, found: Labeled, most: int
) -> list[BoxedFrame]:
    """Return up to `most` frames of a store's scene with its true boxes, if known, and those found.

    The first shows the most centers of boxes, each further one the most that none before it shows.
    A scene without frames has none, and so has one whose boxes no frame shows.
    """
    own = find_scenes(store, np.array([scene]))[scene]
    if not own.views:
        return []
    K, pose, number = (
        own.start(name, slice(0, own.views)).result() for name in ("K", "world_to_camera", "frame")
    )
    height, width = own.store.schema.image
    cameras = Camera(K, pose, width, height)
    boxes = [each.boxes[:, :3] for each in (true, found) if each is not None]
    shown = _inside(cameras, np.concatenate(boxes))
    return [
        BoxedFrame(
            f"{store.shapes[scene].id}, frame {int(number[view])}",
            own.start("rgb", view).result(),
            cameras[view],
            true,
            found,
        )
        for view in choose_views(shown, most)
    ]


def _inside(cameras: Camera, points: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Return which points [n, 3] are in front of each camera and within its image, [V, n]."""
    uv, depth = cameras.project(points)
    with np.errstate(invalid="ignore"):
        within = (uv >= 0) & (uv < [cameras.width, cameras.height])
    return within.all(axis=2) & (depth > 0)
