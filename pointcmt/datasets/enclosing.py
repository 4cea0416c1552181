"""Find the view store that contains a path, so that nothing else is written into it."""

import os
from pathlib import Path

from pointcmt.datasets.store.creation import is_root
from pointcmt.datasets.store.locations import is_remote
from pointcmt.datasets.store.schema import ROOT
from pointcmt.errors import UsageError
from pointcmt.files import read_regular

MOST = 64 << 20  # bytes of a store's zarr.json to read


def store_around(path: Path) -> Path | None:
    """Return the nearest folder at or above a path that is a view store, None if there is none.

    Checks the path both as written and with its links resolved; it need not exist.
    """
    for start in (Path(os.path.realpath(path)), Path(os.path.abspath(path))):
        for folder in (start, *start.parents):
            if is_store(folder):
                return folder
    return None


def require_outside(features: str, run: Path) -> None:
    """Raise UsageError if the location of features is empty, in a view store or in the run."""
    if not features:
        raise UsageError(
            "the location for features is empty", where="--features", fix="pass a folder or a URL"
        )
    if is_remote(features):
        return
    store = store_around(Path(features))
    inside = Path(os.path.realpath(features)).is_relative_to(os.path.realpath(run))
    if store or inside:
        raise UsageError(
            f"this location is inside the view store {store}"
            if store
            else "this location is inside the run's folder",
            where=f"--features {features}",
            fix="choose a separate folder, or leave out --features to keep them in the store",
        )


def is_store(folder: Path) -> bool:
    """Return whether a folder's zarr.json is that of a view store of any version."""
    try:
        return is_root(read_regular(folder / ROOT, MOST))
    except OSError:
        return False
