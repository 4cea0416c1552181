"""The configurations that come with the package, by name. Imports no torch."""

import os
from importlib.resources import files
from pathlib import Path

from pointcmt.errors import UsageError, nearest

FOLDER = Path(str(files("pointcmt") / "configs"))


def known_configs() -> list[str]:
    """Return the names that `--config` accepts."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


def find_config(given: str) -> Path:
    """Return the file that `--config FILE|NAME` means.

    A string with a path separator or a suffix is a path (`./mine`, `mine.yaml`), whether or not the
    file exists; any other is the name of a packaged configuration. Raises UsageError for an empty
    string or an unknown name.
    """
    if not given:
        raise UsageError(
            "the path is empty",
            where="--config",
            fix="pass a file or the name of a packaged configuration",
        )
    path = Path(given)
    if path.suffix or any(separator in given for separator in (os.sep, os.altsep) if separator):
        return path
    names = known_configs()
    if given not in names:
        here = (
            f"for the file of this name, use --config .{os.sep}{given}; " if path.is_file() else ""
        )
        raise UsageError(
            f"unknown configuration '{given}'",
            where="--config",
            fix=here + nearest(given, names),
        )
    return FOLDER / f"{given}.yaml"
