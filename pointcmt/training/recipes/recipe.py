"""What the training loop needs from a recipe."""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from pointcmt.datasets.store.epochs import Batch
from pointcmt.datasets.store.view_store import StoreReader
from pointcmt.datasets.streams import AnyConfig
from pointcmt.training.ops.losses import smoothed_cross_entropy


@dataclass(frozen=True)
class RecipeContext:
    """What a recipe may prepare from.

    shapes: every shape that training and validation will read, [n]. split: the SHA-256 of both
    parts, see `folder.plan_run`. processes: all processes that prepare at the same time; they may
    share the work. train: those of the shapes that training will read, [m].
    """

    store: StoreReader
    shapes: NDArray[np.int64]
    split: dict[str, str]
    device: torch.device
    processes: Accelerator
    train: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))


class Recipe(Protocol):
    """A model, the data it reads and the loss it minimizes. Batches are on the model's device.

    model: the network to train; the methods take it as an argument too, since validation may use
    an average of it. stream: what a training batch holds. Evaluation reads the same arrays, in
    order and with all views, of scenes all points.
    """

    model: nn.Module

    @property
    def stream(self) -> AnyConfig: ...

    def prepare(self, context: RecipeContext) -> "Recipe":
        """Return the recipe with everything that training needs besides the store's arrays.

        Such as a teacher's features, which may add an array to `stream`. The recipe it is called
        on stays as it is. Called once, before the first batch; evaluation does without it.
        """
        ...

    def loss(
        self, model: nn.Module, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and other metrics to log: scalars, means over the batch.

        generator: the source of all randomness in the recipe, on the CPU.
        """
        ...

    def measure(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return the validation metrics, "loss" among them: scalars, means over the batch.

        {} leaves the batch out, if there is nothing to measure in it. Nothing here is random. See
        also `ScoringRecipe`.
        """
        ...

    def pictures(self, model: nn.Module, batch: Batch) -> dict[str, bytes]:
        """Draw the results of a trained model for some validation shapes: file name → PNG.

        The batch holds the images ("rgb") even if the recipe does not read them.
        """
        ...

    def deployable(self, model: nn.Module, batch: Batch) -> tuple[nn.Module, tuple[Tensor, ...]]:
        """Return the network that is used after training, and its inputs taken from a batch."""
        ...


class ScoringRecipe(Recipe, Protocol):
    """A recipe whose score is one of all validation shapes together, not a mean over batches.

    Its `measure` also returns "counts", an i64 tensor of any shape, which is added up over all of
    them.
    """

    def score(self, counts: Tensor) -> dict[str, float]:
        """Return the metrics that follow from the sum of all counts."""
        ...


class ClassifyingRecipe(Recipe, Protocol):
    """A recipe that predicts a class for each shape or a part for each point; see `evaluate`."""

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return class scores [B, C], or part scores of each point [B, N, P]; no augmentation."""
        ...

    def test_time_augmentation(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return the same shapes, randomly varied, for voting."""
        ...


def accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the share of the batch whose highest score is the right class, a scalar."""
    return (logits.argmax(dim=1) == labels).float().mean()


def measure_classes(logits: Tensor, labels: Tensor, smoothing: float) -> dict[str, Tensor]:
    """Return the validation metrics of a classifier, see `Recipe.measure`."""
    loss = smoothed_cross_entropy(logits, labels, smoothing)
    return {"loss": loss, "accuracy": accuracy(logits, labels)}
