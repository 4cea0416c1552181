"""What the configurations of all recipes are made of, with each default's reason. Imports no torch.

`config.py` has PointCMT's recipes and the list of all of them.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[int, Field(ge=0)]
Weight = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(gt=0, le=1)]
PointBackbone = Literal[
    "pointnet",
    "pointnet2-ssg",
    "pointnet2-msg",
    "dgcnn",
    "pointmlp",
    "pointnext-s",
    "pointvit-s",
    "pointvit-b",
    "pointvit-l",
]
ImageBackbone = Literal[
    "resnet-18",
    "resnet-34",
    "resnet-50",
    "vit-base",
    "dinov2-small",
    "dinov2-base",
    "dinov2-large",
    "clip-vit-b32",
    "clip-vit-b16",
    "clip-vit-l14",
]
DenseBackbone = Literal["pointnet2", "dgcnn", "pointvit-s", "pointvit-b", "pointvit-l"]


class Section(BaseModel):
    """A frozen group of knobs; a key it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_truth_values(cls, value: Any, info: ValidationInfo) -> Any:
        switch = cls.model_fields[info.field_name or ""].annotation is bool
        if isinstance(value, bool) and not switch:  # pydantic would read `epochs: yes` as 1
            raise ValueError("Input should be a value, not true or false")
        if switch and not isinstance(value, bool):  # and `compile: 1` as yes
            raise ValueError("Input should be true or false")
        return value


class Data(Section):
    """What is read of a store."""

    batch_size: Annotated[int, Field(ge=2)] = 32  # shapes at a time, over all processes
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.1  # share carved from train, per class
    fraction: Share = 1.0  # of the other train shapes, per class: how many of the labels are known
    split_seed: Annotated[int, Field(ge=0, lt=2**63)] = 0  # of both; the same for all seeds, stages


class PointData(Data):
    """What a generator or a student reads."""

    points: Positive = 1024  # the first n of the stored, farthest-point order


class StudentData(PointData):
    """What a student reads."""

    resample: NotNegative = 0  # draw them at random from the first n instead; 0 = no (PointNeXt)

    @model_validator(mode="after")
    def _check_resample(self) -> "StudentData":
        if 0 < self.resample < self.points:
            raise ValueError(f"resample should be 0 or {self.points} (data.points) and more")
        return self


class Loss(Section):
    """Cross entropy with smoothed labels."""

    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = (
        0.2  # in DGCNN's form, see training/losses.py
    )


class Optimizer(Section):
    """Adam adds the decay to the gradient, AdamW shrinks the weights themselves."""

    name: Literal["adam", "adamw"]
    learning_rate: Annotated[float, Field(gt=0)] = 0.001
    weight_decay: Weight
    clip_norm: Weight = 0.0  # largest norm of the whole gradient; 0 = no clipping
    accumulate: Positive = 1  # batches whose gradients make one step
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0  # decay of averaged weights, kept; 0 = off


class Schedule(Section):
    """The learning rate over the run: constant, or half a cosine down to 0."""

    name: Literal["constant", "cosine"]
    warmup: Weight = 0.0  # epochs of linear rise at the start


class Augmentation(Section):
    """Random scale and shift of a cloud, per axis."""

    scale: tuple[float, float] = (2 / 3, 3 / 2)
    shift: Weight = 0.2

    @field_validator("scale")
    @classmethod
    def _check_scale(cls, scale: tuple[float, float]) -> tuple[float, float]:
        if not 0 < scale[0] <= scale[1]:
            raise ValueError("Input should be two numbers, 0 < smallest <= largest")
        return scale


class Loop(Section):
    """How the loop runs; nothing here is the method's."""

    precision: Literal["fp32", "bf16"] = "fp32"  # bf16: autocast; weights stay in fp32
    compile: bool = False  # torch.compile; needs a C++ compiler, and pays on long runs
    keep_every: NotNegative = 0  # epochs between checkpoints that are kept for good; 0 = none
    tensorboard: bool = True  # event files in the run
    wandb: str = ""  # project to log to Weights & Biases; needs `pip install wandb`


class TrainConfig(Section):
    """What every recipe has."""

    classifies: ClassVar[bool] = True  # whether its runs can be evaluated
    labelled: ClassVar[bool] = True  # whether its shapes need classes
    all_views: ClassVar[bool] = True  # whether it is validated on all views of a shape
    # What precedes the names of its point network's weights; None = it has no such network.
    point_network: ClassVar[str | None] = None
    dense: ClassVar[bool] = False  # whether that network is one of DENSE, with features of points

    recipe: str
    preset: str = "official"
    epochs: Positive
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0  # of weights, order, augmentation, dropout
    init: str = ""  # a run, or a published checkpoint, whose weights to start from
    data: Data = Data()
    optimizer: Optimizer
    schedule: Schedule
    loop: Loop = Loop()

    @classmethod
    def follows(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Defaults that are other ones because of what was given."""
        return {}

    @property
    def effective_batch_size(self) -> int:
        """Shapes per step: the batches that it accumulates, over all processes."""
        return self.data.batch_size * self.optimizer.accumulate
