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
    ids: Annotated[list[str] | None, typer.Option("--ids", metavar="ID", help="Only this shape; may be repeated.", show_default=False)] = None,
    classes: Annotated[list[str] | None, typer.Option("--class", metavar="NAME", help="Only this class; may be repeated.", show_default=False)] = None,
    split: Annotated[str | None, typer.Option(help="Only train, test or val.", show_default=False)] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only shapes that failed, with their reasons.")] = False,
    layer: Annotated[str, typer.Option(help="What the contact sheet shows: rgb, depth, ids, normal, albedo; of scenes also labels.")] = "rgb",
) -> None:  # fmt: skip
    """Write a contact sheet, points drawn on their pixels, and an HTML page that shows both."""
    require_folder(out, "--out")
    from pointcmt.datasets.selection import Selection
    from pointcmt.datasets.store.view_store import ViewStore
    from pointcmt.render.preview import Choice
    from pointcmt.render.preview import preview as draw

    selection = Selection(split, ids or None, None, classes or None)
    choice = Choice(selection, failed, layer)
    for path in draw(ViewStore.open(store), out, shapes, views, overwrite, choice):
        show(str(path))
