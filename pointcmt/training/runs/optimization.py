"""What one step does to the weights: the optimizer, its learning rate, and averaged weights."""

import math
from copy import deepcopy

import torch
from torch import Tensor, nn

from pointcmt.training.config.sections import Optimizer, TrainConfig


def make_optimizer(model: nn.Module, config: Optimizer) -> torch.optim.Optimizer:
    """Adam or AdamW over all parameters that are trained."""
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return kinds[config.name](trained, lr=config.learning_rate, weight_decay=config.weight_decay)


def learning_rate(config: TrainConfig, step: int, steps: int) -> float:
    """The learning rate of step 0 … steps - 1.

    A linear rise over `schedule.warmup` epochs, then constant, or half a cosine that ends at 0.
    """
    peak = config.optimizer.learning_rate
    rising = min(config.schedule.warmup / config.epochs, 1.0) * steps
    if step < rising:
        return peak * (step + 1) / (rising + 1)
    if config.schedule.name == "constant":
        return peak
    return peak * 0.5 * (1 + math.cos(math.pi * (step - rising) / (steps - rising)))


class Average:
    """An exponential moving average of the weights, step by step; `model` holds it.

    In the first steps the decay is smaller, (1 + step) / (10 + step) as in TensorFlow's, so that
    the random start is forgotten. Buffers (batch norm's statistics) are averages already and are
    taken as they are, before the average is looked at (`take_buffers`).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.model = deepcopy(model)

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take the weights after step 1, 2, … into the average."""
        decay = min(self.decay, (1 + step) / (10 + step))
        means: list[Tensor] = list(self.model.parameters())
        weights: list[Tensor] = list(model.parameters())
        torch._foreach_lerp_(means, weights, 1 - decay)

    @torch.no_grad()
    def take_buffers(self, model: nn.Module) -> None:
        """Copy the buffers as they are."""
        for mine, its in zip(self.model.buffers(), model.buffers(), strict=True):
            mine.copy_(its)
