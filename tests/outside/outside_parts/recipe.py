"""A recipe: classification from the mean and the deviation of a cloud's coordinates."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pointcmt.datasets.store.streaming import Batch, StreamConfig
from pointcmt.training.config.own_recipes import OwnRecipe
from pointcmt.training.config.sections import (
    Optimizer,
    PointBackbone,
    PointData,
    Positive,
    Schedule,
    Section,
    TrainConfig,
)
from pointcmt.training.networks.backbones import build_backbone
from pointcmt.training.recipes.recipe import RecipeContext, accuracy


class Model(Section):
    """The network."""

    backbone: PointBackbone = "outside-net"


class Config(TrainConfig):
    """All settings, each with a default."""

    point_network: ClassVar[str | None] = ""

    epochs: Positive = 3
    data: PointData = PointData(batch_size=4, points=32, validation=0.25)
    model: Model = Model()
    optimizer: Optimizer = Optimizer(name="adamw", weight_decay=0.0)
    schedule: Schedule = Schedule(name="constant")


class Classification:
    """Points → class, with plain cross entropy."""

    def __init__(self, config: Config, classes: int) -> None:
        self.model: nn.Module = build_backbone(config.model.backbone, classes)
        self.stream = StreamConfig(
            arrays=("points",),
            batch_size=config.effective_batch_size,
            points=config.data.points,
            seed=config.seed,
        )

    def prepare(self, context: RecipeContext) -> "Classification":
        return self

    def loss(
        self, model: nn.Module, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        measured = self.measure(model, batch)
        return measured.pop("loss"), measured

    def measure(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        logits = self.logits(model, batch)
        loss = F.cross_entropy(logits, batch["label"])
        return {"loss": loss, "accuracy": accuracy(logits, batch["label"])}

    def pictures(self, model: nn.Module, batch: Batch) -> dict[str, bytes]:
        return {}

    def deployable(self, model: nn.Module, batch: Batch) -> tuple[nn.Module, tuple[Tensor, ...]]:
        return model, (batch["points"],)

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        return model(batch["points"]).logits

    def test_time_augmentation(self, batch: Batch, generator: torch.Generator) -> Batch:
        return batch


def build(config: Config, classes: int, pretrained: bool) -> Classification:
    return Classification(config, classes)


RECIPE = OwnRecipe(Config, build)
