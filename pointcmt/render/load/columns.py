"""What the columns of a table of points mean: by their names, else by their number and values.

Without names (docs/datasets.md repeats the rules):

- the first three columns are x, y, z;
- three further columns are normals if most of those that are not 0 have length 1, or colors if they
  are from 0 to 1 or from 0 to 255, each once, in the order of the file;
- any other column is a label if it holds whole numbers from 0, else an intensity; both are unused.

Some suffixes decide themselves: .xyzrgb has colors, .xyzn normals, and .pts x y z intensity r g b.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pointcmt.errors import Reason, ShapeRefused, printable
from pointcmt.render.load.normals import TOLERANCE
from pointcmt.render.load.readers.delimited import has_axes, role_of
from pointcmt.render.load.readers.points import Table, finite_cloud
from pointcmt.shapes import Cloud

_SAMPLED = 100_000  # rows that decide whether columns are normals
_MOST_LISTED = 5  # unused columns in a note
_AXES, _NORMALS, _COLORS = ("x", "y", "z"), ("nx", "ny", "nz"), ("red", "green", "blue")


@dataclass(frozen=True)
class Meaning:
    """Which columns to use, and a note on what was assumed or left out ("" = nothing)."""

    points: tuple[int, ...] = (0, 1, 2)
    normals: tuple[int, ...] | None = None
    colors: tuple[int, ...] | None = None
    note: str = ""


def cloud_of(table: Table, suffix: str = "") -> Cloud:
    """Make a cloud of a table, leaving out points that are not finite.

    suffix: of the file. Raises ShapeRefused: bad_syntax, not_finite.
    """
    by_name = has_axes(table.names)
    meaning = _by_names(table.names) if by_name else _by_values(table.values, suffix)
    groups = (meaning.points, meaning.normals, meaning.colors)
    needed = [column for columns in groups for column in columns or ()]
    for column in needed if by_name else table.words:
        if column in table.words:
            raise ShapeRefused(Reason.BAD_SYNTAX, table.words[column])
    points, normals, colors = (
        None if columns is None else np.ascontiguousarray(table.values[:, columns])
        for columns in groups
    )
    assert points is not None
    unread = ""
    if table.names and not by_name:
        listed = ", ".join(printable(name, 20) for name in table.names[:_MOST_LISTED])
        unread = f"names of columns not understood: {listed}"
    notes = (*table.notes, *filter(None, (unread, meaning.note)))
    most = 65535 if by_name else 255
    return finite_cloud(points, normals, _unit_colors(colors, most), notes=notes)


def _by_names(names: tuple[str, ...]) -> Meaning:
    """Return the meaning of named columns, which have x, y, z; the first of equal names counts."""
    roles = [role_of(name) for name in names]

    def find(wanted: tuple[str, ...]) -> tuple[int, ...] | None:
        return tuple(map(roles.index, wanted)) if set(wanted) <= set(roles) else None

    normals, colors = find(_NORMALS), find(_COLORS)
    used = {*_AXES, *(_NORMALS if normals else ()), *(_COLORS if colors else ()), "alpha"}
    unused = [
        name
        for i, (name, role) in enumerate(zip(names, roles, strict=True))
        if name and (role not in used or roles.index(role) != i)
    ]
    listed = ", ".join(printable(name, 20) for name in unused[:_MOST_LISTED])
    note = f"columns not used: {listed}{', …' * (len(unused) > _MOST_LISTED)}" if unused else ""
    return Meaning(find(_AXES) or (0, 1, 2), normals, colors, note)


def _by_values(values: NDArray[np.float64], suffix: str) -> Meaning:
    """Return the meaning of columns without names."""
    columns = values.shape[1]
    if columns < 3:
        what = f"{columns} numbers per point; at least 3 are needed: x, y, z"
        raise ShapeRefused(Reason.BAD_SYNTAX, what)
    if suffix == ".pts" and columns in (4, 7):
        colors = (4, 5, 6) if columns == 7 else None
        return Meaning(colors=colors, note="intensities ignored")
    found: dict[str, tuple[int, ...]] = {}
    said, at = ["x y z"], 3
    while at < columns:
        kind = _triple(values[:, at : at + 3]) if at + 3 <= columns else ""
        if at == 3 and columns >= 6:
            kind = {".xyzrgb": "colors", ".xyzn": "normals"}.get(suffix, kind)
        if kind and kind not in found:
            found[kind] = (at, at + 1, at + 2)
            said.append("r g b" if kind == "colors" else "normal")
            at += 3
        else:
            said.append(f"{_single(values[:, at])} (not used)")
            at += 1
    note = f"columns have no names and were taken as {', '.join(said)}" if columns > 3 else ""
    return Meaning((0, 1, 2), found.get("normals"), found.get("colors"), note)


def _triple(values: NDArray[np.float64]) -> str:
    """Return whether three columns [M,3] are "normals" or "colors"; "" for neither."""
    values = values[np.isfinite(values).all(axis=1)]
    sample = values[:: 1 + len(values) // _SAMPLED]
    with np.errstate(over="ignore"):
        length = np.linalg.norm(sample, axis=1)
    length = length[length > 0]
    if not len(length) or np.mean(np.abs(length - 1) <= TOLERANCE) > 0.5:
        return "normals"  # all 0: to be estimated
    if values.min() < 0 or values.max() > 255:
        return ""
    if values.max() <= 1:
        return "colors"
    varied = values[:, values.min(axis=0) < values.max(axis=0)]  # constant columns fit anything
    whole = (varied == np.floor(varied)).all(axis=0)
    return "colors" if whole.all() or not whole.any() else ""


def _single(values: NDArray[np.float64]) -> str:
    values = values[np.isfinite(values)]
    return "label" if ((values >= 0) & (values == np.floor(values))).all() else "intensity"


def _unit_colors(colors: NDArray[np.float64] | None, most: int) -> NDArray[np.float64] | None:
    """Return colors from 0 to 1; their range tells whether they go to 1, 255 or 65535 (at most)."""
    if colors is None:
        return None
    finite = colors[np.isfinite(colors)]
    low, high = (finite.min(), finite.max()) if len(finite) else (0, 0)
    if low < 0 or high > most:
        what = f"colors range from {low:g} to {high:g}; expected 0 to 255, or 0 to 1"
        raise ShapeRefused(Reason.BAD_SYNTAX, what)
    return colors / (1 if high <= 1 else 255 if high <= 255 else 65535)
