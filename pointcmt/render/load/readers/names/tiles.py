"""UDIM tiles: a texture of several images; the integer part of the coordinates chooses one.

Tile 1001 + column + 10 × row covers u from column to column + 1, v from row to row + 1 (the
convention of Mari, which Blender, Maya and Substance share). Repeating coordinates then fall on the
right place of a tile's image as they are.
"""

import re

import numpy as np
from numpy.typing import NDArray

FIRST_TILE = 1001
_COLUMNS, _LAST_TILE = 10, 1100
_MARK = re.compile(r"<udim>|%\(udim\)d", re.IGNORECASE)
_UV_MARK = re.compile(r"<uvtile>", re.IGNORECASE)  # Mudbox: u1_v1 is the first
_NUMBERED = re.compile(r"(?<=[._-])1001(?=\.[A-Za-z]\w*$)")  # the first tile by its own name


def tile_name(name: str, tile: int = FIRST_TILE) -> str | None:
    """Return the name of a tile's file; None if the name has no mark for a tile's number.

    >>> tile_name("skin.<UDIM>.png"), tile_name("skin.png")
    ('skin.1001.png', None)
    """
    if _MARK.search(name):
        return _MARK.sub(str(tile), name)
    if _UV_MARK.search(name):
        column, row = (tile - FIRST_TILE) % _COLUMNS, (tile - FIRST_TILE) // _COLUMNS
        return _UV_MARK.sub(f"u{column + 1}_v{row + 1}", name)
    return None


def numbered_name(name: str, tile: int) -> str | None:
    """Return the name of another tile beside `name.1001.png`; None for other names."""
    return _NUMBERED.sub(str(tile), name) if _NUMBERED.search(name) else None


def tiles_of(uv: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the tile [F] in which the middle of each triangle is, 0 = none; uv [F,3,2]."""
    column, row = np.moveaxis(np.floor(uv.mean(axis=1)), -1, 0)
    tile = FIRST_TILE + column + _COLUMNS * row
    exists = (column >= 0) & (column < _COLUMNS) & (row >= 0) & (tile <= _LAST_TILE)
    return np.where(exists, tile, 0).astype(np.int64)
