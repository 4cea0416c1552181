"""Frames of a segmented scene: each pixel shows the nearest point that its frame sees."""

import numpy as np
from numpy.typing import NDArray

from pointcmt.cameras import Camera
from pointcmt.correspondences import NONE, pixels_to_points
from pointcmt.datasets.store.scene_streams.scenes import Scene
from pointcmt.datasets.store.schema import CORRESPONDENCES, unpack_visible
from pointcmt.training.figures.frames import SegmentedFrame
from pointcmt.training.ops.semantic import IGNORE

RADIUS = 4.0  # pixels: how far from a pixel's center its point may be


def find_frames(
    scene: Scene, name: str, true: NDArray[np.int64], predicted: NDArray[np.int64], most: int
) -> list[SegmentedFrame]:
    """Return up to `most` frames of a scene with the classes of what they show.

    The first sees the most points, each further one the most that none before it sees. true,
    predicted: of the stored points [N]. A scene without frames or correspondences has none.
    """
    shard = scene.row // scene.store.schema.shard
    if not scene.views or shard not in scene.store.committed(CORRESPONDENCES):
        return []
    packed = scene.start_visible(slice(0, scene.views)).result()
    visible = unpack_visible(packed, scene.points)
    points = scene.start_points("points").result()
    found: list[SegmentedFrame] = []
    for view in choose_views(visible, most):
        image = scene.start("rgb", view).result()
        K, pose, number = (
            scene.start(each, view).result() for each in ("K", "world_to_camera", "frame")
        )
        camera = Camera(K[None], pose[None], image.shape[1], image.shape[0])
        point = pixels_to_points(points, visible[view][None], camera, RADIUS)[0]
        shown = point != NONE
        labels = (np.where(shown, each[point], IGNORE) for each in (true, predicted))
        found.append(SegmentedFrame(f"{name}, frame {int(number)}", image, shown, *labels))
    return found


def choose_views(shown: NDArray[np.bool_], most: int) -> list[int]:
    """Return up to `most` views that together show much. shown [V, n]: what each view shows.

    The first shows the most, each further one the most that none before it shows.
    """
    left, chosen = shown.copy(), []
    for _ in range(min(most, len(shown))):
        view = int(left.sum(axis=1).argmax())
        if not left[view].any():
            break
        left &= ~shown[view]
        chosen.append(view)
    return chosen
