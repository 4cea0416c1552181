"""`pointcmt demo`."""

from pathlib import Path
from typing import Annotated

import typer

from pointcmt.commands.options import (
    LogFormat,
    path_of,
    require_folder,
    resumable,
    start_logging,
)
from pointcmt.extras import needs


def demo(
    out: Annotated[
        Path,
        typer.Option(help="Folder for the store, the runs and the pictures.", **path_of("--out")),
    ] = Path("demo"),
    log_format: LogFormat = "auto",
) -> None:
    """Render and preview built-in shapes and rooms, train and evaluate; two minutes on a CPU."""
    require_folder(out, "--out")
    start_logging(log_format)
    with needs("all"):
        from pointcmt.commands.demo_steps import run
    with resumable():
        run(out)
