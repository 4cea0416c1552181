"""Heads of detection: which targets they have, their losses, and the detections they mean."""

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from pointcmt.datasets.store.epochs import Batch
from pointcmt.training.config.detection import DetectConfig
from pointcmt.training.ops.detection.losses import loss_terms, total_loss
from pointcmt.training.ops.detection.motion import without_headings
from pointcmt.training.ops.detection.proposals import Proposals, detect
from pointcmt.training.ops.detection.queries import Queries, detect_queries
from pointcmt.training.ops.detection.scores import Detections
from pointcmt.training.ops.detection.set_losses import Costs, set_loss_terms
from pointcmt.training.ops.detection.targets import (
    Targets,
    boxes_of_instances,
    boxes_of_points,
    instance_centers,
    make_targets,
)


class BoxHead(Protocol):
    """What a head of detection does with the output of its network, whatever that is.

    channels: of points, that targets need. before: what of a batch has to be known before it is
    moved at random, for `targets`.
    """

    channels: tuple[str, ...]

    def before(self, batch: Batch) -> Tensor | None: ...
    def targets(self, batch: Batch, before: Tensor | None) -> Targets: ...
    def losses(
        self, found: Any, targets: Targets, model: nn.Module
    ) -> tuple[Tensor, dict[str, Tensor]]: ...
    def detections(self, found: Any, model: nn.Module, points: Tensor) -> list[Detections]: ...


class VoteHead:
    """VoteNet: points vote for the boxes that they belong to."""

    def __init__(self, config: DetectConfig) -> None:
        self.config = config
        self.instances = config.data.votes == "instances"
        self.channels: tuple[str, ...] = ("instance",) * self.instances
        self.weights: dict[str, float] = config.votenet.model_dump()
        self.weights["class"] = self.weights.pop("classes")  # no field can be named `class`

    def before(self, batch: Batch) -> Tensor:
        """Return the boxes that each point votes for, i64 [B, N, 3]; -1 = none."""
        labels = batch["box_label"]
        if self.instances:
            return boxes_of_instances(batch["instance"], batch["box_instance"], labels)
        return boxes_of_points(batch["points"], batch["box"], labels)

    def targets(self, batch: Batch, before: Tensor | None) -> Targets:
        """Return the targets of a batch. before: the boxes of points."""
        owners = self.before(batch) if before is None else before
        boxes, labels = batch["box"], batch["box_label"]
        if self.instances:
            centers = instance_centers(batch["points"], owners, boxes.shape[1])
        else:
            centers = boxes[..., :3]
        return make_targets(owners, _boxes(batch, self.config), labels, centers)

    def losses(
        self, found: Proposals, targets: Targets, model: nn.Module
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and its terms by name."""
        terms = loss_terms(found, targets, model.get_buffer("mean_sizes"))
        return total_loss(terms, self.weights), terms

    def detections(self, found: Proposals, model: nn.Module, points: Tensor) -> list[Detections]:
        """Return the detections of each scene with these points [B, N, 3]."""
        return detect(found, model.get_buffer("mean_sizes"), points, self.config.model.nms)


class QueryHead:
    """3DETR: queries are matched with boxes."""

    channels: tuple[str, ...] = ()

    def __init__(self, config: DetectConfig) -> None:
        self.config, given = config, config.queries
        self.costs = Costs(
            given.class_cost, given.giou_cost, given.center_cost, given.objectness_cost
        )
        self.weights = {
            "class": given.classes,
            "giou": given.giou,
            "center": given.center,
            "size": given.size,
            "heading_class": given.heading_class,
            "heading_residual": given.heading_residual,
        }

    def before(self, batch: Batch) -> None:
        """Nothing: boxes move with the points."""

    def targets(self, batch: Batch, before: Tensor | None) -> Targets:
        """Return the targets of a batch: its boxes, and no votes."""
        points = batch["points"]
        nobody = torch.zeros_like(points[..., 0], dtype=torch.bool)
        boxes = _boxes(batch, self.config)
        return Targets(boxes, batch["box_label"], nobody, points[:, :, None])

    def losses(
        self, found: Queries, targets: Targets, model: nn.Module
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and its terms by name."""
        no_object = self.config.queries.no_object
        terms = set_loss_terms(found, targets.boxes, targets.labels, self.costs, no_object)
        total = torch.stack([weight * terms[name] for name, weight in self.weights.items()]).sum()
        return total, terms

    def detections(self, found: Queries, model: nn.Module, points: Tensor) -> list[Detections]:
        """Return the detections of each scene with these points [B, N, 3]."""
        return detect_queries(found, points, self.config.model.nms)


def _boxes(batch: Batch, config: DetectConfig) -> Tensor:
    """Return the boxes of a batch [B, K, 7]; without headings, their hulls."""
    return without_headings(batch["box"]) if config.model.headings == 1 else batch["box"]
