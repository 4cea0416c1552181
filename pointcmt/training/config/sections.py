"""The sections that the configurations of all recipes share. Imports no torch.

`pointcmt.py` has PointCMT's recipes and the list of all recipes.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from pointcmt import plugins
from pointcmt.errors import nearest
from pointcmt.input_frame import InputFrame

Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[int, Field(ge=0)]
Weight = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(gt=0, le=1)]
Sampling = Literal["shuffle", "balanced"]

# Names of parts: these, an installed entry point of their group, or module:name (plugins.py).
SPARSE_BACKBONES = ("sparse-unet-tiny", "sparse-unet-14a", "sparse-unet-34c")  # on voxels
POINT_BACKBONES = (
    "pointnet",
    "pointnet-yanx27",
    "pointnet2-ssg",
    "pointnet2-msg",
    "dgcnn",
    "pointmlp",
    "pointnext-s",
    "pointnext-s-c64",
    "pointvit-s",
    "pointvit-b",
    "pointvit-l",
    "point-bert",
    *SPARSE_BACKBONES,
)
PART_NETWORKS = ("pointnet-part-seg", "pointnet2-part-seg-ssg", "pointnet2-part-seg-msg")
NORMAL_BACKBONES = (  # that can take normals
    *("pointnet", "pointnet-yanx27", "pointnet2-ssg", "pointnet2-msg"),
    *PART_NETWORKS,
)
IMAGE_BACKBONES = (
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
    "auto",  # the network that the weights belong to
)
DENSE_BACKBONES = (
    "pointnet2",
    "dgcnn",
    "pointvit-s",
    "pointvit-b",
    "pointvit-l",
    *SPARSE_BACKBONES,
)
SCENE_BACKBONES = DENSE_BACKBONES  # in meters, with colors and normals


def named(group: plugins.Group, known: tuple[str, ...], empty: bool = False) -> AfterValidator:
    """Return a validator for names of parts. empty: whether an empty name is allowed."""

    def check(name: str) -> str:
        if name in known or plugins.is_reference(name) or (empty and not name):
            return name
        outside = plugins.names(group)
        if name in outside:
            return name
        names = [*known, *outside]
        near = nearest(name, names).partition(" known: ")[0] if name else ""
        said = f" ({near})" if near.startswith("did you mean") else ""
        listing = ", ".join(f"'{each}'" for each in names)
        raise ValueError(f"Input should be {listing} or module:name{said}")

    return AfterValidator(check)


PointBackbone = Annotated[str, named(plugins.BACKBONES, POINT_BACKBONES)]
DenseBackbone = Annotated[str, named(plugins.BACKBONES, DENSE_BACKBONES)]
ImageBackbone = Annotated[str, named(plugins.IMAGE_NETWORKS, IMAGE_BACKBONES)]


def require_weights(backbone: str, weights: str, section: str) -> None:
    """Raise ValueError for an image network `auto` whose weights do not identify a network."""
    if backbone == "auto" and weights in ("hub", "random"):
        raise ValueError(
            f"{section}.backbone=auto selects the network by its weights, but '{weights}' does "
            f"not identify one: use --set {section}.weights=… with a folder written by "
            "transformers' save_pretrained, or with organization/name on the hub"
        )


class Section(BaseModel):
    """A frozen group of options; an unknown key is an error.

    The docstring of each option is its description: `--print-config` shows it.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_truth_values(cls, value: Any, info: ValidationInfo) -> Any:
        switch = cls.model_fields[info.field_name or ""].annotation is bool
        if isinstance(value, bool) and not switch:  # pydantic would read `epochs: yes` as 1
            raise ValueError("Input should be a value, not true or false")
        if switch and not isinstance(value, bool):  # it would read `compile: 1` as yes
            raise ValueError("Input should be true or false")
        return value


class Data(Section):
    """What is read from the store."""

    batch_size: Annotated[int, Field(ge=2)] = 32
    """Shapes per batch, over all processes."""
    validation: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Fraction of the train split, per class, used to select the best epoch; 0 = none: the last
    epoch of a run on the whole train split counts as the best."""
    fraction: Share = 1.0
    """Fraction of the remaining train shapes, per class, to train on."""
    split_seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of these selections; keep it the same for all seeds and stages."""


