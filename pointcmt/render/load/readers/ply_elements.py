"""The two parts of a PLY file: its header, and the values of the elements it declares."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pointcmt.compiled import compiled
from pointcmt.errors import Reason, ShapeRefused, printable
from pointcmt.render.load.readers import GRAY, MAX_FACES, trailing_note
from pointcmt.render.load.readers.text import (
    TAIL,
    ends_word,
    grown,
    line_of,
    parse_number,
    scannable,
    skip_space,
    token_at,
)

_HEADER_ROOM = 1 << 20  # bytes within which the header must end
_MOST_PARTS = 1000  # elements and properties in a header; scanners and splats write up to a hundred
_END = re.compile(rb"(?<=[\r\n])end_header[ \t]*(?:\r\n|\n|\r|\Z)")
_NUMPY = ("i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8")
_NAMES = (
    ("char", "uchar", "short", "ushort", "int", "uint", "float", "double"),
    ("int8", "uint8", "int16", "uint16", "int32", "uint32", "float32", "float64"),
)
_CODES = {name: code for names in _NAMES for code, name in enumerate(names)}
_SIZES = np.array([np.dtype(name).itemsize for name in _NUMPY])
_FLOAT, _DOUBLE = 6, 7
_SCALAR = -1  # in place of the type of a list's length, for scalars
_FORMATS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
_COLOR_NAMES = (("red", "green", "blue"), ("diffuse_red", "diffuse_green", "diffuse_blue"))

_COMPLETE, _ENDED, _NO_NUMBER, _BAD_LENGTH = range(4)  # how a pass over an element ended


@dataclass(frozen=True)
class Property:
    """code: type of the value, or of a list's values; length: type of a list's length."""

    name: str
    code: int
    length: int = _SCALAR


@dataclass(frozen=True)
class Element:
    """An element: a number of rows with the same properties."""

    name: str
    rows: int
    properties: list[Property]


@dataclass(frozen=True)
class Header:
    """order: numpy's character for the byte order, empty for ASCII. body: start of the numbers."""

    order: str
    elements: tuple[Element, ...]
    textures: tuple[str, ...]
    body: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """An element's R rows of S numbers and L lists each; the values of all lists are in one row."""

    element: Element
    scalars: NDArray[np.float64]  # [R,S]
    starts: NDArray[np.int64]  # [R,L]
    lengths: NDArray[np.int64]  # [R,L]
    values: NDArray[np.float64]

    def columns(self, names: Iterable[str]) -> NDArray[np.float64] | None:
        """Return the numbers [R,n] of these properties; None if any is missing."""
        scalars = [p.name for p in self.element.properties if p.length == _SCALAR]
        if not all(name in scalars for name in names):
            return None
        return self.scalars[:, [scalars.index(name) for name in names]]

    def lists(self, names: Iterable[str]) -> tuple[NDArray[np.int64], NDArray[np.float64]] | None:
        """Return lengths [R] and values, row after row, of the first list found of these names."""
        lists = [p.name for p in self.element.properties if p.length != _SCALAR]
        for name in names:
            if name in lists:
                starts, lengths = (a[:, lists.index(name)] for a in (self.starts, self.lengths))
                if len(lists) == 1:
                    return lengths, self.values
                shift = np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
                return lengths, self.values[np.arange(len(shift)) + shift]
        return None

    def colors(self) -> NDArray[np.float32] | None:
        """Return colors [R,3], sRGB 0..1, scaled by their type; float colors by their maximum."""
        for names in _COLOR_NAMES:
            colors = self.columns(names)
            if colors is not None and len(colors):
                code = next(p.code for p in self.element.properties if p.name == names[0])
                colors = np.where(np.isfinite(colors), colors, GRAY)
                white = 65535 if _NUMPY[code] == "u2" else 255
                if code >= _FLOAT and colors.max() <= 1:
                    white = 1
                return np.clip(colors / white, 0, 1).astype(np.float32)
        return None


