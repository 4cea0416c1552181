"""Options and exit handling that the commands share."""

import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from pointcmt import plugins
from pointcmt.console import LOG_FORMATS, logger, show_messages
from pointcmt.errors import UsageError, nearest, require_named
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
Workers = Annotated[int, typer.Option(min=0, help="Number of worker processes; 0 = one per core.")]
Timeout = Annotated[float, typer.Option(min=1, help="Time limit per shape in seconds.")]
MemoryLimit = Annotated[
    float | None,
    typer.Option(
        min=0,
        help="Memory limit per worker in GiB; 0 = no limit. Default: a share of the machine's or "
        "container's memory.",
        show_default=False,
    ),
]
Gpus = Annotated[
    str,
    typer.Option(
        help="GPUs to render on, shared by the workers: auto, or indices (0,2); see doctor."
    ),
]
ShardIndex = Annotated[int | None, typer.Option(help="Index of this job in a job array, from 0.")]
NumShards = Annotated[int | None, typer.Option(help="Number of jobs in the job array.")]
Scheduler = Annotated[
    str | None,
    typer.Option(
        help="Address of a dask scheduler: tcp://… or tls://…; local starts one.",
        show_default=False,
    ),
]
Resources = Annotated[str, typer.Option(help="Dask worker resources that each task needs: GPU=1.")]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Try failed shapes again.")]
Json = Annotated[
    bool, typer.Option("--json", help="Print the result as one JSON object on the last line.")
]
LogFormat = Annotated[
    str,
    typer.Option(
        help="Format of messages: auto (with a progress bar on a terminal), plain or json."
    ),
]
Trust = Annotated[
    list[str] | None,
    typer.Option(
        help="Allow importing this code, which a store, a run or a file refers to.",
        metavar="MODULE:NAME",
        show_default=False,
    ),
]
Device = Annotated[str, typer.Option(help="Device: auto, cpu, cuda or cuda:N.")]


def allow(trusted: list[str] | None, *typed: str) -> None:
    """Allow this command to import the values typed by the user that have the form `module:name`.

    Their modules may also be in the current directory. trusted: the values of --trust. Raises
    UsageError if one of those has another form.
    """
    for name in trusted or ():
        if not plugins.is_reference(name):
            raise UsageError(
                f"'{name}' does not have the form module:name",
                where="--trust",
                fix="use the form module:name",
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
        logger.info("stopped; run the same command again to continue")
        raise typer.Exit(INTERRUPTED) from None


def path_of(flag: str) -> dict[str, Any]:
    """Return arguments for `typer.Option(**…)` that make an option a path that is not empty."""

    def parse(text: str | Path) -> Path:
        require_named(text, flag)
        return Path(os.path.expanduser(text))

    return {"parser": parse, "metavar": "PATH"}


Root = Annotated[
    Path | None,
    typer.Option(help="Folder of the dataset.", show_default=False, **path_of("--root")),
]

Textures = Annotated[
    Path | None,
    typer.Option(
        help="One more folder in which to look for the textures and materials of meshes, by name.",
        show_default=False,
        **path_of("--textures"),
    ),
]


def is_url(path: Path) -> bool:
    """Return whether a path was meant as a store's URL."""
    return path.parts[:1] in (("s3:",), ("gs:",))


def require_folder(path: Path, flag: str) -> None:
    """Raise UsageError if a URL is given for something that needs a file system."""
    if is_url(path):
        url = str(path).replace(":/", "://", 1)  # a Path keeps one of two slashes
        raise UsageError(
            "only view stores can be on object storage",
            where=f"{flag} {url}",
            fix="use a local folder",
        )


def cluster(
    scheduler: str | None, resources: str, workers: int, num_shards: int | None
) -> dict[str, Any]:
    """Return --scheduler and --resources as fields of render.run.Options. Raises UsageError."""
    if scheduler is None:
        if resources:
            raise UsageError(
                "resources need a dask scheduler",
                where="--resources",
                fix="leave it out, or add --scheduler",
            )
        return {}
    if num_shards is not None:
        raise UsageError(
            "the scheduler distributes all shards itself", where="--num-shards", fix="leave it out"
        )
    if workers and scheduler != "local":
        raise UsageError(
            "the number of workers is determined by the scheduler",
            where="--workers",
            fix="leave it out, or use --scheduler local",
        )
    if resources and scheduler == "local":
        raise UsageError(
            "workers of a local scheduler have no resources",
            where="--resources",
            fix="leave it out, or pass the address of a --scheduler whose workers have them",
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
            f"invalid resources '{text}'",
            where="--resources",
            fix="use the form NAME=AMOUNT, such as GPU=1",
        ) from None
    return amounts


def share(index: int | None, count: int | None, overwrite: bool = False) -> tuple[int, int]:
    """Return --shard-index and --num-shards as (i, n); default (0, 1). Raises UsageError."""
    if index is None and count is None:
        return 0, 1
    if overwrite:
        raise UsageError(
            "each job would delete what the others have rendered",
            where="--overwrite",
            fix="delete the store before starting the job array, or choose another --out",
        )
    if index is None or count is None:
        raise UsageError(
            "--shard-index and --num-shards must be used together",
            where="--shard-index" if count is None else "--num-shards",
            fix="start one job per index: --shard-index 0 --num-shards 8 to --shard-index 7 "
            "--num-shards 8",
        )
    if not 0 <= index < count:
        raise UsageError(
            f"--shard-index {index} is out of range for --num-shards {count}",
            where="--shard-index",
            fix=f"use 0 to {count - 1}" if count > 0 else "use --num-shards 1 or more",
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


def refuse_given(context: typer.Context, names: Iterable[str], what: str) -> None:
    """Raise UsageError if the user gave one of these options, which do not apply.

    what: why they do not.
    """
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise UsageError(what, where=f"--{name.replace('_', '-')}", fix="leave it out")
