"""Every option of `mvnet`, view-consistency pre-training in the manner of MVNet. Imports no torch.

Yan et al., Multi-View Representation is What You Need for Point-Cloud Pre-Training (ICLR 2024,
arXiv 2306.02558). The paper's code is not public: the objective is the paper's, the numbers
here are ours (see docs/pretraining.md), and the preset is called mvnet-style.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from pointcmt.training.config.scenes import PointInputs, SceneAugmentation
from pointcmt.training.config.sections import (
    Augmentation,
    DenseBackbone,
    ImageBackbone,
    Loop,
    NotNegative,
    Optimizer,
    PointData,
    Positive,
    Schedule,
    Section,
    Share,
    TrainConfig,
    Weight,
    require_weights,
)


class UnlabeledData(PointData):
    """What is read from the store."""

    validation: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Fraction of the train split, regardless of class, used to select the best epoch."""
    fraction: Share = 1.0
    """Fraction of the remaining train shapes to train on."""


class PairData(UnlabeledData):
    """What is read from the store."""

    views: Annotated[int, Field(ge=2)] = 2
    """Random views per shape and step, in pairs."""

    @field_validator("views")
    @classmethod
    def _check_views(cls, views: int) -> int:
        if views % 2:
            raise ValueError("Input should be even, since views are used in pairs")
        return views


class Pretrained(Section):
    """The point network to pre-train, and the heads on its projected features."""

    backbone: DenseBackbone = "pointvit-s"
    """Point network."""
    width: Positive = 128
    """Width of a point's feature when it is projected, and of both heads."""


class Images(Section):
    """The frozen 2D network whose features the projected ones are trained to match."""

    backbone: ImageBackbone = "dinov2-base"
    """Image network; auto = the network that the weights belong to."""
    weights: str = "hub"
    """hub, organization/name on the hub, a folder, or random (meaningless features, for tests)."""
    levels: tuple[Share, ...] = (0.5, 0.75, 1.0)
    """Depths to take features from, as fractions of all layers: 6, 9 and 12 of 12."""
    size: NotNegative = 224
    """Pixels of the longer side, a multiple of the network's patches; resized on the device; 0 = as
    stored."""
    standardize: bool = True
    """Scale each channel to mean 0 and variance 1 over the patches that show shapes. Otherwise,
    L_k is dominated by what all patches have in common."""
    cache: bool = False
    """Cache the features in the store; their size is reported before training."""

    @field_validator("levels")
    @classmethod
    def _check_levels(cls, levels: tuple[float, ...]) -> tuple[float, ...]:
        if not levels or list(levels) != sorted(set(levels)):
            raise ValueError(
                "Input should be increasing fractions of the depth, such as [0.5, 1.0]"
            )
        return levels

    @model_validator(mode="after")
    def _check_weights(self) -> "Images":
        require_weights(self.backbone, self.weights, "images")
        return self


class Projection(Section):
    """How the points' features become a feature map of a view."""

    size: Positive = 56
    """Pixels of a map's longer side: a quarter of 224. The other follows the aspect ratio."""
    radius: Weight = 0.0
    """Radius of a splat in the map's pixels; 0 = chosen by the number of points."""
    fill: bool = True
    """Make the map cover exactly what the image shows: no holes, nothing outside the outline."""
    splat: Positive = 1
    """Points per pixel: 1 = the nearest one; more = their weighted mean."""


class Transfer(Section):
    """L_k, 2D knowledge transfer: predict the 2D network's feature of each patch and level."""

    weight: Weight = 1.0
    """Weight of L_k; 0 = train without it and without the 2D network."""
    distance: Literal["cosine", "smooth-l1"] = "cosine"
    """smooth-l1 compares layer-normalized features."""
    coverage: Annotated[float, Field(ge=0, le=1)] = 0.25
    """Minimum fraction of a patch that points must cover for it to count."""


class ViewMatching(Section):
    """L_m, multi-view consistency: find the pixel in view 2 that matches a pixel of view 1."""

    weight: Weight = 0.03
    """λ, the weight of L_m; 0 = train without it. L_m is in tenths of the image, so that L_k and
    L_m both start at about 1. With 0.3, features of shapes were worth less (benchmarks/RESULTS.md);
    the presets of scenes, where this is not measured, keep 0.3."""
    method: Literal["coordinates", "infonce"] = "coordinates"
    """coordinates: predict the pixel in view 2 by cross-attention, as in the paper. infonce: match
    pixels after the 2D head, since before it matching features are equal by construction."""
    stride: Positive = 2
    """Map pixels per token: 2 of 56 pixels are 1/8 of the resolution of a 224-pixel image."""
    heads: Positive = 4
    """Heads of the cross-attention."""
    matches: Positive = 4096
    """infonce: largest number of matches per batch."""
    temperature: Annotated[float, Field(gt=0)] = 0.07
    """Temperature of infonce."""