class PointData(Data):
    """What a point network or a generator reads from the store."""

    points: Positive = 1024
    """Points per shape: the first n in the stored farthest-point order."""


class StudentData(PointData):
    """What a student reads from the store."""

    sampling: Sampling = "shuffle"
    """Shapes of an epoch: shuffle = each once; balanced = as many, the same number of each
    class, so that shapes of small classes come several times."""
    resample: NotNegative = 0
    """Sample the points at random from the first n instead, as in PointNeXt; 0 = off."""
    normals: bool = False
    """Whether the network takes each point's unit normal, too; only some can. Also true if the
    network of the run in init takes them."""
    up: Literal["", "x", "y", "z"] = ""
    """Axis that points up in the network's input; empty = that of the run in init, or else of the
    benchmark's networks if the store states it, or else z, as stored."""
    center: Literal["", "bounds", "centroid", "none"] = ""
    """Origin of the network's input: the middle of the bounding box, as stored; the mean of its
    points; or none = the source's own. Empty = as for up."""
    scale: Literal["", "farthest", "none"] = ""
    """Size of the network's input: the farthest point at radius 1, or none = the source's own size.
    Empty = as for up."""

    @property
    def frame(self) -> InputFrame:
        """The frame of the network's input; of runs without one, as the points are stored."""
        given = {"up": self.up, "center": self.center, "scale": self.scale}
        return InputFrame(**{name: value for name, value in given.items() if value})

    @property
    def inputs(self) -> int:
        """Numbers of each point besides its position."""
        return 3 * self.normals

    @model_validator(mode="after")
    def _check_resample(self) -> "StudentData":
        if 0 < self.resample < self.points:
            raise ValueError(f"resample should be 0, or at least data.points, {self.points}")
        return self


class Loss(Section):
    """Cross entropy with smoothed labels."""

    class_weights: str | dict[str, float] = "none"
    """Weight of each class in the mean over a batch. balanced: the mean size of all classes divided
    by its own, counted in train; or a table of weights by name, {mug: 2.0}, where others have 1."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Label smoothing as in DGCNN: the share of the target given to the other classes."""

    @field_validator("class_weights", mode="before")
    @classmethod
    def _check_class_weights(cls, given: Any) -> Any:
        if given in ("none", "balanced"):
            return given
        numbers: list[Any] = list(given.values()) if isinstance(given, dict) else []
        plain = all(isinstance(x, int | float) and not isinstance(x, bool) for x in numbers)
        if not numbers or not plain or min(numbers) < 0 or not max(numbers) > 0:
            raise ValueError(
                "Input should be none, balanced, or a table of class names and weights of 0 or "
                "more, such as {chair: 2.0}"
            )
        return {str(name): float(weight) for name, weight in given.items()}


class Optimizer(Section):
    """Adam, AdamW or SGD."""

    name: Literal["adam", "adamw", "sgd"]
    """adam and sgd add weight decay to the gradient (L2 penalty); adamw decouples it. sgd has a
    momentum of 0.9."""
    nesterov: bool = True
    """Whether sgd's momentum is Nesterov's."""
    learning_rate: Annotated[float, Field(gt=0)] = 0.001
    """Peak learning rate."""
    weight_decay: Weight
    """Weight decay."""
    decay: Literal["all", "matrices"] = "all"
    """Parameters that decay; matrices = all but biases, the factors of norms, and class tokens."""
    clip_norm: Weight = 0.0
    """Maximum norm of the gradient; 0 = no clipping."""
    accumulate: Positive = 1
    """Batches per optimizer step; their gradients are averaged."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay of the exponential moving average of weights, which is evaluated and saved; 0 = off."""


