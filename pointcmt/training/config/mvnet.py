"""Every knob of `mvnet`, view-consistency pre-training in the manner of MVNet. Imports no torch.

Yan et al., Multi-View Representation is What You Need for Point-Cloud Pre-Training (ICLR 2024,
arXiv 2306.02558). The paper's code is not public: what is optimised is the paper's, the numbers
here are ours (docs/pretraining.md says which is which), and the preset is called mvnet-style.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

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
)


class PairData(PointData):
    """What is read: `fraction` counts shapes here, since no label is needed."""

    views: Annotated[int, Field(ge=2)] = 2  # random views per shape and step, in pairs

    @field_validator("views")
    @classmethod
    def _check_views(cls, views: int) -> int:
        if views % 2:
            raise ValueError("Input should be even: views come in pairs")
        return views


class Pretrained(Section):
    """The network that is wanted, and what looks at its projected features."""

    backbone: DenseBackbone = "pointvit-s"
    width: Positive = 128  # of a point's feature when it is projected, and of both heads


class Images(Section):
    """The frozen 2D network whose features the projected ones must agree with."""

    backbone: Literal[ImageBackbone, "auto"] = "dinov2-base"  # auto: whatever the weights are of
    weights: str = "hub"  # or organisation/name, a folder; random teaches nothing
    levels: tuple[Share, ...] = (0.5, 0.75, 1.0)  # shares of its depth: layers 6, 9, 12 of 12
    size: NotNegative = 224  # pixels, resized on the device; 0 = as stored
    # Every channel to mean 0 and variance 1 over the patches that show shapes. What all patches
    # have in common is most of many networks' features; to say that alone would be most of L_k.
    standardize: bool = True
    cache: bool = False  # keep its features in the store: large, and said before it begins

    @field_validator("levels")
    @classmethod
    def _check_levels(cls, levels: tuple[float, ...]) -> tuple[float, ...]:
        if not levels or list(levels) != sorted(set(levels)):
            raise ValueError("Input should be rising shares of the depth, such as [0.5, 1.0]")
        return levels

    @model_validator(mode="after")
    def _check_weights(self) -> "Images":
        if self.backbone == "auto" and self.weights in ("hub", "random"):
            raise ValueError(
                f"images.backbone=auto takes the network from its weights, and '{self.weights}' "
                "names none: give --set images.weights=… a folder that transformers' "
                "save_pretrained has written, or organisation/name of the hub"
            )
        return self


class Projection(Section):
    """From the points' features to a view's map of them."""

    size: Positive = 56  # pixels of a map's side: a quarter of 224
    radius: Weight = 0.0  # of a splat, in the map's pixels; 0 = by the number of points
    fill: bool = True  # the map covers what the image shows: no holes, nothing beyond the outline
    splat: Positive = 1  # points per pixel: 1 = the nearest one; more = their weighted mean


class Transfer(Section):
    """L_k, 2D knowledge transfer: in each patch the 2D network's features, at every level."""

    weight: Weight = 1.0  # 0 = without, and without the 2D network
    distance: Literal["cosine", "smooth-l1"] = "cosine"  # the other one of layer-normed features
    coverage: Annotated[float, Field(ge=0, le=1)] = 0.25  # share of a patch that points must cover


class ViewMatching(Section):
    """L_m, multi-view consistency: where in view 2 is what this pixel of view 1 shows?"""

    # λ; 0 = without. L_m is in tenths of the image, what a guess misses by: both begin at about 1.
    # Less than 1, so that L_k has the larger share: a guess that worked on small data.
    weight: Weight = 0.3
    # coordinates: predicted by cross-attention between the views, as in the paper. infonce: matched
    # pixels are alike and others not, after the 2D head; before it they are equal by construction.
    method: Literal["coordinates", "infonce"] = "coordinates"
    stride: Positive = 2  # pixels of the map to a token: at 224 and 56 pixels 1/8 of the image
    heads: Positive = 4  # of the cross-attention
    matches: Positive = 4096  # infonce: of a batch at most
    temperature: Annotated[float, Field(gt=0)] = 0.07  # infonce


class MvnetConfig(TrainConfig):
    """L = L_k + λ L_m over pairs of views; no labels."""

    classifies: ClassVar[bool] = False
    labelled: ClassVar[bool] = False
    all_views: ClassVar[bool] = False
    point_network: ClassVar[str | None] = "backbone."
    dense: ClassVar[bool] = True

    recipe: Literal["mvnet"] = "mvnet"
    preset: Literal["mvnet-style"] = "mvnet-style"
    epochs: Positive = 100
    data: PairData = PairData()
    model: Pretrained = Pretrained()
    images: Images = Images()
    projection: Projection = Projection()
    transfer: Transfer = Transfer()
    matching: ViewMatching = ViewMatching()
    masking: Annotated[float, Field(ge=0, lt=1)] = 0.3  # share of the patches of points left out
    augmentation: Augmentation = Augmentation()  # of what the network sees, not of the views
    optimizer: Optimizer = Optimizer(
        name="adamw", learning_rate=0.0005, weight_decay=0.05, clip_norm=1.0
    )  # that of transformers; see `follows`
    schedule: Schedule = Schedule(name="cosine", warmup=10.0)
    loop: Loop = Loop(precision="bf16")

    @classmethod
    def follows(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Networks that are no transformers learn at twice the rate."""
        model = given.get("model")
        backbone = str(model.get("backbone", "")) if isinstance(model, dict) else ""
        if not backbone or backbone.startswith("pointvit"):
            return {}
        return {"optimizer": {"learning_rate": 0.001}}

    @model_validator(mode="after")
    def _check_together(self) -> "MvnetConfig":
        if not self.transfer.weight and not self.matching.weight:
            raise ValueError("transfer.weight and matching.weight are both 0: nothing is learned")
        if self.projection.size % self.matching.stride:
            raise ValueError(
                f"projection.size should be a multiple of matching.stride, {self.matching.stride}"
            )
        if self.model.width % (4 * self.matching.heads):
            raise ValueError(
                f"model.width should be a multiple of 4 · matching.heads, {4 * self.matching.heads}"
            )
        return self
