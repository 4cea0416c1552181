"""One frame of SUN RGB-D: its camera, its points and its boxes in this project's conventions.

A frame's coordinates: X right, Y forward, Z up, the camera at the origin. `Rtilt` turns the axes
(x, z, -y) of OpenCV's camera into them.

The release counts pixels from 1, as MATLAB does: its toolbox (readData/read3dPoints.m) places
column c, counted from 0, at x = (c + 1 - cx) · depth / fx. All published points are made so, and
the boxes were drawn around them. Here the center of that column is at c + 0.5, so 0.5 is subtracted
from cx and cy.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pointcmt.datasets.sources.sunrgbd import CLASSES
from pointcmt.errors import Reason, ShapeRefused
from pointcmt.render.load.files import few_notes
from pointcmt.render.load.scenes.ground import FLOOR
from pointcmt.scenes import IGNORE, Boxes, Frame, Image, SceneData, ScenePoints, is_rigid

_FIRST_PIXEL = 0.5  # subtracted from cx and cy, see above
# From (x right, y down, z forward) to (x right, y forward, z up).
_UPRIGHT = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])


@dataclass(frozen=True)
class RawBox:
    """A box as the dataset writes it. Half sizes may be negative; the heading is a vector."""

    class_name: str
    center: tuple[float, ...]
    half_sizes: tuple[float, ...]  # coeffs: across the heading, along it, up
    heading: tuple[float, ...]  # x and y of the orientation


def make_frame(K: NDArray[np.float64], tilt: NDArray[np.float64], read: partial[Image]) -> Frame:
    """Return the frame of a camera as the dataset describes it: K and Rtilt, each [3,3].

    Raises ShapeRefused (bad_syntax) if they are not a camera matrix and a rotation.
    """
    camera_to_world = np.eye(4)
    camera_to_world[:3, :3] = tilt @ _UPRIGHT
    lengths = K[[0, 1], [0, 1]]
    if not np.isfinite(K).all() or (lengths <= 0).any() or not is_rigid(camera_to_world):
        raise ShapeRefused(Reason.BAD_SYNTAX, "K or Rtilt is not a camera matrix or a rotation")
    own = K.copy()
    own[:2, 2] -= _FIRST_PIXEL
    return Frame(0, own, camera_to_world, read)


def back_project(frame: Frame, image: Image) -> ScenePoints:
    """Return a point per pixel with a depth, row by row. Raises ShapeRefused if there is none."""
    rows, columns = np.nonzero(image.depth)
    if not len(rows):
        raise ShapeRefused(Reason.EMPTY_FILE, "its depth image has no depth")
    depth = image.depth[rows, columns].astype(np.float64)
    rays = np.linalg.inv(frame.K) @ np.stack([columns + 0.5, rows + 0.5, np.ones(len(rows))])
    points = (frame.camera_to_world[:3, :3] @ (rays * depth)).T
    return ScenePoints(np.ascontiguousarray(points), image.color[rows, columns])


def one_frame(frame: Frame, points: ScenePoints, raw: list[RawBox], digest: str) -> SceneData:
    """Return the scene of a frame. Its floor is put at z = 0; the camera stays at x = y = 0."""
    boxes, notes = convert_boxes(raw)
    lift = np.eye(4)
    lift[2, 3] = -np.percentile(points.points[:, 2], FLOOR)
    return SceneData((frame,), points, boxes, None, lift, digest, few_notes(notes))


def convert_boxes(raw: Iterable[RawBox]) -> tuple[Boxes, tuple[str, ...]]:
    """Return the boxes of the ten classes in this project's convention, and notes.

    yaw = atan2(heading y, heading x), dx = 2·coeffs[1] along it, dy = 2·coeffs[0], dz = 2·coeffs[2]
    (VoteNet's sunrgbd_data.py has the same boxes with the opposite sign of the heading). Boxes
    without a finite position, a size or a heading are left out.
    """
    boxes, labels, bad = [], [], 0
    for box in raw:
        if box.class_name not in CLASSES:
            continue
        across, along, up = (2 * abs(size) for size in box.half_sizes)
        numbers = (*box.center, across, along, up, *box.heading)
        sizes = (across, along, up, math.hypot(*box.heading))
        if not all(map(math.isfinite, numbers)) or min(sizes) == 0:
            bad += 1
        else:
            yaw = math.atan2(box.heading[1], box.heading[0])
            boxes.append((*box.center, along, across, up, yaw))
            labels.append(CLASSES.index(box.class_name))
    what = f"{bad} boxes were left out: they have no finite position, size and heading"
    return Boxes(
        np.array(boxes, np.float32).reshape(-1, 7),
        np.array(labels, np.int16),
        np.full(len(boxes), IGNORE, np.int32),
    ), (what,) * (bad > 0)
