"""Predict the class of each point of a scene, from a store or from anyone's arrays.

The network sees one point of each voxel, and every point gets the prediction of its voxel. With
votes, the probabilities of moved copies of the scene are averaged.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pointcmt.datasets.store.epochs import Batch
from pointcmt.datasets.store.scene_streams.crops import CropConfig, whole_scene
from pointcmt.datasets.store.view_store import StoreReader
from pointcmt.datasets.streams import evaluation_config, open_stream
from pointcmt.training.evaluation.classifier import Classifier
from pointcmt.training.recipes.semseg import Semseg

LABELS = "semantic"  # the channel that a network does not read


@dataclass(frozen=True)
class ScenePredictor(Classifier):
    """A run that segments scenes, ready to predict. votes: copies to average per scene."""

    @property
    def channels(self) -> tuple[str, ...]:
        """What the network reads besides places: color, normal, both or neither."""
        return tuple(name for name in self._training.channels if name != LABELS)

    @property
    def classes(self) -> int:
        """The number of the run's classes."""
        return len(self.run.class_names)

    def of_store(self, store: StoreReader, scenes: NDArray[np.int64]) -> Iterator[Batch]:
        """Yield each of a store's scenes [n] as `CropStream` does; labels if the store has them."""
        labels = (LABELS,) if LABELS in store.specs else ()
        whole = cast(CropConfig, evaluation_config(self._training, 1))
        yield from open_stream(store, scenes, replace(whole, channels=(*self.channels, *labels)))

    def of_points(
        self, points: NDArray[np.float32], channels: dict[str, NDArray[Any]]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the class of each point, and its probability, [M] each.

        points: [M, 3] meters, +Z up, the floor at z = 0, in the order of a store. channels: those
        of `channels`, [M, 3]: color u8, normal f32.
        """
        arrays = whole_scene(points, channels, self._training.voxel)
        return self.predict({name: torch.from_numpy(array) for name, array in arrays.items()})

    def predict(self, batch: Batch) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the class of each original point of a whole scene, and its probability, [M]."""
        score, label = self.vote(batch)[1].exp().max(dim=1)
        own = batch["inverse"].numpy()
        return label.numpy()[own], score.numpy()[own]

    @torch.no_grad()
    def vote(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return log-probabilities of a scene's voxels, [N, C] on the CPU: once as it is, and the
        mean over that and `votes - 1` copies, which are turned, mirrored and scaled at random.

        The copies follow from the run's seed alone: they are the same for every scene.
        """
        recipe = cast(Semseg, self.recipe)
        model = recipe.model.eval()
        device = next(model.parameters()).device
        generator = torch.Generator().manual_seed(self.run.config.seed)
        batch = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
        plain = total = recipe.logits(model, batch).log_softmax(dim=1)
        for _ in range(self.votes - 1):
            copy = recipe.test_time_augmentation(batch, generator)
            total = torch.logaddexp(total, recipe.logits(model, copy).log_softmax(dim=1))
        return plain.cpu(), (total - math.log(self.votes)).cpu()

    @property
    def _training(self) -> CropConfig:
        return cast(CropConfig, self.recipe.stream)
