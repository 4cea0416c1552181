"""Classification that starts from another run's weights, with the student's loss.

With `load = none` this is the vanilla student, bit for bit. The weights are loaded before training
(see `pretrained.start_from`); this recipe freezes the encoder if asked to.
"""

import torch
from torch import Tensor, nn

from pointcmt.datasets.store.streaming import Batch
from pointcmt.training.config.downstream import FinetuneConfig
from pointcmt.training.networks.backbones import build_classifier
from pointcmt.training.recipes.student import Student
from pointcmt.training.runs.pretrained import freeze_encoder, hold_encoder


def build(config: FinetuneConfig, classes: int, pretrained: bool) -> "Finetune":
    """Build the fine-tuning recipe from its configuration; see RECIPES."""
    return Finetune(build_classifier(config, classes), config)


class Finetune(Student):
    """Points → class, without a teacher."""

    def __init__(self, model: nn.Module, config: FinetuneConfig) -> None:
        super().__init__(model, config)
        self.frozen = config.model.encoder == "frozen"
        if self.frozen:
            freeze_encoder(model)

    def loss(
        self, model: nn.Module, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        if self.frozen:
            hold_encoder(model)
        return super().loss(model, batch, generator)
