"""PCD files of the Point Cloud Library: ascii, binary and binary_compressed.

The format is that of https://pointclouds.org/documentation/tutorials/pcd_file_format.html: a header
of nine lines, then rows of fields; compressed data is LZF and stored field after field. Colors are
packed into the bits of one number of 32 bits.
"""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointcmt.compiled import compiled
from pointcmt.errors import Reason, ShapeRefused, printable
from pointcmt.render.load.readers import trailing_note
from pointcmt.render.load.readers.points import MAX_POINTS, MOST_COLUMNS, Table, read_lines
from pointcmt.render.load.readers.text import scannable

_HEADER_ROOM = 1 << 16  # bytes within which the header must end
_MOST_FIELDS = 1000
_MOST_VALUES = 1 << 16  # of a point: descriptors have some hundreds
_KINDS = {
    **{("F", size): f"<f{size}" for size in (4, 8)},
    **{("I", size): f"<i{size}" for size in (1, 2, 4, 8)},
    **{("U", size): f"<u{size}" for size in (1, 2, 4, 8)},
}
_PACKED = ("rgb", "rgba")
_NAMES = {"normal_x": "nx", "normal_y": "ny", "normal_z": "nz"}
_EXPANSION = 88  # LZF writes at most 264 bytes for three
_IDENTITY = [0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]


@dataclass(frozen=True)
class _Field:
    """A column. kind: numpy's type; count: values per point; at: its first byte in a row."""

    name: str
    kind: np.dtype[Any]
    count: int
    at: int

    @property
    def size(self) -> int:
        """Bytes per point."""
        return self.kind.itemsize * self.count


@dataclass(frozen=True)
class _Header:
    fields: tuple[_Field, ...]
    points: int
    encoding: str
    body: int
    notes: tuple[str, ...]

    @property
    def row(self) -> int:
        """Bytes per point."""
        return sum(field.size for field in self.fields)


def read_pcd(data: bytes) -> Table:
    """Read the points of a PCD file as named columns; colors become red, green, blue from 0 to 1.

    Raises ShapeRefused: unknown_format, bad_syntax, truncated, count_mismatch, too_large,
    empty_file.
    """
    header = _read_header(data)
    if header.points == 0:
        raise ShapeRefused(Reason.EMPTY_FILE, "the header declares 0 points")
    if header.points > MAX_POINTS:
        what = f"{header.points} points, more than the maximum of {MAX_POINTS}"
        raise ShapeRefused(Reason.TOO_LARGE, what)
    wanted = [f for f in header.fields if f.count == 1 and f.name != "_"]
    rest = [f.name for f in header.fields if f.count > 1 and f.name != "_"]
    if header.encoding == "ascii":
        raw, notes = _read_ascii(data, header, wanted), header.notes
    else:
        body = memoryview(data)[header.body :]
        compressed = header.encoding == "binary_compressed"
        read = _read_compressed if compressed else _read_binary
        raw, notes = read(body, header, wanted)
    if rest:
        notes = (*notes, f"fields not used: {', '.join(map(printable, rest[:5]))}")
    columns: list[NDArray[np.float64]] = []
    names: list[str] = []
    for field, values in zip(wanted, raw, strict=True):
        if field.name in _PACKED and field.kind.itemsize == 4:
            columns += _unpack_colors(values)
            names += ["red", "green", "blue"]
        else:
            with np.errstate(invalid="ignore"):  # signaling NaNs
                columns.append(values.astype(np.float64))
            names.append(_NAMES.get(field.name, field.name))
    if not {"x", "y", "z"} <= set(names):
        raise ShapeRefused(Reason.BAD_SYNTAX, "the header has no fields x, y, z")
    return Table(np.stack(columns, axis=1), tuple(names), notes)


