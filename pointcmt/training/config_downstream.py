"""Every knob of what follows pre-training: a network that starts from another run's weights.

All defaults are ours. The schedule is the one that point transformers are fine-tuned with, AdamW
with warm-up and cosine over 300 epochs (Point-MAE, Pang et al., ECCV 2022, arXiv 2203.06604).
Imports no torch.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from pointcmt import plugins
from pointcmt.training.config_sections import (
    DENSE_BACKBONES,
    POINT_BACKBONES,
    Augmentation,
    Loss,
    Optimizer,
    Positive,
    Schedule,
    Section,
    StudentData,
    TrainConfig,
    Weight,
    named,
)

Load = Literal["none", "encoder", "all"]
LOADS: tuple[Load, ...] = ("none", "encoder", "all")  # in the order in which they are compared


class Network(Section):
    """A point network."""

    backbone: str = ""  # empty: that of the run to start from
    encoder: Literal["train", "frozen"] = "train"  # frozen: only what is behind it learns


class Classifier(Network):
    """A student's network."""

    backbone: Annotated[str, named(plugins.BACKBONES, POINT_BACKBONES, empty=True)] = ""
    orthogonality: Weight = 0.001  # as a student's


class Segmenter(Network):
    """A network with a feature of each point, and an MLP that makes parts of them."""

    backbone: Annotated[str, named(plugins.BACKBONES, DENSE_BACKBONES, empty=True)] = ""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5


class PartData(StudentData):
    """What a segmenter reads."""

    batch_size: Annotated[int, Field(ge=2)] = 16
    points: Positive = 2048


class DownstreamConfig(TrainConfig):
    """Starts from `init`. load: the encoder alone, as the paper does; all that fits, as others do;
    or none, the baseline of both.
    """

    point_network: ClassVar[str | None] = ""

    load: Load = "encoder"
    model: Network = Network()


class FinetuneConfig(DownstreamConfig):
    """Classification: a vanilla student that starts from another run's weights."""

    recipe: Literal["finetune"] = "finetune"
    epochs: Positive = 300
    data: StudentData = StudentData()
    model: Classifier = Classifier()
    loss: Loss = Loss()
    optimizer: Optimizer = Optimizer(name="adamw", learning_rate=0.0005, weight_decay=0.05)
    schedule: Schedule = Schedule(name="cosine", warmup=10.0)
    augmentation: Augmentation = Augmentation()


class PartsegConfig(DownstreamConfig):
    """Segmentation into parts. Augmentation as in PointNet++'s code, but per axis."""

    point_network: ClassVar[str | None] = "backbone."
    dense: ClassVar[bool] = True

    recipe: Literal["partseg"] = "partseg"
    epochs: Positive = 300
    parts: dict[str, tuple[str, ...]] = Field(default={})  # by class; found in the store
    data: PartData = PartData()
    model: Segmenter = Segmenter()
    optimizer: Optimizer = Optimizer(name="adamw", learning_rate=0.0005, weight_decay=0.05)
    schedule: Schedule = Schedule(name="cosine", warmup=10.0)
    augmentation: Augmentation = Augmentation(scale=(0.8, 1.25), shift=0.1)
