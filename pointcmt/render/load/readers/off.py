"""OFF files: a header of counts, then numbers in any layout.

The counts determine the meaning of each number. Line breaks matter only for face colors, which
extend to the end of their face's line. So a file is read at most twice: as plain tokens, and by
lines if the tokens do not match the counts exactly. The format is Geomview's
(http://www.geomview.org/docs/html/OFF.html), without its binary, 4D and nD variants.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pointcmt.compiled import compiled
from pointcmt.errors import Reason, ShapeRefused
from pointcmt.render.load.readers import GRAY, MAX_FACES, corner_normals
from pointcmt.render.load.readers.polygons import triangulate, zero_unused
from pointcmt.render.load.readers.text import (
    TAIL,
    ends_word,
    line_of,
    parse_integer,
    parse_number,
    rest_of_line,
    scannable,
    skip_space,
    token_at,
)
from pointcmt.shapes import Mesh

_KEYWORD = re.compile(rb"(?P<prefix>(?:ST|C|N|4|n)*)OFF|off")
_TOKEN = re.compile(rb"(?:\s|#[^\r\n]*+)*+(?P<token>[^\s#]+)")
_LONGEST_COLOR = 4
_MAX_INDEX = 2**31 - 1
_HEADER_ROOM = 1 << 16  # bytes that may come before the third count, comments included

# How a pass over the numbers ended.
_COMPLETE, _ENDED, _NO_NUMBER, _NO_CORNERS, _LEFT_OVER, _BAD_COLOR = range(6)


@dataclass(frozen=True)
class _Header:
    """vertices, faces: counts. at: start of the numbers. prefix: of ST, C and N."""

    vertices: int
    faces: int
    at: int
    prefix: str


@dataclass
class _Walk:
    """Results of one pass. P vertices, F polygons, S numbers of colors after faces."""

    status: int
    at: int  # where it ended
    own_lines: bool  # whether each face has a line to itself
    spare: int  # additional, unknown numbers on vertices' lines
    vertices: NDArray[np.float64]  # [P,3]
    colors: NDArray[np.float64]  # [P,4], alpha NaN if not given; [0,4] without colors
    sizes: NDArray[np.int32]  # [F] corners of each polygon
    corners: NDArray[np.int32]  # [sum of sizes]
    specs: NDArray[np.float64]  # [F,4] colors of faces, NaN if not given; [0,4] in token mode
    normals: NDArray[np.float64]  # [P,3]; [0,3] if not asked for, or not declared
    assumed: str = ""  # what the header does not declare of vertices: colors, normals


def read_off(path: Path, data: bytes, normals: bool = False) -> Mesh:
    """Read the mesh of an OFF file; path is unused, but other readers need it.

    normals: also read those of its vertices (NOFF).

    Raises ShapeRefused: unknown_format, bad_syntax, truncated, count_mismatch, bad_index, no_faces,
    too_large.
    """
    text = scannable(data)
    walk = _walk_text(text, normals)
    notes: list[str] = []
    if walk.spare:
        notes.append(f"{walk.spare} extra numbers after vertices ignored")
    if walk.assumed:
        what = f"extra numbers after vertices taken as their {walk.assumed} (the header says OFF)"
        notes.append(what)
    _check_indices(walk)
    triangles, polygon = triangulate(walk.vertices, walk.corners, walk.sizes)
    if len(triangles) > MAX_FACES:
        raise ShapeRefused(Reason.TOO_LARGE, f"{len(triangles)} triangles")
    lines = int((walk.sizes < 3).sum())
    if lines:
        notes.append(f"{lines} faces with fewer than 3 corners skipped")
    face_colors, note = _face_colors(walk.specs)
    faces = walk.corners[triangles]
    vertices, unused = zero_unused(walk.vertices, faces)
    return Mesh(
        vertices=vertices,
        faces=faces,
        vertex_colors=_vertex_colors(walk.colors),
        face_colors=None if face_colors is None else face_colors[polygon],
        corner_normals=corner_normals(walk.normals, faces) if len(walk.normals) else None,
        notes=(*notes, *note, *unused),
    )


def _walk_text(text: NDArray[np.uint8], normals: bool) -> _Walk:
    """Interpret the file so that its numbers match the counts; prefer the least odd reading."""
    headers = _read_header(text)
    plain = []
    for header in headers:
        plain.append(_walk(text, header, normals, by_line=False))
        if plain[-1].status == _COMPLETE and plain[-1].own_lines:
            return plain[-1]
    lined = [_walk(text, header, normals, by_line=True) for header in headers]
    complete = [walk for walk in [*plain, *lined] if walk.status == _COMPLETE]
    if complete:
        return min(complete, key=lambda walk: (walk.spare > 0, not walk.own_lines))
    likely = [by_line if by_line.own_lines else p for p, by_line in zip(plain, lined, strict=True)]
    raise _refusal(text, headers[0], max(likely, key=lambda walk: walk.at))


def _read_header(text: NDArray[np.uint8]) -> list[_Header]:
    """Return the possible interpretations of the header, the most likely first.

    There may be two, because some files omit the number of edges.
    """
    start = text[: min(_HEADER_ROOM, len(text) - len(TAIL))].tobytes()
    match = _TOKEN.match(start)
    if match is None:
        raise ShapeRefused(Reason.UNKNOWN_FORMAT, f"no header within {_HEADER_ROOM} bytes")
    prefix, at = "", match.start("token")
    keyword = _KEYWORD.match(match["token"])
    if keyword:
        prefix, at = (keyword["prefix"] or b"").decode(), at + keyword.end()
    elif not match["token"].isdigit():  # the keyword is optional
        word = token_at(text, at)
        raise ShapeRefused(Reason.UNKNOWN_FORMAT, f"the file begins with {word}, not with OFF")
    tokens: list[re.Match[bytes]] = []
    while len(tokens) < 3 and (match := _TOKEN.match(start, tokens[-1].end() if tokens else at)):
        tokens.append(match)
    binary = bool(tokens) and tokens[0]["token"] == b"BINARY"
    if binary or "4" in prefix or "n" in prefix:
        kind = f"{prefix}OFF{' BINARY' * binary}"
        raise ShapeRefused(
            Reason.UNKNOWN_FORMAT, f"{kind} is not supported: convert the file to ASCII OFF"
        )
    counts = _counts(text, tokens)
    short = _Header(counts[0], counts[1], tokens[1].end(), prefix)
    _check_size(short, len(text))
    if len(counts) == 2:
        return [short]
    full = replace(short, at=tokens[2].end())
    before = start[tokens[1].end() : tokens[2].start("token")]
    behind = re.match(rb"[ \t]*(#|[\r\n]|$)", start[tokens[2].end() :])
    own_line = behind or not re.search(rb"[\r\n]", before)
    return [full, short] if own_line else [short, full]


def _counts(text: NDArray[np.uint8], tokens: list[re.Match[bytes]]) -> list[int]:
    """Return the two or three counts of a header: vertices, faces, and edges if numeric."""
    values = []
    for token in tokens:
        try:
            values.append(int(token["token"]))
        except ValueError:
            break
    if len(tokens) < 2:
        raise ShapeRefused(Reason.TRUNCATED, "the file ends within its header")
    if len(values) < 2:
        word = token_at(text, tokens[len(values)].start("token"))
        raise ShapeRefused(Reason.BAD_SYNTAX, f"the header has {word} instead of a count")
    if min(values[:2]) < 0:
        raise ShapeRefused(Reason.BAD_SYNTAX, f"the header has negative counts: {values[:2]}")
    if values[1] == 0:
        raise ShapeRefused(Reason.NO_FACES, "the header declares 0 faces")
    return values


def _check_size(header: _Header, size: int) -> None:
    """Refuse counts that the file is too short for, before allocating memory for them."""
    least = 2 * (_least_width(header.prefix) * header.vertices + 2 * header.faces)
    if least > size - header.at + 2:
        raise ShapeRefused(
            Reason.TRUNCATED,
            f"the header declares {header.vertices} vertices and {header.faces} faces, which "
            f"{size} bytes cannot hold",
        )
    if header.faces > MAX_FACES:
        raise ShapeRefused(
            Reason.TOO_LARGE, f"{header.faces} faces, more than the maximum of {MAX_FACES}"
        )


def _least_width(prefix: str) -> int:
    return 3 + 3 * ("N" in prefix) + 3 * ("C" in prefix) + 2 * ("ST" in prefix)


def _walk(text: NDArray[np.uint8], header: _Header, with_normals: bool, by_line: bool) -> _Walk:
    """Read vertices and faces; by_line: the rest of a record's line belongs to it."""
    declared, colored, texture = (int(part in header.prefix) for part in ("N", "C", "ST"))
    vertices = np.empty((header.vertices, 3))
    plain = by_line and not texture
    colors = np.full((header.vertices * (colored or plain), _LONGEST_COLOR), np.nan)
    sizes = np.zeros(header.faces, np.int32)
    specs = np.full((header.faces * by_line, _LONGEST_COLOR), np.nan)
    room = max(0, (len(text) - header.at) // 2 - 3 * header.vertices - header.faces) + 1
    corners = np.empty(room, np.int32)  # more than fit into the rest of the file
    layout = (3 * declared, _LONGEST_COLOR * colored, 2 * texture)
    normals = np.empty((header.vertices * (with_normals and declared), 3))
    status, at, spare = _walk_vertices(text, header.at, layout, by_line, vertices, colors, normals)
    assumed = ""
    if plain and not colored:
        if with_normals and not declared and spare == 3 * len(colors) and _are_units(colors[:, :3]):
            spare, normals, colors, assumed = 0, colors[:, :3], colors[:0], "normals"
        else:
            spare, colors = _undeclared_colors(spare, colors)
            assumed = "colors" if len(colors) else ""
    used, own_lines = 0, by_line
    if status == _COMPLETE:
        status, at, used, own_lines = _walk_faces(text, at, by_line, sizes, corners, specs)
    if not np.isfinite(specs).any():
        specs = specs[:0]
    corners = corners[:used]
    found = vertices, colors, sizes, corners, specs, normals
    return _Walk(status, at, own_lines, spare, *found, assumed)


@compiled
def _walk_vertices(text, at, layout, by_line, vertices, colors, normals):  # type: ignore[no-untyped-def]
    """Fill vertices, colors and normals, the latter two if their arrays are not empty.

    Return (status, where it ended, number of unused numbers).
    """
    normal, color, texture = layout
    width = 3 + normal + (0 if by_line else color + texture)
    row, spare = np.empty(16), 0
    for vertex in range(len(vertices)):
        for i in range(width):
            at, _ = skip_space(text, at)
            row[i], end = parse_number(text, at)
            if end < 0 or not ends_word(text[end]):
                return (_ENDED if at == len(text) - 1 else _NO_NUMBER), at, spare
            at = end
        found = color
        if by_line:
            at, more = rest_of_line(text, at, row[width:])
            if more < 0:
                return _NO_NUMBER, at, spare
            found = max(0, more - texture)
            if color > 0 and found < 3:
                return _BAD_COLOR, at, spare
            spare += max(0, found - color)
        for i in range(3):
            vertices[vertex, i] = row[i]
        for i in range(min(colors.shape[1] if len(colors) > 0 else 0, found)):
            colors[vertex, i] = row[3 + normal + i]
        for i in range(3 if len(normals) > 0 else 0):
            normals[vertex, i] = row[3 + i]
    return _COMPLETE, at, spare


@compiled
def _walk_faces(text, at, by_line, sizes, corners, specs):  # type: ignore[no-untyped-def]
    """Fill sizes, corners and specs; return (status, where it ended, corners used, own_lines)."""
    used, own_lines = 0, True
    for face in range(len(sizes)):
        at, new_line = skip_space(text, at)
        own_lines &= new_line
        size, end = parse_integer(text, at)
        if end < 0 or not ends_word(text[end]):
            return (_ENDED if at == len(text) - 1 else _NO_NUMBER), at, used, own_lines
        if size < 1:
            return _NO_CORNERS, at, used, own_lines
        at = end
        sizes[face] = min(size, _MAX_INDEX)
        for _ in range(size):
            at, new_line = skip_space(text, at)
            own_lines &= not new_line
            corner, end = parse_integer(text, at)
            if end < 0 or not ends_word(text[end]):
                return (_ENDED if at == len(text) - 1 else _NO_NUMBER), at, used, own_lines
            if used == len(corners):
                return _ENDED, at, used, own_lines
            corners[used] = max(-1, min(corner, _MAX_INDEX))
            used += 1
            at = end
        if by_line:
            at, more = rest_of_line(text, at, specs[face])
            if more < 0 or more == 2 or more > _LONGEST_COLOR:
                return _BAD_COLOR, at, used, own_lines
    at, _ = skip_space(text, at)
    return (_COMPLETE if at == len(text) - 1 else _LEFT_OVER), at, used, own_lines


def _refusal(text: NDArray[np.uint8], header: _Header, walk: _Walk) -> ShapeRefused:
    """Return the error for a file that cannot be interpreted."""
    declared = f"{header.vertices} vertices and {header.faces} faces"
    where = f"line {line_of(text, walk.at)}"
    if walk.status == _ENDED:
        return ShapeRefused(
            Reason.TRUNCATED, f"the header declares {declared}; the file ends before them ({where})"
        )
    if walk.status == _LEFT_OVER:
        return ShapeRefused(
            Reason.COUNT_MISMATCH,
            f"extra numbers after the declared {declared}, from {where} on",
        )
    word = token_at(text, walk.at)
    if walk.status == _NO_CORNERS:
        return ShapeRefused(Reason.BAD_SYNTAX, f"{where}: a face with {word} corners")
    if walk.status == _BAD_COLOR:
        return ShapeRefused(Reason.BAD_SYNTAX, f"{where}: an incomplete color before {word}")
    return ShapeRefused(Reason.BAD_SYNTAX, f"{where}: {word} is not a number")


def _check_indices(walk: _Walk) -> None:
    count = len(walk.vertices)
    if walk.corners.min() < 0 or walk.corners.max() >= count:
        corner = int(np.flatnonzero((walk.corners < 0) | (walk.corners >= count))[0])
        face = int(np.searchsorted(np.cumsum(walk.sizes, dtype=np.int64), corner, side="right"))
        raise ShapeRefused(
            Reason.BAD_INDEX,
            f"face {face} (from 0) uses vertex {walk.corners[corner]}, but there are only {count} "
            "(from 0)",
        )


def _vertex_colors(colors: NDArray[np.float64]) -> NDArray[np.float32] | None:
    return _unit_colors(colors) if len(colors) else None


def _face_colors(specs: NDArray[np.float64]) -> tuple[NDArray[np.float32] | None, tuple[str, ...]]:
    """Return colors [F,3] of faces, and a note on colors that index an unknown color map."""
    if not len(specs):
        return None, ()
    mapped = np.isfinite(specs[:, 0]) & np.isnan(specs[:, 1])
    note = (f"color map indices of {int(mapped.sum())} faces ignored",) if mapped.any() else ()
    specs = np.where(mapped[:, None], np.nan, specs)
    return (_unit_colors(specs) if np.isfinite(specs).any() else None), note


def _undeclared_colors(spare: int, colors: NDArray[np.float64]) -> tuple[int, NDArray[np.float64]]:
    """Take additional numbers [P,4] of vertices as colors, though the header does not declare them.

    Only if every vertex has three or four and all are from 0 to 1 or from 0 to 255; three that have
    unit length are normals. Returns the number of additional numbers that remain unused, and the
    colors, [0,4] if they are none.
    """
    width = spare // max(len(colors), 1)
    if width not in (3, 4) or spare != width * len(colors):
        return spare, colors[:0]
    given = colors[:, :width]
    if not np.isfinite(given).all() or given.min() < 0 or given.max() > 255:
        return spare, colors[:0]
    if width == 3 and _are_units(given):
        return spare, colors[:0]
    return 0, colors


def _are_units(given: NDArray[np.float64]) -> bool:
    """Return whether most vectors [P,3] that are not 0 have length 1: normals, unless all numbers
    are whole, as those of pure colors are."""
    length = np.linalg.norm(given, axis=1)
    length = length[length > 0]
    is_whole = (given == np.floor(given)).all() and given.min() >= 0
    return not is_whole and len(length) > 0 and bool(np.mean(np.abs(length - 1) <= 0.01) > 0.5)


def _unit_colors(colors: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return sRGB 0..1 of colors in 0..255 or 0..1, judged by the maximum; gray if missing."""
    scale = 255 if np.nanmax(colors) > 1 else 1
    unit = np.clip(colors[:, :3] / scale, 0, 1)
    return np.where(np.isfinite(unit), unit, GRAY).astype(np.float32)
