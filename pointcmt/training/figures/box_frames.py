"""Pictures of detection in a scene's frames: true and predicted boxes, drawn onto the image."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pointcmt.cameras import Camera
from pointcmt.scenes import box_corners
from pointcmt.training.figures.boxes import ROWS, Labeled, add_classes, class_colors
from pointcmt.training.figures.plots import INK, bare, caption, to_png

WIDTH = 3.6  # inches
NEAR = 0.05  # meters: what is nearer to the camera's plane, or behind it, is cut off
# Corners, as `box_corners` has them, that edges join: of the bottom, of the top, and upright ones;
# then the two diagonals of the front.
EDGES = (
    *((0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4)),
    *((0, 4), (1, 5), (2, 6), (3, 7)),
)
FRONT = ((0, 7), (3, 4))


@dataclass(frozen=True, eq=False)
class BoxedFrame:
    """An image [H, W, 3] u8, its camera, and the scene's boxes: true ones (or None) and found."""

    name: str
    image: NDArray[np.uint8]
    camera: Camera
    true: Labeled | None
    found: Labeled


def draw_box_frames(
    frames: Sequence[BoxedFrame], names: Sequence[str], software: str = ""
) -> bytes:
    """Draw a column for each frame: its true boxes, if any frame has them, and those found.

    Boxes are drawn as edges, with a thin cross on the front, whether or not something hides them.
    The color is the class. software: the maker, stored in the file.
    """
    rows = ROWS if any(frame.true is not None for frame in frames) else ROWS[1:]
    height = max(WIDTH * frame.image.shape[0] / frame.image.shape[1] for frame in frames)
    size = WIDTH * max(len(frames), 2), 0.8 + (height + 0.1) * len(rows)
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    panels = figure.subplots(len(rows), len(frames), squeeze=False)
    colors = class_colors(len(names))
    for column, frame in zip(panels.T, frames, strict=True):
        for axes, boxes in zip(column, (frame.true, frame.found)[-len(rows) :], strict=True):
            axes.imshow(frame.image, extent=(0, frame.camera.width, frame.camera.height, 0))
            bare(axes)
            if boxes is not None:
                _draw(axes, frame.camera, boxes, colors)
        column[0].set_title(caption(frame.name), color=INK, fontsize=9)
    for axes, title in zip(panels[:, 0], rows, strict=True):
        axes.set_ylabel(title, color=INK, fontsize=9)
    add_classes(figure, names, colors)
    return to_png(figure, software)


def _draw(axes: Axes, camera: Camera, boxes: Labeled, colors: NDArray[np.float64]) -> None:
    corners = box_corners(boxes.boxes)
    for lines, width in ((EDGES, 1.6), (FRONT, 0.7)):
        segments, owner = project_edges(corners, camera, lines)
        found = LineCollection(list(segments), colors=colors[boxes.label[owner]], linewidths=width)
        axes.add_collection(found, autolim=False)


def project_edges(
    corners: NDArray[np.float64], camera: Camera, edges: Sequence[tuple[int, int]]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Project edges of boxes with corners [K, 8, 3]: pixels of their ends [E, 2, 2], and boxes [E].

    The part of an edge that is not in front of the camera is cut off; edges without such a part
    are left out.
    """
    pose = camera.world_to_camera
    ends = corners[:, np.array(edges)].reshape(-1, 2, 3)  # [K·edges, 2, 3]
    ends = ends @ pose[:3, :3].T + pose[:3, 3]
    owner = np.repeat(np.arange(len(corners)), len(edges))
    shown = (ends[..., 2] > NEAR).any(axis=1)
    ends, owner = ends[shown], owner[shown]
    start, step = ends[:, 0], ends[:, 1] - ends[:, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = (NEAR - start[:, 2]) / step[:, 2]  # only used where an end is cut off
    for end in (0, 1):
        hidden = ends[:, end, 2] <= NEAR
        ends[hidden, end] = (start + crossing[:, None] * step)[hidden]
    pixels = ends @ camera.K.T
    return pixels[..., :2] / pixels[..., 2:], owner
