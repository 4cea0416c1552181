"""STL files, binary and ASCII: triangles whose corners are not shared.

trimesh is not used: it splits an ASCII file at any word "vertex", and makes triangles across
facets if one has a corner too few and another one too many.
"""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pointcmt.compiled import compiled
from pointcmt.errors import Reason, ShapeRefused
from pointcmt.render.load.readers import MAX_FACES, trailing_note
from pointcmt.render.load.readers.text import (
    LINE_FEED,
    RETURN,
    ends_word,
    grown,
    line_of,
    parse_number,
    scannable,
    skip_space,
    token_at,
)
from pointcmt.shapes import Mesh

_HEADER = 84  # bytes of the comment and the count
_FACET = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
_WORDS = ("solid", "endsolid", "facet", "normal", "outer", "loop", "vertex", "endloop", "endfacet")
_LETTERS = np.array([list(word.ljust(8, "\0").encode()) for word in _WORDS], np.uint8)
_SOLID, _END_SOLID, _FACET_WORD, _NORMAL, _OUTER, _LOOP, _VERTEX, _END_LOOP, _END_FACET = range(9)
_SKIPPED, _KEPT = -1, -2  # codes of numbers: those of the normal, and those of the corners
_GRAMMAR = np.array(  # of a facet, after its first word
    [_NORMAL, *3 * [_SKIPPED], _OUTER, _LOOP, *3 * [_VERTEX, *3 * [_KEPT]], _END_LOOP, _END_FACET]
)

_COMPLETE, _ENDED, _BAD_WORD, _BAD_ORDER = range(4)  # how the pass over an ASCII file ended


def read_stl(path: Path, data: bytes, normals: bool = False) -> Mesh:
    """Read the mesh of an STL file, three vertices per face. path and normals are only for other
    readers: the normals in such a file are those of its facets.

    A few bytes after the last facet of a binary file are only noted.

    Raises ShapeRefused: unknown_format, bad_syntax, truncated, count_mismatch, no_faces, too_large.
    """
    note, end = "", _HEADER + _FACET.itemsize * _count(data)
    if len(data) >= _HEADER and len(data) == end:
        vertices = _read_binary(data)  # even if it begins with "solid", as some exporters write
    elif re.match(rb"\s*solid\b", data, re.IGNORECASE) and b"\0" not in data:
        vertices = _read_ascii(data)
    elif len(data) > end and (note := trailing_note(data[end:])):
        vertices = _read_binary(data)
    else:
        raise _damaged_binary(data)
    if not len(vertices):
        raise ShapeRefused(Reason.NO_FACES, "the file contains no facets")
    faces = np.arange(len(vertices), dtype=np.int32).reshape(-1, 3)
    return Mesh(vertices, faces, notes=(note,) if note else ())


def _count(data: bytes) -> int:
    return int.from_bytes(data[_HEADER - 4 : _HEADER], "little")


def _damaged_binary(data: bytes) -> ShapeRefused:
    if len(data) < _HEADER:
        return ShapeRefused(Reason.TRUNCATED, f"{len(data)} bytes, too short for an STL file")
    needed = _HEADER + _FACET.itemsize * _count(data)
    reason = Reason.TRUNCATED if len(data) < needed else Reason.COUNT_MISMATCH
    return ShapeRefused(
        reason, f"{_count(data)} facets need {needed} bytes; the file has {len(data)}"
    )


def _read_binary(data: bytes) -> NDArray[np.float64]:
    """Return the corners [3F,3] in the file's order."""
    if _count(data) > MAX_FACES:
        raise ShapeRefused(
            Reason.TOO_LARGE, f"{_count(data)} facets, more than the maximum of {MAX_FACES}"
        )
    facets = np.frombuffer(data, _FACET, _count(data), _HEADER)
    with np.errstate(invalid="ignore"):  # signaling NaNs
        return facets["corners"].reshape(-1, 3).astype(np.float64)


def _read_ascii(data: bytes) -> NDArray[np.float64]:
    """Return the corners [3F,3] of all solids in the file's order."""
    text = scannable(data)
    status, at, corners = _walk(text)
    if status == _ENDED:
        raise ShapeRefused(Reason.TRUNCATED, f"the file ends at facet {len(corners) // 3}")
    if status != _COMPLETE:
        where = f"line {line_of(text, at)}"
        raise ShapeRefused(Reason.BAD_SYNTAX, f"{where}: unexpected {token_at(text, at)}")
    return corners


@compiled
def _walk(text):  # type: ignore[no-untyped-def]
    """Return (status, where the pass ended, corners [3F,3])."""
    corners, used = np.empty((len(text) // 64 + 16, 3)), 0
    at, open_solid = 0, False
    while True:
        at, _ = skip_space(text, at)
        if at == len(text) - 1:
            return (_ENDED if open_solid else _COMPLETE), at, corners[:used]
        if _is_word(text, at, _FACET_WORD) and open_solid:
            at += 5
        elif _is_word(text, at, _END_SOLID if open_solid else _SOLID):
            open_solid = not open_solid
            while text[at] != LINE_FEED and text[at] != RETURN:  # its name, if any
                at += 1
            continue
        else:
            return _BAD_ORDER, at, corners[:used]
        column = 0
        for expected in _GRAMMAR:
            at, _ = skip_space(text, at)
            if at == len(text) - 1:
                return _ENDED, at, corners[: used - used % 3]
            if expected >= 0:
                if not _is_word(text, at, expected):
                    return _BAD_WORD, at, corners[:used]
                while not ends_word(text[at]):
                    at += 1
                continue
            value, end = parse_number(text, at)
            if end < 0 or not ends_word(text[end]):
                return _BAD_WORD, at, corners[:used]
            at = end
            if expected == _KEPT:
                if used == len(corners):
                    corners = grown(corners)
                corners[used, column] = value
                column = (column + 1) % 3
                used += column == 0


@compiled
def _is_word(text, at, word):  # type: ignore[no-untyped-def]
    """Return whether this word of _WORDS comes next, in any case."""
    for letter in _LETTERS[word]:
        if letter == 0:
            break
        if text[at] | 32 != letter:
            return False
        at += 1
    return ends_word(text[at])
