"""Tables of numbers in text, one point per line, and PLY without faces.

The readers do not interpret the columns of a table; `pointcmt.render.load.columns` does.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointcmt.compiled import compiled
from pointcmt.errors import Reason, ShapeRefused
from pointcmt.render.load.readers import GRAY
from pointcmt.render.load.readers.ply_elements import read_body, read_header
from pointcmt.render.load.readers.text import (
    TAIL,
    ends_line,
    ends_word,
    line_of,
    parse_number,
    rest_of_line,
    scannable,
    skip_blanks,
    skip_space,
    token_at,
)
from pointcmt.shapes import Cloud

MAX_POINTS = 20_000_000  # per shape; more are refused
MOST_COLUMNS = 32  # of text without a binding header
_COMPLETE, _NO_NUMBER, _OTHER_COUNT = range(3)  # how the pass over the lines ended


@dataclass(frozen=True, eq=False)
class Table:
    """The points of a file: M rows of C numbers.

    names: of the columns, empty if the file does not name them. words: columns that contain
    something other than numbers, each with the place of the first such entry.
    """

    values: NDArray[np.float64]  # [M,C]
    names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    words: dict[int, str] = field(default_factory=dict)


def read_text(data: bytes, counted: bool = False) -> NDArray[np.float64]:
    """Read the numbers [M,C] of lines of equal length, separated by spaces or commas.

    counted: whether a first line with a single number gives the number of lines, as in .pts files.
    Raises ShapeRefused: bad_syntax, truncated, count_mismatch, empty_file, too_large.
    """
    return read_lines(scannable(data.replace(b",", b" ")), 0, counted).values


def read_lines(
    text: NDArray[np.uint8],
    at: int,
    counted: bool,
    names: tuple[str, ...] = (),
    most: int = MOST_COLUMNS,
) -> Table:
    """Read the lines of a scannable text from `at` on, like `read_text`.

    names: of the columns; if given, entries that are not numbers become NaN and are listed in
    `words`. most: columns.
    """
    declared = None
    row = np.empty(most)
    first, _ = skip_space(text, at)
    columns = _count(text, first, row, names)
    if counted and columns == 1:
        end, _ = rest_of_line(text, first, row)
        if end < len(text) and not np.isnan(row[0]):
            declared = int(np.clip(row[0], -1, 1 << 62))
        else:
            declared = 0
        at = end
        first, _ = skip_space(text, at)
        columns = _count(text, first, row, names)
    if columns > most:
        raise ShapeRefused(
            Reason.BAD_SYNTAX,
            f"unsupported number of columns: line {line_of(text, first)} has {columns} numbers",
        )
    lines = np.count_nonzero(text == ord("\n")) + np.count_nonzero(text == ord("\r"))
    if lines > 2 * MAX_POINTS:
        raise ShapeRefused(
            Reason.TOO_LARGE, f"{lines} lines, more than the maximum of {MAX_POINTS}"
        )
    width = max(columns, 1)
    table = np.empty(
        (min(int(lines), len(text) // (2 * width) + 1), width)
    )  # a number takes two bytes
    words = np.full(width if names else 0, -1, np.int64)
    status, rows, at, found = _walk(text, at, table, row, words)
    if status != _COMPLETE:
        raise _refusal(text, status, at, found, columns)
    if rows == 0:
        raise ShapeRefused(Reason.EMPTY_FILE, "the file has no points")
    if declared is not None and declared != rows:
        reason = Reason.TRUNCATED if rows < declared else Reason.COUNT_MISMATCH
        raise ShapeRefused(
            reason, f"the first line declares {declared} points, but there are {rows}"
        )
    places = {
        int(column): f"line {line_of(text, int(words[column]))}: "
        f"{token_at(text, int(words[column]))} is not a number"
        for column in np.flatnonzero(words >= 0)
    }
    return Table(table[:rows], names, words=places)


def read_ply_cloud(data: bytes) -> Cloud:
    """Read the points of a PLY file without faces, with normals and colors if present.

    Raises ShapeRefused: unknown_format for a mesh, and the errors of `read_header` and `read_body`.
    """
    header = read_header(data)
    if any(e.name in ("face", "tristrips") and e.rows for e in header.elements):
        raise ShapeRefused(
            Reason.UNKNOWN_FORMAT, "the file contains a mesh: use `--dataset folder` for meshes"
        )
    tables, notes = read_body(data, header)
    points = tables["vertex"].columns("xyz") if "vertex" in tables else None
    if points is None:
        raise ShapeRefused(Reason.BAD_SYNTAX, "the header has no x, y, z")
    normals = tables["vertex"].columns(("nx", "ny", "nz"))
    colors = tables["vertex"].colors()
    return finite_cloud(points, normals, colors, notes=(*header.notes, *notes))


def finite_cloud(
    points: NDArray[np.float64],
    normals: NDArray[np.float64] | None = None,
    colors: NDArray[Any] | None = None,
    part: NDArray[np.uint8] | None = None,
    notes: Iterable[str] = (),
) -> Cloud:
    """Make a cloud of the points that are finite, with a note on those left out.

    Normals that are not finite become 0, so that they are estimated; such colors become gray.
    Raises ShapeRefused if there are points, but none is finite.
    """
    notes, good = list(notes), _finite_rows(points)
    missing = len(points) - int(good.sum())
    if missing:
        if missing == len(points):
            raise ShapeRefused(
                Reason.NOT_FINITE,
                f"none of the {missing} points is finite; all coordinates are NaN or infinite",
            )
        first = int(np.flatnonzero(~good)[0])
        notes.append(
            f"{missing} of {len(points)} points are not finite (NaN or infinite) and were left "
            f"out, first {first} (from 0)"
        )
        points = points[good]
        normals = None if normals is None else normals[good]
        colors = None if colors is None else colors[good]
        part = None if part is None else part[good]
    if normals is not None:
        known = _finite_rows(normals)
        if not known.all():
            notes.append(f"{int((~known).sum())} normals are not finite: estimated instead")
            normals = np.where(known[:, None], normals, 0)
    if colors is not None:
        fine = _finite_rows(colors)
        if not fine.all():
            notes.append(f"{int((~fine).sum())} colors are not finite: gray instead")
            colors = np.where(fine[:, None], colors, GRAY)
    return Cloud(points, normals, colors, part, notes)


def _finite_rows(array: NDArray[Any]) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(array).all(axis=1), np.bool_)


def _count(
    text: NDArray[np.uint8], at: int, row: NDArray[np.float64], names: tuple[str, ...]
) -> int:
    """Return how many entries the line at `at` has; -1 if one is not a number and has no name."""
    _, columns = rest_of_line(text, at, row)
    if columns < 0 and names:
        columns = len(names)
    return int(columns)


def _refusal(
    text: NDArray[np.uint8], status: int, at: int, found: int, columns: int
) -> ShapeRefused:
    where = f"line {line_of(text, at)}"
    what = f"has {found} numbers, but the lines before have {columns}"
    if status == _NO_NUMBER:
        what = f"{token_at(text, at)} is not a number"
    rest = text[at : -len(TAIL)].tobytes()
    cut = found < columns and b"\n" not in rest and b"\r" not in rest
    return ShapeRefused(Reason.TRUNCATED if cut else Reason.BAD_SYNTAX, f"{where}: {what}")


@compiled
def _walk(text, at, table, row, words):  # type: ignore[no-untyped-def]
    """Fill the table line by line: (status, rows filled, where it ended, numbers in that line).

    words: [C] the places of the first entries that are not numbers, or empty if all must be.
    """
    rows = 0
    while True:
        at, _ = skip_space(text, at)
        if at == len(text) - 1:
            return _COMPLETE, rows, at, 0
        begin, count = at, 0
        while True:
            at = skip_blanks(text, at)
            if ends_line(text[at]):
                break
            value, end = parse_number(text, at)
            if end < 0 or not ends_word(text[end]):
                if count >= len(words):
                    return _NO_NUMBER, rows, at, -1
                if words[count] < 0:
                    words[count] = at
                value, end = np.nan, at + 1
                while not ends_word(text[end]):
                    end += 1
            if count < len(row):
                row[count] = value
            count += 1
            at = end
        if count != table.shape[1]:
            return _OTHER_COUNT, rows, begin, count
        for column in range(count):
            table[rows, column] = row[column]
        rows += 1
