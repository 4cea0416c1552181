"""Every knob of PointCMT's recipes, with its default and the reason for it. Imports no torch.

The defaults are the preset `official`, the reference code's settings; `presets.py` has the others.
`config_mvnet.py` has pre-training, `config_downstream.py` what follows it, and `config_files.py`
reads configurations.
"""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeGuard

from pydantic import Field, model_validator

from pointcmt.training.config_downstream import DownstreamConfig, FinetuneConfig, PartsegConfig
from pointcmt.training.config_mvnet import MvnetConfig
from pointcmt.training.config_sections import (
    Augmentation,
    Data,
    ImageBackbone,
    Loss,
    NotNegative,
    Optimizer,
    PointBackbone,
    PointData,
    Positive,
    Schedule,
    Section,
    StudentData,
    TrainConfig,
    Weight,
    require_weights,
)


class ViewData(Data):
    """What the teacher reads."""

    views: NotNegative = 0  # random views per shape and step; 0 = all, as in the paper
    image_size: NotNegative = 0  # pixels, resized on the device; 0 = as stored


class Teacher(Section):
    """MVCNN over an image network."""

    backbone: ImageBackbone = "resnet-18"  # auto: whatever the weights are of
    weights: str = "random"  # or hub, organisation/name, a folder; pretrained ones train better
    architecture: dict[str, Any] = Field(default={})  # of auto; found in the weights' folder
    pooling: Literal["max", "mean", "attention"] = "max"  # over the views
    encoder: Literal["train", "frozen"] = "train"  # frozen: only what is behind it learns

    @model_validator(mode="after")
    def _check_weights(self) -> "Teacher":
        require_weights(self.backbone, self.weights, "model")
        return self


class Generator(Section):
    """CMPG, the cross-modal point generator: one linear layer from a feature to a cloud."""

    backbone: Literal["linear"] = "linear"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5


class Student(Section):
    """A point network that ends in a 512-d feature and one linear layer."""

    backbone: PointBackbone = "pointnet"
    orthogonality: Weight = 0.001  # weight of PointNet's regulariser, its section 3.3


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

    point_network: ClassVar[str | None] = ""

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
    "mvnet": MvnetConfig,
    "finetune": FinetuneConfig,
    "partseg": PartsegConfig,
}
PIPELINE = "pointcmt"
STAGES = ("teacher", "cmpg", "student")  # of the pipeline
INPUTS = ("init", "teacher", "generator")  # knobs that name another run


def distilled(config: TrainConfig) -> TypeGuard[StudentConfig]:
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
    if isinstance(config, DownstreamConfig) and config.load == "none":
        folders.pop("init", None)
    return folders
