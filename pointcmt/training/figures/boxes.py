"""Pictures of 3D detection: boxes from above, and precision over recall."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from matplotlib import colormaps
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from pointcmt.scenes import box_corners
from pointcmt.training.figures.plots import INK, RULE, bare, caption, to_png

LEAST_SCORE = 0.3  # of detections that are drawn
DRAWN_POINTS = 10_000  # of a scene
ROWS = ("true boxes", "predicted boxes")
COLUMN = 3.6  # inches
POINTS = "#a0a0a0"  # the color of a scene's points
MOST_NAMED = 7  # classes in a row of the legend


class Labeled(Protocol):
    """Boxes [K, 7] and their classes [K]."""

    @property
    def boxes(self) -> NDArray[np.floating]: ...
    @property
    def label(self) -> NDArray[np.integer]: ...


@dataclass(frozen=True, eq=False)
class BoxedScene:
    """Points [N, 3] of a scene with its true boxes, None if unknown, and those that were found."""

    name: str
    points: NDArray[np.float32]
    true: Labeled | None
    found: Labeled


@dataclass(frozen=True, eq=False)
class Curve:
    """Precision over recall [D] of a class, and its average precision."""

    name: str
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    average: float


def draw_boxes(scenes: Sequence[BoxedScene], names: Sequence[str], software: str = "") -> bytes:
    """Draw a column for each scene from above: its true boxes, if any scene has them, and those
    that were found.

    A line leads from the middle of a box to its front. The color is the class. software: the maker,
    stored in the file.
    """
    rows = ROWS if any(scene.true is not None for scene in scenes) else ROWS[1:]
    size = COLUMN * max(len(scenes), 2), 0.8 + 3.4 * len(rows)
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    panels = figure.subplots(len(rows), len(scenes), squeeze=False)
    colors = class_colors(len(names))
    for column, scene in zip(panels.T, scenes, strict=True):
        every = -(-len(scene.points) // DRAWN_POINTS)
        x, y = scene.points[::every, :2].T
        for axes, boxes in zip(column, (scene.true, scene.found)[-len(rows) :], strict=True):
            axes.scatter(x, y, c=POINTS, s=0.5, linewidths=0)
            if boxes is not None:
                _outline(axes, boxes.boxes, colors[boxes.label])
            bare(axes)
            axes.set(aspect="equal")
        column[0].set_title(caption(scene.name), color=INK, fontsize=9)
    for axes, title in zip(panels[:, 0], rows, strict=True):
        axes.set_ylabel(title, color=INK, fontsize=9)
    add_classes(figure, names, colors)
    return to_png(figure, software)


def draw_precision(curves: dict[str, list[Curve]], names: Sequence[str]) -> bytes:
    """Draw precision over recall for each class, a panel for each IoU.

    curves: by the panel's title. names: of all classes, which give the colors. The mean average
    precision is in the title.
    """
    figure = Figure(figsize=(4.4 * len(curves), 4.8), dpi=110, layout="constrained")
    panels = figure.subplots(1, len(curves), squeeze=False)[0]
    colors = class_colors(len(names))
    for axes, (title, found) in zip(panels, curves.items(), strict=True):
        for curve in found:
            color = colors[list(names).index(curve.name)]
            if not len(curve.recall):  # nothing was detected
                continue
            recall = np.append(0, curve.recall)
            precision = np.append(curve.precision[0], curve.precision)
            axes.plot(recall, precision, color=color, linewidth=1.4, drawstyle="steps-pre")
        mean = f", mean {np.mean([c.average for c in found]):.1%}" if found else ""
        axes.set_title(f"{title}{mean}", color=INK, fontsize=10, loc="left")
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.grid(color=RULE, linewidth=0.6)
    add_classes(figure, names, colors)
    return to_png(figure)


def class_colors(classes: int) -> NDArray[np.float64]:
    """Return a color for each class, [C, 3]; they repeat after 20."""
    palette = np.array(colormaps["tab20"].colors)  # type: ignore[attr-defined]
    order = np.concatenate([np.arange(0, 20, 2), np.arange(1, 20, 2)])  # strong ones first
    return np.asarray(palette[order[np.arange(classes) % 20]], np.float64)


def _outline(axes: Any, boxes: NDArray[np.floating], colors: NDArray[np.float64]) -> None:
    outlines = box_corners(boxes)[:, :4, :2]
    axes.add_collection(PolyCollection(list(outlines), facecolors="none", edgecolors=colors))
    fronts = (outlines[:, 0] + outlines[:, 3]) / 2
    for middle, front, color in zip(boxes[:, :2], fronts, colors, strict=True):
        axes.plot(*np.stack([middle, front], axis=1), color=color, linewidth=1)


def add_classes(figure: Figure, names: Sequence[str], colors: NDArray[np.float64]) -> None:
    """Put the classes below a figure, with the colors of their boxes."""
    handles = [
        Line2D([], [], color=color, label=caption(name))
        for name, color in zip(names, colors, strict=True)
    ]
    rows = -(-len(names) // MOST_NAMED)
    figure.legend(
        handles=handles, loc="outside lower center", ncols=-(-len(names) // rows), frameon=False,
        fontsize=8, labelcolor=INK,
    )  # fmt: skip
