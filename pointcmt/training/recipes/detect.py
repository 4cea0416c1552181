"""3D object detection: VoteNet (Qi et al., ICCV 2019) or 3DETR (Misra et al., ICCV 2021) on random
points of whole scenes.

Validation detects as evaluation does: with the same points each time, and average precision over
all scenes together.
"""

from copy import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pointcmt.datasets.store.epochs import Batch
from pointcmt.datasets.store.scene_streams.boxes import BoxConfig
from pointcmt.errors import UsageError
from pointcmt.training.config.detection import DetectConfig
from pointcmt.training.config.sections import SPARSE_BACKBONES
from pointcmt.training.figures.boxes import LEAST_SCORE, BoxedScene, draw_boxes
from pointcmt.training.networks.backbones import build_sparse
from pointcmt.training.networks.detection.detr import Detr
from pointcmt.training.networks.detection.seeds import PointSeeds, VoxelSeeds
from pointcmt.training.networks.detection.transformer import TransformerSeeds
from pointcmt.training.networks.detection.votenet import VoteNet
from pointcmt.training.ops.detection.motion import random_motion
from pointcmt.training.ops.detection.scores import (
    Detections,
    TrueBoxes,
    count_detections,
    mean_counted_precision,
    over,
)
from pointcmt.training.ops.detection.selection import likeliest
from pointcmt.training.ops.detection.targets import Targets
from pointcmt.training.recipes.box_heads import BoxHead, QueryHead, VoteHead
from pointcmt.training.recipes.recipe import RecipeContext
from pointcmt.training.recipes.scene_inputs import point_inputs
from pointcmt.training.runs.box_labels import mean_sizes, require_boxes, require_instances
from pointcmt.training.runs.pretrained import freeze_encoder, hold_encoder
from pointcmt.training.runs.store_kinds import scene_classes

THRESHOLDS = {"ap25": 0.25, "ap50": 0.5}  # IoUs that a hit must exceed
OF_3DETR = {"3detr": False, "3detr-masked": True}  # backbones, and whether they are masked


def build(config: DetectConfig, classes: int, pretrained: bool) -> "Detect":
    """Build the detection recipe from its configuration; see RECIPES.

    Raises UsageError for a backbone that does not work on scenes.
    """
    section, seeds = config.model, _build_seeds(config)
    network = Detr if section.head == "3detr" else VoteNet
    model = network(seeds, classes, section.headings, section.proposals)
    return Detect(model, config, classes)


def _build_seeds(config: DetectConfig) -> nn.Module:
    name, inputs = config.model.backbone, 3 * config.data.color + 3 * config.data.normals
    if name == DetectConfig.from_scratch:
        return PointSeeds(inputs)
    if name in OF_3DETR:
        return TransformerSeeds(inputs, OF_3DETR[name])
    if name in SPARSE_BACKBONES:
        return VoxelSeeds(build_sparse(name, config.data.voxel, inputs))
    raise UsageError(
        f"{name} cannot detect boxes" if name else "the network is not given",
        where="model.backbone",
        fix="use one of these, or start from a run of one: "
        + ", ".join((DetectConfig.from_scratch, *OF_3DETR, *SPARSE_BACKBONES)),
    )