class Schedule(Section):
    """The learning rate over the run."""

    name: Literal["constant", "cosine", "poly", "onecycle", "steps"]
    """Constant; half a cosine that ends at the floor; (1 - t)^0.9, t from 0 to 1; one cycle from a
    tenth of the rate to 1e-5 of it, with the momentum from 0.95 to 0.85 and back; or steps."""
    warmup: Weight = 0.0
    """Epochs of linear warm-up; of onecycle, those of the rise."""
    per: Literal["step", "epoch"] = "step"
    """How often the rate changes: at each step, or at the beginning of each epoch, as in much
    published code."""
    floor: Weight = 0.0
    """Smallest learning rate of cosine and steps."""
    length: Weight = 0.0
    """Epochs after which cosine is at the floor, where it stays; 0 = all epochs."""
    interval: Weight = 0.0
    """Epochs between steps; 0 = three steps, after 4/9, 6/9 and 8/9 of the run, as VoteNet's after
    80, 120 and 160 of 180 epochs."""
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Factor of the learning rate at each of the steps."""


def check_scale(scale: tuple[float, float]) -> tuple[float, float]:
    """Raise ValueError unless these are the smallest and the largest of some factors."""
    if not 0 < scale[0] <= scale[1]:
        raise ValueError("Input should be two numbers, 0 < smallest <= largest")
    return scale


class Augmentation(Section):
    """Random changes of each cloud, in this order."""

    point_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Largest share of dropped points; the share of a cloud is drawn from 0 to this, and dropped
    points become copies of the first."""
    scale: tuple[float, float] = (2 / 3, 3 / 2)
    """Smallest and largest factor, drawn per axis."""
    isotropic: bool = False
    """Draw one factor for all axes of a cloud."""
    normalize: bool = False
    """Center each scaled cloud at the mean of its points, with the farthest at radius 1."""
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Largest turn about the axis that points up, in either direction, in degrees."""
    shift: Weight = 0.2
    """Maximum shift along each axis, in both directions."""
    jitter: Weight = 0.0
    """Standard deviation of the shift of each point along each axis."""
    jitter_clip: Weight = 0.05
    """Maximum shift of a point by jitter."""

    _check_scale = field_validator("scale")(check_scale)


class PartVotes(Section):
    """How clouds vary in `evaluate --votes`, which averages predictions."""

    scale: tuple[float, float] = (0.9, 1.1)
    """Smallest and largest factor, drawn per axis."""
    shift: Weight = 0.0
    """Maximum shift along each axis, in both directions."""

    _check_scale = field_validator("scale")(check_scale)


class Votes(PartVotes):
    """How clouds vary in `evaluate --votes`, which averages predictions."""

    resample: NotNegative = 0
    """Draw the points of each vote at random from the first n, as Point-MAE does; 0 = off."""


class Loop(Section):
    """How the training loop runs; not part of the method."""

    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 is autocast: the weights stay in fp32."""
    compile: bool = False
    """Use torch.compile: needs a C++ compiler; pays off in long runs."""
    keep_every: NotNegative = 0
    """Epochs between checkpoints to keep permanently; 0 = keep only the best and the last."""
    tensorboard: bool = True
    """Write TensorBoard event files into the run."""
    wandb: str = ""
    """Weights & Biases project to log to; needs the package wandb."""


class TrainConfig(Section):
    """Options of every recipe."""

    classifies: ClassVar[bool] = True  # whether its runs can be evaluated
    labeled: ClassVar[bool] = True  # whether its shapes need classes
    detects: ClassVar[bool] = False  # whether its classes are those of boxes
    all_views: ClassVar[bool] = True  # whether it is validated on all views of a shape
    # Prefix of its point network's weight names; None = it has no such network.
    point_network: ClassVar[str | None] = None
    dense: ClassVar[bool] = False  # whether that network is one of DENSE, with per-point features

    recipe: str = ""
    """What to train: the RECIPE of `pointcmt train`."""
    preset: str = "official"
    """Named set of defaults: official = the reference code's, modern = a current training setup."""
    epochs: Positive
    """Number of passes over the train shapes."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of weight initialization, shuffling, augmentation and dropout."""
    init: str = ""
    """Run or published checkpoint whose weights to start from; empty = random weights."""
    data: Data = Data()
    optimizer: Optimizer
    schedule: Schedule
    loop: Loop = Loop()

    @classmethod
    def follows(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Return defaults that depend on the given values."""
        return {}

    @property
    def reads(self) -> Literal["objects", "scenes"]:
        """The kind of stores that it reads."""
        return "objects"

    @property
    def image_network(self) -> Any:
        """The options of the frozen image network that it learns from; None without one."""
        return None

    @property
    def samples(self) -> int:
        """Samples of each shape in an epoch."""
        return 1

    @property
    def effective_batch_size(self) -> int:
        """Shapes per optimizer step: all accumulated batches, over all processes."""
        return self.data.batch_size * self.optimizer.accumulate
