"""The figures of a study: validation curves, and scores along its axes."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pointcmt.console import in_words
from pointcmt.training.figures.plots import INK, PARTS, RULE, caption
from pointcmt.training.studies.plan import Job
from pointcmt.training.studies.scores import Cell

PANEL, COLUMNS = (4.2, 2.9), 3  # inches
LINES = ("-", "--", ":")  # after all colors


def figures_of(
    finished: Mapping[str, tuple[Job, dict[str, Any]]], cells: Mapping[str, list[Cell]]
) -> dict[str, Figure]:
    """Return the figures by name."""
    found = {}
    for recipe in dict.fromkeys(job.run.recipe for job, _ in finished.values()):
        mine = [(job, results) for job, results in finished.values() if job.run.recipe == recipe]
        found[f"curves-{recipe}"] = curves(mine)
    for task, table in cells.items():
        for axis in dict.fromkeys(axis for cell in table for axis in cell.place):
            if len({cell.place[axis] for cell in table if axis in cell.place}) > 1:
                found[f"{task}-by-{axis}"] = along(axis, table)
    return found


def curves(finished: Sequence[tuple[Job, dict[str, Any]]]) -> Figure:
    """Draw the validation score of each epoch, mean over seeds, in a panel for each place."""
    panels: dict[str, dict[str, list[list[float]]]] = {}
    name = ""
    for job, results in finished:
        curve = results["curve"]
        values = [np.nan if value is None else value for value in curve["values"]]
        rows = panels.setdefault(" · ".join(job.place.values()), {})
        rows.setdefault(job.row, []).append(values)
        name = name or curve["name"]
    figure, axes = _grid(len(panels))
    colors = _styles([row for rows in panels.values() for row in rows])
    for panel, (place, rows) in zip(axes, panels.items(), strict=False):
        for row, each in rows.items():
            length = min(map(len, each))
            mean = np.mean([values[:length] for values in each], axis=0)
            panel.plot(range(1, length + 1), mean, **colors[row], label=caption(row))
        _style(panel, place or "all", "epoch", in_words(name.removeprefix("val_")))
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(figure, axes, "validation, mean over seeds")
    return figure


def along(axis: str, cells: Sequence[Cell]) -> Figure:
    """Draw the first measure over an axis' values, in a panel for each place on the others."""
    mine = [cell for cell in cells if axis in cell.place]
    values = list(dict.fromkeys(cell.place[axis] for cell in mine))
    others = [{name: v for name, v in cell.place.items() if name != axis} for cell in mine]
    most = max(map(len, others))
    places = [place for place in others if len(place) == most]
    panels: dict[str, dict[str, dict[str, list[float]]]] = {}
    for place in places:
        rows = panels.setdefault(" · ".join(place.values()), {})
        for cell, other in zip(mine, others, strict=True):
            if other.items() <= place.items():  # a teacher's is in the panels of all students
                scores = [next(iter(measures.values())) for measures in cell.measures.values()]
                rows.setdefault(cell.row, {})[cell.place[axis]] = scores
    figure, axes = _grid(len(panels))
    colors = _styles([row for rows in panels.values() for row in rows])
    for panel, (title, rows) in zip(axes, panels.items(), strict=False):
        for (row, found), shift in zip(rows.items(), _shifts(len(rows)), strict=True):
            x = [values.index(value) + shift for value in found]
            y = [100 * float(np.mean(scores)) for scores in found.values()]
            spread = [100 * float(np.std(s, ddof=1)) if len(s) > 1 else 0.0 for s in found.values()]
            panel.errorbar(
                x, y, spread, **colors[row], label=caption(row), marker="o", markersize=3
            )
        panel.set_xticks(range(len(values)), [caption(value) for value in values])
        name = in_words(next(iter(next(iter(mine[0].measures.values())))))
        _style(panel, title or "all", axis, f"{name} (%)")
    _legend(figure, axes, "mean ± standard deviation over seeds")
    return figure


def _grid(count: int) -> tuple[Figure, list[Axes]]:
    columns = min(COLUMNS, count)
    rows = -(-count // columns)
    figure = Figure((PANEL[0] * columns, PANEL[1] * rows + 0.7), layout="constrained")
    axes = list(figure.subplots(rows, columns, sharey=True, squeeze=False).ravel())
    for panel in axes[count:]:
        panel.set_axis_off()
    return figure, axes


def _styles(rows: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return a color and a line for each row, the same in all panels."""
    styles = [(line, color) for line, color in product(LINES, PARTS)]
    names = list(dict.fromkeys(rows))
    return {
        name: {"linestyle": line, "color": color, "linewidth": 1.4}
        for place, name in enumerate(names)
        for line, color in [styles[place % len(styles)]]
    }


def _shifts(count: int) -> list[float]:
    """Return small offsets, so that the deviations of several rows do not hide each other."""
    return [0.02 * (place - (count - 1) / 2) for place in range(count)]


def _style(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(caption(title), color=INK, fontsize=10, loc="left")
    axes.set_xlabel(x, color=INK, fontsize=9)
    axes.set_ylabel(y, color=INK, fontsize=9)
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    axes.tick_params(colors=INK, labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _legend(figure: Figure, axes: Sequence[Axes], title: str) -> None:
    handles: dict[str, Any] = {}
    for panel in axes:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(
        handles.values(), handles.keys(), loc="outside upper left", ncols=min(6, len(handles)),
        frameon=False, fontsize=8, title=title, title_fontsize=8,
    )  # fmt: skip