def _read_header(data: bytes) -> _Header:
    values: dict[str, list[str]] = {}
    at = 0
    for match in re.finditer(rb"([^\r\n]*)(?:\r\n|\n|\r|\Z)", data[:_HEADER_ROOM]):
        line = match[1].decode("latin-1").strip()
        keyword, *words = line.split() or ["#"]
        if not keyword.startswith("#"):
            if not values and keyword not in ("VERSION", "FIELDS", "COLUMNS"):
                break
            values.setdefault("FIELDS" if keyword == "COLUMNS" else keyword, words)
            at = match.end()
            if keyword == "DATA":
                break
    if "FIELDS" not in values:
        raise ShapeRefused(Reason.UNKNOWN_FORMAT, "no PCD header: VERSION or FIELDS expected")
    if "DATA" not in values:
        raise ShapeRefused(Reason.TRUNCATED, "the file ends within its header")
    encoding = values["DATA"][0].lower() if values["DATA"] else ""
    if encoding not in ("ascii", "binary", "binary_compressed"):
        raise ShapeRefused(Reason.BAD_SYNTAX, f"DATA {printable(encoding)} is unknown")
    try:
        fields = _read_fields(values)
        size = [int(values[key][0]) for key in ("WIDTH", "HEIGHT") if key in values]
        grid = size[0] * size[1] if len(size) == 2 else None
        points = int(values["POINTS"][0]) if "POINTS" in values else grid
        view = [float(word) for word in values.get("VIEWPOINT", [])]
    except (KeyError, ValueError, IndexError) as error:
        raise ShapeRefused(Reason.BAD_SYNTAX, f"invalid header: {printable(str(error))}") from error
    if points is None or points < 0 or min(size, default=0) < 0:
        raise ShapeRefused(Reason.BAD_SYNTAX, "the header has no number of points")
    if grid is not None and grid != points:
        what = f"the header declares {points} points, but WIDTH × HEIGHT is {grid}"
        raise ShapeRefused(Reason.COUNT_MISMATCH, what)
    moved = len(view) == 7 and view != _IDENTITY
    notes = ("the viewpoint of the sensor is not applied",) if moved else ()
    return _Header(fields, points, encoding, at, notes)


def _read_fields(values: dict[str, list[str]]) -> tuple[_Field, ...]:
    """Return the fields of a header. Raises ShapeRefused, and KeyError or ValueError."""
    names, sizes, types = (values[key] for key in ("FIELDS", "SIZE", "TYPE"))
    counts = values.get("COUNT", ["1"] * len(names))
    if not len(names) == len(sizes) == len(types) == len(counts):
        what = "FIELDS, SIZE, TYPE and COUNT have different lengths"
        raise ShapeRefused(Reason.BAD_SYNTAX, what)
    fields, at = [], 0
    for name, size, kind, count in zip(names, sizes, types, map(int, counts), strict=True):
        if (kind, int(size)) not in _KINDS or not 0 < count <= _MOST_VALUES:
            what = f"field {printable(name)}: type {kind}, size {size}, count {count}"
            raise ShapeRefused(Reason.BAD_SYNTAX, printable(what, 200))
        fields.append(_Field(name, np.dtype(_KINDS[kind, int(size)]), count, at))
        at += fields[-1].size
    if not fields or len(fields) > _MOST_FIELDS or sum(f.count for f in fields) > _MOST_VALUES:
        raise ShapeRefused(Reason.BAD_SYNTAX, f"the header has {len(fields)} fields")
    return tuple(fields)


def _read_ascii(data: bytes, header: _Header, wanted: list[_Field]) -> list[NDArray[Any]]:
    starts = np.cumsum([0, *(field.count for field in header.fields)])
    text = scannable(data)
    values = read_lines(text, header.body, counted=False, most=max(MOST_COLUMNS, starts[-1])).values
    if values.shape[1] != starts[-1]:
        what = f"{values.shape[1]} numbers per point, but the header declares {starts[-1]}"
        raise ShapeRefused(Reason.COUNT_MISMATCH, what)
    if len(values) != header.points:
        reason = Reason.TRUNCATED if len(values) < header.points else Reason.COUNT_MISMATCH
        what = f"the header declares {header.points} points, but there are {len(values)}"
        raise ShapeRefused(reason, what)
    place = dict(zip((field.at for field in header.fields), starts.tolist(), strict=False))
    found: list[NDArray[Any]] = []
    for field in wanted:
        column: NDArray[Any] = values[:, place[field.at]]
        if field.name in _PACKED and field.kind.itemsize == 4:
            with np.errstate(over="ignore", invalid="ignore"):
                column = column.astype(field.kind if field.kind.kind == "f" else np.int64)
            column = column if field.kind.kind == "f" else column.astype(np.uint32)
        found.append(column)
    return found


