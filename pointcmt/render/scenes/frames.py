"""Frames as views: which of them are used, and how they are brought to the store's size."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pictures

from pointcmt.errors import ShapeRefused
from pointcmt.render.scenes.config import DEPTH_STEP, SceneConfig
from pointcmt.scenes import Frame, Image

CANDIDATES = 5  # frames of a group of which the sharpest is chosen
FARTHEST = 65534 * DEPTH_STEP  # meters: what fits into the stored depth


@dataclass(frozen=True, eq=False)
class Shown:
    """A frame that is stored, and what it shows."""

    frame: Frame
    image: Image


def choose_frames(
    frames: Sequence[Frame], config: SceneConfig
) -> tuple[list[Shown], list[ShapeRefused]]:
    """Return the frames to store, in order: the sharpest of each group that shows the same place.

    A group ends with the first frame that has moved by `config.distance` or turned by
    `config.angle` since its first one. If there are more than `config.frames` groups, evenly spaced
    ones are used. Sharpness is the variance of the Laplacian (Pech-Pacheco et al. 2000). Also
    returns why frames that were looked at cannot be read; they are left out.
    """
    groups: list[list[Frame]] = []
    for frame in frames:
        if not groups or _has_moved(groups[-1][0], frame, config):
            groups.append([])
        groups[-1].append(frame)
    found: list[Shown] = []
    refused: list[ShapeRefused] = []
    for group in (groups[i] for i in spread(len(groups), config.frames)):
        readable: list[Shown] = []
        for frame in (group[i] for i in spread(len(group), CANDIDATES)):
            try:
                readable.append(Shown(frame, frame.read()))
            except ShapeRefused as reason:
                refused.append(reason)
        if len(readable) > 1:
            found.append(max(readable, key=lambda shown: sharpness(shown.image.color)))
        else:
            found += readable
    return found, refused


def spread(count: int, most: int) -> list[int]:
    """Return at most `most` indices of a list of length `count`, evenly spaced."""
    if count <= most:
        return list(range(count))
    return [int(i) for i in np.linspace(0, count - 1, most).round()]


def _has_moved(first: Frame, frame: Frame, config: SceneConfig) -> bool:
    step = frame.camera_to_world[:3, 3] - first.camera_to_world[:3, 3]
    turn = first.camera_to_world[:3, :3].T @ frame.camera_to_world[:3, :3]
    angle = np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1)))
    return bool(np.linalg.norm(step) >= config.distance or angle >= config.angle)


def sharpness(color: NDArray[np.uint8]) -> float:
    """Return the variance of the Laplacian of an image [H,W,3], of its green channel."""
    green = color[:, :, 1].astype(np.int16)
    edges = green[1:-1, :-2] + green[1:-1, 2:] + green[:-2, 1:-1] + green[2:, 1:-1]
    return float(np.var(edges - 4 * green[1:-1, 1:-1], dtype=np.float64))


def resized(
    image: Image, K: NDArray[np.float64], height: int, width: int
) -> tuple[Image, NDArray[np.float64]]:
    """Return an image of the given size and its intrinsics.

    Color is averaged over areas; depth and labels take the nearest pixel, since between two
    surfaces there is nothing. With pixel centers at half integers, the pixel (u, v) is at (u · s,
    v · s) after scaling by s, so that K's first two rows are scaled.
    """
    size = image.depth.shape
    if size == (height, width):
        return image, K
    color = Pictures.fromarray(image.color).resize((width, height), Pictures.Resampling.BOX)
    rows = _nearest(size[0], height)[:, None]
    columns = _nearest(size[1], width)[None, :]
    scaled = K.copy()
    scaled[0] *= width / size[1]
    scaled[1] *= height / size[0]
    semantic = None if image.semantic is None else image.semantic[rows, columns]
    instance = None if image.instance is None else image.instance[rows, columns]
    return Image(np.asarray(color), image.depth[rows, columns], semantic, instance), scaled


def _nearest(old: int, new: int) -> NDArray[np.int64]:
    """Return the old pixel whose center is nearest to that of each new one."""
    return np.minimum(((np.arange(new) + 0.5) * old / new).astype(np.int64), old - 1)


def quantized(depth: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Convert depth in meters to stored steps; what is missing or too far away becomes 0."""
    known = np.where((depth > 0) & (depth <= FARTHEST), depth, 0)
    steps = np.rint(known / DEPTH_STEP).astype(np.uint16)
    return np.where((known > 0) & (steps == 0), np.uint16(1), steps)
