"""Open untrusted files: regular files only; anything else is refused without blocking.

A FIFO, a device or a socket in place of a file could block its reader or feed it data forever.
Every file that comes from outside (meshes, lists, weights, configurations, a store's or a run's own
files) is opened here. JSON is read with limits on its size and depth.
"""

import errno
import json
import os
import stat
from io import BufferedReader, BufferedWriter
from pathlib import Path
from typing import Any, NoReturn

MOST_BYTES = 16 << 20  # of one file; decoded JSON takes up to thirty times as much memory
MOST_DEEP = 100  # nested lists and tables; Python's own limit depends on the caller


def open_regular(path: str | Path) -> BufferedReader:
    """Open a regular file for reading, following symbolic links.

    Raises OSError, with EINVAL for anything that is not a regular file.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):  # opening may have side effects
        raise _not_regular(path)
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    file = open(handle, "rb")  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(handle).st_mode):  # it was replaced in the meantime
        file.close()
        raise _not_regular(path)
    return file


def read_regular(path: str | Path, most: int) -> bytes:
    """Return the content of a regular file of at most `most` bytes.

    Raises OSError, with EFBIG for a larger file and EINVAL for anything that is not a regular file.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise OSError(errno.EFBIG, f"{size} bytes, more than the maximum of {most}", str(path))
        return file.read(size)  # not `most`: read allocates that many bytes


def require_regular(path: str | Path) -> None:
    """Raise OSError unless a path is a regular file; for libraries that open files themselves."""
    open_regular(path).close()


def append_regular(path: str | Path) -> BufferedWriter:
    """Open a regular file for appending, and create it if missing.

    Raises OSError, with EINVAL for anything that is not a regular file. Never blocks.
    """
    if os.path.exists(path) and not stat.S_ISREG(os.stat(path).st_mode):
        raise _not_regular(path)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NONBLOCK", 0)
    handle = os.open(path, flags | getattr(os, "O_BINARY", 0), 0o666)
    file = open(handle, "ab")  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        file.close()
        raise _not_regular(path)
    return file


def _not_regular(path: str | Path) -> OSError:
    return OSError(errno.EINVAL, "not a regular file", str(path))


def read_json(path: Path, most: int = MOST_BYTES) -> Any:
    """Return the value in a JSON file of at most `most` bytes.

    Raises OSError if it cannot be read or is not a regular file, ValueError if it is damaged or
    nested too deeply.
    """
    return parse_json(read_regular(path, most))


def parse_json(data: bytes | str) -> Any:
    """Return the value of a JSON text. Raises ValueError, also for NaN and deep nesting."""
    try:
        value = json.loads(data, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    level = [value]
    for _ in range(MOST_DEEP + 1):
        level = [part for each in level for part in _parts(each)]
        if not level:
            return value
    raise ValueError(_TOO_DEEP)


def _parts(value: Any) -> list[Any]:
    """Return the lists and tables directly inside a value."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [part for part in inside if isinstance(part, dict | list)]


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"it contains {name}, which is not valid JSON")


_TOO_DEEP = f"it is nested more than {MOST_DEEP} levels deep"
