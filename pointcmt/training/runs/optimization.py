"""What one step does to the weights: the optimizer, its learning rate, and averaged weights."""

import math
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from pointcmt.training.config.sections import Optimizer, TrainConfig

MOMENTUM = 0.9  # of SGD
POWER = 0.9  # of the poly schedule
FIRST, LAST = 0.1, 1e-5  # shares of the peak with which one cycle begins and ends
SLOW, FAST = 0.95, 0.85  # momentum at these ends, and at the peak
NINTHS = 9  # parts of a run that steps of rates and momenta are counted in
STEPS = (4, 6, 8)  # ninths after which the rate of the steps schedule falls by default
LEAST_MOMENTUM = 0.001  # of batch norms


def make_optimizer(model: nn.Module, config: Optimizer) -> torch.optim.Optimizer:
    """Return the optimizer over all parameters that are trained."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    # On a CPU, torch would otherwise update the parameters one by one; on CUDA, it groups them.
    fused = all(parameter.device.type == "cpu" for parameter in trained) or None
    rate, decay = config.learning_rate, config.weight_decay
    groups: list[dict[str, Any]] = [{"params": trained}]
    if config.decay == "matrices":
        groups = [
            {"params": [parameter for parameter in trained if not _is_vector(parameter)]},
            {
                "params": [parameter for parameter in trained if _is_vector(parameter)],
                "weight_decay": 0.0,
            },
        ]
    if config.name == "sgd":
        nesterov = config.nesterov
        return torch.optim.SGD(
            groups, rate, MOMENTUM, weight_decay=decay, nesterov=nesterov, fused=fused
        )
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    return kinds[config.name](groups, lr=rate, weight_decay=decay, fused=fused)


def _is_vector(parameter: Tensor) -> bool:
    """Return whether this is a bias, the factors of a norm, or a token [1, 1, D]."""
    return parameter.dim() < 2 or parameter.shape[:-1] == (1, 1)


def learning_rate(config: TrainConfig, step: int, steps: int) -> float:
    """Return the learning rate of step 0 … steps - 1.

    It rises linearly over `schedule.warmup` epochs, then stays constant or falls: along half a
    cosine, as (1 - t)^0.9 (the "poly" schedule, Chen et al. 2017, arXiv 1606.00915), or in steps.
    In one cycle it rises and falls along half a cosine each (Smith and Topin 2017, arXiv
    1708.07120, as torch's OneCycleLR). `schedule.per=epoch` takes the rate of each epoch's first
    step for all of it, as torch's schedulers that are called once an epoch. A plain function of the
    step has no state to save, so a resumed run gets the same bits.
    """
    schedule, peak = config.schedule, config.optimizer.learning_rate
    per_epoch = steps / config.epochs
    if schedule.per == "epoch":
        step = round(step // per_epoch * per_epoch)
    if schedule.name == "onecycle":
        return peak * _one_cycle(config, step, steps, (FIRST, 1.0, LAST))
    warmup = min(schedule.warmup / config.epochs, 1.0) * steps
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    if schedule.name == "constant":
        return peak
    if schedule.name == "steps":
        return max(
            peak * schedule.factor ** _steps_passed(config, step - warmup, steps - warmup),
            schedule.floor,
        )
    end = schedule.length * per_epoch or steps
    done = min((step - warmup) / (end - warmup), 1.0) if end > warmup else 1.0
    if schedule.name == "poly":
        return peak * (1 - done) ** POWER
    return schedule.floor + (peak - schedule.floor) * 0.5 * (1 + math.cos(math.pi * done))


def _steps_passed(config: TrainConfig, step: float, steps: float) -> int:
    """Return how often the rate of the schedule "steps" has fallen, `step` after the warm-up."""
    interval = config.schedule.interval
    if interval:
        epochs = config.epochs - config.schedule.warmup
        return int(step * epochs // (interval * steps))
    return sum(NINTHS * step >= ninth * steps for ninth in STEPS)


def set_momentum(group: dict[str, Any], config: TrainConfig, step: int, steps: int) -> None:
    """Set the momentum of step 0 … steps - 1 in one cycle, of Adam the first beta.

    It is high where the learning rate is low, as in torch's OneCycleLR. Other schedules leave it.
    """
    if config.schedule.name != "onecycle":
        return
    momentum = _one_cycle(config, step, steps, (SLOW, FAST, SLOW))
    if "momentum" in group:
        group["momentum"] = momentum
    else:
        group["betas"] = momentum, group["betas"][1]


def _one_cycle(
    config: TrainConfig, step: int, steps: int, values: tuple[float, float, float]
) -> float:
    """Go from the first value to the second over the warm-up, then to the third, by cosines."""
    top = min(config.schedule.warmup / config.epochs, 1.0) * steps - 1  # the step of the peak
    rises = step <= top
    before, after = values[:2] if rises else values[1:]
    done = step / max(top, 1e-9) if rises else (step - top) / (steps - 1 - top)
    return after + (before - after) * 0.5 * (1 + math.cos(math.pi * done))


def norm_momentum(first: float, step: int, steps: int) -> float:
    """Return the momentum of batch norms at step 0 … steps - 1.

    It begins with `first` and is halved at each ninth of the run, and at least 0.001: VoteNet's
    halves 0.5 every 20 of 180 epochs.
    """
    return max(first * 0.5 ** (NINTHS * step // steps), LEAST_MOMENTUM)


def set_norm_momentum(model: nn.Module, config: TrainConfig, step: int, steps: int) -> None:
    """Set the momentum of all batch norms for a step, if the configuration has a schedule of it."""
    first = getattr(getattr(config, "model", None), "norm_momentum", 0.0)
    if not first:
        return
    momentum = norm_momentum(first, step, steps)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.momentum = momentum


def describe_extension(config: TrainConfig, before: int) -> tuple[str, ...]:
    """Return a note on the learning rate of a run that continues to more epochs than `before`.

    The rate is always that of the schedule over all epochs asked for, see `learning_rate`: nothing
    depends on how the earlier epochs were trained.
    """
    if config.epochs <= before:
        return ()
    begin = f"continuing this run of {before} epochs to {config.epochs}: "
    if config.schedule.name == "constant":
        return (f"{begin}the learning rate is constant, as it would have been from the start",)
    if config.schedule.name == "steps" and config.schedule.interval:
        return (f"{begin}the learning rate falls as it would have from the start",)
    ended, goes_on = (
        learning_rate(config.model_copy(update={"epochs": n}), before - 1, n)
        for n in (before, config.epochs)
    )
    return (
        f"{begin}from here on, the learning rate follows the {config.schedule.name} of "
        f"{config.epochs} epochs (about {goes_on:.2g}, after {ended:.2g}). The earlier epochs "
        f"followed that of {before}, so the result differs from {config.epochs} epochs at once",
    )


class ModelEMA:
    """An exponential moving average of a model's weights, updated at every step; see `model`.

    In the first steps the decay is smaller, (1 + step) / (10 + step) as in TensorFlow, so that the
    random initial weights are forgotten. Buffers (batch norm's statistics) are averages already:
    `copy_buffers` copies them before the average is used.

    torch's AveragedModel does not fit: its first update replaces the average instead of blending,
    it copies all buffers at every step, and its tensors have other names than the model's.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.model = deepcopy(model)

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Blend in the model's weights after step 1, 2, …"""
        decay = min(self.decay, (1 + step) / (10 + step))
        averages: list[Tensor] = list(self.model.parameters())
        weights: list[Tensor] = list(model.parameters())
        torch._foreach_lerp_(averages, weights, 1 - decay)

    @torch.no_grad()
    def copy_buffers(self, model: nn.Module) -> None:
        """Copy the model's buffers."""
        for target, source in zip(self.model.buffers(), model.buffers(), strict=True):
            target.copy_(source)