def read_header(data: bytes) -> Header:
    """Read the header. Raises ShapeRefused: unknown_format, bad_syntax, truncated, too_large."""
    start = data[:_HEADER_ROOM]
    if not re.match(rb"ply[ \t]*[\r\n]", start):
        raise ShapeRefused(Reason.UNKNOWN_FORMAT, "the file does not begin with 'ply'")
    end = _END.search(start)
    lines = re.split(r"[\r\n]+", start[: end.start() if end else len(start)].decode("latin-1"))
    order, textures, notes = None, [], []
    elements: list[Element] = []
    parts = 0
    for line in lines[1:]:
        keyword, *words = line.split() or ["comment"]
        parts += keyword in ("element", "property")
        if parts > _MOST_PARTS:
            what = f"more than {_MOST_PARTS} elements and properties"
            raise ShapeRefused(Reason.TOO_LARGE, what)
        try:
            if keyword == "format":
                order = _FORMATS[words[0]]
            elif keyword == "element":
                elements.append(Element(words[0], int(words[1]), []))
            elif keyword == "property":
                elements[-1].properties.append(_property(words))
            elif keyword == "comment" and words[:1] == ["TextureFile"]:
                textures.append(line.split("TextureFile", 1)[1].strip())
            elif keyword not in ("comment", "obj_info"):
                notes.append(f"header line ignored: {printable(line)}")
        except (KeyError, IndexError, ValueError) as error:
            raise ShapeRefused(
                Reason.BAD_SYNTAX, f"invalid header line: {printable(line)}"
            ) from error
    if end is None:
        raise ShapeRefused(Reason.TRUNCATED, "the file ends within its header")
    if order is None or any(element.rows < 0 for element in elements):
        raise ShapeRefused(Reason.BAD_SYNTAX, "the header has no format, or a negative count")
    return Header(order, tuple(elements), tuple(textures), end.end(), tuple(notes))


def _property(words: list[str]) -> Property:
    if words[0] == "list":
        _, length, value, name = words
        new = Property(name, _CODES[value], _CODES[length])
        if new.length >= _FLOAT:
            raise ValueError("a list's length must be an integer")
    else:
        value, name = words
        new = Property(name, _CODES[value])
    return new


def read_body(data: bytes, header: Header) -> tuple[dict[str, Table], tuple[str, ...]]:
    """Read all elements by name (the first of each name), and notes; the file must end after them.

    A few bytes after a binary file's last element are only noted.

    Raises ShapeRefused: bad_syntax, truncated, count_mismatch.
    """
    text = np.frombuffer(data, np.uint8)[header.body :]
    if not header.order:
        text = scannable(text.tobytes())
    at = 0
    tables: dict[str, Table] = {}
    for element in header.elements:
        if not element.properties:
            continue
        _check_room(element, header, len(text) - at)
        table, at = _read_element(text, at, element, header)
        tables.setdefault(element.name, table)
    rest = text[at : len(text) - (0 if header.order else len(TAIL))].tobytes().strip(b" \t\r\n\0")
    note = trailing_note(rest) if rest and header.order else ""
    if rest and not note:
        raise ShapeRefused(
            Reason.COUNT_MISMATCH,
            f"{len(rest)} extra bytes after what the header declares",
        )
    return tables, (note,) if note else ()


def _check_room(element: Element, header: Header, room: int) -> None:
    """Refuse counts that the file is too short for, before allocating memory for them."""
    codes = [p.code if p.length == _SCALAR else p.length for p in element.properties]
    least = sum(int(_SIZES[code]) for code in codes) if header.order else 2 * len(codes)
    if least * element.rows > room + (0 if header.order else 2):
        raise ShapeRefused(
            Reason.TRUNCATED,
            f"the header declares {element.rows} × {element.name}, but the file is too short for "
            "them",
        )
    if element.name == "face" and element.rows > MAX_FACES:
        raise ShapeRefused(
            Reason.TOO_LARGE, f"{element.rows} faces, more than the maximum of {MAX_FACES}"
        )


def _read_element(
    text: NDArray[np.uint8], at: int, element: Element, header: Header
) -> tuple[Table, int]:
    codes = np.array([p.code for p in element.properties])
    lengths_code = np.array([p.length for p in element.properties])
    lists = int((lengths_code != _SCALAR).sum())
    if header.order and lists == 0:
        kinds = [(str(i), header.order + _NUMPY[code]) for i, code in enumerate(codes)]
        rows = np.frombuffer(text, np.dtype(kinds), element.rows, at) if element.rows else None
        if rows is None:
            return _table(element, np.empty((0, len(codes)))), at
        with np.errstate(invalid="ignore"):  # signaling NaNs
            scalars = np.stack([rows[name].astype(np.float64) for name, _ in kinds], axis=1)
        return _table(element, scalars), at + rows.nbytes
    scalars = np.empty((element.rows, len(codes) - lists))
    starts, lengths = (np.empty((element.rows, lists), np.int64) for _ in range(2))
    values = np.empty(3 * element.rows * lists + 16)
    if header.order:
        big = header.order == ">"
        status, at, used, values = _walk_bytes(
            text, at, codes, lengths_code, big, scalars, starts, lengths, values
        )
    else:
        status, at, used, values = _walk_text(
            text, at, lengths_code, scalars, starts, lengths, values
        )
    if status != _COMPLETE:
        raise _refusal(text, at, status, element, header)
    return Table(element, scalars, starts, lengths, values[:used]), at


