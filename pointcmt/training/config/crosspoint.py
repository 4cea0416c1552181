"""Every option of `crosspoint`, contrastive pre-training with the losses of CrossPoint.

Afham et al., CrossPoint: Self-Supervised Cross-Modal Contrastive Learning for 3D Point Cloud
Understanding (CVPR 2022, arXiv 2203.00680). It is the baseline of `mvnet`: the losses are the
paper's; so that both learn from the same images, the 2D network is a frozen one, as in `mvnet`,
where the paper trains its own. Imports no torch.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from pointcmt.training.config.mvnet import Images, UnlabeledData
from pointcmt.training.config.sections import (
    Augmentation,
    DenseBackbone,
    Optimizer,
    Positive,
    Schedule,
    Section,
    TrainConfig,
    Weight,
)


class Contrasted(Section):
    """The point network to pre-train, and the heads that project both features."""

    backbone: DenseBackbone = "dgcnn"
    """Point network."""
    width: Positive = 256
    """Width of the projected features, as in the paper's code."""


class CrosspointConfig(TrainConfig):
    """Contrastive pre-training with CrossPoint's losses, without labels."""

    classifies: ClassVar[bool] = False
    labeled: ClassVar[bool] = False
    all_views: ClassVar[bool] = False
    point_network: ClassVar[str | None] = "backbone."
    dense: ClassVar[bool] = True

    recipe: Literal["crosspoint"] = "crosspoint"
    epochs: Positive = 100
    data: UnlabeledData = UnlabeledData()
    model: Contrasted = Contrasted()
    images: Images = Images()
    """The last one of the levels is used, as its mean over a view."""
    intra: Weight = 1.0
    """Weight of the loss between two augmentations of a cloud (equations 1 and 2)."""
    cross: Weight = 1.0
    """Weight of the loss between a cloud and a view of it (equations 3 and 4); 0 = train without
    it and without the 2D network."""
    temperature: Annotated[float, Field(gt=0)] = 0.1
    """Temperature of both losses."""
    augmentation: Augmentation = Augmentation(rotation=180.0, jitter=0.01)
    """Random changes of the clouds; ours: those of the other recipes, a turn and noise."""
    optimizer: Optimizer = Optimizer(name="adam", weight_decay=1e-4)
    schedule: Schedule = Schedule(name="cosine")

    @property
    def image_network(self) -> Images | None:
        return self.images if self.cross else None

    @model_validator(mode="after")
    def _check_weights(self) -> "CrosspointConfig":
        if not self.intra and not self.cross:
            raise ValueError("intra and cross are both 0, so there is no loss to train with")
        return self

    @classmethod
    def follows(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Halve the learning rate for transformers, as in `mvnet`."""
        model = given.get("model")
        backbone = str(model.get("backbone", "")) if isinstance(model, dict) else ""
        return {"optimizer": {"learning_rate": 0.0005}} if backbone.startswith("pointvit") else {}
