"""Pictures of segmented scenes from above: true classes, predicted ones, and where they differ."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from pointcmt.training.figures.plots import INK, caption, to_png

HEAD_ROOM = 0.25  # of a scene's height: what is above is left out, such as the ceiling
UNKNOWN, RIGHT, WRONG = (110, 110, 110), (215, 220, 225), (200, 45, 45)  # colors
ROWS = ("true classes", "predicted classes", "errors")
COLUMN = 3.0  # inches


@dataclass(frozen=True, eq=False)
class SegmentedScene:
    """Points [N, 3] with their true and predicted classes [N], -1 = unknown."""

    name: str
    points: NDArray[np.float32]
    true: NDArray[np.int64]
    predicted: NDArray[np.int64]


def draw_scenes(scenes: list[SegmentedScene], names: list[str], palette: list[list[int]]) -> bytes:
    """Draw a column for each scene, seen from above without what is near its ceiling.

    names, palette: of the classes, colors 0 … 255. Errors are red; points without a true class
    are dark gray.
    """
    figure = Figure(figsize=(COLUMN * max(len(scenes), 2), 9.6), dpi=110, layout="constrained")
    panels = figure.subplots(len(ROWS), len(scenes), squeeze=False)
    colors = np.array([*palette, UNKNOWN]) / 255
    for column, scene in zip(panels.T, scenes, strict=True):
        height = scene.points[:, 2]
        shown = height <= height.max() - HEAD_ROOM * (height.max() - height.min())
        order = np.flatnonzero(shown)[np.argsort(height[shown], kind="stable")]
        true, predicted = scene.true[order], scene.predicted[order]
        outcome = np.where(true < 0, 2, np.where(true == predicted, 0, 1))
        outcomes = np.array([RIGHT, WRONG, UNKNOWN]) / 255
        for axes, color in zip(
            column, (colors[true], colors[predicted], outcomes[outcome]), strict=True
        ):
            _scatter(axes, scene.points[order], color)
        known = true >= 0
        share = f"{(true == predicted)[known].mean():.0%} correct" if known.any() else ""
        column[0].set_title(caption(scene.name), color=INK, fontsize=9)
        column[-1].set_xlabel(share, color=INK, fontsize=9)
    for axes, title in zip(panels[:, 0], ROWS, strict=True):
        axes.set_ylabel(title, color=INK, fontsize=9)
    handles = [
        Line2D([], [], color=color, marker="o", linestyle="", label=caption(name))
        for name, color in zip(names, colors, strict=False)
    ]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=min(len(names), 7), frameon=False,
        fontsize=8, labelcolor=INK, handletextpad=0,
    )  # fmt: skip
    return to_png(figure)


def _scatter(axes: Any, points: NDArray[np.float32], color: NDArray[np.float64]) -> None:
    size = float(np.clip(20_000 / max(len(points), 1), 0.2, 6))
    axes.scatter(points[:, 0], points[:, 1], c=color, s=size, linewidths=0)
    axes.set(aspect="equal", xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)
