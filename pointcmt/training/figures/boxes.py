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

from pointcmt.training.figures.plots import INK, RULE, caption, to_png

LEAST_SCORE = 0.3  # of detections that are drawn
DRAWN_POINTS = 10_000  # of a scene
ROWS = ("true boxes", "predicted boxes")
COLUMN = 3.6  # inches


class Labeled(Protocol):
    """Boxes [K, 7] and their classes [K]."""

    @property
    def boxes(self) -> NDArray[np.floating]: ...
    @property
    def label(self) -> NDArray[np.integer]: ...


class Scored(Labeled, Protocol):
    """Labeled boxes with scores [K]."""

    @property
    def score(self) -> NDArray[np.floating]: ...


@dataclass(frozen=True, eq=False)
class BoxedScene:
    """Points [N, 3] of a scene with its true boxes and its detections."""

    name: str
    points: NDArray[np.float32]
    true: Labeled
    found: Scored


@dataclass(frozen=True, eq=False)
class Curve:
    """Precision over recall [D] of a class, and its average precision."""

    name: str
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    average: float


def draw_boxes(scenes: Sequence[BoxedScene], names: Sequence[str]) -> bytes:
    """Draw a column for each scene from above: its true boxes, and the likely detections.

    A line leads from the middle of a box to its front. The color is the class. Detections with a
    score over LEAST_SCORE are drawn.
    """
    figure = Figure(figsize=(COLUMN * max(len(scenes), 2), 7.6), dpi=110, layout="constrained")
    panels = figure.subplots(len(ROWS), len(scenes), squeeze=False)
    colors = class_colors(len(names))
    for column, scene in zip(panels.T, scenes, strict=True):
        likely = scene.found.score > LEAST_SCORE
        found = scene.found.boxes[likely], scene.found.label[likely]
        shown = ((scene.true.boxes, scene.true.label), found)
        every = -(-len(scene.points) // DRAWN_POINTS)
        for axes, (boxes, label) in zip(column, shown, strict=True):
            x, y = scene.points[::every, :2].T
            axes.scatter(x, y, c=RULE, s=0.5, linewidths=0)
            _outline(axes, boxes, colors[label])
        column[0].set_title(caption(scene.name), color=INK, fontsize=9)
    for axes, title in zip(panels[:, 0], ROWS, strict=True):
        axes.set_ylabel(title, color=INK, fontsize=9)
    _legend(figure, names, colors)
    return to_png(figure)


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
    _legend(figure, names, colors)
    return to_png(figure)


def class_colors(classes: int) -> NDArray[np.float64]:
    """Return a color for each class, [C, 3]; they repeat after 20."""
    palette = np.array(colormaps["tab20"].colors)  # type: ignore[attr-defined]
    order = np.concatenate([np.arange(0, 20, 2), np.arange(1, 20, 2)])  # strong ones first
    return np.asarray(palette[order[np.arange(classes) % 20]], np.float64)


def corners(boxes: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the corners of footprints of boxes [K, 7], counter-clockwise, [K, 4, 2]."""
    signs = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) / 2
    x, y = np.moveaxis(signs * boxes[:, None, 3:5].astype(np.float64), 2, 0)
    cos, sin = np.cos(boxes[:, 6:7]), np.sin(boxes[:, 6:7])
    return np.stack([x * cos - y * sin, x * sin + y * cos], axis=2) + boxes[:, None, :2]


def _outline(axes: Any, boxes: NDArray[np.floating], colors: NDArray[np.float64]) -> None:
    outlines = corners(boxes)
    axes.add_collection(PolyCollection(list(outlines), facecolors="none", edgecolors=colors))
    fronts = (outlines[:, 0] + outlines[:, 3]) / 2
    for middle, front, color in zip(boxes[:, :2], fronts, colors, strict=True):
        axes.plot(*np.stack([middle, front], axis=1), color=color, linewidth=1)
    axes.set(aspect="equal", xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _legend(figure: Figure, names: Sequence[str], colors: NDArray[np.float64]) -> None:
    handles = [
        Line2D([], [], color=color, label=caption(name))
        for name, color in zip(names, colors, strict=True)
    ]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=min(len(names), 7), frameon=False,
        fontsize=8, labelcolor=INK,
    )  # fmt: skip
