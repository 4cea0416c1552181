"""3D object detection: VoteNet on random points of whole scenes (Qi et al., ICCV 2019).

Validation detects as evaluation does: with the same points each time, and average precision over
all scenes together.
"""

from copy import copy

import numpy as np
import torch
from torch import Tensor, nn

from pointcmt.datasets.store.epochs import Batch
from pointcmt.datasets.store.scene_streams.boxes import BoxConfig
from pointcmt.errors import UsageError
from pointcmt.training.config.detection import DetectConfig
from pointcmt.training.config.sections import SPARSE_BACKBONES
from pointcmt.training.figures.boxes import BoxedScene, draw_boxes
from pointcmt.training.networks.backbones import build_sparse
from pointcmt.training.networks.detection.seeds import PointSeeds, VoxelSeeds
from pointcmt.training.networks.detection.votenet import VoteNet
from pointcmt.training.ops.detection.losses import loss_terms, total_loss
from pointcmt.training.ops.detection.motion import random_motion, without_headings
from pointcmt.training.ops.detection.proposals import Proposals, detect
from pointcmt.training.ops.detection.scores import (
    Detections,
    TrueBoxes,
    count_detections,
    mean_counted_precision,
)
from pointcmt.training.ops.detection.targets import (
    Targets,
    boxes_of_instances,
    boxes_of_points,
    instance_centers,
    make_targets,
)
from pointcmt.training.recipes.recipe import RecipeContext
from pointcmt.training.recipes.scene_inputs import point_inputs
from pointcmt.training.runs.box_labels import (
    box_classes,
    mean_sizes,
    require_boxes,
    require_instances,
)
from pointcmt.training.runs.pretrained import freeze_encoder, hold_encoder

ON_POINTS = DetectConfig.from_scratch
THRESHOLDS = {"ap25": 0.25, "ap50": 0.5}  # IoUs that a hit must exceed


def build(config: DetectConfig, classes: int, pretrained: bool) -> "Detect":
    """Build the detection recipe from its configuration; see RECIPES.

    Raises UsageError for a backbone that does not work on scenes.
    """
    inputs = 3 * config.data.color + 3 * config.data.normals
    seeds: nn.Module
    if config.model.backbone == ON_POINTS:
        seeds = PointSeeds(inputs)
    elif config.model.backbone in SPARSE_BACKBONES:
        seeds = VoxelSeeds(build_sparse(config.model.backbone, config.data.voxel, inputs))
    else:
        raise UsageError(
            f"scenes need a network on voxels, and {config.model.backbone} is not one",
            where="model.backbone",
            fix="start from a run of one of: " + ", ".join(SPARSE_BACKBONES),
        )
    model = VoteNet(seeds, classes, config.model.headings, config.model.proposals)
    return Detect(model, config, classes)


class Detect:
    """Points of a scene → boxes. A prepared recipe's network knows the mean sizes of classes."""

    def __init__(self, model: VoteNet, config: DetectConfig, classes: int) -> None:
        self.model: nn.Module = model
        self.config, self.classes = config, classes
        self.names: list[str] = []  # of the classes
        self.frozen = config.model.encoder == "frozen"
        if self.frozen:
            freeze_encoder(model.get_submodule("seeds.backbone"))
        data = config.data
        self.inputs = ("color",) * data.color + ("normal",) * data.normals
        self.stream = BoxConfig(
            channels=self.inputs + ("instance",) * (data.votes == "instances"),
            batch_size=config.effective_batch_size,
            points=data.points,
            seed=config.seed,
        )

    def prepare(self, context: RecipeContext) -> "Detect":
        store, train = context.store, context.train
        require_boxes(store, train, "train")
        require_boxes(store, np.setdiff1d(context.shapes, train), "validation")
        if self.config.data.votes == "instances":
            require_instances(store)
        sizes = torch.from_numpy(mean_sizes(store, train))
        self.model.get_buffer("mean_sizes").copy_(sizes)
        prepared = copy(self)
        prepared.names = box_classes(store)
        return prepared

    def loss(
        self, model: nn.Module, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        if self.frozen:
            hold_encoder(model.get_submodule("seeds.backbone"))
        batch, targets = self._augmented(batch, generator)
        terms = loss_terms(self.predict(model, batch), targets, model.get_buffer("mean_sizes"))
        return total_loss(terms), {f"{name}_loss": term.detach() for name, term in terms.items()}

    def measure(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return the loss of a batch, and "counts" [2, C, BINS + 1, 2]; see `count_detections`."""
        found, targets = self.predict(model, batch), self._targets(batch)
        loss = total_loss(loss_terms(found, targets, model.get_buffer("mean_sizes")))
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
        found = self.detections(model, batch, self.predict(model, batch))
        parts = zip(batch["points"].cpu().numpy(), true_boxes(batch), found, strict=True)
        scenes = [BoxedScene(f"scene {n}", *each) for n, each in enumerate(parts)]
        return {"scenes.png": draw_boxes(scenes, self.names)}

    def deployable(self, model: nn.Module, batch: Batch) -> tuple[nn.Module, tuple[Tensor, ...]]:
        return model, (batch["points"], point_inputs(batch))

    def predict(self, model: nn.Module, batch: Batch) -> Proposals:
        """Return the proposals of a batch; no augmentation."""
        network, inputs = self.deployable(model, batch)
        found: Proposals = network(*inputs)
        return found

    def detections(self, model: nn.Module, batch: Batch, found: Proposals) -> list[Detections]:
        """Return the detections of each scene of a batch, from its proposals."""
        sizes = model.get_buffer("mean_sizes")
        return detect(found, sizes, batch["points"], self.config.model.nms)

    def _augmented(self, batch: Batch, generator: torch.Generator) -> tuple[Batch, Targets]:
        """Return a batch whose scenes are moved at random, and its targets."""
        a = self.config.augmentation
        flips = (a.flip_x, a.flip_y)
        motion = random_motion(len(batch["points"]), flips, a.yaw, a.scale, generator)
        moved = {**batch, "points": motion.of_points(batch["points"])}
        moved["box"] = motion.of_boxes(batch["box"])
        if "normal" in batch:
            moved["normal"] = motion.of_normals(batch["normal"])
        return moved, self._targets(moved, self._owners(batch))

    def _owners(self, batch: Batch) -> Tensor:
        """Return the boxes that each point votes for, i64 [B, N, 3]; -1 = none."""
        labels = batch["box_label"]
        if self.config.data.votes == "instances":
            return boxes_of_instances(batch["instance"], batch["box_instance"], labels)
        return boxes_of_points(batch["points"], batch["box"], labels)

    def _targets(self, batch: Batch, owners: Tensor | None = None) -> Targets:
        """Return the targets of a batch. owners: those of before it was moved."""
        owners = self._owners(batch) if owners is None else owners
        boxes, labels = batch["box"], batch["box_label"]
        if self.config.data.votes == "instances":
            centers = instance_centers(batch["points"], owners, boxes.shape[1])
        else:
            centers = boxes[..., :3]
        if self.config.model.headings == 1:
            boxes = without_headings(boxes)
        return make_targets(owners, boxes, labels, centers)


def true_boxes(batch: Batch) -> list[TrueBoxes]:
    """Return the boxes of each scene of a batch, without padding."""
    pairs = zip(batch["box"].cpu().numpy(), batch["box_label"].cpu().numpy(), strict=True)
    return [TrueBoxes(boxes[label >= 0], label[label >= 0]) for boxes, label in pairs]
