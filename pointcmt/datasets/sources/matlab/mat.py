"""MAT-files of MATLAB 5 to 7.2, read without unpickling and without unbounded memory.

SUN RGB-D is described by such files. Only what it uses is read: numbers, texts and struct arrays;
the elements of a struct array are decoded when they are asked for, so that opening a file with
10,000 of them is fast. No array is allocated that the file does not hold.
(Format: MathWorks, "MAT-File Format", R2019b, chapter 1.)
"""

import errno
import math
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from struct import Struct
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pointcmt.errors import Reason, ShapeRefused, printable
from pointcmt.files import read_regular

MAX_FILE = 1 << 29  # bytes; the largest of SUN RGB-D that is read has about 0.1 GB
MAX_DECODED = 1 << 30  # bytes of all variables of a file after decompression
_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15  # types of elements
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8"}
_NUMBERS |= {13: "u8"}
_TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16"}
_STRUCT, _CHARS, _FIRST_NUMERIC, _LAST_NUMERIC = 2, 4, 6, 15  # classes of arrays
_COMPLEX = 0x08


@dataclass(frozen=True, eq=False)
class Structs:
    """A struct array: a sequence of elements with the same fields, in MATLAB's order."""

    fields: tuple[str, ...]
    _reader: "_Reader" = field(repr=False)
    _at: NDArray[np.int64] = field(repr=False)  # [M,F] where the value of each field begins

    def __len__(self) -> int:
        return len(self._at)

    def get(self, index: int, name: str) -> Any:
        """Return a field of an element: an array, a text or Structs.

        Raises ShapeRefused (bad_syntax) if there is no such field, and if its value is damaged or
        of another kind.
        """
        if name not in self.fields:
            raise ShapeRefused(Reason.BAD_SYNTAX, f"the structs have no field '{name}'")
        return self._reader.value(int(self._at[index, self.fields.index(name)]))


def read_mat(path: Path) -> dict[str, Any]:
    """Return the variables of a MAT-file by name: arrays, texts and Structs.

    Raises ShapeRefused for a file that is missing, damaged, too large or of another format.
    """
    try:
        data = read_regular(path, MAX_FILE)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ShapeRefused(Reason.MISSING_FILE, f"file {path.name} not found") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        too_large = isinstance(error, OSError) and error.errno == errno.EFBIG
        reason = Reason.TOO_LARGE if too_large else Reason.UNREADABLE_FILE
        raise ShapeRefused(reason, f"{path.name}: {error}") from error
    try:
        return parse_mat(data)
    except ShapeRefused as refused:
        raise ShapeRefused(refused.reason, f"{path.name}: {refused.detail}") from refused


def parse_mat(data: bytes) -> dict[str, Any]:
    """Return the variables of a MAT-file's content, like `read_mat`."""
    mark = data[126:128]
    if mark not in (b"IM", b"MI"):
        what = "not a MAT-file of MATLAB 5 or newer"
        raise ShapeRefused(Reason.UNKNOWN_FORMAT, what)
    order = "<" if mark == b"IM" else ">"
    if data[125 if order == "<" else 124] == 2:
        what = "a MAT-file of version 7.3: save it in MATLAB with '-v7'"
        raise ShapeRefused(Reason.UNKNOWN_FORMAT, what)
    found: dict[str, Any] = {}
    left = MAX_DECODED
    whole, at = _Reader(data, order), _HEADER
    while at < len(data):
        element = whole.element(at, len(data))
        reader, begin, at = whole, at, element.next
        if element.kind == _COMPRESSED:
            content = _decompressed(data[element.begin : element.end], left)
            left -= len(content)
            reader, begin = _Reader(content, order), 0
        name = reader.name(begin)
        if name:  # others are MATLAB's own
            found[name] = reader.value(begin)
    return found


def _decompressed(data: bytes, most: int) -> bytes:
    stream = zlib.decompressobj()
    try:
        content = stream.decompress(data, most + 1)
    except zlib.error as error:
        raise ShapeRefused(Reason.UNREADABLE_FILE, f"damaged data: {error}") from error
    if len(content) > most:
        what = f"more than the maximum of {MAX_DECODED} bytes after decompression"
        raise ShapeRefused(Reason.TOO_LARGE, what)
    if not stream.eof:
        raise ShapeRefused(Reason.TRUNCATED, "the compressed data ends too early")
    return content


class _Element(NamedTuple):
    """A part of the file: its type, and where its content begins and ends, and the next begins."""

    kind: int
    begin: int
    end: int
    next: int


