"""Write the page of a store: `pointcmt.view`."""

from collections.abc import Sequence
from pathlib import Path

from pointcmt.api.paths import local_path
from pointcmt.api.stores import ViewStore, open_store
from pointcmt.console import showing_messages
from pointcmt.datasets.selection import Selection, choose
from pointcmt.extras import needs
from pointcmt.view import MOST_SHAPES
from pointcmt.view.contents import ViewOptions
from pointcmt.view.overlay import Overlay
from pointcmt.view.write import write_view


def view(
    store: str | Path | ViewStore,
    out: str | Path,
    *,
    run: str | Path | None = None,
    ids: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    split: str | None = None,
    limit: int | None = None,
    views: int = 24,
    checkpoint: str = "best",
    device: str = "auto",
    overwrite: bool = False,
    progress: bool = False,
) -> Path:
    """Write a page on which to look at correspondences in any browser, without a server.

    out: a folder for index.html and, for many shapes, a file per shape. run: a folder, as for
    `load_run`; the page then shows what it predicts, features of points, and matches of mvnet. ids,
    classes, split: only these shapes. limit: the most of them, 200 by default. views: the most of
    each shape. checkpoint: of the run. overwrite: also replace files that no view wrote. progress:
    show it on standard error.

    Returns the page. Raises StoreError if none of the shapes is rendered yet, UsageError if none is
    chosen or the run cannot be shown.

    >>> page = pc.view("S", "page", classes=["chair"], split="test")
    >>> page.name
    'index.html'
    """
    folder = local_path(out, "--out")
    opened = store if isinstance(store, ViewStore) else open_store(store)
    most = MOST_SHAPES if limit is None else limit
    selection = Selection(split, ids, most, classes)
    with showing_messages(progress):
        overlay = overlay_of(run, opened, selection, checkpoint, device)
        page, *_ = write_view(opened, folder, ViewOptions(selection, views, overlay), overwrite)
    return page


def overlay_of(
    run: str | Path | None,
    store: ViewStore,
    selection: Selection,
    checkpoint: str = "best",
    device: str = "auto",
) -> Overlay | None:
    """Return what a run adds to the chosen shapes; None without a run."""
    if run is None:
        return None
    with needs("train", "a run"):
        from pointcmt.api.viewing.overlays import open_overlay
    return open_overlay(
        local_path(run, "--run"), store, choose(store, selection), checkpoint, device
    )
