"""Every option of the recipe for 3D object detection in scenes. Imports no torch.

Defaults are VoteNet's (Qi et al., ICCV 2019) for ScanNet, and with model.head=3detr those of 3DETR
(Misra et al., ICCV 2021); docs/detection.md names what differs.
Lengths are in meters.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from pointcmt.training.config.downstream import DownstreamConfig, Load, Network
from pointcmt.training.config.scenes import Probability, Scale
from pointcmt.training.config.sections import (
    Data,
    Optimizer,
    Positive,
    Schedule,
    Section,
    Share,
    Weight,
)


class DetectionData(Data):
    """What is read from a store of scenes."""

    batch_size: Annotated[int, Field(ge=2)] = 8
    """Scenes per batch, over all processes."""
    validation: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Fraction of the train scenes used to select the best epoch, if the store has no val split;
    0 = none: the last epoch counts as the best."""
    fraction: Share = 1.0
    """Fraction of the remaining train scenes to train on. Rescans of a room count as one."""
    points: Positive = 40_000
    """Points of a scene, drawn at random from all of them."""
    votes: Literal["instances", "boxes"] = "instances"
    """Which points vote, and where for. instances: those of a box's instance, for the middle of
    their extents, as on ScanNet; boxes: those inside a box, for its center, as on SUN RGB-D."""
    color: bool = False
    """Whether the color is an input of the network."""
    normals: bool = False
    """Whether the normal is an input of the network."""
    voxel: Annotated[float, Field(ge=0.001, le=1)] = 0.025
    """Size of the voxels of sparse U-Nets."""


class Detector(Network):
    """A backbone with a feature for each of some seeds, and a head that finds boxes."""

    head: Literal["votenet", "3detr"] = "votenet"
    """votenet: seeds vote for centers, and clusters of votes propose boxes; 3detr: a transformer's
    decoder whose queries are matched with boxes one to one."""
    backbone: Literal[
        "",
        "pointnet2-votenet",
        "3detr",
        "3detr-masked",
        "sparse-unet-tiny",
        "sparse-unet-14a",
        "sparse-unet-34c",
    ] = ""
    """Network of the seeds; empty = that of the run in init, or without one pointnet2-votenet,
    VoteNet's PointNet++, and for the head 3detr 3detr-masked, 3DETR-m's encoder."""
    headings: Positive = 1
    """Bins of headings; 1 = no headings: boxes are axis-aligned, and turned ones grow."""
    proposals: Annotated[int, Field(ge=1, le=1024)] = 256
    """Proposals of each scene, or queries."""
    nms: Literal["hull", "rotated"] = "hull"
    """What non-maximum suppression compares: the axis-aligned hulls of boxes, as in published
    scores, or the boxes themselves."""
    norm_momentum: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Momentum of batch norms at first; it is halved at each ninth of the run, and at least 0.001.
    0 = always 0.1."""


class VoteLoss(Section):
    """Only for model.head=votenet: the weights of the terms of the loss. Their sum is multiplied by
    10."""

    vote: Weight = 1.0
    """Weight of the L1 distance of votes."""
    objectness: Weight = 0.5
    """Weight of the cross entropy of objectness."""
    center: Weight = 1.0
    """Weight of the squared distances of centers."""
    heading_class: Weight = 0.1
    """Weight of the cross entropy of bins of headings."""
    heading_residual: Weight = 1.0
    """Weight of the residuals of headings."""
    size_class: Weight = 0.1
    """Weight of the cross entropy of mean sizes."""
    size_residual: Weight = 1.0
    """Weight of the residuals of sizes."""
    classes: Weight = 0.1
    """Weight of the cross entropy of classes."""


class QueryLoss(Section):
    """Only for model.head=3detr: the costs by which queries are matched with boxes, and the weights
    of the terms of the loss."""

    class_cost: Weight = 1.0
    """Of the probability of the box's class."""
    giou_cost: Weight = 2.0
    """Of the generalized IoU."""
    center_cost: Weight = 0.0
    """Of the L1 distance of centers, in units of the scene's extent."""
    objectness_cost: Weight = 0.0
    """Of the probability that there is an object."""
    no_object: Weight = 0.25
    """Weight of queries without a box in the cross entropy of classes."""
    classes: Weight = 1.0
    """Weight of the cross entropy of classes."""
    giou: Weight = 1.0
    """Weight of 1 - the generalized IoU."""
    center: Weight = 5.0
    """Weight of the L1 distance of centers, in units of the scene's extent."""
    size: Weight = 1.0
    """Weight of the L1 distance of sizes, in the same units."""
    heading_class: Weight = 0.1
    """Weight of the cross entropy of bins of headings."""
    heading_residual: Weight = 0.5
    """Weight of the residuals of headings."""


class BoxAugmentation(Section):
    """Random motions of each scene, with its boxes."""

    flip_x: Probability = 0.5
    """Probability of mirroring x."""
    flip_y: Probability = 0.5
    """Probability of mirroring y."""
    yaw: Annotated[float, Field(ge=0, le=180)] = 5.0
    """Largest turn about the vertical, in either direction, in degrees."""
    scale: Scale = (1.0, 1.0)
    """Smallest and largest factor, the same for all axes."""


class DetectConfig(DownstreamConfig):
    """3D object detection: oriented boxes around the objects of scenes."""

    labeled: ClassVar[bool] = False
    detects: ClassVar[bool] = True
    point_network: ClassVar[str | None] = "seeds.backbone."
    dense: ClassVar[bool] = True
    needs_init: ClassVar[bool] = False
    from_scratch: ClassVar[str] = "pointnet2-votenet"

    recipe: Literal["detect"] = "detect"
    epochs: Positive = 180
    load: Load = "encoder"
    """Weights to load from init, if there is one. encoder: the encoder only; all: all that match;
    none: no weights, as a baseline."""
    data: DetectionData = DetectionData()
    model: Detector = Detector()
    votenet: VoteLoss = VoteLoss()
    queries: QueryLoss = QueryLoss()
    optimizer: Optimizer = Optimizer(name="adam", weight_decay=0.0)
    schedule: Schedule = Schedule(name="steps")
    augmentation: BoxAugmentation = BoxAugmentation()

    @classmethod
    def follows(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Take 3DETR's settings for its head."""
        model = given.get("model")
        if not isinstance(model, dict) or model.get("head") != "3detr":
            return {}
        backbone = "" if given.get("init") and given.get("load") != "none" else "3detr-masked"
        return {
            "epochs": 1080,
            "model": {"backbone": backbone, "norm_momentum": 0.0},
            "optimizer": {
                "name": "adamw",
                "learning_rate": 0.0005,
                "weight_decay": 0.1,
                "clip_norm": 0.1,
            },
            "schedule": {"name": "cosine", "warmup": 9.0},
        }

    @property
    def reads(self) -> Literal["objects", "scenes"]:
        return "scenes"
