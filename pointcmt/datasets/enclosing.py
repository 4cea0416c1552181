"""Find the view store around a path, so that nothing else is ever written into one."""

import json
import os
from pathlib import Path

from pointcmt.datasets.store import ROOT
from pointcmt.regular_files import read_regular

MOST = 64 << 20  # bytes of a root that is read


def store_around(path: Path) -> Path | None:
    """Return the nearest folder at or above a path that is a view store, None without one.

    Looks at the path as it is written and at where its links lead; it need not exist.
    """
    for place in (Path(os.path.realpath(path)), Path(os.path.abspath(path))):
        for folder in (place, *place.parents):
            if is_store(folder):
                return folder
    return None


def is_store(folder: Path) -> bool:
    """Whether a folder's root is that of a view store, of whatever version."""
    try:
        attributes = json.loads(read_regular(folder / ROOT, MOST))["attributes"]
        return "schema_version" in attributes and "plan_sha256" in attributes
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False
