"""A trained run that predicts classes or parts: opened, read for, and asked.

`evaluate` and `predict` both start from `open_classifier`; `load_run` takes networks of any recipe
with `open_trained`.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from pointcmt.console import Paced
from pointcmt.datasets.store.epochs import Batch, EpochStream
from pointcmt.errors import UsageError
from pointcmt.training.ops.device import find_device
from pointcmt.training.recipes import build_recipe
from pointcmt.training.recipes.recipe import ClassifyingRecipe, Recipe
from pointcmt.training.runs.checkpoint import load_weights
from pointcmt.training.runs.folder import Run, find_checkpoint, open_run
from pointcmt.training.runs.locate import find_run, suggest_checkpoint


@dataclass(frozen=True)
class Trained:
    """A run with its network. which: the checkpoint, as asked for. epoch: of the checkpoint."""

    run: Run
    recipe: Recipe
    which: str
    epoch: int


@dataclass(frozen=True)
class Classifier(Trained):
    """A run that predicts classes or parts. votes: predictions to average per shape."""

    recipe: ClassifyingRecipe
    votes: int


def open_trained(folder: Path, which: str, device: str, classifies: bool = False) -> Trained:
    """Open a run with the weights of a checkpoint, on the device.

    folder: a run, or where `find_run` finds one. which: best on validation, last, or the number of
    an epoch that was kept. classifies: the run has to predict classes or parts. Raises StoreError
    for a run without this checkpoint, UsageError for an unknown name or another recipe.
    """
    folder = find_run(folder)
    name = find_checkpoint(folder, which)
    run = open_run(folder)
    if classifies and not run.config.classifies:
        raise UsageError(
            f"runs of the recipe '{run.config.recipe}' predict neither classes nor parts, so they "
            "have no accuracy",
            where=str(folder),
            fix="train `finetune` or `partseg` from it with --init, or evaluate a pre-trained "
            "network with `pointcmt evaluate --probe svm`; the losses are in its metrics.jsonl",
        )
    recipe = build_recipe(run.config, len(run.class_names), False)
    with suggest_checkpoint(folder, name):
        epoch = load_weights(folder / name, recipe.model)["epoch"]
    recipe.model.to(find_device(device))
    return Trained(run, recipe, which, epoch)


def open_classifier(folder: Path, which: str, votes: int, device: str) -> Classifier:
    """Open a run that predicts classes or parts. Arguments and errors as in `open_trained`."""
    require_votes(votes)
    found = open_trained(folder, which, device, classifies=True)
    recipe = cast(ClassifyingRecipe, found.recipe)
    return Classifier(found.run, recipe, which, found.epoch, votes)


def require_votes(votes: int) -> None:
    """Raise UsageError for fewer than one prediction per shape."""
    if votes < 1:
        raise UsageError(
            f"votes must be at least 1, not {votes}", where="votes", fix="use 1 or more"
        )


def predict(
    recipe: ClassifyingRecipe,
    stream: EpochStream,
    votes: int = 1,
    seed: int = 0,
    progress: Paced | None = None,
) -> Tensor:
    """Return log-probabilities of every class, [n, C] on the CPU, in the order of the stream.

    votes: see `evaluate`. seed: for the variations. Leaves the model in evaluation mode.
    """
    return torch.cat(list(vote(recipe, stream, votes, seed, progress)))


@torch.no_grad()
def vote(
    recipe: ClassifyingRecipe,
    stream: Iterable[Batch],
    votes: int,
    seed: int,
    progress: Paced | None,
    of_class: Tensor | None = None,
) -> Iterator[Tensor]:
    """Yield the logarithm of the votes' mean probability for each batch, on the CPU.

    [B, C], or [B, N, P] for the parts of points. of_class: the run's number of each of the stream's
    classes, [C]; None if they are the same.
    """
    model = recipe.model.eval()
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    for batch in stream:
        if of_class is not None:
            batch = {**batch, "label": of_class[batch["label"]]}
        batch = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
        varied = [recipe.test_time_augmentation(batch, generator) for _ in range(votes - 1)]
        logits = [recipe.logits(model, each) for each in (batch, *varied)]
        log_p = torch.stack([each.log_softmax(dim=-1) for each in logits])  # [K, B, …]
        yield (log_p.logsumexp(dim=0) - math.log(votes)).cpu()
        if progress:
            progress.advance(len(batch["label"]))
    if progress and progress.count:
        progress.advance(0, now=True)
