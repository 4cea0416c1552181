"""The figures of a report, as SVG and PDF."""

import io
from collections.abc import Mapping

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pointcmt.console import in_words
from pointcmt.training.figures.plots import INK, PARTS, RULE, caption
from pointcmt.training.report.differences import OVERALL, Difference
from pointcmt.training.report.source import Source

QUANTITIES = ("loss", "transfer", "matching", "accuracy", "instance_miou", "miou", "ap25")
PANEL = (4.4, 3.0)  # inches
COLUMNS = 3
MOST_CLASSES = 60  # of a figure of differences: those that differ most
SALT = "pointcmt"  # SVG's ids follow from it, so that the same report has the same bytes


def figures_of(
    sources: list[Source], baseline: Source, gains: Mapping[str, Mapping[str, Difference]]
) -> dict[str, Figure]:
    """Return the figures of a report by name. gains: by run, see `all_differences`."""
    found = {}
    if any(source.records for source in sources):
        found["curves"] = curves(sources)
    for place, source in enumerate(sources):
        if source.name in gains:
            found[f"differences-{place}"] = class_differences(source, baseline, gains[source.name])
    return found


def curves(sources: list[Source]) -> Figure:
    """Draw each quantity over the epochs: validation as lines, training as dots."""
    trained = [source for source in sources if source.records]
    keys = {key.removeprefix("val_") for source in trained for key in source.records[-1]}
    shown = [name for name in QUANTITIES if name in keys]
    columns = min(COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure((PANEL[0] * columns, PANEL[1] * rows + 0.5), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[len(shown) :]:
        axes.set_axis_off()
    for axes, name in zip(panels, shown, strict=False):
        for place, source in enumerate(trained):
            color, label = PARTS[place % len(PARTS)], caption(source.name)
            for key, line in ((f"val_{name}", "-"), (name, ":")):
                values = [record.get(key, np.nan) for record in source.records]
                if not np.all(np.isnan(values)):
                    epochs = [record["epoch"] for record in source.records]
                    marker = "o" if len(epochs) == 1 else None
                    axes.plot(epochs, values, line, color=color, label=label, marker=marker)
                    label = "_"
        axes.set_title(in_words(name), color=INK, fontsize=10, loc="left")
        axes.set_xlabel("epoch", color=INK, fontsize=9)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="y", color=RULE, linewidth=0.6)
        axes.tick_params(colors=INK, labelsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside upper left", ncols=min(4, len(labels)), frameon=False,
        fontsize=9, title="lines: validation, dots: training", title_fontsize=8,
    )  # fmt: skip
    return figure


def class_differences(source: Source, baseline: Source, gains: Mapping[str, Difference]) -> Figure:
    """Draw the difference of each class with its interval, by size, and the overall one."""
    known = {name: gain for name, gain in gains.items() if gain.value is not None}
    whole = known.pop(OVERALL, None)
    names = sorted(known, key=lambda name: -abs(known[name].value or 0))[:MOST_CLASSES]
    names = sorted(names, key=lambda name: known[name].value or 0)
    rows = [*((name, known[name]) for name in names), *([(OVERALL, whole)] if whole else [])]
    figure = Figure((6.4, 0.9 + 0.24 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for place, (name, gain) in enumerate(rows):
        value = 100 * (gain.value or 0)
        color = INK if name == OVERALL else PARTS[0] if value >= 0 else PARTS[4]
        if gain.low is not None and gain.high is not None:
            axes.plot([100 * gain.low, 100 * gain.high], [place] * 2, color=color, linewidth=1.4)
        axes.plot(value, place, "o", color=color, markersize=4.5)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_yticks(range(len(rows)), [caption(name) for name, _ in rows], fontsize=8)
    axes.set_ylim(-0.7, len(rows) - 0.3)
    axes.grid(axis="x", color=RULE, linewidth=0.6)
    axes.tick_params(colors=INK, labelsize=8, length=0)
    axes.set_xlabel(
        f"{in_words(source.measure_of_classes)}, points: {caption(source.name)} − "
        f"{caption(baseline.name)} (95 % intervals)", color=INK, fontsize=9,
    )  # fmt: skip
    axes.spines[["top", "right", "left"]].set_visible(False)
    return figure


def figure_files(name: str, figure: Figure) -> dict[str, bytes]:
    """Return a figure as SVG and PDF by file name; equal figures have equal bytes."""
    found = {}
    for suffix, dated in (("svg", "Date"), ("pdf", "CreationDate")):
        file = io.BytesIO()
        with matplotlib.rc_context({"svg.hashsalt": SALT}):
            figure.savefig(file, format=suffix, metadata={dated: None})
        found[f"{name}.{suffix}"] = file.getvalue()
    return found
