"""Classification from another run's weights: the student's loss, from another start.

With `load = none` it is the vanilla student, bit for bit. The loop reads the weights (see
`pretrained.start_from`); here the encoder is held still where it is to be.
"""

import torch
from torch import Tensor, nn

from pointcmt.datasets.store.streaming import Batch
from pointcmt.training.config.downstream import FinetuneConfig
from pointcmt.training.networks.backbones import build_backbone
from pointcmt.training.recipes.student import Student
from pointcmt.training.runs.pretrained import freeze_encoder, hold_encoder


def build(config: FinetuneConfig, classes: int, pretrained: bool) -> "Finetune":
    """The classifier of a configuration; see RECIPES."""
    return Finetune(build_backbone(config.model.backbone, classes), config)


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
