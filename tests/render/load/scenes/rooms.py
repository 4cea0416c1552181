"""A room whose images are computed exactly: what each pixel sees follows from the planes."""

from dataclasses import dataclass

import numpy as np

from pointcmt.cameras import look_at, pixel_centers

LOW, HIGH = np.array([-2.0, -1.5, 0.0]), np.array([2.0, 1.5, 2.5])  # of the room, +Z up, meters
SIZE = (64, 48)  # of depth images
K = np.array([[55.0, 0, 31.0], [0, 54.0, 25.0], [0, 0, 1]])  # pixel centers at + 0.5
EYES = [(0.5, 0.2, 1.2), (-0.4, 0.6, 1.5), (0.1, -0.7, 1.0), (-1.0, 0.1, 1.4)]
TARGETS = [(-2, 0.5, 0.2), (1.5, -1.5, 0.1), (2, 1.0, 0.5), (0.5, 1.5, 0.0)]


@dataclass
class Shown:
    """A frame of the room: its pose and images, the depth in meters."""

    camera_to_world: np.ndarray
    color: np.ndarray
    depth: np.ndarray


def pose(index):
    """The camera-to-world pose [4,4] of one of the four frames."""
    return np.linalg.inv(look_at(EYES[index], TARGETS[index], (0, 0, 1)))


def color_of(points):
    """The color of points on the walls, which changes smoothly with their position."""
    return np.rint(20 + 210 * (points - LOW) / (HIGH - LOW)).astype(np.uint8)


def seen(camera_to_world, K=K, size=SIZE):
    """The depth [H,W] in meters and the points [H,W,3] that a camera inside the room sees."""
    uv = pixel_centers(*size)
    rays = np.concatenate([uv, np.ones_like(uv[..., :1])], axis=-1) @ np.linalg.inv(K).T
    rays = rays @ camera_to_world[:3, :3].T  # their length along z is 1
    eye = camera_to_world[:3, 3]
    with np.errstate(divide="ignore"):
        far = np.maximum((LOW - eye) / rays, (HIGH - eye) / rays)
    depth = far.min(axis=-1)
    return depth, eye + rays * depth[..., None]


def show(index, color_K=K, color_size=SIZE, color_from_depth=None):
    """A frame of the room, with its color image taken by a camera that may differ."""
    own = pose(index)
    of_color = own if color_from_depth is None else own @ np.linalg.inv(color_from_depth)
    _, points = seen(of_color, color_K, color_size)
    return Shown(own, color_of(points), seen(own)[0])


def back_projected(image, frame, world=None):
    """Points [M,3] of an image's measured pixels in the source's coordinates, and their colors."""
    H, W = image.depth.shape
    uv = pixel_centers(W, H)[image.depth > 0]
    z = image.depth[image.depth > 0].astype(np.float64)
    local = np.column_stack([uv, np.ones(len(uv))]) @ np.linalg.inv(frame.K).T * z[:, None]
    pose = frame.camera_to_world if world is None else world @ frame.camera_to_world
    return local @ pose[:3, :3].T + pose[:3, 3], image.color[image.depth > 0]


def off_walls(points):
    """The distance [M] of points from the nearest plane of the room."""
    return np.minimum(abs(points - LOW), abs(points - HIGH)).min(axis=1)
