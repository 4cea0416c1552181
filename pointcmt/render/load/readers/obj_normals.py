"""Normals of vertices in OBJ files: a second pass over a file that has been read without them.

They do not slow down reading for those who do not need them. Invalid ones only affect shading.
"""

import numpy as np
from numpy.typing import NDArray

from pointcmt.compiled import compiled
from pointcmt.render.load.readers.text import (
    BACKSLASH,
    LINE_FEED,
    RETURN,
    SPACE,
    begins,
    ends_line,
    ends_word,
    grown,
    parse_integer,
    rest_of_line,
    skip_blanks,
    skip_statement,
)

USEMTL, MTLLIB = (np.frombuffer(word, np.uint8) for word in (b"usemtl", b"mtllib"))
_SMALL_F, _SMALL_N, _SMALL_T, _SMALL_V, _SLASH = 102, 110, 116, 118, 47
_NONE, _INVALID = -1, -2
_NO_INDEX = 1 << 60  # in place of a missing index


def scan_normals(text: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.int32], str]:
    """Return the normals [M,3] of a valid OBJ file, one index per corner of its faces, and a note.

    Normals that are not three numbers are NaN. Indices: [K] in the file's order, -1 = none.
    """
    normals, index = _scan(text)
    wrong = (index == _INVALID) | (index >= len(normals))
    index[wrong] = _NONE
    count = int(np.count_nonzero(wrong))
    return normals, index, f"invalid normal indices of {count} corners ignored" if count else ""


@compiled
def _scan(text):  # type: ignore[no-untyped-def]
    """Return normals [M,3] and indices [K], _INVALID if they are before the first one.

    Statements end exactly where the first pass ends them, so that the corners are the same.
    """
    normals, found = np.empty((16, 3)), 0
    index, used = np.empty(len(text) // 16 + 16, np.int32), 0
    row, at, last = np.empty(3), 0, len(text) - 1
    while True:
        while text[at] <= SPACE:
            at += 1
        if at >= last:
            break
        first, second = text[at], text[at + 1]
        if first == _SMALL_V and (
            second <= SPACE or (second == _SMALL_T and text[at + 2] <= SPACE)
        ):
            while not ends_line(text[at]):
                at = skip_blanks(text, at + 1)
        elif first == _SMALL_V and second == _SMALL_N and text[at + 2] <= SPACE:
            if found == len(normals):
                normals = grown(normals)
            _, count = rest_of_line(text, at + 2, row)
            for i in range(3):
                normals[found, i] = row[i] if count >= 3 else np.nan
            found += 1
            at = skip_statement(text, at)
        elif first == _SMALL_F and (second <= SPACE or second == BACKSLASH):
            at = skip_blanks(text, at + 1)
            while not ends_line(text[at]):
                normal, at = _parse_corner(text, at)
                if used == len(index):
                    index = grown(index)
                index[used] = _place(normal, found)
                used += 1
                at = skip_blanks(text, at)
        elif not (begins(text, at, USEMTL) or begins(text, at, MTLLIB)):
            at = skip_statement(text, at)
        while text[at] != LINE_FEED and text[at] != RETURN:  # a comment, or a name
            at += 1
    return normals[:found], index[:used]


@compiled
def _place(normal, found):  # type: ignore[no-untyped-def]
    """Return an index counted from 0. normal: from 1, or negative: back from those found so far."""
    if normal == _NO_INDEX:
        return _NONE
    place = normal - 1 if normal > 0 else found + normal if normal < 0 else -1
    return place if 0 <= place < 2**31 - 1 else _INVALID


@compiled
def _parse_corner(text, at):  # type: ignore[no-untyped-def]
    """Read v, v/t, v/t/n or v//n, all valid: (n or _NO_INDEX, end)."""
    normal, part = _NO_INDEX, 0
    _, at = parse_integer(text, at)
    while text[at] == _SLASH and part < 2:
        at += 1
        part += 1
        if not ends_word(text[at]) and text[at] != _SLASH:
            index, at = parse_integer(text, at)
            if part == 2:
                normal = index
    return normal, at
