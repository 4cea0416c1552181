"""Read the file of a shape as a whole, refuse foreign files, and give a reason for each failure."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from pointcmt.errors import (
    MOST_DETAIL,
    DependencyError,
    Reason,
    ShapeError,
    ShapeRefused,
    printable,
    shortened,
)
from pointcmt.extras import install
from pointcmt.files import read_regular

_MAX_BYTES = 4 << 30  # per file
_MAX_NOTES = 20
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_HTML = (b"<!doctype html", b"<html", b"<head", b"<body")
_PACKED = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"7z\xbc\xaf": "7z", b"BZh": "bzip2"}


@contextmanager
def refusals(path: Path) -> Iterator[None]:
    """Turn any error while reading a file into ShapeRefused or DependencyError."""
    try:
        yield
    except (ShapeRefused, DependencyError):
        raise
    except ShapeError as error:  # a reader's result is not a valid mesh or cloud
        raise ShapeRefused(error.reason, error.what) from error
    except ImportError as error:
        raise DependencyError(
            f"shapes cannot be read: {error}", where=str(path), fix=install("render")
        ) from error
    except MemoryError as error:
        raise ShapeRefused(Reason.TOO_LARGE, "not enough memory to read it") from error
    except Exception as error:  # our own fault: recorded for this shape only
        what = f"reading failed: {type(error).__name__}: {error}"
        raise ShapeRefused(Reason.INTERNAL_ERROR, what) from error


def read_shape_file(path: Path, text: tuple[str, ...], most: int = _MAX_BYTES) -> bytes:
    """Read a file that may hold a shape, of at most `most` bytes.

    text: suffixes of formats without binary data.

    Raises ShapeRefused if it cannot be read, or if it is clearly something else.
    """
    try:
        data = read_regular(path, most)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ShapeRefused(Reason.MISSING_FILE, f"file {path.name} not found") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        if isinstance(error, OSError) and error.errno == errno.EFBIG:
            raise ShapeRefused(Reason.TOO_LARGE, str(error.strerror)) from error
        raise ShapeRefused(Reason.UNREADABLE_FILE, f"{path.name}: {error}") from error
    _refuse_strangers(path, data, text)
    return data


def path_in(root: Path, name: str) -> Path:
    """Return the path of a file that a plan names, relative to the dataset's root.

    Raises ShapeRefused for a name that leads out of the root, since plans may be untrusted.
    """
    parts = PurePosixPath(name)
    if parts.is_absolute() or ".." in parts.parts:
        what = f"{printable(name)} is outside the dataset"
        raise ShapeRefused(Reason.UNREADABLE_FILE, what)
    return root / name


def few_notes(notes: tuple[str, ...]) -> tuple[str, ...]:
    """Return the notes without duplicates, limited in number and length."""
    notes = tuple(dict.fromkeys(shortened(note, MOST_DETAIL) for note in notes))
    if len(notes) > _MAX_NOTES:
        notes = (*notes[: _MAX_NOTES - 1], f"and {len(notes) - _MAX_NOTES + 1} more")
    return notes


def _refuse_strangers(path: Path, data: bytes, text: tuple[str, ...]) -> None:
    start = data[:4096]
    words = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not data.strip(b"\0 \t\r\n"):
        raise ShapeRefused(Reason.EMPTY_FILE, f"the file is empty or blank ({len(data)} bytes)")
    if start.startswith(b"version https://git-lfs.github.com/spec/"):
        raise ShapeRefused(Reason.LFS_POINTER, "a Git LFS pointer: run `git lfs pull`")
    if words.startswith(_HTML):
        raise ShapeRefused(Reason.HTML_PAGE, "an HTML page, probably from a failed download")
    for magic, kind in _PACKED.items():
        if start.startswith(magic) and path.suffix.lower() != ".npz":
            raise ShapeRefused(Reason.UNKNOWN_FORMAT, f"a {kind} archive: unpack it first")
    if path.suffix.lower() in text and b"\0" in start and not start.startswith(_UTF16):
        what = f"binary data, not {path.suffix.lower()[1:].upper()} text"
        raise ShapeRefused(Reason.UNKNOWN_FORMAT, what)