def _table(element: Element, scalars: NDArray[np.float64]) -> Table:
    none = np.empty((len(scalars), 0), np.int64)
    return Table(element, scalars, none, none, np.empty(0))


def _refusal(
    text: NDArray[np.uint8], at: int, status: int, element: Element, header: Header
) -> ShapeRefused:
    if status == _ENDED:
        what = f"the header declares {element.rows} × {element.name}; the file ends before that"
        return ShapeRefused(Reason.TRUNCATED, what)
    if header.order:
        return ShapeRefused(Reason.BAD_SYNTAX, f"a list of negative length in {element.name}")
    where = f"line {line_of(text, at)} after the header"
    what = "is not a number" if status == _NO_NUMBER else "is not a list's length"
    return ShapeRefused(Reason.BAD_SYNTAX, f"{where}: {token_at(text, at)} {what}")


@compiled
def _walk_text(text, at, length_codes, scalars, starts, lengths, values):  # type: ignore[no-untyped-def]
    """Fill an element's arrays; return (status, where it ended, values used, values)."""
    used = 0
    for row in range(len(scalars)):
        scalar, listed = 0, 0
        for code in length_codes:
            at, _ = skip_space(text, at)
            value, end = parse_number(text, at)
            if end < 0 or not ends_word(text[end]):
                return (_ENDED if at == len(text) - 1 else _NO_NUMBER), at, used, values
            if code == _SCALAR:
                scalars[row, scalar] = value
                scalar += 1
                at = end
                continue
            if not 0 <= value < 2**31 or value != np.floor(value):
                return _BAD_LENGTH, at, used, values
            at = end
            starts[row, listed], lengths[row, listed] = used, np.int64(value)
            listed += 1
            for _ in range(np.int64(value)):
                at, _ = skip_space(text, at)
                number, end = parse_number(text, at)
                if end < 0 or not ends_word(text[end]):
                    return (_ENDED if at == len(text) - 1 else _NO_NUMBER), at, used, values
                if used == len(values):
                    values = grown(values)
                values[used] = number
                used += 1
                at = end
    return _COMPLETE, at, used, values


@compiled
def _walk_bytes(data, at, codes, length_codes, big, scalars, starts, lengths, values):  # type: ignore[no-untyped-def]
    """Fill an element's arrays; return (status, where it ended, values used, values)."""
    used = 0
    words, longs = np.zeros(1, np.uint32), np.zeros(1, np.uint64)
    floats, doubles = words.view(np.float32), longs.view(np.float64)
    for row in range(len(scalars)):
        scalar, listed = 0, 0
        for i in range(len(codes)):
            code, count = codes[i], 1
            if length_codes[i] != _SCALAR:
                size = _SIZES[length_codes[i]]
                if at + size > len(data):
                    return _ENDED, at, used, values
                count = _integer(_bits(data, at, size, big), length_codes[i])
                at += size
                if count < 0:
                    return _BAD_LENGTH, at, used, values
                starts[row, listed], lengths[row, listed] = used, count
                listed += 1
            size = _SIZES[code]
            if count > (len(data) - at) // size:
                return _ENDED, at, used, values
            for _ in range(count):
                bits = _bits(data, at, size, big)
                at += size
                if code == _FLOAT:
                    words[0] = bits
                    number = np.float64(floats[0])
                elif code == _DOUBLE:
                    longs[0] = bits
                    number = doubles[0]
                else:
                    number = np.float64(_integer(bits, code))
                if length_codes[i] == _SCALAR:
                    scalars[row, scalar] = number
                    scalar += 1
                else:
                    if used == len(values):
                        values = grown(values)
                    values[used] = number
                    used += 1
    return _COMPLETE, at, used, values


@compiled
def _bits(data, at, size, big):  # type: ignore[no-untyped-def]
    bits = np.uint64(0)
    for i in range(size):
        bits = bits << np.uint64(8) | np.uint64(data[at + (i if big else size - 1 - i)])
    return bits


@compiled
def _integer(bits, code):  # type: ignore[no-untyped-def]
    """Return the value of an integer's bits; even codes are signed."""
    value, span = np.int64(bits), np.int64(1) << (8 * _SIZES[code])
    return value - span if code % 2 == 0 and 2 * value >= span else value
