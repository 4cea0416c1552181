"""`pointcmt view`: a page on which to look at the correspondences of a store."""

import sys
from pathlib import Path
from threading import Event
from typing import Annotated

import typer

from pointcmt.commands.options import (
    Device,
    LogFormat,
    Store,
    Trust,
    allow,
    path_of,
    require_folder,
    start_logging,
)
from pointcmt.console import show
from pointcmt.errors import UsageError
from pointcmt.view import MOST_SHAPES


def view(
    store: Store,
    out: Annotated[Path | None, typer.Option(help="Folder for the page.", show_default=False, **path_of("--out"))] = None,
    serve: Annotated[bool, typer.Option("--serve", help="Instead of writing a page, serve it to browsers on this machine until Ctrl-C; shapes are read when they are shown.")] = False,
    ids: Annotated[list[str] | None, typer.Option("--ids", metavar="ID", help="Only this shape; may be repeated.", show_default=False)] = None,
    classes: Annotated[list[str] | None, typer.Option("--class", metavar="NAME", help="Only this class; may be repeated.", show_default=False)] = None,
    split: Annotated[str | None, typer.Option(help="Only train, test or val.", show_default=False)] = None,
    limit: Annotated[int | None, typer.Option(min=1, help=f"Maximum number of shapes, class by class in turn. Default: {MOST_SHAPES} with --out, all with --serve.", show_default=False)] = None,
    views: Annotated[int, typer.Option(min=1, help="Maximum number of views per shape, spread evenly.")] = 24,
    run: Annotated[Path | None, typer.Option(help="A trained run: shows what it predicts, features of points and matches of mvnet, and finds shapes by what it confuses.", show_default=False, **path_of("--run"))] = None,
    checkpoint: Annotated[str, typer.Option(help="Of --run: best on validation, last, or the number of an epoch that was kept.")] = "best",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port for --serve; 0 = any free one.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace any existing files, not only an earlier page.")] = False,
    trust: Trust = None,
    device: Device = "auto",
    log_format: LogFormat = "auto",
) -> None:  # fmt: skip
    """Show the same point in every view and in the cloud, on a page for any browser."""
    if serve == (out is not None):
        raise UsageError(
            "pass either --out or --serve",
            where="--out, --serve",
            fix="use --out DIR to write the page, --serve to look at it without writing anything",
        )
    if out is not None:
        require_folder(out, "--out")
    start_logging(log_format)
    allow(trust)
    from pointcmt.api.stores import open_store
    from pointcmt.api.viewing.pages import overlay_of
    from pointcmt.datasets.selection import Selection
    from pointcmt.view.contents import ViewOptions
    from pointcmt.view.serve import serving
    from pointcmt.view.write import write_view

    most = MOST_SHAPES if limit is None and out is not None else limit
    selection = Selection(split, ids or None, most, classes or None)
    opened = open_store(store)
    overlay = overlay_of(run, opened, selection, checkpoint, device)
    options = ViewOptions(selection, views, overlay)
    if out is None:
        with serving(opened, options, port) as url:
            show(url)
            sys.stdout.flush()  # it may be read through a pipe
            _wait_for_interrupt()
        return
    page, *files = write_view(opened, out, options, overwrite)
    beside = f" and {len(files)} files with its shapes" if files else ""
    show(f"{page}{beside}")


def _wait_for_interrupt() -> None:
    try:
        Event().wait()
    except KeyboardInterrupt:
        show("stopped")
