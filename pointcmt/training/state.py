"""All that a run goes on from, in one place: saved together, loaded together."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from pointcmt.datasets.streaming import ViewStream
from pointcmt.training import checkpoint
from pointcmt.training.cost import NOTHING, Spent
from pointcmt.training.optimization import Average
from pointcmt.training.processes import average_buffers
from pointcmt.training.progress import Sums


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
        self.stream.load_state_dict(scalars["stream"])
        self.sums.load_state_dict(scalars["sums"], self.accelerator)
        self.spent.load_state_dict(scalars.get("spent", NOTHING))
        return scalars

    def join_buffers(self) -> None:
        """Give running statistics of all processes to all of them, and to the average."""
        average_buffers(self.model, self.accelerator)
        if self.average:
            self.average.take_buffers(self.model)
