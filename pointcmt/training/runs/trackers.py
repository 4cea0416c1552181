"""A run's metrics for TensorBoard and, if asked, Weights & Biases; metrics.jsonl comes first."""

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from pointcmt.errors import DependencyError
from pointcmt.training.config.sections import TrainConfig
from pointcmt.training.runs.checkpoint import disk_errors
from pointcmt.training.runs.run import EVENTS, Run

Record = dict[str, Any]


@contextmanager
def track(run: Run, done: int, main: bool) -> Iterator[Callable[[Record], None]]:
    """A function that takes each epoch's record; what it holds open is closed at the end.

    done: epochs that were recorded before; events of later ones, left by a killed process, are
    purged. main: other processes track nothing.
    """
    out, config = run.folder, run.config
    tellers: list[Callable[[Record], None]] = []
    with ExitStack() as stack:
        if main and config.loop.tensorboard:
            tellers.append(_tensorboard(out / EVENTS, done, stack))
        if main and config.loop.wandb:
            tellers.append(_wandb(run, stack))

        def tell(record: Record) -> None:
            for teller in tellers:
                teller(record)

        yield tell


def _tensorboard(folder: Path, done: int, stack: ExitStack) -> Callable[[Record], None]:
    from torch.utils.tensorboard import SummaryWriter  # a second to import

    with disk_errors(folder):
        writer = SummaryWriter(str(folder), purge_step=done + 1)
    stack.callback(writer.close)

    def tell(record: Record) -> None:
        with disk_errors(folder):
            for name, value in record.items():
                if name != "epoch":
                    kind = "validation" if name.startswith("val_") else "train"
                    writer.add_scalar(f"{kind}/{name.removeprefix('val_')}", value, record["epoch"])
            writer.flush()

    return tell


def require_trackers(config: TrainConfig) -> None:
    """Raise DependencyError where a tracker that is asked for is not installed."""
    if config.loop.wandb and importlib.util.find_spec("wandb") is None:
        raise DependencyError(
            "loop.wandb needs wandb, which is not installed",
            where="loop.wandb",
            fix="pip install wandb, or set loop.wandb to nothing",
        )


def _wandb(run: Run, stack: ExitStack) -> Callable[[Record], None]:
    import wandb

    logged = wandb.init(
        project=run.config.loop.wandb,
        id=run.facts["id"],  # resumed, it stays one run
        resume="allow",
        name=run.folder.name,
        dir=str(run.folder),
        config=run.facts["config"],
    )
    stack.callback(logged.finish)

    def tell(record: Record) -> None:
        logged.log({k: v for k, v in record.items() if k != "epoch"}, step=record["epoch"])

    return tell
