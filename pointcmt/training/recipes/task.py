"""What the training loop knows of a recipe."""

from typing import Protocol

import torch
from torch import Tensor, nn

from pointcmt.datasets.streaming import Batch, StreamConfig


class Task(Protocol):
    """A model with the data it reads and the loss it minimises. Batches are on the model's device.

    stream: what a training batch holds. Evaluation reads the same arrays, in order and with all
    views.
    """

    model: nn.Module
    stream: StreamConfig

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to minimise and what to log beside it: scalars, means over the batch.

        generator: all randomness of the recipe, on the CPU.
        """
        ...

    def logits(self, batch: Batch) -> Tensor:
        """Class scores [B, C], without augmentation."""
        ...

    def vary(self, batch: Batch, generator: torch.Generator) -> Batch:
        """The same shapes seen differently, for voting."""
        ...


def accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """Share of the batch whose highest score is the right class, a scalar."""
    return (logits.argmax(dim=1) == labels).float().mean()
