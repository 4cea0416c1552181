"""Semantic segmentation: crops of scenes, a network of points, cross entropy over the points.

Points without a class count neither in the loss nor in the scores. Validation reads whole scenes:
each original point gets the class of its voxel, and the mean IoU is that of one confusion matrix
over all points of all scenes; `ops.semantic` defines the measures.
"""

from copy import copy

import numpy as np
import torch
from torch import Tensor, nn

from pointcmt.datasets.store.epochs import Batch
from pointcmt.datasets.store.scene_streams.crops import CropConfig
from pointcmt.errors import UsageError
from pointcmt.training.config.scenes import SemsegConfig
from pointcmt.training.config.sections import SCENE_BACKBONES, SPARSE_BACKBONES
from pointcmt.training.figures.scenes import SegmentedScene, draw_scenes
from pointcmt.training.networks.backbones import build_for_scenes
from pointcmt.training.networks.scene_network import PointSceneNetwork, SceneNetwork
from pointcmt.training.ops.losses import smoothed_cross_entropy
from pointcmt.training.ops.semantic import IGNORE, Confusion
from pointcmt.training.recipes.class_weights import weigh_classes
from pointcmt.training.recipes.recipe import RecipeContext, accuracy
from pointcmt.training.recipes.scene_inputs import augmented, move_at_random, point_inputs
from pointcmt.training.runs.point_labels import count_points, require_labeled_points
from pointcmt.training.runs.pretrained import freeze_encoder, hold_encoder
from pointcmt.training.runs.store_kinds import scene_classes


def build(config: SemsegConfig, classes: int, pretrained: bool) -> "Semseg":
    """Build the segmentation recipe from its configuration; see RECIPES.

    Raises UsageError for a network that is not one for scenes.
    """
    name, data = config.model.backbone, config.data
    if name not in SCENE_BACKBONES:
        raise UsageError(
            f"{name} cannot segment scenes" if name else "the network is not given",
            where="model.backbone",
            fix="use one of these, or start from a run of one: " + ", ".join(SCENE_BACKBONES),
        )
    backbone = build_for_scenes(name, data)
    if name in SPARSE_BACKBONES:
        return Semseg(SceneNetwork(backbone, classes), config, classes)
    return Semseg(PointSceneNetwork(backbone, classes, data.crop), config, classes)


class Semseg:
    """Points of a scene → the class of each. A prepared recipe has the weights and class names."""

    def __init__(self, model: SceneNetwork, config: SemsegConfig, classes: int) -> None:
        self.model: nn.Module = model
        self.config, self.classes = config, classes
        self.weights: Tensor | None = None  # of the classes
        self.palette: tuple[list[str], list[list[int]]] = ([], [])  # names and colors
        self.frozen = config.model.encoder == "frozen"
        if self.frozen:
            freeze_encoder(model.backbone)
        channels = ("color",) * config.data.color + ("normal",) * config.data.normals
        self.stream = CropConfig(
            channels=(*channels, "semantic"),
            batch_size=config.effective_batch_size,
            voxel=config.data.voxel,
            crop=config.data.crop,
            samples=config.data.crops,
            seed=config.seed,
            labeled_points=config.data.labeled_points,
            label_seed=config.data.split_seed,
        )

    def prepare(self, context: RecipeContext) -> "Semseg":
        store, train = context.store, context.train
        held_out = np.setdiff1d(context.shapes, train)
        require_labeled_points(store, train, "train")
        require_labeled_points(store, held_out, "validation")
        names = scene_classes(store, "points")
        prepared = copy(self)
        prepared.weights = weigh_classes(
            self.config.loss, names, lambda: count_points(store, train), context.device
        )
        prepared.palette = names, store.members[0].attributes["palette"]
        return prepared

    def loss(
        self, model: nn.Module, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        if self.frozen:
            hold_encoder(model.get_submodule("backbone"))
        batch = self._augmented(batch, generator)
        logits = self.logits(model, batch)
        metrics = self._metrics(logits, batch["semantic"], self.weights)
        return metrics["loss"], {"point_accuracy": metrics["point_accuracy"].detach()}

    def measure(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return the loss and accuracy of a batch of whole scenes, and "counts" [C, C + 1]."""
        logits = self.logits(model, batch)[batch["inverse"]]  # of the original points
        true, predicted = batch["point_semantic"], logits.argmax(dim=1)
        counts = count_pairs(true, predicted, self.classes)
        return {**self._metrics(logits, true, None), "counts": counts}

    def score(self, counts: Tensor) -> dict[str, float]:
        """Return the mean IoU and the mean accuracy over classes."""
        found = Confusion(counts.numpy())
        return {"miou": found.miou, "mean_class_accuracy": found.mean_accuracy}

    def pictures(self, model: nn.Module, batch: Batch) -> dict[str, bytes]:
        predicted = self.logits(model, batch).argmax(dim=1)
        names, colors = self.palette
        arrays = ("points", "batch", "semantic")
        points, sample, true = (batch[name].cpu().numpy() for name in arrays)
        guess = predicted.cpu().numpy()
        scenes = [
            SegmentedScene(f"scene {n}", points[own], true[own], guess[own])
            for n in range(len(batch["shape"]))
            if (own := sample == n).any()
        ]
        return {"scenes.png": draw_scenes(scenes, names, colors)}

    def deployable(self, model: nn.Module, batch: Batch) -> tuple[nn.Module, tuple[Tensor, ...]]:
        return model, (batch["points"], batch["batch"], point_inputs(batch))

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the scores of the points of a batch, [ΣN, C]; no augmentation."""
        network, inputs = self.deployable(model, batch)
        scores: Tensor = network(*inputs)
        return scores

    def test_time_augmentation(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Turn, tilt, mirror and scale every scene at random, as in training."""
        return move_at_random(batch, self.config.augmentation, generator)

    def _metrics(self, logits: Tensor, labels: Tensor, weights: Tensor | None) -> dict[str, Tensor]:
        """Return loss and accuracy of the points that have a class; of none, 0 and NaN."""
        known = labels != IGNORE
        if not known.any():
            nothing = logits.sum() * 0  # with gradients of 0
            return {"loss": nothing, "point_accuracy": nothing + torch.nan}
        logits, labels = logits[known], labels[known]
        loss = smoothed_cross_entropy(logits, labels, self.config.loss.label_smoothing, weights)
        return {"loss": loss, "point_accuracy": accuracy(logits, labels)}

    def _augmented(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return a batch that is changed at random. Of few labeled points, all remain."""
        few = self.config.data.labeled_points > 0
        keep = batch["semantic"] != IGNORE if few else None
        with torch.autocast(batch["points"].device.type, enabled=False):
            return augmented(batch, self.config.augmentation, generator, keep)


def count_pairs(true: Tensor, predicted: Tensor, classes: int) -> Tensor:
    """Count points by true class and predicted class, [C, C + 1] i64, as `ops.semantic.Confusion`.

    true: [N], -1 = unknown, which does not count. The last column, of no class, stays 0.
    """
    known, width = true != IGNORE, classes + 1
    cells = true[known] * width + predicted[known]
    return cells.bincount(minlength=classes * width).view(classes, width)
