"""Options and exit handling that the commands share."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from pointcmt import plugins
from pointcmt.console import LOG_FORMATS, logger, show_messages
from pointcmt.errors import UsageError, nearest
from pointcmt.extras import needs

INTERRUPTED = 130
SOME_FAILED = 3

Store = Annotated[
    str,
    typer.Argument(
        help="A view store: a folder, s3://bucket/path, gs://bucket/path; to read, a zip file.",
        show_default=False,
    ),
]
Workers = Annotated[int, typer.Option(min=0, help="Processes; 0 = one per core.")]
Timeout = Annotated[float, typer.Option(min=1, help="Seconds one shape may take.")]
MemoryLimit = Annotated[
    float | None,
    typer.Option(
        min=0,
        help="GiB one worker may hold; a share of the machine or container if absent, 0 = no limit.",
        show_default=False,
    ),
]
Gpus = Annotated[
    str,
    typer.Option(
        help="GPUs to draw on, shared by the workers: auto, or numbers (0,2); see doctor."
    ),
]
ShardIndex = Annotated[int | None, typer.Option(help="Which of --num-shards shares to do, from 0.")]
NumShards = Annotated[int | None, typer.Option(help="Shares of an array of jobs.")]
Scheduler = Annotated[
    str | None,
    typer.Option(help="Of a dask cluster: tcp://…, tls://…, or local.", show_default=False),
]
Resources = Annotated[str, typer.Option(help="Of dask workers, for each task: GPU=1.")]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Try failed shapes again.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]
LogFormat = Annotated[str, typer.Option(help="auto (a bar on a terminal), plain or json.")]
Trust = Annotated[
    list[str] | None,
    typer.Option(
        help="Your own code that a store, a run or a file names, to be imported.",
        metavar="MODULE:NAME",
        show_default=False,
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]


def allow(trusted: list[str] | None, *typed: str) -> None:
    """Allow this command to import the values typed by the user that have the form `module:name`.

    Their modules may also be in the current directory. trusted: the values of --trust. Raises
    UsageError if one of those has another form.
    """
    for name in trusted or ():
        if not plugins.is_reference(name):
            raise UsageError(
                f"'{name}' does not name code", where="--trust", fix="write it as module:name"
            )
    names = list(filter(plugins.is_reference, (*(trusted or ()), *typed)))
    plugins.trust(*names)
    if names:
        plugins.look_in(os.getcwd())


@contextmanager
def resumable() -> Iterator[None]:
    """End cleanly on Ctrl-C: finished shards are kept, and the same command resumes."""
    try:
        yield
    except KeyboardInterrupt:
        logger.info("stopped; run the same command again to go on")
        raise typer.Exit(INTERRUPTED) from None


def path_of(flag: str) -> dict[str, Any]:
    """Return arguments for `typer.Option(**…)` that make an option a path that is not empty.

    An empty path, as from an unset shell variable, would be the current directory.
    """

    def parse(text: str | Path) -> Path:
        if not str(text):
            raise UsageError(
                "the path is empty", where=flag, fix="name it; . is the current directory"
            )
        return Path(text)

    return {"parser": parse, "metavar": "PATH"}


Root = Annotated[
    Path | None,
    typer.Option(help="Where the data set is.", show_default=False, **path_of("--root")),
]


def is_url(path: Path) -> bool:
    """Return whether a path was meant as a store's URL."""
    return path.parts[:1] in (("s3:",), ("gs:",))


def require_folder(path: Path, flag: str) -> None:
    """Raise UsageError if a URL is given for something that needs a file system."""
    if is_url(path):
        raise UsageError(
            "only view stores can be on object storage", where=f"{flag} {path}", fix="name a folder"
        )


def cluster(
    scheduler: str | None, resources: str, workers: int, num_shards: int | None
) -> dict[str, Any]:
    """Return --scheduler and --resources as fields of render.run.Options. Raises UsageError."""
    if scheduler is None:
        if resources:
            raise UsageError(
                "only dask workers have resources", where="--resources", fix="leave it out"
            )
        return {}
    if num_shards is not None:
        raise UsageError(
            "a scheduler shares out all shards by itself", where="--num-shards", fix="leave it out"
        )
    if workers and scheduler != "local":
        raise UsageError(
            "the scheduler's workers are used, however many there are",
            where="--workers",
            fix="leave it out, or use --scheduler local",
        )
    if resources and scheduler == "local":
        raise UsageError(
            "the workers that are started here declare no resources",
            where="--resources",
            fix="leave it out, or name the --scheduler of workers that do",
        )
    amounts = _amounts(resources) if resources else {}
    with needs("cluster"):
        import distributed  # noqa: F401
    return {"scheduler": scheduler, "resources": amounts}


def _amounts(text: str) -> dict[str, float]:
    """Parse "GPU=1,disk=0.5" into numbers by name. Raises UsageError."""
    pairs = [pair.partition("=") for pair in text.split(",")]
    try:
        amounts = {name.strip(): float(amount) for name, _, amount in pairs}
        if not all(name and 0 < amount < math.inf for name, amount in amounts.items()):
            raise ValueError(text)
    except ValueError:
        raise UsageError(
            f"'{text}' are no resources", where="--resources", fix="such as GPU=1"
        ) from None
    return amounts


def share(index: int | None, count: int | None, overwrite: bool = False) -> tuple[int, int]:
    """Return --shard-index and --num-shards as (i, n); default (0, 1). Raises UsageError."""
    if index is None and count is None:
        return 0, 1
    if overwrite:
        raise UsageError(
            "each share would delete what the others have rendered",
            where="--overwrite",
            fix="delete the store before the array of jobs starts, or choose another --out",
        )
    if index is None or count is None:
        raise UsageError(
            "--shard-index and --num-shards belong together",
            where="--shard-index" if count is None else "--num-shards",
            fix="such as --shard-index 0 --num-shards 8 to --shard-index 7 --num-shards 8",
        )
    if not 0 <= index < count:
        raise UsageError(
            f"there is no share {index} of {count}",
            where="--shard-index",
            fix=f"0 to {count - 1}" if count > 0 else "give --num-shards 1 or more",
        )
    return index, count


def start_logging(log_format: str) -> None:
    """Show messages and progress in the format of --log-format. Raises UsageError."""
    if log_format not in LOG_FORMATS:
        raise UsageError(
            f"unknown log format '{log_format}'",
            where="--log-format",
            fix=nearest(log_format, LOG_FORMATS),
        )
    show_messages(log_format)
