"""What the commands share: options, and how they end."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from pointcmt.console import LOG_FORMATS, say
from pointcmt.errors import DependencyError, UsageError, nearest

INTERRUPTED = 130

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]
LogFormat = Annotated[str, typer.Option(help="auto (a bar on a terminal), plain or json.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Name the extra that a missing library comes with."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise DependencyError(
            f"this command needs {error.name}, which is not installed",
            fix=f"pip install 'pointcmt[{extra}]'",
        ) from None


@contextmanager
def resumable(log_format: str) -> Iterator[None]:
    """Ctrl-C ends the command cleanly: whole shards are safe, and the same command goes on."""
    try:
        yield
    except KeyboardInterrupt:
        say("stopped; run the same command again to go on", log_format)
        raise typer.Exit(INTERRUPTED) from None


def check_log_format(name: str) -> None:
    if name not in LOG_FORMATS:
        raise UsageError(
            f"no log format is called '{name}'",
            where="--log-format",
            fix=nearest(name, LOG_FORMATS),
        )
