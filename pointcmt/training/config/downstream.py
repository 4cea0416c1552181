"""Every option of the downstream recipes, which start from another run's weights.

All defaults are ours. The schedule is the usual one for fine-tuning point transformers: AdamW with
warm-up and cosine over 300 epochs (Point-MAE, Pang et al., ECCV 2022, arXiv 2203.06604).
Imports no torch.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from pointcmt import plugins
from pointcmt.training.config.sections import (
    DENSE_BACKBONES,
    PART_NETWORKS,
    POINT_BACKBONES,
    Augmentation,
    Loss,
    Optimizer,
    PartVotes,
    Positive,
    Schedule,
    Section,
    StudentData,
    TrainConfig,
    Votes,
    Weight,
    named,
)

SEGMENTERS = (*DENSE_BACKBONES, *PART_NETWORKS)
Load = Literal["none", "encoder", "all"]
LOADS: tuple[Load, ...] = ("none", "encoder", "all")  # in order of comparison


class Network(Section):
    """A point network."""

    backbone: str = ""
    """Point network; empty = that of the run in init (required for a published checkpoint)."""
    encoder: Literal["train", "frozen"] = "train"
    """frozen: train only the layers after the encoder."""


class Classifier(Network):
    """A point network that ends in a 512-d feature and one linear layer, like a student."""

    backbone: Annotated[str, named(plugins.BACKBONES, POINT_BACKBONES, empty=True)] = ""
    orthogonality: Weight = 0.001
    """Weight of PointNet's regularizer of its feature transform (its section 3.3)."""
    head: Literal["linear", "published"] = "linear"
    """What ends the network: a 512-d feature and one linear layer, which a teacher needs, or the
    published head, 512-256-C with dropout for most networks."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Dropout of the published head."""


class Segmenter(Network):
    """A network with a feature for each point, and an MLP that predicts parts from them.

    Or a published network for part segmentation, which is used as a whole.
    """

    backbone: Annotated[str, named(plugins.BACKBONES, SEGMENTERS, empty=True)] = ""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Dropout before the last layer of the MLP."""


class PartData(StudentData):
    """What a segmenter reads from the store."""

    batch_size: Annotated[int, Field(ge=2)] = 16
    points: Positive = 2048


class DownstreamConfig(TrainConfig):
    """Training that starts from the weights of `init`."""

    point_network: ClassVar[str | None] = ""
    needs_init: ClassVar[bool] = True  # unless load = none
    from_scratch: ClassVar[str] = ""  # the network of a run without init, if it has a default

    load: Load = "encoder"
    """Weights to load from init. encoder: the encoder only, as in the paper; all: all that match;
    none: no weights, as a baseline."""
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
    votes: Votes = Votes()


class PartsegConfig(DownstreamConfig):
    """Segmentation into parts."""

    point_network: ClassVar[str | None] = "backbone."
    dense: ClassVar[bool] = True

    recipe: Literal["partseg"] = "partseg"
    epochs: Positive = 300
    parts: dict[str, tuple[str, ...]] = Field(default={})
    """Part names by class; empty = those in the store."""
    data: PartData = PartData()
    model: Segmenter = Segmenter()
    optimizer: Optimizer = Optimizer(name="adamw", learning_rate=0.0005, weight_decay=0.05)
    schedule: Schedule = Schedule(name="cosine", warmup=10.0)
    augmentation: Augmentation = Augmentation(scale=(0.8, 1.25), shift=0.1)
    """Scale and shift as in PointNet++'s code, but drawn per axis."""
    votes: PartVotes = PartVotes()

    @model_validator(mode="after")
    def _check_dropout(self) -> "PartsegConfig":
        if self.augmentation.point_dropout:
            raise ValueError(
                "augmentation.point_dropout should be 0: a dropped point would keep its label"
            )
        return self
