"""A run's metrics for TensorBoard and, if asked, Weights & Biases; metrics.jsonl comes first."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from pointcmt.errors import DependencyError
from pointcmt.training.checkpoint import disk_errors
from pointcmt.training.config import TrainConfig
from pointcmt.training.run import EVENTS

Record = dict[str, Any]


@contextmanager
def track(
    out: Path, config: TrainConfig, done: int, main: bool
) -> Iterator[Callable[[Record], None]]:
    """A function that takes each epoch's record; what it holds open is closed at the end.

    done: epochs that were recorded before; events of later ones, left by a killed process, are
    purged. main: other processes track nothing. Raises DependencyError for W&B without wandb.
    """
    tellers: list[Callable[[Record], None]] = []
    with ExitStack() as stack:
        if main and config.loop.tensorboard:
            tellers.append(_tensorboard(out / EVENTS, done, stack))
        if main and config.loop.wandb:
            tellers.append(_wandb(out, config, stack))

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


def _wandb(out: Path, config: TrainConfig, stack: ExitStack) -> Callable[[Record], None]:
    try:
        import wandb
    except ImportError:
        raise DependencyError(
            "loop.wandb needs wandb, which is not installed",
            where="loop.wandb",
            fix="pip install wandb, or set loop.wandb to nothing",
        ) from None
    run = wandb.init(
        project=config.loop.wandb,
        id=hashlib.sha256(bytes(out.absolute())).hexdigest()[:12],  # resumed, it stays one run
        resume="allow",
        name=out.name,
        dir=str(out),
        config=config.model_dump(mode="json"),
    )
    stack.callback(run.finish)

    def tell(record: Record) -> None:
        run.log({k: v for k, v in record.items() if k != "epoch"}, step=record["epoch"])

    return tell
