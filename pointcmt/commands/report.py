"""`pointcmt report`: a run, or a comparison of runs, as one page with tables and figures."""

from pathlib import Path
from typing import Annotated

import typer

from pointcmt.commands.options import Trust, allow, path_of, require_folder
from pointcmt.console import show
from pointcmt.extras import needs


def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs, of any recipe, finished or not; a whole recipe's or a study's means all runs in it.", **path_of("RUN"))],
    out: Annotated[Path, typer.Option(help="Folder for the page, tables and figures.", **path_of("--out"))],
    baseline: Annotated[str | None, typer.Option(metavar="NAME", help="Name of the run that the others are compared with. Default: the first one.", show_default=False)] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace any existing files, not only an earlier report.")] = False,
    trust: Trust = None,
) -> None:  # fmt: skip
    """Write a page about a run or a comparison of runs, with tables and figures in files beside it."""
    require_folder(out, "--out")
    allow(trust)
    with needs("train"):
        from pointcmt.training.report.page import write_report

        page, *files = write_report(runs, out, baseline, overwrite)
    show(f"{page} and {len(files)} files with its tables and figures")
