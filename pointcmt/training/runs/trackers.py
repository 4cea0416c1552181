"""Send a run's metrics to TensorBoard and, if asked to, Weights & Biases.

metrics.jsonl stays the record of a run. accelerate's trackers are not used: they silently drop one
that is not installed, and leave purging, write errors and closing to their caller.
"""

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from pointcmt.errors import DependencyError
from pointcmt.training.config.sections import TrainConfig
from pointcmt.training.runs.checkpoint import disk_errors
from pointcmt.training.runs.folder import EVENTS, Run

Record = dict[str, Any]
Log = Callable[[Record], None]


@contextmanager
def track(run: Run, done: int, is_main: bool) -> Iterator[Log]:
    """Yield a function that logs each epoch's record; its trackers are closed at the end.

    done: epochs that were recorded before. Events of later ones, left by a killed process, are
    purged. is_main: only the main process logs anything.
    """
    logs: list[Log] = []
    with ExitStack() as stack:
        if is_main and run.config.loop.tensorboard:
            logs.append(_tensorboard(run.folder / EVENTS, done, stack))
        if is_main and run.config.loop.wandb:
            logs.append(_wandb(run, stack))

        def log_all(record: Record) -> None:
            for log in logs:
                log(record)

        yield log_all


def _tensorboard(folder: Path, done: int, stack: ExitStack) -> Log:
    from torch.utils.tensorboard import SummaryWriter  # a second to import

    with disk_errors(folder):
        writer = SummaryWriter(str(folder), purge_step=done + 1)
    stack.callback(writer.close)

    def log(record: Record) -> None:
        with disk_errors(folder):
            for name, value in record.items():
                if name != "epoch":
                    kind = "validation" if name.startswith("val_") else "train"
                    writer.add_scalar(f"{kind}/{name.removeprefix('val_')}", value, record["epoch"])
            writer.flush()

    return log


def require_trackers(config: TrainConfig) -> None:
    """Raise DependencyError if a tracker that is asked for is not installed."""
    if config.loop.wandb and importlib.util.find_spec("wandb") is None:
        raise DependencyError(
            "loop.wandb needs wandb, which is not installed",
            where="loop.wandb",
            fix="run `pip install wandb`, or leave loop.wandb empty",
        )


def _wandb(run: Run, stack: ExitStack) -> Log:
    import wandb

    wandb_run = wandb.init(
        project=run.config.loop.wandb,
        id=run.facts["id"],  # a resumed run stays one run
        resume="allow",
        name=run.folder.name,
        dir=str(run.folder),
        config=run.facts["config"],
    )
    stack.callback(wandb_run.finish)

    def log(record: Record) -> None:
        wandb_run.log({k: v for k, v in record.items() if k != "epoch"}, step=record["epoch"])

    return log
