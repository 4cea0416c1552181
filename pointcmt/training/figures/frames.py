"""Pictures of segmented scenes in their frames: the image, true and predicted classes, errors."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pointcmt.training.figures.plots import INK, bare, caption, to_png
from pointcmt.training.figures.scenes import (
    DPI,
    OUTCOMES,
    UNKNOWN,
    add_legend,
    outcome_of,
    share_correct,
)

ROWS = ("frame", "true classes", "predicted classes", "errors")
WIDTH = 2.6  # inches
TINT = 0.75  # of the class in a pixel's color; the rest is the image's gray
DIM = 0.45  # brightness of pixels that show no point


@dataclass(frozen=True, eq=False)
class SegmentedFrame:
    """An image [H, W, 3] u8, which of its pixels show a point [H, W], and the classes of those.

    true, predicted: [H, W], -1 = unknown or no point.
    """

    name: str
    image: NDArray[np.uint8]
    shown: NDArray[np.bool_]
    true: NDArray[np.int64]
    predicted: NDArray[np.int64]


def draw_frames(frames: list[SegmentedFrame], names: list[str], palette: list[list[int]]) -> bytes:
    """Draw a column for each frame. names, palette: of the classes, colors 0 … 255."""
    height, width = frames[0].image.shape[:2]
    size = WIDTH * max(len(frames), 3), (WIDTH * height / width) * len(ROWS) + 0.7
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    panels = figure.subplots(len(ROWS), len(frames), squeeze=False)
    colors = np.array([*palette, UNKNOWN])
    for column, frame in zip(panels.T, frames, strict=True):
        outcome = outcome_of(frame.true, frame.predicted)
        images = (
            frame.image,
            _tinted(frame, colors[frame.true]),
            _tinted(frame, colors[frame.predicted]),
            _tinted(frame, np.array(OUTCOMES)[outcome]),
        )
        for axes, image in zip(column, images, strict=True):
            axes.imshow(image)
            bare(axes)
        column[0].set_title(caption(frame.name), color=INK, fontsize=8)
        share = share_correct(frame.true, frame.predicted)
        column[-1].set_xlabel(share, color=INK, fontsize=8)
    for axes, title in zip(panels[:, 0], ROWS, strict=True):
        axes.set_ylabel(title, color=INK, fontsize=9)
    add_legend(figure, names, palette, len(frames) * WIDTH)
    return to_png(figure)


def _tinted(frame: SegmentedFrame, colors: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the frame in gray [H, W, 3], with these colors [H, W, 3] where it shows points."""
    gray = frame.image.mean(axis=2, keepdims=True)
    mixed = TINT * colors + (1 - TINT) * gray
    return np.where(frame.shown[..., None], mixed, DIM * gray).astype(np.uint8)
