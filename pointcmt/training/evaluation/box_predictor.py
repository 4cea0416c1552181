"""Detect the boxes of a scene, from a store or from anyone's arrays.

The network sees as many random points of a scene as in training, the same ones each time.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from pointcmt.datasets.store.epochs import Batch
from pointcmt.datasets.store.scene_streams.boxes import BoxConfig, draw_points
from pointcmt.datasets.store.view_store import StoreReader
from pointcmt.datasets.streams import evaluation_config, open_stream
from pointcmt.errors import UsageError
from pointcmt.training.evaluation.classifier import Classifier
from pointcmt.training.ops.detection.scores import Detections
from pointcmt.training.recipes.detect import Detect


@dataclass(frozen=True)
class BoxPredictor(Classifier):
    """A run that detects boxes, ready to predict. Raises UsageError for votes."""

    def __post_init__(self) -> None:
        if self.votes > 1:
            raise UsageError(
                "votes are not available for boxes",
                where="--votes",
                fix="leave it out: boxes are detected once, as in training",
            )

    @property
    def channels(self) -> tuple[str, ...]:
        """What the network reads besides places: color, normal, both or neither."""
        return self._detect.inputs

    @property
    def points(self) -> int:
        """How many points of a scene the network takes."""
        return self._detect.stream.points

    def of_store(self, store: StoreReader, scenes: NDArray[np.int64]) -> Iterator[Batch]:
        """Yield each of a store's scenes [n] as a batch of its own, with boxes if it has them.

        A scene at a time, so that a result does not depend on its neighbors.
        """
        reads = cast(BoxConfig, evaluation_config(self._detect.stream, 1))
        boxed = "boxes" in store.specs
        yield from open_stream(store, scenes, replace(reads, channels=self.channels, boxes=boxed))

    def of_points(
        self, points: NDArray[np.float32], channels: dict[str, NDArray[Any]]
    ) -> Detections:
        """Return the detections of a scene that is in no store.

        points: [M, 3] meters, +Z up, the floor at z = 0. channels: those of `channels`, [M, 3]:
        color u8, normal f32. The same points in a store's first scene give the same detections.
        """
        chosen = draw_points(len(points), self.points, (0, 0, 0, 0))
        arrays = {"points": points, **channels}
        return self.detect(
            {name: torch.from_numpy(array[chosen])[None] for name, array in arrays.items()}
        )

    @torch.no_grad()
    def detect(self, batch: Batch) -> Detections:
        """Return the detections of a batch of one scene."""
        recipe = self._detect
        model = recipe.model.eval()
        device = next(model.parameters()).device
        batch = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
        (found,) = recipe.detections(model, batch, recipe.predict(model, batch))
        return found

    @property
    def _detect(self) -> Detect:
        return cast(Detect, self.recipe)
