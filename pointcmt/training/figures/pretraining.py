"""Pictures of pre-training: features of points next to their targets, and predicted matches."""

from dataclasses import dataclass
from textwrap import fill, wrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch
from numpy.typing import NDArray

from pointcmt.training.figures.plots import INK, RULE, TRAIN, VALIDATION, caption, to_png

Array = NDArray[np.float32]
EMPTY = 0.93  # gray level of pixels without a value
SPREAD = (2, 98)  # percentiles of a component that are mapped to 0 and 1
TITLE_WIDTH = 34  # characters per line of a title
LABEL_WIDTH, LABEL_LINES = 34, 3  # characters per line beside an image, and lines
DRAWN = 14  # matches per pair


@dataclass(frozen=True)
class Palette:
    """Three directions in a space of features [D], drawn as red, green and blue."""

    mean: Array
    axes: Array  # [D, 3]
    low: Array  # [3]
    high: Array

    def paint(self, features: Array) -> Array:
        """Map features [..., D] to colors [..., 3] from 0 to 1."""
        components = (features - self.mean) @ self.axes
        return np.clip((components - self.low) / np.maximum(self.high - self.low, 1e-9), 0, 1)


def principal_colors(features: Array) -> Palette:
    """Return the palette of features [n, D]: their three principal components, the first in red.

    With no features (very thin shapes cover no patch enough), return one with a constant color.
    """
    if not len(features):
        D, zero = features.shape[1], np.zeros(3, features.dtype)
        return Palette(np.zeros(D, features.dtype), np.zeros((D, 3), features.dtype), zero, zero)
    mean = features.mean(axis=0)
    centered = features - mean
    _, vectors = np.linalg.eigh(centered.T @ centered)  # ascending
    axes = vectors[:, :-4:-1]
    axes = np.pad(axes, ((0, 0), (0, 3 - axes.shape[1])))
    # the sign is arbitrary: make the largest entry positive
    axes *= np.where(axes[np.abs(axes).argmax(axis=0), range(3)] < 0, -1, 1)
    low, high = np.percentile(centered @ axes, SPREAD, axis=0)
    return Palette(mean, axes, low, high)


@dataclass(frozen=True)
class Look:
    """One view of a shape. image [H,W,3], 0 to 1.

    points [h,w,3]: colors of the points' projected features. head, network [h,w,3]: colors of the
    2D head's output and of the image network's features, with the same palette; None without an
    image network. NaN is drawn empty.
    """

    name: str
    image: Array
    points: Array
    head: Array | None
    network: Array | None


def draw_features(looks: list[Look], network: str) -> bytes:
    """Draw a row for each view, two views of each shape. network: the image network's name."""
    titles = ["view", "projected point features"]
    if looks[0].network is not None:
        titles += ["output of the 2D head", fill(f"features of {network}", TITLE_WIDTH)]
    figure = Figure(figsize=(2.1 * len(titles), 0.5 + 2.1 * len(looks)), dpi=110)
    figure.set_layout_engine("constrained", w_pad=0.03, h_pad=0.03)
    panels = figure.subplots(len(looks), len(titles), squeeze=False)
    for row, look in zip(panels, looks, strict=True):
        row[0].set_ylabel(in_label(look.name), color=INK, fontsize=7)
        pictures = (look.image, look.points, look.head, look.network)
        for axes, picture in zip(row, pictures, strict=False):
            _show(axes, picture)
    for axes, title in zip(panels[0], titles, strict=True):
        axes.set_title(title, color=INK, fontsize=8)
    return to_png(figure)


@dataclass(frozen=True)
class Pair:
    """Two views of a shape, images [H,W,3] from 0 to 1, with m matches.

    here, there, predicted [m,2], shares of the image: positions in the first view, true and
    predicted positions in the second.
    """

    name: str
    images: tuple[Array, Array]
    here: Array
    there: Array
    predicted: Array


def draw_matches(pairs: list[Pair]) -> bytes:
    """Draw lines from pixels of one view to their true and predicted positions in the other.

    Each pair shows some matches, spread over the first view; the title has the mean error of all.
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
    """Draw one pair: both images, and lines across them."""
    for axes, image in zip(panels, pair.images, strict=True):
        _show(axes, image)
    size = np.array(pair.images[0].shape[1::-1])
    panels[0].set_title(in_title(pair), color=INK, fontsize=8, loc="left")
    for which in spread_out(pair.here, DRAWN):
        ends = (pair.here, pair.there, pair.predicted)
        here, there, predicted = (x[which] * size - 0.5 for x in ends)
        for end, color, width in ((predicted, VALIDATION, 0.9), (there, TRAIN, 0.9)):
            line = ConnectionPatch(
                here, end, "data", "data", axesA=panels[0], axesB=panels[1],
                color=color, linewidth=width, alpha=0.8,
            )  # fmt: skip
            figure.add_artist(line)
        panels[0].plot(*here, "o", color=TRAIN, markersize=3)
        panels[1].plot(*there, "o", color=TRAIN, markersize=3)
        panels[1].plot(*predicted, "x", color=VALIDATION, markersize=4, clip_on=True)


def in_label(name: str) -> str:
    """Return a name that fits beside an image: in at most three lines, the end of a longer one."""
    lines = wrap(caption(name), LABEL_WIDTH)
    kept = lines[-LABEL_LINES:]
    return "\n".join([f"…{kept[0][1:]}", *kept[1:]] if len(kept) < len(lines) else kept)


def in_title(pair: Pair) -> str:
    """Return a pair's title: the shape, its number of matches, and their mean error."""
    if not len(pair.here):
        return f"{caption(pair.name)}\nno match"
    error = np.abs(pair.predicted - pair.there).mean()
    return f"{caption(pair.name)}\n{len(pair.here)} matches, off by {error:.1%} of the image"


def spread_out(places: Array, count: int) -> list[int]:
    """Choose at most `count` of the places [m,2] by farthest-point sampling from the first."""
    if not len(places):
        return []
    chosen, distance = [0], np.linalg.norm(places - places[0], axis=1)
    while len(chosen) < min(count, len(places)):
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(places - places[chosen[-1]], axis=1))
    return chosen


def _show(axes: Axes, picture: Array | None) -> None:
    """Show an image without axes."""
    if picture is not None:
        axes.imshow(np.nan_to_num(picture, nan=EMPTY), interpolation="nearest", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_color(RULE)
