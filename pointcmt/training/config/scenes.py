"""Every option of the recipe for semantic segmentation of scenes. Imports no torch.

Defaults are ours; docs/scenes.md tells what others use. Lengths are in meters.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from pointcmt.training.config.downstream import DownstreamConfig, Load, Network
from pointcmt.training.config.sections import (
    Data,
    Loss,
    NotNegative,
    Optimizer,
    Positive,
    Schedule,
    Section,
    Share,
    Weight,
    check_scale,
)

Probability = Annotated[float, Field(ge=0, le=1)]
SMALLEST_CELL = 0.05  # of an elastic distortion, in meters: its noise fills a grid of such cells
# Points of a crop: for PointNet++ as in its code for ScanNet, for DGCNN as in its code for S3DIS.
POINTS = {"pointnet2": 8192, "dgcnn": 4096}
POINTS |= dict.fromkeys(("pointvit-s", "pointvit-b", "pointvit-l"), 8192)


Scale = Annotated[tuple[float, float], AfterValidator(check_scale)]


class PointInputs(Section):
    """What a network takes of the points of scenes besides their places or height."""

    voxel: Annotated[float, Field(ge=0.001, le=1)] = 0.05
    """Size of voxels of the network, in meters; semseg trains on one random point of each."""
    color: bool = True
    """Whether the color is an input of the network."""
    normals: bool = False
    """Whether the normal is an input of the network."""

    @property
    def channels(self) -> int:
        """Numbers of each point."""
        return 3 * self.color + 3 * self.normals


class SceneData(PointInputs, Data):
    """What is read from a store of scenes."""

    batch_size: Annotated[int, Field(ge=2)] = 8
    """Crops per batch, over all processes."""
    validation: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Fraction of the train scenes used to select the best epoch, if the store has no val split;
    0 = none: the last epoch counts as the best."""
    fraction: Share = 1.0
    """Fraction of the remaining train scenes to train on. Rescans of a room count as one."""
    test_area: Annotated[int, Field(ge=0, le=6)] = 0
    """S3DIS: the area to hold out for the test, 1 to 6, whatever the store's splits are; 0 = the
    test split of the store."""
    crop: NotNegative = 100_000
    """Voxels of a crop, those nearest to a random one; 0 = whole scenes. Networks on points need
    crops, by default of 8192, and dgcnn of 4096."""
    crops: Positive = 1
    """Crops of each scene and epoch."""
    labeled_points: NotNegative = 0
    """Labeled points of each train scene whose labels are used, chosen by split_seed; 0 = all."""


class ScenePoints(Network):
    """A network with a feature for each point of a scene, and a linear layer on it."""

    backbone: Literal[
        "",
        "sparse-unet-tiny",
        "sparse-unet-14a",
        "sparse-unet-34c",
        "pointnet2",
        "dgcnn",
        "pointvit-s",
        "pointvit-b",
        "pointvit-l",
    ] = ""
    """Network; empty = the sparse U-Net of the run in init, or sparse-unet-34c without one.
    pointnet2 has the layers and radii of PointNet++ on scenes."""


class SceneAugmentation(Section):
    """Random changes of each sample, those of Pointcept's recipes; a probability of 0 = off."""

    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of the points to leave out."""
    dropout_probability: Probability = 0.0
    """Probability of leaving points out."""
    yaw: Probability = 1.0
    """Probability of a turn by any angle about the vertical."""
    tilt: Annotated[float, Field(ge=0, le=180)] = 2.8125
    """Maximum angle in degrees of a tilt about x, and of one about y."""
    tilt_probability: Probability = 0.0
    """Probability of each of the two."""
    flip: Probability = 0.5
    """Probability of mirroring x, and of mirroring y."""
    scale: Scale = (0.9, 1.1)
    """Smallest and largest factor, the same for all axes."""
    jitter: Weight = 0.005
    """Standard deviation of noise on each coordinate, in meters; at most four times that."""
    elastic: tuple[tuple[float, float], ...] = ((0.2, 0.4), (0.8, 1.6))
    """Elastic distortions, one after the other: the size in meters of the cells of a smooth noise,
    and its factor. A factor of 1 moves points by about 0.11 m along each axis."""
    elastic_probability: Probability = 0.0
    """Probability of all elastic distortions."""
    autocontrast: Probability = 0.0
    """Probability of stretching the colors of a crop to the whole range, to a random extent."""
    color_shift: Weight = 0.05
    """Maximum shift of each color channel of a sample, as a share of its range."""
    color_shift_probability: Probability = 1.0
    """Probability of that shift."""
    color_noise: Weight = 0.05
    """Standard deviation of noise on each color channel of a point, as a share of its range."""
    color_noise_probability: Probability = 1.0
    """Probability of that noise."""
    mix: Probability = 0.0
    """Probability, for a batch, of joining each two crops into one (Mix3D)."""

    @field_validator("elastic")
    @classmethod
    def _check_elastic(
        cls, elastic: tuple[tuple[float, float], ...]
    ) -> tuple[tuple[float, float], ...]:
        if any(cell < SMALLEST_CELL or factor < 0 for cell, factor in elastic):
            raise ValueError(
                f"Input should be pairs of a size of {SMALLEST_CELL} m or more and a factor of 0 "
                "or more, such as [[0.2, 0.4], [0.8, 1.6]]"
            )
        return elastic


class SemsegConfig(DownstreamConfig):
    """Semantic segmentation of scenes: a class for each point."""

    labeled: ClassVar[bool] = False
    point_network: ClassVar[str | None] = "backbone."
    dense: ClassVar[bool] = True
    needs_init: ClassVar[bool] = False
    from_scratch: ClassVar[str] = "sparse-unet-34c"

    recipe: Literal["semseg"] = "semseg"
    epochs: Positive = 100
    load: Load = "encoder"
    """Weights to load from init, if there is one. encoder: the encoder only; all: all that match;
    none: no weights, as a baseline."""
    data: SceneData = SceneData()
    model: ScenePoints = ScenePoints()
    loss: Loss = Loss(label_smoothing=0.0)
    optimizer: Optimizer = Optimizer(name="adamw", learning_rate=0.003, weight_decay=0.05)
    schedule: Schedule = Schedule(name="cosine", warmup=5.0)
    augmentation: SceneAugmentation = SceneAugmentation()

    @property
    def reads(self) -> Literal["objects", "scenes"]:
        return "scenes"

    @property
    def samples(self) -> int:
        return self.data.crops

    @classmethod
    def follows(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Take smaller crops for networks on points."""
        model = given.get("model")
        name = model.get("backbone") if isinstance(model, dict) else None
        return {"data": {"crop": POINTS[name]}} if name in POINTS else {}

    @model_validator(mode="after")
    def _check_crop(self) -> "SemsegConfig":
        name = self.model.backbone
        if name in POINTS and not self.data.crop:
            raise ValueError(
                f"{name} is trained on crops, so data.crop should not be 0: use "
                f"data.crop={POINTS[name]}, or a sparse U-Net for whole scenes"
            )
        return self
