"""Export stores as images, cameras and points for other programs."""

from collections.abc import Sequence
from pathlib import Path

from pointcmt.api.paths import local_path
from pointcmt.api.stores import ViewStore, open_store
from pointcmt.console import showing_messages
from pointcmt.datasets.export.job import ExportSummary, export_store
from pointcmt.datasets.selection import Selection


def export(
    store: str | Path | ViewStore,
    to: str,
    out: str | Path,
    *,
    split: str | None = None,
    shapes: Sequence[str] | None = None,
    limit: int | None = None,
    text: bool = False,
    workers: int = 0,
    overwrite: bool = False,
    progress: bool = False,
) -> ExportSummary:
    """Write the shapes of a store as files that other programs read (docs/export.md).

    to: png, nerfstudio, colmap or ply. out: a folder; another call goes on where one has stopped.
    split: train, test or val. shapes: ids. limit: the most shapes, class by class in turn. text:
    colmap's model as text instead of binary. workers: threads, 0 = one per core. overwrite: replace
    another export or other files. progress: show it on standard error.

    Returns a summary, with the shapes that failed and why. Raises UsageError for an invalid
    setting, StoreError if there is nothing to export or `out` holds something else.

    >>> done = pc.export("S", "colmap", "models", split="test", limit=2)
    >>> done.done, done.failures
    (2, ())
    """
    folder = local_path(out, "--out")
    opened = store if isinstance(store, ViewStore) else open_store(store)
    selection = Selection(split, shapes, limit)
    with showing_messages(progress):
        return export_store(
            opened, to, folder, selection, text=text, workers=workers, overwrite=overwrite
        )