class _Reader:
    """Reads the elements of a file's content; `at` is where an element begins."""

    def __init__(self, data: bytes, order: str) -> None:
        self._data, self._order = data, order
        self._tag = Struct(f"{order}II").unpack_from

    def element(self, at: int, end: int) -> _Element:
        """Return the element at `at`, which must end before `end`. Raises ShapeRefused."""
        if at + 8 > end:
            raise ShapeRefused(Reason.TRUNCATED, "it ends within an element")
        kind, size = self._tag(self._data, at)
        if kind >> 16:  # a small element: its size and content are in the tag
            small = kind >> 16
            if small > 4:
                raise _damaged()
            return _Element(kind & 0xFFFF, at + 4, at + 4 + small, at + 8)
        begin = at + 8
        if begin + size > end:
            raise ShapeRefused(Reason.TRUNCATED, "it ends within an element")
        following = begin + size if kind == _COMPRESSED else begin + (size + 7) // 8 * 8
        return _Element(kind, begin, begin + size, following)

    def name(self, at: int) -> str:
        """Return the name of the array at `at`; "" if it has none."""
        element = self.element(at, len(self._data))
        if element.kind != _MATRIX or element.begin == element.end:
            return ""
        return self._head(element)[2]

    def value(self, at: int) -> Any:
        """Return the array at `at`: numbers, a text, or Structs. Empty arrays have the shape [0,0].

        Raises ShapeRefused (bad_syntax) for another class, such as cells.
        """
        element = self.element(at, len(self._data))
        if element.kind != _MATRIX:
            raise _damaged()
        if element.begin == element.end:
            return np.zeros((0, 0))
        flags, shape, _, at = self._head(element)
        own = flags & 0xFF
        if own == _STRUCT:
            return self._structs(at, element.end, math.prod(shape))
        if own == _CHARS:
            return self._text(self.element(at, element.end))
        if _FIRST_NUMERIC <= own <= _LAST_NUMERIC and not flags >> 8 & _COMPLEX:
            values = self._array(self.element(at, element.end))
            if len(values) != math.prod(shape):
                what = f"an array of the shape {list(shape)} has {len(values)} numbers"
                raise ShapeRefused(Reason.COUNT_MISMATCH, what)
            return values.reshape(shape, order="F")
        what = f"it has arrays of MATLAB's class {own}, which are not read"
        raise ShapeRefused(Reason.BAD_SYNTAX, what)

    def _head(self, element: _Element) -> tuple[int, tuple[int, ...], str, int]:
        """Return (flags, shape, name, where the content begins) of an array."""
        first = self.element(element.begin, element.end)
        second = self.element(first.next, element.end)
        third = self.element(second.next, element.end)
        flags, shape = self._array(first), self._array(second)
        if not len(flags) or not 2 <= len(shape) <= 32 or (shape < 0).any():
            raise _damaged()
        name = self._data[third.begin : third.end].decode("latin-1")
        return int(flags[0]), tuple(int(n) for n in shape), printable(name), third.next

    def _structs(self, at: int, end: int, count: int) -> Structs:
        length = self.element(at, end)
        names = self.element(length.next, end)
        width = self._array(length)
        text = self._data[names.begin : names.end]
        if len(width) != 1 or not 0 < width[0] <= 64 or len(text) % width[0]:
            raise _damaged()
        fields = tuple(
            text[i : i + width[0]].partition(b"\0")[0].decode("latin-1")
            for i in range(0, len(text), width[0])
        )
        at = names.next
        if count * len(fields) * 8 > end - at:
            raise ShapeRefused(Reason.TRUNCATED, "it has fewer structs than it declares")
        places = np.empty(count * len(fields), np.int64)
        for i in range(len(places)):
            places[i], at = at, self.element(at, end).next
        return Structs(fields, self, places.reshape(count if fields else 0, len(fields)))

    def _text(self, element: _Element) -> str:
        encoding = _TEXTS.get(element.kind)
        if encoding is None:
            raise _damaged()
        if encoding == "utf-16":
            encoding += "-le" if self._order == "<" else "-be"
        return self._data[element.begin : element.end].decode(encoding, "replace")

    def _array(self, element: _Element) -> NDArray[Any]:
        form = np.dtype(self._order + _NUMBERS.get(element.kind, "V1"))
        size = element.end - element.begin
        if element.kind not in _NUMBERS or size % form.itemsize:
            raise _damaged()
        if not size:
            return np.zeros(0, form)
        return np.frombuffer(self._data, form, size // form.itemsize, element.begin)


def _damaged() -> ShapeRefused:
    return ShapeRefused(Reason.BAD_SYNTAX, "the file is damaged, or not a MAT-file")
