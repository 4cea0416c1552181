"""Pictures of segmented scenes from above, and the IoU of each class."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from pointcmt.training.figures.plots import INK, RULE, bare, caption, to_png

HEAD_ROOM = 0.25  # of a scene's height: what is above is left out, such as the ceiling
UNKNOWN, RIGHT, WRONG = (110, 110, 110), (215, 220, 225), (200, 45, 45)  # colors
OUTCOMES = (RIGHT, WRONG, UNKNOWN)
COLUMN, PANEL = 3.0, 2.7  # inches: a column with its margins, and without
CELL = 0.2  # meters, of the grid in which points are counted
OVERLAP = 1.6  # of the squares that stand for points, so that there are no gaps between them
ENTRY = 1.35  # inches of an entry of the legend
DPI = 110


@dataclass(frozen=True, eq=False)
class SegmentedScene:
    """Points [N, 3] with their true and predicted classes [N], -1 = unknown.

    true: None if no point has a class. color: of the points [N, 3] u8, if it is to be shown.
    """

    name: str
    points: NDArray[np.float32]
    true: NDArray[np.int64] | None
    predicted: NDArray[np.int64]
    color: NDArray[np.uint8] | None = None


def draw_scenes(
    scenes: list[SegmentedScene],
    names: Sequence[str],
    palette: Sequence[Sequence[int]],
    software: str = "",
) -> bytes:
    """Draw a column for each scene, seen from above without what is near its ceiling.

    The rows are the colors of the points, their true classes, the predicted ones and the errors,
    as far as any scene has them. names, palette: of the classes, colors 0 … 255. Errors are red;
    points without a true class are dark gray. software: the maker, stored in the file.
    """
    rows = ["predicted classes"]
    if any(scene.true is not None for scene in scenes):
        rows = ["true classes", *rows, "errors"]
    if any(scene.color is not None for scene in scenes):
        rows = ["colors", *rows]
    size = COLUMN * max(len(scenes), 2), 0.8 + PANEL * len(rows)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    panels = figure.subplots(len(rows), len(scenes), squeeze=False)
    for axes in panels.flat:
        bare(axes)
    for column, scene in zip(panels.T, scenes, strict=True):
        order = _lower_part(scene.points[:, 2])
        colors = _colors(scene, palette)
        for axes, row in zip(column, rows, strict=True):
            if row in colors:
                _scatter(axes, scene.points[order], colors[row][order] / 255)
        column[0].set_title(caption(scene.name), color=INK, fontsize=9)
        if scene.true is not None:
            share = share_correct(scene.true, scene.predicted)
            column[-1].set_xlabel(share, color=INK, fontsize=9)
    for axes, title in zip(panels[:, 0], rows, strict=True):
        axes.set_ylabel(title, color=INK, fontsize=9)
    add_legend(figure, names, palette, size[0])
    return to_png(figure, software)


def draw_classes(
    names: Sequence[str],
    iou: NDArray[np.float64],
    accuracy: NDArray[np.float64],
    points: NDArray[np.int64],
    title: str,
) -> bytes:
    """Draw a table of the classes, the best first: IoU as a bar, accuracy as a tick, points.

    iou, accuracy: of each class [C], NaN for one without points, which has no bar. points: [C].
    """
    order = np.argsort(-np.nan_to_num(iou, nan=-1), kind="stable")
    height = 1.2 + 0.27 * len(names)
    figure = Figure(figsize=(6.4, height), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    rows = np.arange(len(names))
    axes.barh(rows, np.nan_to_num(iou[order]), height=0.66, color="#2a6fbb", label="IoU")
    axes.plot(accuracy[order], rows, "|", color="#d9822b", markersize=11, mew=2, label="accuracy")
    share = points / max(int(points.sum()), 1)
    for row, index in enumerate(order.tolist()):
        known = np.isfinite(iou[index])
        text = f"{iou[index]:.1%}  ·  {share[index]:.1%} of points" if known else "no points"
        axes.text(1.02, row, text, va="center", fontsize=8, color=INK)
    axes.set_yticks(rows, [caption(names[index]) for index in order], fontsize=9)
    axes.set(xlim=(0, 1), ylim=(len(names) - 0.4, -0.6), xticks=np.linspace(0, 1, 6))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.tick_params(colors=INK, length=0, labelsize=9)
    axes.grid(axis="x", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(title, color=INK, fontsize=10, loc="left")
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8, labelcolor=INK)
    return to_png(figure)


def outcome_of(true: NDArray[np.int64], predicted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the number in OUTCOMES for each prediction: right, wrong, or unknown."""
    return np.where(true < 0, 2, np.where(true == predicted, 0, 1))


def share_correct(true: NDArray[np.int64], predicted: NDArray[np.int64]) -> str:
    """Return the share of right predictions as text, "" if no class is known."""
    known = true >= 0
    return f"{(true == predicted)[known].mean():.0%} correct" if known.any() else ""


def add_legend(
    figure: Figure, names: Sequence[str], palette: Sequence[Sequence[int]], width: float
) -> None:
    """Put the classes below a figure that is `width` inches wide."""
    handles = [
        Line2D(
            [],
            [],
            color=to_hex((color[0] / 255, color[1] / 255, color[2] / 255)),
            marker="o",
            linestyle="",
            label=name,
        )
        for name, color in zip(map(caption, names), palette, strict=True)
    ]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=min(len(names), int(width / ENTRY)),
        frameon=False, fontsize=8, labelcolor=INK, handletextpad=0, columnspacing=1.2,
    )  # fmt: skip


def _colors(scene: SegmentedScene, palette: Sequence[Sequence[int]]) -> dict[str, NDArray[Any]]:
    """Return the colors [N, 3] of each row that a scene has."""
    of_class = np.array([*palette, UNKNOWN])
    found: dict[str, NDArray[Any]] = {"predicted classes": of_class[scene.predicted]}
    if scene.color is not None:
        found["colors"] = scene.color
    if scene.true is not None:
        found["true classes"] = of_class[scene.true]
        found["errors"] = np.array(OUTCOMES)[outcome_of(scene.true, scene.predicted)]
    return found


def _lower_part(height: NDArray[np.float32]) -> NDArray[np.intp]:
    """Return the points below the head room, the highest ones last."""
    shown = height <= height.max() - HEAD_ROOM * (height.max() - height.min())
    return np.flatnonzero(shown)[np.argsort(height[shown], kind="stable")]


def _scatter(axes: Any, points: NDArray[np.float32], color: NDArray[np.float64]) -> None:
    """Draw points from above as squares that touch each other, in a square panel."""
    low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
    middle, half = (low + high) / 2, max(float((high - low).max()) / 2, CELL)
    width = OVERLAP * _spacing(points) * 72 * PANEL / (2 * half)  # in points of 1/72 inch
    axes.scatter(points[:, 0], points[:, 1], c=color, s=width**2, marker="s", linewidths=0)
    axes.set(aspect="equal", anchor="N")
    axes.set(xlim=middle[0] + [-half, half], ylim=middle[1] + [-half, half])


def _spacing(points: NDArray[np.float32]) -> float:
    """Return how far points [N, 3] are apart in the plan, in meters, where they are one layer."""
    cells = np.floor(points[:, :2] / CELL).astype(np.int64)
    _, counts = np.unique(cells, axis=0, return_counts=True)
    return float(CELL / np.sqrt(np.median(counts)))
