"""Paths of folders and files, as arguments of public functions."""

import os
from pathlib import Path

from pointcmt.datasets.store.locations import is_remote
from pointcmt.errors import UsageError, require_named


def local_path(path: str | Path, flag: str) -> Path:
    """Return an argument as a path of the file system, with ~ as the home directory.

    flag: the option of the same meaning, for messages. Raises UsageError if the path is empty, or a
    URL.
    """
    require_named(path, flag)
    if is_remote(str(path)):
        raise UsageError(
            "only view stores can be on object storage",
            where=f"{flag} {path}",
            fix="use a local folder",
        )
    return Path(os.path.expanduser(path))


def textures_folder(path: str | Path | None) -> Path | None:
    """Return `textures=` as a folder. Raises UsageError if it is not one."""
    found = None if path is None else local_path(path, "--textures")
    if found is not None and not found.is_dir():
        raise UsageError("no such folder", where=f"--textures {found}", fix="pass a folder")
    return found
