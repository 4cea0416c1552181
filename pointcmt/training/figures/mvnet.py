"""Pictures of pre-training: what points have learned, beside what they learned it from."""

from dataclasses import dataclass
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch
from numpy.typing import NDArray

from pointcmt.training.figures.plots import INK, RULE, TRAIN, VALIDATION, caption, to_png

Array = NDArray[np.float32]
NOWHERE = 0.93  # grey of what shows nothing
SPREAD = (2, 98)  # percentiles of a component that become dark and bright
TITLE = 34  # letters of a title's line
DRAWN = 14  # matches of a pair


@dataclass(frozen=True)
class Palette:
    """Three directions in a space of features [D], shown as red, green and blue."""

    mean: Array
    axes: Array  # [D, 3]
    low: Array  # [3]
    high: Array

    def paint(self, features: Array) -> Array:
        """Features [..., D] → colours [..., 3] from 0 to 1; the same ones for the same features."""
        found = (features - self.mean) @ self.axes
        return np.clip((found - self.low) / np.maximum(self.high - self.low, 1e-9), 0, 1)


def principal_colors(features: Array) -> Palette:
    """The palette of features [n, D]: their three principal components, most of it in red.

    Of none, as where thin shapes cover no patch enough to count, one that paints all the same.
    """
    if not len(features):
        D, none = features.shape[1], np.zeros(3, features.dtype)
        return Palette(np.zeros(D, features.dtype), np.zeros((D, 3), features.dtype), none, none)
    mean = features.mean(axis=0)
    centered = features - mean
    _, vectors = np.linalg.eigh(centered.T @ centered)  # ascending
    axes = vectors[:, :-4:-1]
    axes = np.pad(axes, ((0, 0), (0, 3 - axes.shape[1])))
    axes *= np.where(axes[np.abs(axes).argmax(axis=0), range(3)] < 0, -1, 1)  # one of two signs
    low, high = np.percentile(centered @ axes, SPREAD, axis=0)
    return Palette(mean, axes, low, high)


@dataclass(frozen=True)
class Look:
    """One view of a shape. image [H,W,3], 0 to 1. points [h,w,3]: colours of the points' features,
    projected. head, network [h,w,3]: what the head makes of them, and what the 2D network sees, in
    the same colours; None where there is no such network. NaN shows nothing.
    """

    name: str
    image: Array
    points: Array
    head: Array | None
    network: Array | None


def draw_features(looks: list[Look], network: str) -> bytes:
    """A row for each view, of two views of each shape; network: the 2D network's name."""
    titles = ["view", "features of the points, projected"]
    if looks[0].network is not None:
        titles += ["what the 2D head makes of them", fill(f"what {network} sees", TITLE)]
    figure = Figure(figsize=(2.1 * len(titles), 0.5 + 2.1 * len(looks)), dpi=110)
    figure.set_layout_engine("constrained", w_pad=0.03, h_pad=0.03)
    panels = figure.subplots(len(looks), len(titles), squeeze=False)
    for row, look in zip(panels, looks, strict=True):
        row[0].set_ylabel(look.name, color=INK, fontsize=6)
        shown = (look.image, look.points, look.head, look.network)
        for axes, picture in zip(row, shown, strict=False):
            _show(axes, picture)
    for axes, title in zip(panels[0], titles, strict=True):
        axes.set_title(title, color=INK, fontsize=8)
    return to_png(figure)


@dataclass(frozen=True)
class Pair:
    """Two views of a shape, images [H,W,3] from 0 to 1, and matches [m,2] as shares of the image:
    where the pixels are in the first view, where in the second, and where the network says so.
    """

    name: str
    images: tuple[Array, Array]
    here: Array
    there: Array
    predicted: Array


def draw_matches(pairs: list[Pair]) -> bytes:
    """Lines from pixels of a view to where they are in the other, and to where they are said to be.

    Of each pair some matches, spread over the first view; in the title the mean error of all.
    """
    columns = min(2, len(pairs))
    rows = -(-len(pairs) // columns)
    figure = Figure(figsize=(5.6 * columns, 0.5 + 3.0 * rows), dpi=110)
    figure.set_layout_engine("constrained", w_pad=0.04, h_pad=0.04)
    panels = figure.subplots(rows, 2 * columns, squeeze=False)
    for axes in panels.flat:
        axes.set_axis_off()
    for number, pair in enumerate(pairs):
        row, column = divmod(number, columns)
        _draw_pair(figure, panels[row, 2 * column : 2 * column + 2], pair)
    handles = [
        panels[0, 0].plot([], [], color=TRAIN, marker="o", markersize=4, label="true")[0],
        panels[0, 0].plot([], [], color=VALIDATION, marker="x", markersize=5, label="predicted")[0],
    ]
    figure.legend(handles=handles, loc="outside upper right", ncols=2, frameon=False, fontsize=8)
    return to_png(figure)


def _draw_pair(figure: Figure, panels: Any, pair: Pair) -> None:
    """One pair: both images, and lines across them."""
    for axes, image in zip(panels, pair.images, strict=True):
        _show(axes, image)
    size = np.array(pair.images[0].shape[1::-1])
    panels[0].set_title(in_title(pair), color=INK, fontsize=8, loc="left")
    for which in spread_out(pair.here, DRAWN):
        here, there, said = (x[which] * size - 0.5 for x in (pair.here, pair.there, pair.predicted))
        for end, color, width in ((said, VALIDATION, 0.9), (there, TRAIN, 0.9)):
            line = ConnectionPatch(
                here, end, "data", "data", axesA=panels[0], axesB=panels[1],
                color=color, linewidth=width, alpha=0.8,
            )  # fmt: skip
            figure.add_artist(line)
        panels[0].plot(*here, "o", color=TRAIN, markersize=3)
        panels[1].plot(*there, "o", color=TRAIN, markersize=3)
        panels[1].plot(*said, "x", color=VALIDATION, markersize=4, clip_on=True)


def in_title(pair: Pair) -> str:
    """The shape, how many matches there are, and their mean error."""
    if not len(pair.here):
        return f"{caption(pair.name)}\nno match"
    error = np.abs(pair.predicted - pair.there).mean()
    return f"{caption(pair.name)}\n{len(pair.here)} matches, off by {error:.1%} of the image"


def spread_out(places: Array, count: int) -> list[int]:
    """`count` of the places [m,2] at most, each far from those before it: from the first on."""
    if not len(places):
        return []
    chosen, away = [0], np.linalg.norm(places - places[0], axis=1)
    while len(chosen) < min(count, len(places)):
        chosen.append(int(away.argmax()))
        away = np.minimum(away, np.linalg.norm(places - places[chosen[-1]], axis=1))
    return chosen


def _show(axes: Axes, picture: Array | None) -> None:
    """An image without axes."""
    if picture is not None:
        axes.imshow(np.nan_to_num(picture, nan=NOWHERE), interpolation="nearest", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_color(RULE)
