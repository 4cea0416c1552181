"""Pictures of a run: its curves, confusion matrix and clouds. PNG bytes, no display needed."""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from pointcmt.console import in_words
from pointcmt.errors import printable

TERMS = {"transfer": "$L_k$: 2D knowledge transfer", "matching": "$L_m$: view consistency"}
TRAIN, VALIDATION, INK, RULE = "#2a6fbb", "#d9822b", "#333333", "#dddddd"
PARTS = ("#2a6fbb", "#d9822b", "#3c9d5c", "#8a5cb8", "#c8433f", "#8c6d46", "#d873a8", "#6f7b85")


def draw_curve(records: list[dict[str, Any]], best: int, title: str) -> bytes:
    """Draw losses and, if there is one, accuracy or instance mIoU per epoch, train and validation.

    The best epoch is marked. For pre-training, draw the loss and both of its terms.

    records: the lines of metrics.jsonl; a missing value leaves a gap. best: the epoch in `best/`.
    """
    epochs = [record["epoch"] for record in records]
    names = set().union(*records)
    losses = [name for name in ("loss", *TERMS) if {name, f"val_{name}"} & names]
    shares = [
        name
        for name in ("accuracy", "instance_miou", "miou", "ap25")
        if {name, f"val_{name}"} & names
    ]
    quantities = losses + shares
    figure = Figure(figsize=(0.5 + 4.25 * len(quantities), 3.6), dpi=120, layout="constrained")
    panels = figure.subplots(1, len(quantities), squeeze=False)[0]
    for axes, quantity in zip(panels, quantities, strict=True):
        curves = (("train", quantity, TRAIN), ("validation", f"val_{quantity}", VALIDATION))
        for label, key, color in curves:
            values = [record.get(key, np.nan) for record in records]
            if np.isnan(values).all():  # trained without validation
                continue
            marker = "o" if len(records) == 1 else None
            axes.plot(epochs, values, color=color, linewidth=1.6, label=label, marker=marker)
        axes.axvline(best, color=INK, linewidth=0.8, linestyle=":", label=f"best ({best})")
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        axes.set_xlim(0, max(epochs[-1], 2))
        _style(axes, TERMS.get(quantity, in_words(quantity)))
        keys = (quantity, f"val_{quantity}")
        highest = max(record[key] for record in records for key in keys if key in record)
        axes.set_ylim(0, 1.05 * highest if highest > 0 else 1.0)
    for axes in panels[len(losses) :]:
        axes.set_ylim(0, 1.02)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    lines, labels = panels[0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside upper right", ncols=3, frameon=False, fontsize=9)
    figure.suptitle(title, color=INK, fontsize=11, x=0.01, ha="left")
    return to_png(figure)


def caption(name: str) -> str:
    """Escape a name from a dataset for matplotlib, so that it is never read as a formula.

    A space goes before an underscore, since legends leave out names that begin with one.
    """
    plain = printable(name).replace("$", r"\$")
    return f" {plain}" if plain.startswith("_") else plain


def bare(axes: Axes) -> None:
    """Take the ticks and the frame from a panel."""
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)


def draw_clouds(
    pairs: list[tuple[NDArray[np.float32], NDArray[np.float32]]], distances: list[float]
) -> bytes:
    """Draw clouds [N, 3] and the cloud generated for each, seen from the front and above.

    distances: between the two, below each pair: the earth mover's distance, the mean length by
    which a point has to move. +Z is up; nearer points are darker and cover those behind them.
    """
    figure, panels = _gallery(
        len(pairs), ("points of the shape", "from the teacher's feature"), 0.75
    )
    for column, (pair, distance) in enumerate(zip(pairs, distances, strict=True)):
        for row, (cloud, color) in enumerate(zip(pair, ("Blues", "Oranges"), strict=True)):
            x, y, depth = view_cloud(cloud)
            order = np.argsort(depth)
            style = {"cmap": color, "s": 2, "vmin": -1.2, "vmax": 0.6}
            panels[row, column].scatter(x[order], y[order], c=depth[order], **style)
        panels[1, column].set_xlabel(f"EMD {distance:.3f}", color=INK, fontsize=8)
    return to_png(figure)


@dataclass(frozen=True)
class Segmented:
    """A cloud [N, 3] with its true and predicted parts [N], numbered within its class.

    name: of the class. parts: their names. iou: of the shape.
    """

    cloud: NDArray[np.float32]
    true: NDArray[np.int64]
    predicted: NDArray[np.int64]
    name: str
    parts: tuple[str, ...]
    iou: float


def draw_parts(shapes: list[Segmented]) -> Figure:
    """Draw a column for each shape, seen as in `draw_clouds`: class, true and predicted parts, IoU.

    A part's color follows from its number within the class; the legend is below.
    """
    figure, panels = _gallery(len(shapes), ("true parts", "predicted parts"), 1.05)
    most = max(len(shape.parts) for shape in shapes)
    figure.set_figheight(figure.get_figheight() + 0.4 + 0.14 * most)
    for column, shape in zip(panels.T, shapes, strict=True):
        x, y, depth = view_cloud(shape.cloud)
        order = np.argsort(depth)
        for axes, parts in zip(column, (shape.true, shape.predicted), strict=True):
            colors = [PARTS[part % len(PARTS)] for part in parts[order]]
            axes.scatter(x[order], y[order], c=colors, s=5, linewidths=0)
        column[0].set_title(caption(shape.name), color=INK, fontsize=8)
        column[1].set_xlabel(f"IoU {shape.iou:.0%}", color=INK, fontsize=8)
        handles = [
            Line2D([], [], color=PARTS[part % len(PARTS)], marker="o", linestyle="", label=name)
            for part, name in enumerate(map(caption, shape.parts))
        ]
        column[1].legend(
            handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.14), frameon=False,
            fontsize=7, labelcolor=INK, markerscale=0.6, handletextpad=0, labelspacing=0.2,
        )  # fmt: skip
    return figure


def _gallery(columns: int, rows: tuple[str, ...], reach: float) -> tuple[Figure, Any]:
    """Return a figure of empty panels without axes, each from -reach to reach. rows: titles."""
    size = (1.6 * columns, 0.4 + 1.6 * len(rows))
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    panels = figure.subplots(len(rows), columns, squeeze=False)
    for axes in panels.flat:
        bare(axes)
        axes.set(aspect="equal", xlim=(-reach, reach), ylim=(-reach, reach))
    for row, name in enumerate(rows):
        panels[row, 0].set_ylabel(name, color=INK, fontsize=8)
    return figure, panels


def view_cloud(cloud: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """View a cloud [N, 3] from the front and above: right, up and toward the viewer, [N] each."""
    turn, tilt = np.radians(30), np.radians(20)
    right = np.array([np.cos(turn), np.sin(turn), 0])
    toward = np.array([np.sin(turn) * np.cos(tilt), -np.cos(turn) * np.cos(tilt), np.sin(tilt)])
    return cloud @ right, cloud @ np.cross(toward, right), cloud @ toward


def _style(axes: Axes, title: str) -> None:
    axes.set_title(title, color=INK, fontsize=10, loc="left")
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=9)
    axes.xaxis.label.set_color(INK)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(RULE)


def to_png(figure: Figure, software: str = "") -> bytes:
    """Return a figure as the bytes of a PNG file. software: its maker, stored in the file."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": software} if software else None)
    return buffer.getvalue()
