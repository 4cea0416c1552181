"""`pointcmt study`: train and compare many runs, from one file."""

from pathlib import Path
from typing import Annotated

import typer

from pointcmt.commands.options import (
    Device,
    LogFormat,
    Trust,
    allow,
    path_of,
    require_folder,
    resumable,
    start_logging,
)
from pointcmt.console import show
from pointcmt.errors import UsageError
from pointcmt.extras import needs


def study(
    file: Annotated[str, typer.Argument(metavar="FILE|NAME", help="A study: a YAML file (./mine.yaml), or the name of one that comes with the package: distillation, pretraining.")],
    data: Annotated[list[str], typer.Option(metavar="STORE", help="The view store, with classes in train and test; may be repeated.")],
    out: Annotated[Path, typer.Option(help="The study's folder, created or continued.", **path_of("--out"))],
    unlabeled: Annotated[list[str] | None, typer.Option(metavar="STORE", help="Further stores for pre-training without labels; may be repeated.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="RECIPE.KEY=VALUE", help="Set one value for all runs of a recipe: teacher.model.weights=FOLDER")] = None,
    only: Annotated[list[str] | None, typer.Option("--only", metavar="AXIS=VALUES", help="Restrict the study: rows=vanilla,both or labels=10; may be repeated. What these runs start from is trained as well.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Seeds instead of the study's own: 0,1,2.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Two epochs and two seeds of each run, to try a study out; its numbers mean nothing.")] = False,
    workers: Annotated[int, typer.Option(min=1, help="Runs at a time, of one thread each; 1 = one, with all threads.")] = 1,
    trust: Trust = None,
    device: Device = "auto",
    log_format: LogFormat = "auto",
) -> None:  # fmt: skip
    """Train and compare many runs: tables, differences with intervals, curves. Again, to resume."""
    start_logging(log_format)
    require_folder(out, "--out")
    allow(trust, *(text.partition("=")[2].strip() for text in set_ or ()))
    from pointcmt.training.config.study import change, load_study
    from pointcmt.training.studies.plan import quick as shorten

    settings = load_study(file)
    settings = change(shorten(settings) if quick else settings, set_ or [], seeds)
    chosen = dict(_chosen(text) for text in only or ())
    with needs("train"), resumable():
        from pointcmt.training.studies.run import run_study

        page, *files = run_study(
            settings, tuple(data), out, tuple(unlabeled or ()), chosen, workers, device
        )
    show(f"{page} and {len(files)} files with its tables and figures")


def _chosen(text: str) -> tuple[str, tuple[str, ...]]:
    axis, equals, values = text.partition("=")
    if not equals or not values:
        raise UsageError(
            f"'{text}' is not of the form AXIS=VALUES",
            where="--only",
            fix="use the form --only labels=100,10 or --only rows=vanilla",
        )
    return axis.strip(), tuple(value.strip() for value in values.split(","))
