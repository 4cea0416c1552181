"""A room that is a box, with a block on its floor: every pixel's depth and class are known."""

import numpy as np

from pointcmt.cameras import look_at, pixel_centers
from pointcmt.datasets.sources.listing import Listing, Source
from pointcmt.datasets.store.schema import ShapeRecord
from pointcmt.scenes import Boxes, Frame, Image, SceneData, SceneLabels

ROOM = np.array([[-2.0, -1.5, 0.0], [2.0, 1.5, 2.5]])
BLOCK = np.array([[0.5, -0.4, 0.0], [1.3, 0.4, 0.7]])
NAMES = ("floor", "ceiling", "wall", "block")
LABELS = SceneLabels(
    NAMES, ("block",), ((90, 60, 30), (250, 250, 250), (180, 180, 170), (200, 0, 0))
)
K = np.array([[60.0, 0, 40], [0, 60.0, 30], [0, 0, 1]])  # of images of 80 × 60 pixels
WIDTH, HEIGHT = 80, 60


def pose(position, target):
    """camera_to_world of a camera."""
    return np.linalg.inv(look_at(position, target, (0, 0, 1)))


def image(camera_to_world, height=HEIGHT, width=WIDTH, labels=True, intrinsics=K):
    """What a camera in the room sees, by intersecting rays with boxes in float64."""
    rays = np.concatenate([pixel_centers(width, height), np.ones((height, width, 1))], axis=-1)
    rays = rays @ np.linalg.inv(intrinsics).T @ camera_to_world[:3, :3].T
    origin = camera_to_world[:3, 3]
    with np.errstate(divide="ignore", invalid="ignore"):
        far = (np.where(rays > 0, ROOM[1], ROOM[0]) - origin) / rays
        axis, depth = far.argmin(axis=-1), far.min(axis=-1)
        enter = ((np.where(rays > 0, BLOCK[0], BLOCK[1]) - origin) / rays).max(axis=-1)
        leave = ((np.where(rays > 0, BLOCK[1], BLOCK[0]) - origin) / rays).min(axis=-1)
    block = (enter <= leave) & (enter > 0)
    semantic = np.where(axis < 2, 2, np.where(rays[..., 2] > 0, 1, 0))
    semantic = np.where(block, 3, semantic).astype(np.int16)
    depth = np.where(block, enter, depth).astype(np.float32)
    color = np.array(LABELS.palette, np.uint8)[semantic]
    if not labels:
        return Image(color, depth)
    return Image(color, depth, semantic, np.where(block, 7, -1).astype(np.int32))


def frames(count=8, **settings):
    """Frames of a camera that walks around the block and looks at it."""
    made = []
    for number in range(count):
        angle = 2 * np.pi * number / count
        place = (-0.3 + 1.3 * np.cos(angle), 1.1 * np.sin(angle), 1.4)
        view = pose(place, (0.7, 0.1, 0.3))
        made.append(Frame(10 * number, K, view, lambda view=view: image(view, **settings)))
    return tuple(made)


def boxes():
    center, size = BLOCK.mean(axis=0), BLOCK[1] - BLOCK[0]
    box = np.array([[*center, *size, 0]], np.float32)
    return Boxes(box, np.zeros(1, np.int16), np.full(1, 7, np.int32))


def scene(count=8, **settings):
    return SceneData(frames(count, **settings), boxes=boxes(), sha256="5" * 64)


def on_a_surface(points):
    """The distance of points [N,3] from the nearest surface of the room."""
    walls = np.minimum(np.abs(points - ROOM[0]), np.abs(points - ROOM[1])).min(axis=1)
    outside = np.maximum(np.maximum(BLOCK[0] - points, points - BLOCK[1]), 0)
    depth = np.minimum(points - BLOCK[0], BLOCK[1] - points).min(axis=1)
    block = np.where(depth > 0, depth, np.linalg.norm(outside, axis=1))
    return np.minimum(walls, block)


def listing(name, count=3):
    shapes = tuple(
        ShapeRecord(f"rooms/{i}", "office", "train" if i else "test", f"rooms/{i}")
        for i in range(count)
    )
    return Listing(
        name=name,
        root=None,
        shapes=shapes,
        class_names=("office",),
        up="z",
        license="none",
        url="",
        official=None,
        notes=(),
        kind="scene",
        labels=LABELS,
    )


def load(record, root):
    number = int(record.id.split("/")[1])
    return scene(6 + number)


source = Source(lambda name, root: listing(name), load)
