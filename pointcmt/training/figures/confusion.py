"""Confusion matrices of any number of classes."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from pointcmt.training.figures.plots import INK, RULE, caption, to_png

COUNTED = 20  # classes up to which cells show counts; with more, percentages of the row
NUMBERED = 60  # classes up to which cells have numbers
LOWEST = 0.01  # share of a row: cells below have no percentage
LONGEST = 24  # characters of a class's name


def draw_confusion(confusion: NDArray[np.int64], class_names: list[str], title: str) -> bytes:
    """Draw a confusion matrix [C, C]; rows are the truth, columns the prediction.

    The color is the share of the row, so that classes of different sizes can be compared. Cells
    have counts (six digits and more are shortened: 335k, 1.2M), or percentages if there are many
    classes. Classes that are neither in the truth nor predicted are left out.
    """
    return to_png(confusion_figure(confusion, class_names, title))


def confusion_figure(confusion: NDArray[np.int64], class_names: list[str], title: str) -> Figure:
    """Return `draw_confusion`'s figure."""
    present = np.flatnonzero(confusion.sum(axis=0) + confusion.sum(axis=1))
    absent = len(class_names) - len(present)
    present = present if len(present) else np.arange(len(class_names))
    confusion = confusion[np.ix_(present, present)]
    names = [_shortened(caption(class_names[label])) for label in present]
    C = len(names)
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    side = 2.6 + max(2.4, min(0.42 * C if C <= COUNTED else 0.3 * C, 18.0))
    figure = Figure(figsize=(side + 0.6, side), dpi=120, layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    bar = figure.colorbar(picture, ax=axes, shrink=0.6, pad=0.02)
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    bar.ax.tick_params(colors=INK, labelsize=8, length=2)
    counted = "counts" if C <= COUNTED else "percent" if C <= NUMBERED else ""
    numbers = f"; numbers: {counted}" if counted else ""
    bar.set_label(f"share of the true class{numbers}", color=INK, fontsize=9)
    bar.outline.set_edgecolor(RULE)
    for row, column in np.argwhere(confusion) if counted else ():
        color = "white" if shares[row, column] > 0.55 else INK
        if C <= COUNTED:
            text = _brief(int(confusion[row, column]))
        elif shares[row, column] < LOWEST:
            continue
        else:
            text = f"{100 * shares[row, column]:.0f}"
        size = 8 if C <= COUNTED else 7
        axes.text(column, row, text, ha="center", va="center", fontsize=size, color=color)
    axes.set_xticks(range(C), names, rotation=90, fontsize=9 if C <= COUNTED else 8)
    axes.set_yticks(range(C), names, fontsize=9 if C <= COUNTED else 8)
    axes.set_xticks(np.arange(C + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(C + 1) - 0.5, minor=True)
    axes.grid(which="minor", color=RULE, linewidth=0.5)
    axes.tick_params(which="both", length=0, colors=INK)
    axes.set_xlabel("predicted", color=INK)
    axes.set_ylabel("true", color=INK)
    for spine in axes.spines.values():
        spine.set_color(RULE)
    few = "1 class" if absent == 1 else f"{absent} classes"
    left_out = f"\nleft out, neither true nor predicted: {few}" if absent else ""
    axes.set_title(title + left_out, color=INK, fontsize=10)
    return figure


def _shortened(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


def _brief(count: int) -> str:
    """Return a count that fits into a cell."""
    if count < 100_000:
        return str(count)
    if count < 999_500:
        return f"{count / 1e3:.0f}k"
    return f"{count / 1e6:.1f}M" if count < 99_950_000 else f"{count / 1e6:.0f}M"
