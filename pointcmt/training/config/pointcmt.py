"""Every option of PointCMT's recipes, with its default and the reason. Imports no torch.

The defaults are the preset `official`, the reference code's settings; `presets.py` has the others.
`mvnet.py` and `crosspoint.py` configure pre-training, `downstream.py` the recipes after it, and
`files.py` reads configurations.
"""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeGuard

from pydantic import Field, model_validator

from pointcmt.training.config.crosspoint import CrosspointConfig
from pointcmt.training.config.detection import DetectConfig
from pointcmt.training.config.downstream import DownstreamConfig, FinetuneConfig, PartsegConfig
from pointcmt.training.config.mvnet import MvnetConfig
from pointcmt.training.config.scenes import SemsegConfig
from pointcmt.training.config.sections import (
    Augmentation,
    Data,
    ImageBackbone,
    Loss,
    NotNegative,
    Optimizer,
    PointBackbone,
    PointData,
    Positive,
    Sampling,
    Schedule,
    Section,
    StudentData,
    TrainConfig,
    Votes,
    Weight,
    require_weights,
)


class ViewData(Data):
    """What the teacher reads from the store."""

    views: NotNegative = 0
    """Random views per shape and step; 0 = all, as in the paper."""
    sampling: Sampling = "shuffle"
    """Shapes of an epoch: shuffle = each once; balanced = as many, the same number of each
    class, so that shapes of small classes come several times."""
    image_size: NotNegative = 0
    """Pixels per side, resized on the device; 0 = as stored."""


class Teacher(Section):
    """MVCNN over an image network."""

    backbone: ImageBackbone = "resnet-18"
    """Image network; auto = the network that the weights belong to."""
    weights: str = "random"
    """random, hub, organization/name on the hub, or a folder; pretrained weights train better."""
    architecture: dict[str, Any] = Field(default={})
    """Description of an auto network; read from the folder of its weights."""
    pooling: Literal["max", "mean", "attention"] = "max"
    """How the features of the views are combined."""
    encoder: Literal["train", "frozen"] = "train"
    """frozen: train only the layers after the image network, at much lower cost."""
    cache: bool = False
    """Compute a frozen image network's features once, keep them in the store and train on them: an
    epoch then takes seconds."""

    @model_validator(mode="after")
    def _check_cache(self) -> "Teacher":
        if self.cache and self.encoder != "frozen":
            raise ValueError(
                "model.cache is for features that stay the same: it needs model.encoder=frozen"
            )
        return self

    @model_validator(mode="after")
    def _check_weights(self) -> "Teacher":
        require_weights(self.backbone, self.weights, "model")
        return self


class Generator(Section):
    """CMPG, the cross-modal point generator: one linear layer from a feature to a cloud."""

    backbone: Literal["linear"] = "linear"
    """Architecture: one linear layer, as in the paper."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Dropout probability of the feature."""


class Student(Section):
    """A point network that ends in a 512-d feature and one linear layer."""

    backbone: PointBackbone = "pointnet"
    """Point network."""
    orthogonality: Weight = 0.001
    """Weight of PointNet's regularizer of its feature transform (its section 3.3)."""
    head: Literal["linear", "published"] = "linear"
    """What ends the network: a 512-d feature and one linear layer, which a teacher needs, or the
    published head, 512-256-C with dropout for most networks."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Dropout of the published head."""


Solver = Literal["auction", "exact", "sinkhorn", "sliced", "chamfer"]
Norm = Literal["unitbox", "pointcmt"]


class Matching(Section):
    """How two clouds are compared: the earth mover's distance after scaling both into a box."""

    weight: Weight = 30.0
    """Weight of the distance: the paper's, in both stages that use it."""
    solver: Solver = "auction"
    """auction is within 1 % of the exact distance; the last three are approximations."""
    norm: Norm = "unitbox"
    """Box that clouds are scaled into; pointcmt = the reference code's, which is off-center."""


class Distillation(Section):
    """What a student learns from a teacher."""

    method: Literal["pointcmt", "logits", "features", "none"] = "pointcmt"
    """logits (Hinton et al. 2015) and features (mean squared error) are baselines."""
    feature: Matching = Matching()
    """PointCMT's feature enhancement (FE): compares both features as generated clouds."""
    classifier: Weight = 9.6
    """Weight of PointCMT's classifier enhancement (CE), a mean over the batch. The reference code
    sums over the batch with weight 0.3, which is 9.6 times the mean at its batch size of 32."""
    detach: bool = False
    """Stop the gradient through CE's target; the reference code does not. If stopped, the
    classifier is not trained on the teacher's feature: at weight 9.6, the student's accuracy
    on the built-in shapes is then at chance level."""
    weight: Weight = 1.0
    """Weight of the methods logits and features."""
    temperature: Annotated[float, Field(gt=0)] = 4.0
    """Temperature of the method logits."""
    gradients: bool = False
    """Log how the gradient of each term, weighted, relates to that of the cross entropy, both at
    the 512-d feature: their cosine, and the ratio of their norms."""


