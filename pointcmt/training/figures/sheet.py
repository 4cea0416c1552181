"""A contact sheet of predictions: each shape with what was predicted for it below."""

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pointcmt.training.figures.plots import INK, PARTS, bare, caption, to_png, view_cloud

COLUMNS = 8
RIGHT, WRONG = "#2e8b57", "#c8433f"
SHADES = "Blues"


@dataclass(frozen=True)
class Tile:
    """One shape on the sheet.

    image [H, W, 3] u8, or else its cloud [N, 3], with the part of each point [N] if there are
    parts. title: above it. lines: below it. right: whether the prediction is right, None = unknown.
    """

    title: str
    lines: tuple[str, ...]
    image: NDArray[np.uint8] | None = None
    cloud: NDArray[np.float32] | None = None
    part: NDArray[np.int64] | None = None
    right: bool | None = None


def draw_sheet(tiles: list[Tile], heading: str, software: str) -> bytes:
    """Draw the tiles in rows of COLUMNS under a heading; return the PNG, marked with its maker."""
    columns = min(COLUMNS, max(4, len(tiles)))
    rows = -(-len(tiles) // columns)
    most = max(len(tile.lines) for tile in tiles)
    height = 1.9 + 0.15 * most
    figure = Figure(figsize=(1.7 * columns, 0.5 + height * rows), dpi=120, layout="constrained")
    figure.suptitle(caption(heading), color=INK, fontsize=10, x=0.01, ha="left")
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes in panels.flat:
        bare(axes)
    for axes, tile in zip(panels.flat, tiles, strict=False):
        if tile.image is not None:
            axes.imshow(tile.image)
        elif tile.cloud is not None:
            x, y, depth = view_cloud(tile.cloud)
            order = np.argsort(depth)
            if tile.part is None:
                look = {"c": depth[order], "cmap": SHADES, "vmin": -1.2, "vmax": 0.6}
            else:
                look = {"c": [PARTS[part % len(PARTS)] for part in tile.part[order]]}
            axes.scatter(x[order], y[order], s=4, linewidths=0, **look)
            axes.set(aspect="equal", xlim=(-1.05, 1.05), ylim=(-1.05, 1.05))
        axes.set_title(caption(_shortened(tile.title)), color="#777777", fontsize=6, pad=2)
        color = {None: INK, True: RIGHT, False: WRONG}[tile.right]
        below = "\n".join(caption(_shortened(line)) for line in tile.lines)
        axes.set_xlabel(below, color=color, fontsize=8, labelpad=2)
    return to_png(figure, software)


def _shortened(text: str, most: int = 24) -> str:
    """Return a text that fits above or below a tile: the end of a longer one."""
    return text if len(text) <= most else f"…{text[1 - most :]}"
