"""Stage III of PointCMT without its teacher (FE = CE = 0): the vanilla point network.

L = smoothed cross entropy, plus PointNet's regulariser where the backbone is PointNet.
"""

import torch
from torch import Tensor, nn

from pointcmt.datasets.streaming import Batch, StreamConfig
from pointcmt.training.augment import scale_and_shift
from pointcmt.training.backbones import BACKBONES
from pointcmt.training.config import StudentConfig
from pointcmt.training.losses import orthogonality, smoothed_cross_entropy
from pointcmt.training.recipes.task import accuracy


def build(config: StudentConfig, classes: int, pretrained: bool) -> "Student":
    """The student of a configuration; see RECIPES. There are no pretrained weights."""
    return Student(BACKBONES[config.model.backbone](classes), config)


class Student:
    """Points → class."""

    def __init__(self, model: nn.Module, config: StudentConfig) -> None:
        self.model = model
        self.smoothing = config.loss.label_smoothing
        self.augmentation = config.augmentation
        self.orthogonality = config.model.orthogonality
        self.stream = StreamConfig(
            arrays=("points",),
            batch_size=config.data.batch_size,
            points=config.data.points,
            seed=config.seed,
        )

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        a = self.augmentation
        points = scale_and_shift(batch["points"], a.scale, a.shift, generator)
        found = self.model(points)
        loss = smoothed_cross_entropy(found.logits, batch["label"], self.smoothing)
        if found.transform is not None and self.orthogonality:
            loss = loss + self.orthogonality * orthogonality(found.transform)
        return loss, {"accuracy": accuracy(found.logits, batch["label"])}

    def logits(self, batch: Batch) -> Tensor:
        return self.model(batch["points"]).logits

    def vary(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Every cloud scaled at random, as in training, but not moved."""
        points = scale_and_shift(batch["points"], self.augmentation.scale, 0.0, generator)
        return {**batch, "points": points}
