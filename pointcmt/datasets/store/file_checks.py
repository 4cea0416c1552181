"""Files of a store's folder, past tensorstore: what is in it, what can be read, what was left."""

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

try:
    import fcntl
except ImportError:  # on Windows, where stores can only be read
    fcntl = None  # type: ignore[assignment]

LOCK = ".__lock"  # the suffix of files that tensorstore is still writing
MISSING = "the file is missing"
HAS_LOCKS = fcntl is not None


@dataclass(frozen=True)
class Inventory:
    """Everything in a folder or below a URL, by name relative to it.

    files: regular files, or objects. folders: each after the folders inside it. others: links,
    which are not followed, pipes, devices and sockets.
    """

    files: tuple[str, ...]
    folders: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


def file_problem(path: Path, most: int | None = None) -> str:
    """Return why a file of at most `most` bytes cannot be read, "" if it can; does not open it."""
    try:
        status = os.stat(path)
    except OSError as error:
        lost = error.errno in (errno.ENOENT, errno.ENOTDIR)
        return MISSING if lost else os.strerror(error.errno or 0)
    if stat.S_ISDIR(status.st_mode):
        return MISSING
    if not stat.S_ISREG(status.st_mode):
        return "it is not a regular file"
    if most is not None and status.st_size > most:
        return f"it has {status.st_size} bytes, more than the limit of {most}"
    return ""


def list_folder(root: Path) -> Inventory:
    """List everything in a folder. Raises OSError."""
    found: dict[str, list[str]] = {"files": [], "folders": [], "others": []}
    waiting = [""]
    while waiting:
        with suppress(FileNotFoundError), os.scandir(root / waiting.pop()) as entries:
            for entry in entries:
                name = Path(entry.path).relative_to(root).as_posix()
                if entry.is_dir(follow_symlinks=False):
                    found["folders"].append(name)
                    waiting.append(name)
                else:
                    regular = entry.is_file(follow_symlinks=False)
                    found["files" if regular else "others"].append(name)
    deepest_first = sorted(found["folders"], key=lambda name: (-name.count("/"), name))
    return Inventory(tuple(sorted(found["files"])), tuple(deepest_first), tuple(found["others"]))


def folder_size(root: Path) -> int:
    """Return the bytes of all files in a folder; writers may rename some of them meanwhile."""
    total, folders = 0, [str(root)]
    while folders:
        with suppress(FileNotFoundError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    with suppress(OSError):  # a broken link, or a circle of links
                        total += entry.stat().st_size
    return total


def empty_leftover(path: Path) -> None:
    """Empty what a killed writer has left of a file; call it before each write.

    tensorstore writes into the leftover `name.__lock` without truncating it: if that is longer than
    the new value, its end would become the end of the file. A file that a running writer has
    renamed since it was opened here stays as it is.
    """
    leftover = path.with_name(f"{path.name}{LOCK}")
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with suppress(OSError):  # it does not exist, or a running writer holds it
        handle = os.open(leftover, flags)
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(handle), os.lstat(leftover)):
                os.ftruncate(handle, 0)
        finally:
            os.close(handle)


def sweep_leftovers(root: Path, is_ours: Callable[[str], bool]) -> list[str]:
    """Delete the half-written files that killed writers left in a folder; returns their names.

    tensorstore writes `name.__lock` and renames it. Files that a running writer holds stay. Raises
    OSError.
    """
    swept = []
    for name in list_folder(root).files:
        if name.endswith(LOCK) and is_ours(name):
            with suppress(FileNotFoundError, BlockingIOError):
                path = root / name
                with path.open("r+b") as file:
                    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()
                    swept.append(name)
    return swept


def delete_files(root: Path, files: list[str], folders: list[str]) -> None:
    """Delete files and then empty folders, by name; missing ones are ignored. Raises OSError."""
    for name in files:
        with suppress(FileNotFoundError):
            os.unlink(root / name)
    for name in folders:
        with suppress(FileNotFoundError):
            os.rmdir(root / name)


def delete_empty_root(root: Path) -> None:
    """Delete an empty folder, unless it is a link. Raises OSError where it is not empty.

    A mount point, or a folder in a parent that cannot be written to, stays.
    """
    try:
        if not root.is_symlink():
            root.rmdir()
    except OSError as error:
        if error.errno == errno.ENOTEMPTY:
            raise
