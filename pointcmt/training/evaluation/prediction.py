"""Predict with a trained run: a class for each shape, or a part for each point.

`Predictor` maps batches to probabilities, wherever the batches come from: a store (`of_store`), or
files that someone else has loaded and sampled. Nothing needs to have a class.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from pointcmt.datasets.joint import match_names
from pointcmt.datasets.store.schema import SCENES
from pointcmt.datasets.store.streaming import Batch, StreamConfig, ViewStream
from pointcmt.datasets.store.view_store import StoreReader
from pointcmt.datasets.streams import evaluation_config
from pointcmt.training.config.downstream import PartsegConfig
from pointcmt.training.evaluation.box_predictor import BoxPredictor
from pointcmt.training.evaluation.classifier import (
    Classifier,
    open_classifier,
    vote,
)
from pointcmt.training.evaluation.scene_predictor import ScenePredictor
from pointcmt.training.runs.part_labels import Parts


@dataclass(frozen=True)
class Predictor(Classifier):
    """A run's network, ready to predict."""

    @property
    def parts(self) -> Parts | None:
        """Part names by class, if the run segments; None if it classifies."""
        config = self.run.config
        return config.parts if isinstance(config, PartsegConfig) else None

    @property
    def reads(self) -> StreamConfig:
        """How to read batches: all views, the points that training saw, no labels of parts."""
        config = self.run.config
        training = cast(StreamConfig, self.recipe.stream)
        reads = cast(StreamConfig, evaluation_config(training, config.data.batch_size))
        return replace(reads, arrays=tuple(name for name in reads.arrays if name != "part"))

    def labels_of(self, names: Iterable[str | None]) -> NDArray[np.int64]:
        """Return the run's number of each class by name, -1 for unknown ones and None."""
        given = list(names)
        known = [name for name in dict.fromkeys(given) if name is not None]
        number = dict(zip(known, match_names(known, self.run.class_names).tolist(), strict=True))
        return np.array([-1 if name is None else number[name] for name in given], np.int64)

    def of_store(
        self, store: StoreReader, shapes: NDArray[np.int64], labels: NDArray[np.int64]
    ) -> Iterator[Batch]:
        """Yield batches of a store's rendered shapes [n], with these labels [n] of the run."""
        row = np.full(store.schema.shapes, -1, np.int64)
        row[shapes] = labels
        of_shape = torch.from_numpy(row)
        for batch in ViewStream(store, shapes, self.reads):
            yield {**batch, "label": of_shape[batch["shape"]]}

    def probabilities(self, batches: Iterable[Batch]) -> Iterator[NDArray[np.float32]]:
        """Yield for each batch the classes' probabilities [B, C], or the points' parts [B, N] i64.

        Of parts, only those of the shape's class can be predicted, and `label` has to name it.
        """
        for log_p in vote(self.recipe, batches, self.votes, self.run.config.seed, None):
            rows: Any = log_p.argmax(dim=2) if self.parts is not None else log_p.exp()
            yield rows.numpy()


def open_predictor(
    folder: Path, which: str, votes: int, device: str
) -> Predictor | ScenePredictor | BoxPredictor:
    """Open a run for prediction: of shapes, of points of scenes, or of boxes.

    As in `open_classifier`. Raises UsageError for votes of boxes.
    """
    opened = open_classifier(folder, which, votes, device)
    if opened.run.config.detects:
        return BoxPredictor(**vars(opened))
    scenes = opened.run.config.reads == SCENES
    return ScenePredictor(**vars(opened)) if scenes else Predictor(**vars(opened))