class Detect:
    """Points of a scene → boxes. VoteNet of a prepared recipe knows the mean sizes of classes."""

    def __init__(self, model: nn.Module, config: DetectConfig, classes: int) -> None:
        self.model = model
        self.config, self.classes = config, classes
        self.head: BoxHead = (QueryHead if config.model.head == "3detr" else VoteHead)(config)
        self.names: list[str] = []  # of the classes
        self.frozen = config.model.encoder == "frozen"
        if self.frozen:
            freeze_encoder(model.get_submodule("seeds.backbone"))
        data = config.data
        self.inputs = ("color",) * data.color + ("normal",) * data.normals
        self.stream = BoxConfig(
            channels=self.inputs + self.head.channels,
            batch_size=config.effective_batch_size,
            points=data.points,
            seed=config.seed,
        )

    def prepare(self, context: RecipeContext) -> "Detect":
        store, train = context.store, context.train
        require_boxes(store, train, "train")
        require_boxes(store, np.setdiff1d(context.shapes, train), "validation")
        if "instance" in self.head.channels:
            require_instances(store)
        if isinstance(self.head, VoteHead):
            sizes = torch.from_numpy(mean_sizes(store, train))
            self.model.get_buffer("mean_sizes").copy_(sizes)
        prepared = copy(self)
        prepared.names = scene_classes(store, "boxes")
        return prepared

    def loss(
        self, model: nn.Module, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        if self.frozen:
            hold_encoder(model.get_submodule("seeds.backbone"))
        batch, targets = self._augmented(batch, generator)
        total, terms = self.head.losses(self.predict(model, batch), targets, model)
        return total, {f"{name}_loss": term.detach() for name, term in terms.items()}

    def measure(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return the loss of a batch, and "counts" [2, C, BINS + 1, 2]; see `count_detections`."""
        found = self.predict(model, batch)
        loss, _ = self.head.losses(found, self.head.targets(batch, None), model)
        scenes = zip(self.detections(model, batch, found), true_boxes(batch), strict=True)
        counts = [
            [count_detections(*scene, self.classes, least) for least in THRESHOLDS.values()]
            for scene in scenes
        ]
        return {"loss": loss, "counts": torch.from_numpy(np.sum(counts, axis=0))}

    def score(self, counts: Tensor) -> dict[str, float]:
        """Return the mean average precision at each IoU."""
        found = zip(THRESHOLDS, counts.numpy(), strict=True)
        return {name: mean_counted_precision(each) for name, each in found}

    def pictures(self, model: nn.Module, batch: Batch) -> dict[str, bytes]:
        every = self.detections(model, batch, self.predict(model, batch))
        found = [over(likeliest(each), LEAST_SCORE) for each in every]
        parts = zip(batch["points"].cpu().numpy(), true_boxes(batch), found, strict=True)
        scenes = [BoxedScene(f"scene {n}", *each) for n, each in enumerate(parts)]
        return {"scenes.png": draw_boxes(scenes, self.names)}

    def deployable(self, model: nn.Module, batch: Batch) -> tuple[nn.Module, tuple[Tensor, ...]]:
        return model, (batch["points"], point_inputs(batch))

    def predict(self, model: nn.Module, batch: Batch) -> Any:
        """Return the network's output for a batch, as the head has it; no augmentation."""
        network, inputs = self.deployable(model, batch)
        return network(*inputs)

    def detections(self, model: nn.Module, batch: Batch, found: Any) -> list[Detections]:
        """Return the detections of each scene of a batch, from the network's output."""
        return self.head.detections(found, model, batch["points"])

    def _augmented(self, batch: Batch, generator: torch.Generator) -> tuple[Batch, Targets]:
        """Return a batch whose scenes are moved at random, and its targets."""
        a = self.config.augmentation
        flips = (a.flip_x, a.flip_y)
        motion = random_motion(len(batch["points"]), flips, a.yaw, a.scale, generator)
        moved = {**batch, "points": motion.of_points(batch["points"])}
        moved["box"] = motion.of_boxes(batch["box"])
        if "normal" in batch:
            moved["normal"] = motion.of_normals(batch["normal"])
        return moved, self.head.targets(moved, self.head.before(batch))


def true_boxes(batch: Batch) -> list[TrueBoxes]:
    """Return the boxes of each scene of a batch, without padding."""
    pairs = zip(batch["box"].cpu().numpy(), batch["box_label"].cpu().numpy(), strict=True)
    return [TrueBoxes(boxes[label >= 0], label[label >= 0]) for boxes, label in pairs]
