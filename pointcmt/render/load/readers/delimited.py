"""Text files of points as people and tools write them: .xyz, .txt, .asc, .csv, .pts and others.

Numbers are separated by blanks, commas, semicolons or slashes; `#` and `//` begin comments. Before
the points there may be lines of prose, a line with the columns' names (also in a comment) and a
line with the number of points. Semicolons may separate numbers with decimal commas.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from pointcmt.errors import printable
from pointcmt.render.load.readers.points import Table, read_lines
from pointcmt.render.load.readers.text import scannable, without_mark

_HEAD = 1 << 16  # bytes within which the first point must come
_MOST_LINES = 100  # before the first point
_SAMPLED = 20  # lines of points that decide whether commas are decimal
_LINE = re.compile(rb"[^\r\n]*(?:\r\n|\n|\r|\Z)")
_SEPARATORS = re.compile(r"[,;]|[ \t]*\t[ \t]*")
_BLANKS = bytes.maketrans(b",;/\"'\t", b"      ")
_COMMENT = re.compile(rb"//[^\r\n]*")
_DECIMAL = re.compile(rb"[+-]?\d*,\d+(?:[eE][+-]?\d+)?")
_INTEGER = re.compile(rb"[+-]?\d+")
_EMPTY = re.compile(rb"(?<=[,;])(?=[ \t]*[,;])|(?:(?<=[\r\n])|\A)(?=[ \t]*[,;])")
_BLANKS_WITHIN = re.compile(rb"(?<=[^,;\s])[ \t]+(?=[^,;\s])")
_EMPTY_END = re.compile(rb"(?<=[,;])(?=[ \t]*(?:[\r\n]|\Z))")


def read_delimited(data: bytes, csv: bool = False) -> Table:
    """Read the numbers [M,C] of lines of equal length, and the columns' names if there are any.

    csv: whether nothing between two separators is a missing value (NaN). Raises ShapeRefused like
    `read_text`.
    """
    data = without_mark(data)
    begin, headers = _headers(data)
    notes = []
    if _has_decimal_commas(data[begin : begin + _HEAD]):
        data = data[:begin] + data[begin:].replace(b",", b".")
        notes.append("commas between digits taken as decimal points")
    if b"//" in data:
        data = _COMMENT.sub(lambda match: b" " * len(match[0]), data)
    if csv:
        data = data[:begin] + _fill_cells(data[begin:], headers)
    width = _width(data, begin)
    fitting = [h for h in headers if width >= 3 and _fits(h.names, width)]
    fitting = [h for h in fitting if has_axes(h.names)] or [h for h in fitting if not h.comment]
    chosen = fitting[-1] if fitting else None
    ignored = [h.text for h in headers if h is not chosen and not h.comment]
    if ignored:
        notes.append(f"line before the points ignored: {printable(ignored[0])}")
    names = chosen.names[:width] if chosen else ()
    table = read_lines(scannable(data.translate(_BLANKS)), begin, counted=True, names=names)
    return replace(table, notes=tuple(notes))


def _fill_cells(points: bytes, headers: list["_Header"]) -> bytes:
    """Return the lines of a .csv file with nan in empty cells, and without blanks in others.

    If the first line ends with a separator although it has all of the columns, every line does.
    """
    first = next((line for line in re.split(rb"[\r\n]+", points[:_HEAD]) if _words(line)), b"")
    if not re.search(rb"[,;]", first):
        return points
    points = _BLANKS_WITHIN.sub(b"_", _EMPTY.sub(b"nan", points))
    columns = len(_words(_BLANKS_WITHIN.sub(b"_", _EMPTY.sub(b"nan", first))))
    closed = first.rstrip(b" \t").endswith((b",", b";"))
    if closed and (not headers or any(_fits(h.names, columns) for h in headers)):
        return points
    return _EMPTY_END.sub(b"nan", points)


def has_axes(names: Iterable[str]) -> bool:
    """Return whether x, y and z are among the names."""
    return {"x", "y", "z"} <= {role_of(name) for name in names}


def role_of(name: str) -> str:
    """Return what a column's name means: x, nx, red, … or "" for anything else.

    Case, blanks, quotes and units in brackets do not matter.
    """
    plain = re.sub(r"\[.*?\]|\(.*?\)|[\s\"'#/]", "", name).lower()
    return ROLES.get(plain, "")


def _roles() -> dict[str, str]:
    """Return the meanings of the names that common tools write."""
    roles = {}
    for i, axis in enumerate("xyz"):
        patterns = "{} p{} pos{} pos_{} position_{} point_{} coord_{} {}_coord {}coord {}coordinate"
        for pattern in patterns.split():
            roles[pattern.format(axis)] = axis
        for pattern in ("n{}", "n_{}", "normal_{}", "normal{}", "{}_normal"):
            roles[pattern.format(axis)] = f"n{axis}"
        roles |= {f"points:{i}": axis, f"points_{i}": axis, f"normals:{i}": f"n{axis}"}
        roles[f"normals_{i}"] = f"n{axis}"
    for i, color in enumerate(("red", "green", "blue")):
        for pattern in ("{0}", "{1}", "{1}f", "color_{1}", "colour_{1}", "rgb_{1}", "diffuse_{0}"):
            roles[pattern.format(color, color[0])] = color
        roles |= {f"{array}:{i}": color for array in ("rgb", "colors", "color")}
    for name in ("i", "intensity", "scalar_intensity", "reflectance", "reflectivity"):
        roles[name] = "intensity"
    for name in ("label", "labels", "class", "class_id", "classification", "seg", "part"):
        roles[name] = "label"
    return roles | dict.fromkeys(("a", "alpha"), "alpha")


ROLES = _roles()


@dataclass(frozen=True)
class _Header:
    """A line before the points. names: of columns, if it holds any. comment: whether it is one."""

    text: str
    names: tuple[str, ...]
    comment: bool


def _headers(data: bytes) -> tuple[int, list[_Header]]:
    """Return where the lines of numbers begin, and the lines before them that are not blank.

    A line in which at least half of the entries are numbers is damaged rather than a header: the
    numbers begin there, and reading it fails with its place.
    """
    begin = 0
    headers: list[_Header] = []
    for match in _LINE.finditer(data, 0, _HEAD):
        line = match[0].strip(b" \t\r\n\0")
        comment = line.startswith((b"#", b"//"))
        if line and not comment:
            words, numbers = _words(line), _numbers(line)
            named = len(numbers) >= 3 and any(_fits(h.names, len(words)) for h in headers)
            title = len(words) < 3 and numbers[:1] != words[:1]
            if named or _is_row_of_cells(line) or (2 * len(numbers) >= len(words) and not title):
                break
        if len(headers) == _MOST_LINES:
            break
        if line:
            text = line.decode("utf-8", "replace")
            headers.append(_Header(text, split_names(text.lstrip("#/ \t")), comment))
        begin = match.end()
    return begin, headers


def split_names(line: str) -> tuple[str, ...]:
    """Return the names in a header line, between commas, semicolons or tabs, else blanks.

    Slashes separate names where nothing else does.
    """
    parts = _SEPARATORS.split(line) if _SEPARATORS.search(line) else line.split()
    if len(parts) == 1:
        parts = line.split("/")
    return tuple(part.strip(" \t\"'") for part in parts) or ("",)


def _words(line: bytes) -> list[bytes]:
    line = _COMMENT.sub(b"", line).split(b"#")[0]
    return [word for word in line.translate(_BLANKS).split() if word]


def _numbers(line: bytes) -> list[bytes]:
    """Return the words of a line that are numbers, including nan and inf."""
    found = []
    for word in _words(line):
        try:
            float(word)
        except ValueError:
            continue
        found.append(word)
    return found


def _is_row_of_cells(line: bytes) -> bool:
    """Return whether half of the cells, three or more, are numbers; others may be long texts."""
    cells = re.split(rb"[,;]", line)
    return sum(len(_words(cell)) == len(_numbers(cell)) == 1 for cell in cells) >= max(
        3, len(cells) / 2
    )


def _width(data: bytes, begin: int) -> int:
    """Return how many entries the first line of points has, ignoring a line with their number."""
    widths = []
    for match in _LINE.finditer(data, begin, begin + _HEAD):
        words = _words(match[0])
        if words:
            widths.append(len(words))
        if len(widths) == 2:
            break
    return 0 if not widths else widths[-1] if widths[0] == 1 else widths[0]


def _fits(names: tuple[str, ...], width: int) -> bool:
    """Return whether there is a name for each column; one may be empty at the end."""
    return len(names) == width or (len(names) == width + 1 and names[-1] == "")


def _has_decimal_commas(start: bytes) -> bool:
    """Return whether blanks or semicolons separate numbers with a comma each, such as `0,5;1;2,5`.

    Every entry of the first lines must have one comma between digits, or be an integer; a comma
    that is followed by a blank separates.
    """
    found = False
    for line in re.split(rb"[\r\n]+", start)[:_SAMPLED]:
        words = re.split(rb"[;\s]+", line.strip(b" ;\t"))
        if len(words) < 3:
            continue
        decimal = [bool(_DECIMAL.fullmatch(word)) for word in words]
        if not all(d or _INTEGER.fullmatch(w) for d, w in zip(decimal, words, strict=True)):
            return False
        found |= any(decimal)
    return found