class ScenePairs(PointInputs):
    """What is read from a store of scenes: pairs of frames, with the points that belong to them."""

    overlap: tuple[float, float] = (0.3, 0.9)
    """Least and most of what two frames of a pair see in common, as a share of the points of the
    one that sees fewer."""
    pairs: Positive = 8
    """Pairs of each scene and epoch."""
    augmentation: SceneAugmentation = SceneAugmentation()
    """Points are neither left out nor mixed: maps and frames belong to them."""

    @field_validator("augmentation")
    @classmethod
    def _check_augmentation(cls, augmentation: SceneAugmentation) -> SceneAugmentation:
        if augmentation.dropout_probability or augmentation.mix:
            raise ValueError(
                "pairs of frames need all of their points, so dropout_probability and mix should "
                "be 0: see masking"
            )
        return augmentation

    @field_validator("overlap")
    @classmethod
    def _check_overlap(cls, overlap: tuple[float, float]) -> tuple[float, float]:
        if not 0 < overlap[0] <= overlap[1] <= 1:
            raise ValueError("Input should be two numbers, 0 < least <= most <= 1")
        return overlap


class MvnetConfig(TrainConfig):
    """View-consistency pre-training in the manner of MVNet, without labels: L = L_k + λ L_m."""

    classifies: ClassVar[bool] = False
    labeled: ClassVar[bool] = False
    all_views: ClassVar[bool] = False
    point_network: ClassVar[str | None] = "backbone."
    dense: ClassVar[bool] = True

    recipe: Literal["mvnet"] = "mvnet"
    preset: Literal["mvnet-style"] = "mvnet-style"
    """Named set of defaults: ours, since the paper's are not published."""
    epochs: Positive = 100
    data: PairData = PairData()
    scenes: ScenePairs | None = None
    """Options for stores of scenes, such as those of mvnet-toyrooms; null = a store of shapes."""
    model: Pretrained = Pretrained()
    images: Images = Images()
    projection: Projection = Projection()
    transfer: Transfer = Transfer()
    matching: ViewMatching = ViewMatching()
    masking: Annotated[float, Field(ge=0, lt=1)] = 0.3
    """Fraction of the point patches to mask; 0 = off."""
    augmentation: Augmentation = Augmentation()
    """Random scale and shift of the network's input; the views stay as they are. For scenes,
    scenes.augmentation is used instead."""
    optimizer: Optimizer = Optimizer(
        name="adamw", learning_rate=0.0005, weight_decay=0.05, clip_norm=1.0
    )
    """AdamW with the usual settings for transformers. For other networks, learning_rate defaults
    to 0.001."""
    schedule: Schedule = Schedule(name="cosine", warmup=10.0)
    loop: Loop = Loop(precision="bf16")

    @classmethod
    def follows(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Double the learning rate for networks that are not transformers."""
        model = given.get("model")
        backbone = str(model.get("backbone", "")) if isinstance(model, dict) else ""
        if not backbone or backbone.startswith("pointvit"):
            return {}
        return {"optimizer": {"learning_rate": 0.001}}

    @property
    def image_network(self) -> Images | None:
        return self.images if self.transfer.weight else None

    @property
    def reads(self) -> Literal["objects", "scenes"]:
        return "scenes" if self.scenes else "objects"

    @property
    def samples(self) -> int:
        return self.scenes.pairs if self.scenes else 1

    @model_validator(mode="after")
    def _check_together(self) -> "MvnetConfig":
        if not self.transfer.weight and not self.matching.weight:
            raise ValueError(
                "transfer.weight and matching.weight are both 0, so there is no loss to train with"
            )
        if self.projection.size % self.matching.stride:
            raise ValueError(
                f"projection.size should be a multiple of matching.stride, {self.matching.stride}"
            )
        if self.model.width % (4 * self.matching.heads):
            raise ValueError(
                f"model.width should be a multiple of 4 · matching.heads, {4 * self.matching.heads}"
            )
        return self