def _read_binary(
    body: memoryview, header: _Header, wanted: list[_Field]
) -> tuple[list[NDArray[Any]], tuple[str, ...]]:
    size = header.row * header.points
    if len(body) < size:
        what = f"{header.points} points need {size} bytes; the file has {len(body)}"
        raise ShapeRefused(Reason.TRUNCATED, what)
    layout: Any = {
        "names": [str(i) for i in range(len(wanted))],
        "formats": [field.kind for field in wanted],
        "offsets": [field.at for field in wanted],
        "itemsize": header.row,
    }
    rows: NDArray[Any] = np.frombuffer(body, np.dtype(layout), header.points)
    notes = header.notes
    if len(body) > size:
        note = trailing_note(bytes(body[size:]))
        if not note:
            what = f"{len(body) - size} extra bytes after the {header.points} points"
            raise ShapeRefused(Reason.COUNT_MISMATCH, what)
        notes = (*notes, note)
    return [rows[str(i)] for i in range(len(wanted))], notes


def _read_compressed(
    body: memoryview, header: _Header, wanted: list[_Field]
) -> tuple[list[NDArray[Any]], tuple[str, ...]]:
    if len(body) < 8:
        raise ShapeRefused(Reason.TRUNCATED, "the file ends before its compressed data")
    packed, size = (int(n) for n in np.frombuffer(body, "<u4", 2))
    if packed > len(body) - 8:
        what = f"{packed} bytes of compressed data declared; the file has {len(body) - 8}"
        raise ShapeRefused(Reason.TRUNCATED, what)
    if size != header.row * header.points:
        what = f"{header.points} points need {header.row * header.points} bytes, not {size}"
        raise ShapeRefused(Reason.COUNT_MISMATCH, what)
    if size > _EXPANSION * packed:
        what = f"{packed} compressed bytes cannot hold {size}"
        raise ShapeRefused(Reason.TRUNCATED, what)
    out = np.zeros(size, np.uint8)
    written = _decompress(np.frombuffer(body, np.uint8, packed, 8), out)
    if written != size:
        raise ShapeRefused(Reason.BAD_SYNTAX, "the compressed data is damaged")
    found = []
    for field in wanted:
        start = field.at * header.points  # the fields before it, each for all points
        found.append(np.frombuffer(out, field.kind, header.points, start))
    rest = bytes(body[8 + packed :])
    note = trailing_note(rest) if rest else ""
    if rest and not note:
        what = f"{len(rest)} extra bytes after the compressed data"
        raise ShapeRefused(Reason.COUNT_MISMATCH, what)
    return found, (*header.notes, *([note] if note else []))


def _unpack_colors(values: NDArray[Any]) -> list[NDArray[np.float64]]:
    """Return red, green, blue [M] from 0 to 1 of packed colors, 0x00RRGGBB."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    return [((bits >> shift) & 255) / 255 for shift in (16, 8, 0)]


@compiled
def _decompress(data, out):  # type: ignore[no-untyped-def]
    """Decompress LZF data (Lehmann's liblzf) into out; return the bytes written, -1 if damaged.

    A byte below 32 is followed by that many literal bytes and one more. Others begin a copy of
    earlier output: length in the upper three bits (7: plus the next byte), distance in the others.
    """
    at, written = 0, 0
    while at < len(data):
        control: Any = np.int64(data[at])
        at += 1
        if control < 32:
            run = control + 1
            if at + run > len(data) or written + run > len(out):
                return -1
            for i in range(run):
                out[written + i] = data[at + i]
            at += run
            written += run
            continue
        length = control >> 5
        if length == 7:
            if at >= len(data):
                return -1
            length += np.int64(data[at])
            at += 1
        if at >= len(data):
            return -1
        back = written - ((control & 31) << 8) - np.int64(data[at]) - 1
        at += 1
        length += 2
        if back < 0 or written + length > len(out):
            return -1
        for i in range(length):
            out[written + i] = out[back + i]
        written += length
    return written
