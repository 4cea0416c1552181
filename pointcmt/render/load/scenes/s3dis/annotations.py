"""Read an annotation file of S3DIS: the points of one instance, with repaired bytes.

A line is "x y z r g b". Some bytes of the release are broken: bit 0x20 is cleared, which turns ' '
into 0x00, '0' into 0x10, '1' into 0x11 and '6' into 0x16 ('-' would become a return). They are
repaired by setting that bit, with a note. Patches that replace lines by number do not fit both
versions of the release, and a widely used one (S3DIS_fix.diff of superpoint_graph) writes seven
numbers into a line.
"""

import math
import re

import numpy as np
from numpy.typing import NDArray

from pointcmt.compiled import compiled
from pointcmt.errors import Reason, ShapeRefused
from pointcmt.render.load.readers.points import read_lines
from pointcmt.render.load.readers.text import scannable

_NUMBERS = 6  # per line
_MOST_REPAIRS = 10  # per file; the release has one in each broken file
_LOST_BIT = 0x20


def parse_annotation(data: bytes, name: str, notes: list[str]) -> NDArray[np.float64]:
    """Return the points [M,6] of an annotation file: x, y, z in meters, r, g, b from 0 to 255.

    Broken bytes are repaired, with a note each. Raises ShapeRefused, with file and line, for any
    other line that does not have six such numbers.
    """
    data = _repaired(data, name, notes)
    first = re.search(rb"\S[^\r\n]*", data)
    if b"#" in data or b"\\" in data:  # the scanner takes them for comments and joined lines
        at = min(i for i in (data.find(b"#"), data.find(b"\\")) if i >= 0)
        raise _bad_line(name, _line_at(data, at), "it has signs other than numbers")
    if first and len(first[0].split()) != _NUMBERS:  # the scanner expects as many in each line
        what = f"it has {len(first[0].split())} numbers instead of {_NUMBERS}"
        raise _bad_line(name, _line_at(data, first.start()), what)
    try:
        table = read_lines(scannable(data), 0, counted=False).values
    except ShapeRefused as refused:
        raise ShapeRefused(refused.reason, f"{name}, {refused.detail}") from refused
    low, high = table.min(axis=0), table.max(axis=0)  # NaN if any number is
    if not (np.isfinite(low) & np.isfinite(high)).all():
        row = int(np.argmin(np.isfinite(table).all(axis=1)))
        raise _bad_line(name, _line_of(data, row), "it has a number that is not finite")
    if low[3:].min() < 0 or high[3:].max() > 255:
        row = int(np.argmax(((table[:, 3:] < 0) | (table[:, 3:] > 255)).any(axis=1)))
        raise _bad_line(name, _line_of(data, row), "it has a color outside 0 to 255")
    return table


def _repaired(data: bytes, name: str, notes: list[str]) -> bytes:
    """Set the lost bit of each broken byte; other control characters do not occur in text.

    Raises ShapeRefused for a line that is not six numbers then, and for many broken bytes: that is
    a file with lost blocks, not with single lost bits.
    """
    places = np.empty(_MOST_REPAIRS, np.int64)
    count = _find_broken(np.frombuffer(data, np.uint8), places)
    if not count:
        return data
    if count > _MOST_REPAIRS:
        what = f"{count} broken bytes follow, too many"
        raise _bad_line(name, _line_at(data, int(places[0])), what)
    broken = places[:count].tolist()
    mended = bytearray(data)
    for at in broken:
        mended[at] |= _LOST_BIT
    for begin in sorted({data.rfind(b"\n", 0, at) + 1 for at in broken}):
        end = data.find(b"\n", begin)
        line, after = (part[begin : end if end >= 0 else None] for part in (data, bytes(mended)))
        number = _line_at(data, begin)
        if not _has_six_numbers(after):
            raise _bad_line(name, number, f"it has a broken byte: {_shown(line)}")
        notes.append(f"{name}, line {number}: {_shown(line)} was read as {_shown(after)}")
    return bytes(mended)


@compiled
def _find_broken(values, places):  # type: ignore[no-untyped-def]
    """Fill places with where control characters are that do not belong to text; return how many.

    A return is one of them if it does not end a line: it was a minus sign.
    """
    count = 0
    for at in range(len(values)):
        byte = values[at]
        if byte >= 32 or byte == 9 or byte == 10:
            continue
        if byte == 13 and (at + 1 == len(values) or values[at + 1] in (10, 13)):
            continue
        if count < len(places):
            places[count] = at
        count += 1
    return count


def _has_six_numbers(line: bytes) -> bool:
    try:
        numbers = [float(word) for word in line.split()]
    except ValueError:
        return False
    return len(numbers) == _NUMBERS and all(map(math.isfinite, numbers))


def _shown(line: bytes) -> str:
    return repr(line.strip(b" \t\r\n")[:80])[1:]


def _line_at(data: bytes, at: int) -> int:
    return data.count(b"\n", 0, at) + 1


def _line_of(data: bytes, row: int) -> int:
    """Return the line of a row of the table; the scanner skips empty lines."""
    filled = (i for i, line in enumerate(re.split(rb"\r\n|\n|\r", data), 1) if line.strip())
    return next(line for at, line in enumerate(filled) if at == row)


def _bad_line(name: str, line: int, what: str) -> ShapeRefused:
    return ShapeRefused(Reason.BAD_SYNTAX, f"{name}, line {line}: {what}")
