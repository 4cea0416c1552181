"""Open files that anyone may have put there: regular files only, refused without waiting.

A FIFO, a device or a socket where a file is expected would block or flood its reader for ever.
Every file that comes from outside (meshes, lists, weights, configurations, a store's or a run's own
files) is opened here.
"""

import errno
import os
import stat
from io import BufferedReader, BufferedWriter
from pathlib import Path


def open_regular(path: str | Path) -> BufferedReader:
    """Open a regular file for reading, after symbolic links.

    Raises OSError, with EINVAL for anything that is not a regular file.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):  # before it is opened: opening may do things
        raise _not_regular(path)
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    file = open(handle, "rb")  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(handle).st_mode):  # it was replaced in between
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
            raise OSError(errno.EFBIG, f"{size} bytes, at most {most} are read", str(path))
        return file.read(size)  # not `most`: so many bytes would be allocated


def require_regular(path: str | Path) -> None:
    """Raise OSError unless a path is a regular file: for libraries that open it themselves."""
    open_regular(path).close()


def append_regular(path: str | Path) -> BufferedWriter:
    """Open a regular file for writing at its end; it is made where it is missing.

    Raises OSError, with EINVAL for anything that is not a regular file; nothing is waited for.
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
