"""Outputs of a finished teacher, looked up by shape, and a finished, frozen generator."""

from pathlib import Path

import torch
from torch import Tensor

from pointcmt.console import logger
from pointcmt.datasets.store.streaming import Batch
from pointcmt.errors import StoreError, UsageError
from pointcmt.training.config.pointcmt import CmpgConfig
from pointcmt.training.networks.generator import PointGenerator
from pointcmt.training.recipes.recipe import RecipeContext
from pointcmt.training.recipes.teacher_features import teacher_features
from pointcmt.training.runs.checkpoint import load_weights
from pointcmt.training.runs.facts import store_notes
from pointcmt.training.runs.folder import BEST, open_run, weights_digest


class Knowledge:
    """A teacher's feature and logits for every shape that training reads, on the device."""

    def __init__(self, teacher: str, context: RecipeContext) -> None:
        run = open_run(Path(teacher))
        if run.facts["split"] != context.split:
            logger.warning(
                "note: this teacher was trained on a different split; if it has seen validation "
                "shapes, the validation scores are too optimistic",
            )
        for note in store_notes(run.facts["data"], context.store):
            logger.warning(f"note: teacher {teacher}: {note}")
        known = teacher_features(
            context.store,
            run,
            context.shapes,
            context.device,
            context.processes,
        )
        self.features = _with_nan(known.feature).to(context.device)  # [n + 1, 512]
        self.scores = _with_nan(known.logits).to(context.device)  # [n + 1, C]
        self.row = torch.full((context.store.schema.shapes,), -1, device=context.device)
        self.row[torch.from_numpy(context.shapes).to(context.device)] = torch.arange(
            len(context.shapes), device=context.device
        )

    def feature(self, batch: Batch) -> Tensor:
        """Return the teacher's features [B, 512] of a batch."""
        return self.features[self.row[batch["shape"]]]

    def logits(self, batch: Batch) -> Tensor:
        """Return the teacher's logits [B, C] of a batch."""
        return self.scores[self.row[batch["shape"]]]


def _with_nan(rows: Tensor) -> Tensor:
    """Append a row of NaN for unknown shapes (index -1), so that using it is noticed."""
    return torch.cat([rows, rows.new_full((1, rows.shape[1]), torch.nan)])


def frozen_generator(folder: str, teacher: str, device: torch.device) -> PointGenerator:
    """Load the generator of a run, in evaluation mode and without gradients of its own.

    Raises StoreError if it was trained with another teacher, UsageError for another recipe.
    """
    run = open_run(Path(folder))
    config = run.config
    if not isinstance(config, CmpgConfig):
        raise UsageError(
            f"this run is not a generator; its recipe is {config.recipe}",
            where=folder,
            fix="pass a run of `pointcmt train cmpg`",
        )
    if run.facts["inputs"].get("teacher") != weights_digest(Path(teacher)):
        raise StoreError(
            "this generator was trained with a different teacher",
            where=f"{folder}, {teacher}",
            fix="pass the teacher it was trained with, or train a generator for this one",
        )
    generator = PointGenerator(config.data.points)
    load_weights(run.folder / BEST, generator)
    return generator.to(device).eval().requires_grad_(False)
