"""The errors that users can cause: what happened, where, and how to fix it."""

import json
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

MOST_TEXT = 8000  # characters of one part of an error, which may quote a file
MOST_VALUE = 60  # characters of a setting's value
MOST_NAMES = 60  # known names that a sentence lists: a store may have millions of shapes
MOST_DETAIL = 1000  # characters of a shape's detail or note: a store may hold millions

Key = TypeVar("Key")


class PointcmtError(Exception):
    """Base class of all errors of this package: something that the user can fix.

    what: the problem in one sentence. where: a path, option or key. fix: what to do next. Each is
    shortened to MOST_TEXT characters; the text of the error has no control characters. Settings are
    written as options (`--out`) in all three; `str` words them as Python's arguments (`out=`).

    >>> try:
    ...     pc.open_store("nowhere")
    ... except pc.PointcmtError as error:
    ...     print(error.what)
    there is no view store here
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        what, where, fix = (shortened(part, MOST_TEXT) for part in (what, where, fix))
        super().__init__(what, where, fix)
        self.what = what
        self.where = where
        self.fix = fix

    def __reduce__(
        self,
    ) -> tuple[Any, ...]:  # errors cross process borders: keep the keyword arguments
        return _rebuild, (type(self), self.what, self.where, self.fix)

    def __str__(self) -> str:
        from pointcmt.wording import as_arguments, place_as_arguments

        return _lines(
            as_arguments(self.what), place_as_arguments(self.where), as_arguments(self.fix)
        )

    def for_command_line(self) -> str:
        """Return the text of the error with its settings as options of the command line."""
        return _lines(self.what, self.where, self.fix)


class UsageError(PointcmtError):
    """An invalid setting, name or path (exit code 2).

    >>> try:
    ...     pc.find_rig("circle13")
    ... except pc.UsageError as error:
    ...     print(error.fix)
    did you mean 'circle12'? known: circle12, dodeca20, ...
    """

    exit_code = 2


class StoreError(PointcmtError):
    """A store or a run that is missing, damaged, not writable, or not the requested one.

    >>> try:
    ...     pc.load_run("nowhere")
    ... except pc.StoreError as error:
    ...     print(error.what)
    there is no run here
    """


class MisfitError(StoreError):
    """Weights that belong to another network."""


class DamageError(StoreError):
    """Data in a store is lost, or was changed after it was written.

    >>> issubclass(pc.DamageError, pc.StoreError)
    True
    """


class DependencyError(PointcmtError):
    """A required library is not installed or cannot be loaded.

    >>> issubclass(pc.DependencyError, pc.PointcmtError)
    True
    """


class Reason(StrEnum):
    """Why a shape was refused or failed: a fixed set, listed in docs/store.md."""

    MISSING_FILE = "missing_file"
    UNREADABLE_FILE = "unreadable_file"
    EMPTY_FILE = "empty_file"
    LFS_POINTER = "lfs_pointer"
    HTML_PAGE = "html_page"
    UNKNOWN_FORMAT = "unknown_format"
    BAD_SYNTAX = "bad_syntax"
    TRUNCATED = "truncated"
    COUNT_MISMATCH = "count_mismatch"
    BAD_INDEX = "bad_index"
    NOT_FINITE = "not_finite"
    NO_FACES = "no_faces"
    NO_AREA = "no_area"
    TOO_LARGE = "too_large"
    SOURCE_CHANGED = "source_changed"
    TIMEOUT = "timeout"
    CRASHED = "crashed"
    INTERNAL_ERROR = "internal_error"


class ShapeError(UsageError):
    """A shape that cannot be used, with a `reason`: invalid arrays or a bad file.

    >>> try:
    ...     pc.Mesh(vertices=[[0, 0, 0], [1, 0, 0], [0, 1, 0]], faces=[[0, 1, 3]])
    ... except pc.ShapeError as error:
    ...     print(error.reason, "-", error.what)
    bad_index - faces use vertices 0 to 3 of 3
    """

    def __init__(
        self,
        what: str,
        *,
        where: str = "",
        fix: str = "",
        reason: Reason = Reason.INTERNAL_ERROR,
    ) -> None:
        super().__init__(what, where=where, fix=fix)
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_shape_error, (self.what, self.where, self.fix, self.reason)


class ShapeRefused(Exception):
    """One shape cannot be rendered; the job records the reason and continues.

    The detail is shortened to MOST_DETAIL characters.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        detail = shortened(detail, MOST_DETAIL)
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


def shortened(text: str, most: int) -> str:
    """Return a text of at most `most` characters, cutting the middle of a longer one."""
    if len(text) <= most:
        return text
    head = most // 2
    return f"{text[:head]}…{text[len(text) - (most - head - 1) :]}"


def printable(name: str, most: int = 80) -> str:
    """Return an untrusted name for use in a message: one line, no control characters, shortened."""
    shown = _without_controls(shortened(name.strip(), 2 * most))
    return shown if len(shown) <= most else f"…{shown[1 - most :]}"


def printable_text(text: str) -> str:
    """Return a text without control characters except line breaks.

    In a terminal, some of them move, hide or reorder text, or even send input.
    """
    return "\n".join(map(_without_controls, text.split("\n")))


def require_utf8(path: str, where: str) -> None:
    """Raise UsageError for a path that is not valid UTF-8 and so cannot be stored as JSON."""
    try:
        path.encode()
    except UnicodeEncodeError:
        raise UsageError(
            "the name of this folder is not valid UTF-8",
            where=f"{where} {path!r}",
            fix="rename the folder",
        ) from None


def require_named(path: str | Path, where: str) -> None:
    """Raise UsageError for an empty path, which would be the current directory.

    An unset shell variable or an empty field of a configuration is one.
    """
    if not str(path):
        raise UsageError(
            "the path is empty", where=where, fix="pass a path; . is the current directory"
        )


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a sentence that lists the known values, suggesting a similar one first if any."""
    import difflib

    known = list(known)
    close = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    more = len(known) - MOST_NAMES
    listing = "known: " + ", ".join(known[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
    return f"did you mean '{close[0]}'? {listing}" if close else listing


def differing(left: Mapping[Key, Any], right: Mapping[Key, Any]) -> dict[Key, tuple[Any, Any]]:
    """Return both values of every key whose values differ, in the order of left, then of right.

    The value is None if a mapping lacks the key.
    """
    pairs = {key: (left.get(key), right.get(key)) for key in {**left, **right}}
    return {key: (here, there) for key, (here, there) in pairs.items() if here != there}


def brief(value: Any) -> str:
    """Return a JSON-able value as JSON; for a long one, its beginning and its length."""
    text = json.dumps(value)
    return text if len(text) <= MOST_VALUE else f"{text[:45]}… ({len(text)} characters)"


def _without_controls(line: str) -> str:
    return line if line.isprintable() else "".join(c if c.isprintable() else "�" for c in line)


def _lines(what: str, where: str, fix: str) -> str:
    """Return the text of an error, indented so that quoted text cannot imitate its other lines."""
    lines = [printable_text(what).replace("\n", "\n  ").replace("\n    ", "\n  ")]
    if where:
        lines.append(f"  where: {printable(where, MOST_TEXT)}")
    if fix:
        lines.append(f"  fix:   {printable_text(fix)}")
    return "\n".join(lines)


def _rebuild_shape_error(what: str, where: str, fix: str, reason: Reason) -> ShapeError:
    return ShapeError(what, where=where, fix=fix, reason=reason)


def _rebuild(kind: type[PointcmtError], what: str, where: str, fix: str) -> PointcmtError:
    return kind(what, where=where, fix=fix)
