"""All that a run goes on from, in one place: saved together, loaded together."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from accelerate import Accelerator
from pydantic import Field, model_validator
from torch import nn

from pointcmt.datasets.store.streaming import ViewStream
from pointcmt.errors import StoreError
from pointcmt.training.config.tables import Count, Table, check
from pointcmt.training.runs import checkpoint
from pointcmt.training.runs.cost import NOTHING, Spent
from pointcmt.training.runs.distributed import average_buffers
from pointcmt.training.runs.optimization import Average
from pointcmt.training.runs.progress import Sums


class StreamState(Table):
    """Where the stream stood, see `ViewStream.state_dict`."""

    version: int
    epoch: Count
    position: Count
    data: str


class SumsState(Table):
    """The metrics of the epoch at work, see `Sums.gather`."""

    totals: dict[str, float]
    counts: dict[str, Count]

    @model_validator(mode="after")
    def _check_names(self) -> "SumsState":
        if self.totals.keys() != self.counts.keys():
            raise ValueError("totals and counts are of different metrics")
        return self


class SpentState(Table):
    """Time and memory so far, see `Spent.state_dict`."""

    seconds: Annotated[float, Field(ge=0, le=1e12)]
    peak: Count


class Saved(Table):
    """The scalars of a checkpoint that training goes on from, beside its files."""

    epoch: Count
    stream: StreamState
    sums: SumsState
    spent: SpentState = SpentState.model_validate(NOTHING)

    @model_validator(mode="after")
    def _check_epoch(self) -> "Saved":
        if self.stream.epoch != self.epoch:
            raise ValueError(f"epoch is {self.epoch}, but the stream's is {self.stream.epoch}")
        return self


@dataclass(frozen=True)
class State:
    """What changes from step to step. sums: the metrics of the epoch at work. spent: so far."""

    model: nn.Module
    average: Average | None
    optimizer: torch.optim.Optimizer
    stream: ViewStream
    sums: Sums
    spent: Spent
    accelerator: Accelerator

    @property
    def shown(self) -> nn.Module:
        """The model that is validated and kept: the averaged one where there is one."""
        return self.average.model if self.average else self.model

    def save(self, folder: Path, epoch: int, step: int) -> None:
        """Write a checkpoint after `epoch` whole epochs and `step` steps in all.

        Every process calls this; the main one writes.
        """
        self.join_buffers()
        sums = self.sums.gather(self.accelerator)
        if self.accelerator.is_main_process:
            training = checkpoint.training_state(
                self.model, self.optimizer, self.average is not None
            )
            position = {"stream": self.stream.state_dict(), "sums": sums}
            spent = self.spent.state_dict()
            scalars = {"epoch": epoch, "step": step, **position, "spent": spent}
            checkpoint.save(folder, step, scalars, self.shown, training)

    def load(self, folder: Path) -> dict[str, Any]:
        """Go on from a checkpoint; returns its scalars. Raises StoreError where it is damaged."""
        averaged = self.average.model if self.average else None
        scalars = checkpoint.load_training(folder, self.model, self.optimizer, averaged)
        where, fix = f"{folder}/{checkpoint.MARKER}", "train again into a new --out"
        saved = check(Saved, scalars, "this checkpoint", where, fix)
        self.stream.load_state_dict(scalars["stream"])
        self.sums.load_state_dict(scalars["sums"], self.accelerator)
        self.spent.load_state_dict(saved.spent.model_dump())
        if saved.stream.position > len(self.stream):
            raise StoreError(
                f"this checkpoint is damaged: it stands at batch {saved.stream.position} of an "
                f"epoch of {len(self.stream)}",
                where=where,
                fix=fix,
            )
        return scalars

    def join_buffers(self) -> None:
        """Give running statistics of all processes to all of them, and to the average."""
        average_buffers(self.model, self.accelerator)
        if self.average:
            self.average.take_buffers(self.model)
