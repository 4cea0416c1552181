"""Readers of clouds: tables of numbers in text (.xyz, .txt, .pts) and .npy, and PLY without faces.

The readers do not interpret the columns of a table; `pointcmt.render.load.clouds` does.
"""

import io
import warnings

import numpy as np
from numpy.typing import NDArray

from pointcmt.compiled import compiled
from pointcmt.errors import Reason, ShapeRefused
from pointcmt.render.load.readers.ply_elements import read_body, read_header
from pointcmt.render.load.readers.text import (
    TAIL,
    line_of,
    rest_of_line,
    scannable,
    skip_space,
    token_at,
)
from pointcmt.shapes import Cloud

MAX_POINTS = 20_000_000  # per shape; more are refused
_MOST_COLUMNS = 16
_COMPLETE, _NO_NUMBER, _OTHER_COUNT = range(3)  # how the pass over the lines ended


def read_text(data: bytes, counted: bool = False) -> NDArray[np.float64]:
    """Read the numbers [M,C] of lines of equal length, separated by spaces or commas.

    counted: whether a first line with a single number gives the number of lines, as in .pts files.
    Raises ShapeRefused: bad_syntax, truncated, count_mismatch, empty_file, too_large.
    """
    text = scannable(data.replace(b",", b" "))
    at, declared = 0, None
    row = np.empty(_MOST_COLUMNS)
    first, _ = skip_space(text, 0)
    end, columns = rest_of_line(text, first, row)
    if counted and columns == 1:
        at, declared = end, int(np.nan_to_num(row[0]))
        first, _ = skip_space(text, at)
        _, columns = rest_of_line(text, first, row)
    if columns > _MOST_COLUMNS:
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
    table = np.empty((min(lines, len(text) // (2 * width) + 1), width))  # a number takes two bytes
    status, rows, at, found = _walk(text, at, table, row)
    if status != _COMPLETE:
        raise _refusal(text, status, at, found, columns)
    if rows == 0:
        raise ShapeRefused(Reason.EMPTY_FILE, "the file has no points")
    if declared is not None and declared != rows:
        reason = Reason.TRUNCATED if rows < declared else Reason.COUNT_MISMATCH
        raise ShapeRefused(
            reason, f"the first line declares {declared} points, but there are {rows}"
        )
    return table[:rows]


def read_npy(data: bytes) -> NDArray[np.float64]:
    """Read the numbers [M,C] of a .npy file. Nothing in it is ever unpickled.

    Raises ShapeRefused: unknown_format, bad_syntax, truncated, count_mismatch.
    """
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
    except ValueError as error:
        raise ShapeRefused(Reason.UNKNOWN_FORMAT, "not a .npy file") from error
    try:
        old = version == (1, 0)
        formats = np.lib.format
        read = formats.read_array_header_1_0 if old else formats.read_array_header_2_0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about headers written by Python 2
            shape, by_column, dtype = read(stream)
    except Exception as error:  # its parser of Python syntax raises many kinds of errors
        raise ShapeRefused(Reason.BAD_SYNTAX, f"the header: {error}") from error
    if dtype.kind not in "fiu" or len(shape) != 2 or min(shape) < 0:
        raise ShapeRefused(Reason.BAD_SYNTAX, f"{dtype} {shape} is not a table of numbers")
    body = memoryview(data)[stream.tell() :]
    expected = dtype.itemsize * int(shape[0]) * int(shape[1])
    if len(body) != expected:
        reason = Reason.TRUNCATED if len(body) < expected else Reason.COUNT_MISMATCH
        raise ShapeRefused(reason, f"{len(body)} bytes of data, but the header declares {expected}")
    table = np.frombuffer(body, dtype).reshape(shape, order="F" if by_column else "C")
    with np.errstate(invalid="ignore"):  # signaling NaNs
        return table.astype(np.float64, order="C")


def read_ply_cloud(data: bytes) -> Cloud:
    """Read the points of a PLY file without faces, with normals and colors if present.

    Raises ShapeRefused: unknown_format for a mesh, and the errors of `read_header` and `read_body`.
    """
    header = read_header(data)
    if any(e.name in ("face", "tristrips") and e.rows for e in header.elements):
        raise ShapeRefused(
            Reason.UNKNOWN_FORMAT, "the file contains a mesh: use `--dataset folder` for meshes"
        )
    tables = read_body(data, header)
    points = tables["vertex"].columns("xyz") if "vertex" in tables else None
    if points is None:
        raise ShapeRefused(Reason.BAD_SYNTAX, "the header has no x, y, z")
    normals = tables["vertex"].columns(("nx", "ny", "nz"))
    return Cloud(
        np.ascontiguousarray(points),
        np.zeros_like(points) if normals is None else normals,
        tables["vertex"].colors(),
        notes=header.notes,
    )


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
def _walk(text, at, table, row):  # type: ignore[no-untyped-def]
    """Fill the table line by line: (status, rows filled, where it ended, numbers in that line)."""
    rows = 0
    while True:
        at, _ = skip_space(text, at)
        if at == len(text) - 1:
            return _COMPLETE, rows, at, 0
        end, count = rest_of_line(text, at, row)
        if count < 0:
            return _NO_NUMBER, rows, end, count
        if count != table.shape[1]:
            return _OTHER_COUNT, rows, at, count
        for column in range(count):
            table[rows, column] = row[column]
        rows += 1
        at = end
