"""`pointcmt info` and `pointcmt preview`: inspect a store."""

import json
from pathlib import Path
from typing import Annotated

import typer

from pointcmt.commands.options import Json, Store, path_of, require_folder
from pointcmt.console import show, show_text


def info(store: Store, as_json: Json = False) -> None:
    """Summarize a store; exit code 1 if files are lost."""
    from pointcmt.datasets.store.view_store import ViewStore
    from pointcmt.datasets.summary import describe, summarize

    facts = summarize(store)
    if as_json:
        print(json.dumps(facts))
    else:
        show_text(describe(facts))
    ViewStore.open(store).require_complete()


def preview(
    store: Store,
    out: Annotated[Path, typer.Option(help="Folder for the pictures.", **path_of("--out"))],
    shapes: Annotated[int, typer.Option(min=1, help="Maximum number of shapes.")] = 20,
    views: Annotated[int, typer.Option(min=1, help="Maximum number of views per shape.")] = 10,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Replace any existing files, not only an earlier preview."
        ),
    ] = False,
) -> None:
    """Write a contact sheet, points drawn on their pixels, and an HTML page that shows both."""
    require_folder(out, "--out")
    from pointcmt.datasets.store.view_store import ViewStore
    from pointcmt.render.preview import preview as draw

    for path in draw(ViewStore.open(store), out, shapes, views, overwrite):
        show(str(path))
