"""Every knob of a training run, with its default and the reason for it. Imports no torch.

The defaults are the preset `official`, the reference code's settings; `presets.py` has the others.
`config_files.py` reads configurations.
"""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[int, Field(ge=0)]
Weight = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(gt=0, le=1)]


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


class ViewData(Data):
    """What the teacher reads."""

    views: NotNegative = 0  # random views per shape and step; 0 = all, as in the paper
    image_size: NotNegative = 0  # pixels, resized on the device; 0 = as stored


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


class Teacher(Section):
    """MVCNN over an image network."""

    backbone: Literal[
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
    ] = "resnet-18"
    weights: str = "random"  # or hub, organisation/name, a folder; pretrained ones train better
    pooling: Literal["max", "mean", "attention"] = "max"  # over the views
    encoder: Literal["train", "frozen"] = "train"  # frozen: only what is behind it learns


class Generator(Section):
    """CMPG, the cross-modal point generator: one linear layer from a feature to a cloud."""

    backbone: Literal["linear"] = "linear"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5


class Student(Section):
    """A point network that ends in a 512-d feature and one linear layer."""

    backbone: Literal[
        "pointnet", "pointnet2-ssg", "pointnet2-msg", "dgcnn", "pointmlp", "pointnext-s"
    ] = "pointnet"
    orthogonality: Weight = 0.001  # weight of PointNet's regulariser, its section 3.3


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


class Loss(Section):
    """Cross entropy with smoothed labels."""

    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = (
        0.2  # in DGCNN's form, see training/losses.py
    )


Solver = Literal["auction", "exact", "sinkhorn", "sliced", "chamfer"]
Norm = Literal["unitbox", "pointcmt"]


class Matching(Section):
    """How two clouds are compared: both scaled into a box, then the earth mover's distance."""

    weight: Weight = 30.0  # the paper's, in both stages that use it
    solver: Solver = "auction"  # see training/emd.py
    norm: Norm = "unitbox"  # see training/generator.py; pointcmt = the reference code's, off-centre


class Distillation(Section):
    """What a student takes from a teacher. Without a teacher, or with `none`, it is vanilla."""

    method: Literal["pointcmt", "logits", "features", "none"] = "pointcmt"
    feature: Matching = Matching()  # PointCMT's feature enhancement (FE)
    # PointCMT's classifier enhancement (CE). The reference sums over the batch with weight 0.3,
    # which at its batch size of 32 is 9.6 times the mean.
    classifier: Weight = 9.6
    # Whether CE's target passes no gradient on. Then nothing teaches the classifier what to make
    # of the teacher's feature, and at the official weight the student follows its first guess for
    # good: on the built-in shapes it ends at chance. The reference leaves it attached, too.
    detach: bool = False
    # The two baselines. logits: Hinton et al. 2015. features: mean squared difference.
    weight: Weight = 1.0
    temperature: Annotated[float, Field(gt=0)] = 4.0


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

    recipe: str
    preset: str = "official"
    epochs: Positive
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0  # of weights, order, augmentation, dropout
    init: str = ""  # a run, or a published checkpoint, whose weights to start from
    data: Data = Data()
    optimizer: Optimizer
    schedule: Schedule
    loop: Loop = Loop()

    @property
    def step_size(self) -> int:
        """Shapes per step: the batches that it accumulates, over all processes."""
        return self.data.batch_size * self.optimizer.accumulate


class TeacherConfig(TrainConfig):
    """PointCMT stage I; the defaults are the reference code's.

    It sums the gradients of 4 batches, where we take their mean. Adam does not notice, but its
    decay does: 1e-4 beside the sum is 2.5e-5 beside the mean.
    """

    recipe: Literal["teacher"] = "teacher"
    epochs: Positive = 50
    data: ViewData = ViewData()
    model: Teacher = Teacher()
    loss: Loss = Loss()
    optimizer: Optimizer = Optimizer(name="adam", weight_decay=2.5e-5, accumulate=4)
    schedule: Schedule = Schedule(name="constant")


class CmpgConfig(TrainConfig):
    """PointCMT stage II: from the frozen teacher's feature to the object's points."""

    classifies: ClassVar[bool] = False

    recipe: Literal["cmpg"] = "cmpg"
    epochs: Positive = 50
    teacher: str = ""  # a run of the recipe `teacher`
    data: PointData = PointData()
    model: Generator = Generator()
    matching: Matching = Matching()
    optimizer: Optimizer = Optimizer(name="adam", weight_decay=1e-4)
    schedule: Schedule = Schedule(name="constant")


class StudentConfig(TrainConfig):
    """PointCMT stage III; without a teacher the vanilla student all others are compared with."""

    recipe: Literal["student"] = "student"
    epochs: Positive = 1000
    teacher: str = ""  # a run of the recipe `teacher`; empty = vanilla
    generator: str = ""  # a run of the recipe `cmpg`, trained with that teacher
    data: StudentData = StudentData()
    model: Student = Student()
    loss: Loss = Loss()
    distillation: Distillation = Distillation()
    optimizer: Optimizer = Optimizer(name="adamw", weight_decay=0.05)
    schedule: Schedule = Schedule(name="cosine")
    augmentation: Augmentation = Augmentation()

    @model_validator(mode="after")
    def _check_generator(self) -> "StudentConfig":
        if self.generator and not self.teacher:
            raise ValueError("a generator is of no use without its teacher: give `teacher`, too")
        return self


class PipelineConfig(Section):
    """PointCMT's three stages, one after the other; each finds the earlier ones by itself."""

    recipe: Literal["pointcmt"] = "pointcmt"
    preset: str = "official"
    teacher: TeacherConfig = TeacherConfig()
    cmpg: CmpgConfig = CmpgConfig()
    student: StudentConfig = StudentConfig()


CONFIGS: dict[str, type[TrainConfig]] = {
    "teacher": TeacherConfig,
    "cmpg": CmpgConfig,
    "student": StudentConfig,
}
PIPELINE = "pointcmt"
INPUTS = ("init", "teacher", "generator")  # knobs that name another run


def distilled(config: TrainConfig) -> bool:
    """Whether this is a student that learns from a teacher."""
    return (
        isinstance(config, StudentConfig)
        and bool(config.teacher)
        and config.distillation.method != "none"
    )


def input_folders(config: TrainConfig) -> dict[str, Path]:
    """The runs (or weights) that this one starts from, by knob; only those that are used."""
    folders = {key: Path(getattr(config, key)) for key in INPUTS if getattr(config, key, "")}
    if isinstance(config, StudentConfig) and not distilled(config):
        folders = {key: folder for key, folder in folders.items() if key == "init"}
    return folders