class TeacherConfig(TrainConfig):
    """PointCMT stage I: the image teacher. The defaults are the reference code's."""

    recipe: Literal["teacher"] = "teacher"
    epochs: Positive = 50
    data: ViewData = ViewData()
    model: Teacher = Teacher()
    loss: Loss = Loss()
    optimizer: Optimizer = Optimizer(name="adam", weight_decay=2.5e-5, accumulate=4)
    """The reference code sums the gradients of 4 batches, here their mean is taken. Adam is
    unaffected by that factor except for its decay: 1e-4 with the sum is 2.5e-5 with the mean."""
    schedule: Schedule = Schedule(name="constant")


class CmpgConfig(TrainConfig):
    """PointCMT stage II: from the frozen teacher's feature to the object's points."""

    classifies: ClassVar[bool] = False

    recipe: Literal["cmpg"] = "cmpg"
    epochs: Positive = 50
    teacher: str = ""
    """Run of `pointcmt train teacher`."""
    data: PointData = PointData()
    model: Generator = Generator()
    matching: Matching = Matching()
    augmentation: Augmentation = Augmentation(scale=(1.0, 1.0), shift=0.0)
    """Changes of the target clouds; none by default. The reference code scales and shifts them."""
    optimizer: Optimizer = Optimizer(name="adam", weight_decay=1e-4)
    schedule: Schedule = Schedule(name="constant")


class StudentConfig(TrainConfig):
    """PointCMT stage III: a point network; without a teacher the vanilla student, its baseline."""

    point_network: ClassVar[str | None] = ""

    recipe: Literal["student"] = "student"
    epochs: Positive = 1000
    teacher: str = ""
    """Run of `pointcmt train teacher`; empty = the vanilla student."""
    generator: str = ""
    """Run of `pointcmt train cmpg` with that teacher."""
    data: StudentData = StudentData()
    model: Student = Student()
    loss: Loss = Loss()
    distillation: Distillation = Distillation()
    optimizer: Optimizer = Optimizer(name="adamw", weight_decay=0.05)
    schedule: Schedule = Schedule(name="cosine")
    augmentation: Augmentation = Augmentation()
    votes: Votes = Votes()

    @model_validator(mode="after")
    def _check_generator(self) -> "StudentConfig":
        if self.generator and not self.teacher:
            raise ValueError("`generator` also needs `teacher`")
        if self.distillation.gradients and self.loop.compile:
            raise ValueError("distillation.gradients needs loop.compile=false")
        if self.teacher and self.model.head != "linear":
            raise ValueError(
                "a student of a teacher needs model.head=linear: the teacher's feature goes "
                "through that layer"
            )
        return self


class PipelineConfig(Section):
    """PointCMT's three stages, one after the other; each uses the runs of the earlier ones."""

    recipe: Literal["pointcmt"] = "pointcmt"
    """What to train: the RECIPE of `pointcmt train`."""
    preset: str = "official"
    """Preset of all stages without one of their own."""
    teacher: TeacherConfig = TeacherConfig()
    cmpg: CmpgConfig = CmpgConfig()
    student: StudentConfig = StudentConfig()

    @model_validator(mode="after")
    def _check_head(self) -> "PipelineConfig":
        if self.student.model.head != "linear":
            raise ValueError(
                "a student of a teacher needs student.model.head=linear: the teacher's feature "
                "goes through that layer"
            )
        return self


CONFIGS: dict[str, type[TrainConfig]] = {
    "teacher": TeacherConfig,
    "cmpg": CmpgConfig,
    "student": StudentConfig,
    "mvnet": MvnetConfig,
    "crosspoint": CrosspointConfig,
    "finetune": FinetuneConfig,
    "partseg": PartsegConfig,
    "semseg": SemsegConfig,
    "detect": DetectConfig,
}
PIPELINE = "pointcmt"
STAGES = ("teacher", "cmpg", "student")  # of the pipeline
INPUTS = ("init", "teacher", "generator")  # options that name another run
STAGE_INPUTS = ("teacher", "generator")  # inputs that a pipeline's stages set for each other


def distilled(config: TrainConfig) -> TypeGuard[StudentConfig]:
    """Return whether this is a student that learns from a teacher."""
    return (
        isinstance(config, StudentConfig)
        and bool(config.teacher)
        and config.distillation.method != "none"
    )


def input_folders(config: TrainConfig) -> dict[str, Path]:
    """Return the runs (or weights) that this one starts from, by option; only those used."""
    folders = {key: Path(getattr(config, key)) for key in INPUTS if getattr(config, key, "")}
    if isinstance(config, StudentConfig) and not distilled(config):
        folders = {key: folder for key, folder in folders.items() if key == "init"}
    if isinstance(config, DownstreamConfig) and config.load == "none":
        folders.pop("init", None)
    return folders
