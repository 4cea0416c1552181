"""The state that a run resumes from, in one place: saved together, loaded together."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from accelerate import Accelerator
from pydantic import Field, model_validator
from torch import nn

from pointcmt.datasets.store.epochs import EpochStream
from pointcmt.errors import StoreError
from pointcmt.training.config.tables import Count, Table, check
from pointcmt.training.runs import checkpoint
from pointcmt.training.runs.cost import NOTHING, Usage
from pointcmt.training.runs.distributed import average_buffers
from pointcmt.training.runs.metrics import MetricAccumulator
from pointcmt.training.runs.optimization import ModelEMA


class StreamState(Table):
    """The position of the stream, see `EpochStream.state_dict`."""

    version: int
    epoch: Count
    position: Count
    data: str


class MetricsState(Table):
    """The metrics of the current epoch, see `MetricAccumulator.gather`."""

    totals: dict[str, float]
    counts: dict[str, Count]

    @model_validator(mode="after")
    def _check_names(self) -> "MetricsState":
        if self.totals.keys() != self.counts.keys():
            raise ValueError("totals and counts have different metrics")
        return self


class UsageState(Table):
    """Time and memory used so far, see `Usage.state_dict`."""

    seconds: Annotated[float, Field(ge=0, le=1e12)]
    peak: Count


class Saved(Table):
    """The scalars of a checkpoint that training resumes from, besides its files."""

    epoch: Count
    stream: StreamState
    sums: MetricsState
    spent: UsageState = UsageState.model_validate(NOTHING)

    @model_validator(mode="after")
    def _check_epoch(self) -> "Saved":
        if self.stream.epoch != self.epoch:
            raise ValueError(f"epoch is {self.epoch}, but the stream's is {self.stream.epoch}")
        return self


@dataclass(frozen=True)
class State:
    """Everything that changes from step to step.

    metrics: of the current epoch. usage: time and memory so far.
    """

    model: nn.Module
    ema: ModelEMA | None
    optimizer: torch.optim.Optimizer
    stream: EpochStream
    metrics: MetricAccumulator
    usage: Usage
    accelerator: Accelerator

    @property
    def eval_model(self) -> nn.Module:
        """The model that is validated and kept: the averaged one if there is one."""
        return self.ema.model if self.ema else self.model

    def save(self, folder: Path, epoch: int, step: int) -> None:
        """Write a checkpoint after `epoch` whole epochs and `step` steps in total.

        Every process calls this; the main one writes.
        """
        self.join_buffers()
        metrics = self.metrics.gather(self.accelerator)
        if self.accelerator.is_main_process:
            training = checkpoint.training_state(self.model, self.optimizer, self.ema is not None)
            position = {"stream": self.stream.state_dict(), "sums": metrics}
            usage = self.usage.state_dict()
            scalars = {"epoch": epoch, "step": step, **position, "spent": usage}
            checkpoint.save(folder, step, scalars, self.eval_model, training)

    def load(self, folder: Path) -> dict[str, Any]:
        """Load a checkpoint and return its scalars. Raises StoreError if it is damaged."""
        averaged = self.ema.model if self.ema else None
        scalars = checkpoint.load_training(folder, self.model, self.optimizer, averaged)
        where, fix = f"{folder}/{checkpoint.MARKER}", "train again into a new --out"
        saved = check(Saved, scalars, "this checkpoint", where, fix)
        self.stream.load_state_dict(scalars["stream"])
        self.metrics.load_state_dict(scalars["sums"], self.accelerator)
        self.usage.load_state_dict(saved.spent.model_dump())
        if saved.stream.position > len(self.stream):
            raise StoreError(
                f"this checkpoint is damaged: it is at batch {saved.stream.position}, but an "
                f"epoch has {len(self.stream)}",
                where=where,
                fix=fix,
            )
        return scalars

    def join_buffers(self) -> None:
        """Average running statistics over the processes, and copy them to the averaged model."""
        average_buffers(self.model, self.accelerator)
        if self.ema:
            self.ema.copy_buffers(self.model)
