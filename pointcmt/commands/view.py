"""`pointcmt view`: a page on which to look at the correspondences of a store."""

from pathlib import Path
from typing import Annotated

import typer

from pointcmt.commands.options import LogFormat, Store, path_of, require_folder, start_logging
from pointcmt.console import show


def view(
    store: Store,
    out: Annotated[Path, typer.Option(help="Folder for the page.", **path_of("--out"))],
    ids: Annotated[list[str] | None, typer.Option("--ids", metavar="ID", help="Only this shape; may be repeated.", show_default=False)] = None,
    classes: Annotated[list[str] | None, typer.Option("--class", metavar="NAME", help="Only this class; may be repeated.", show_default=False)] = None,
    split: Annotated[str | None, typer.Option(help="Only train, test or val.", show_default=False)] = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of shapes, class by class in turn.")] = 200,
    views: Annotated[int, typer.Option(min=1, help="Maximum number of views per shape, spread evenly.")] = 24,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace any existing files, not only an earlier page.")] = False,
    log_format: LogFormat = "auto",
) -> None:  # fmt: skip
    """Write a page that shows the same point in every view and in the cloud, for any browser."""
    require_folder(out, "--out")
    start_logging(log_format)
    from pointcmt.datasets.selection import Selection
    from pointcmt.datasets.store.view_store import ViewStore
    from pointcmt.view.write import ViewOptions, write_view

    selection = Selection(split, ids or None, limit, classes or None)
    page, *files = write_view(ViewStore.open(store), out, ViewOptions(selection, views, overwrite))
    beside = f" and {len(files)} files with its shapes" if files else ""
    show(f"{page}{beside}")
