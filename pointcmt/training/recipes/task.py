"""What the training loop knows of a recipe."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from pointcmt.datasets.store.streaming import Batch, StreamConfig
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.training.ops.losses import smoothed_cross_entropy


@dataclass(frozen=True)
class Context:
    """What a recipe may prepare from.

    shapes: all that training and validation will read. split: their SHA-256, see `run.plan_run`.
    processes: those that prepare at the same time, and may share the work.
    """

    store: ViewStore
    shapes: NDArray[np.int64]
    split: dict[str, str]
    device: torch.device
    processes: Accelerator


class Task(Protocol):
    """A model with the data it reads and the loss it minimises. Batches are on the model's device.

    model: what is trained. The methods take it again, or an average of it. stream: what a training
    batch holds, more of it once `prepare` was called; evaluation reads the same arrays, in order
    and with all views.
    """

    model: nn.Module
    stream: StreamConfig

    def prepare(self, context: Context) -> None:
        """Make ready what training needs besides the store's arrays, such as a teacher's features.

        Called once before the first batch; not for evaluation.
        """
        ...

    def loss(
        self, model: nn.Module, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to minimise and what to log beside it: scalars, means over the batch.

        generator: all randomness of the recipe, on the CPU.
        """
        ...

    def measure(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """What is validated, "loss" among it: scalars, means over the batch; nothing random."""
        ...

    def pictures(self, model: nn.Module, batch: Batch) -> dict[str, bytes]:
        """What a finished model makes of some validation shapes: file name → PNG. The batch holds
        their images too, whether the task reads them or not.
        """
        ...

    def inference(self, model: nn.Module, batch: Batch) -> tuple[nn.Module, tuple[Tensor, ...]]:
        """The network that is used after training, and what it takes of a batch."""
        ...


class Classifying(Task, Protocol):
    """A task that gives a class to shapes, or a part to points: one whose runs are evaluated."""

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        """Class scores [B, C], or of each point's parts [B, N, P], without augmentation."""
        ...

    def vary(self, batch: Batch, generator: torch.Generator) -> Batch:
        """The same shapes seen differently, for voting."""
        ...


def accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """Share of the batch whose highest score is the right class, a scalar."""
    return (logits.argmax(dim=1) == labels).float().mean()


def measure_classes(logits: Tensor, labels: Tensor, smoothing: float) -> dict[str, Tensor]:
    """`Task.measure` of a classifier."""
    loss = smoothed_cross_entropy(logits, labels, smoothing)
    return {"loss": loss, "accuracy": accuracy(logits, labels)}
