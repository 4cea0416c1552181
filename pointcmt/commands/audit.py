"""`pointcmt audit`: find what makes a store's scores wrong or unfair."""

import json
from pathlib import Path
from typing import Annotated

import typer

from pointcmt.commands.options import (
    Json,
    LogFormat,
    Store,
    path_of,
    require_folder,
    start_logging,
)
from pointcmt.console import show, show_text


def audit(
    store: Store,
    out: Annotated[Path | None, typer.Option(help="Folder for a page that shows each finding.", show_default=False, **path_of("--out"))] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace any existing index.html, not only an earlier audit.")] = False,
    log_format: LogFormat = "auto",
    as_json: Json = False,
) -> None:  # fmt: skip
    """Find leaks of the class, blank or cropped views and duplicates; exit with 1 if there are any."""
    if out is not None:
        require_folder(out, "--out")
    start_logging(log_format)
    from pointcmt.audit.page import require_folder_free, write_page
    from pointcmt.audit.run import audit as examine
    from pointcmt.datasets.store.view_store import ViewStore

    opened = ViewStore.open(store)
    if out is not None:
        require_folder_free(out, overwrite)  # before reading any shape
    found = examine(opened)
    show_text(found.describe())
    if out is not None:
        show(str(write_page(found, out, overwrite)))
    if as_json:
        print(json.dumps(found.as_json()))
    raise typer.Exit(0 if found.ok else 1)
