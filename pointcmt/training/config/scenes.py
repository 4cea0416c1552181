"""Every option of the recipe for semantic segmentation of scenes. Imports no torch.

Defaults are ours; docs/scenes.md tells what others use. Lengths are in meters.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

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
)

Probability = Annotated[float, Field(ge=0, le=1)]


def _check_scale(scale: tuple[float, float]) -> tuple[float, float]:
    if not 0 < scale[0] <= scale[1]:
        raise ValueError("Input should be two numbers, 0 < smallest <= largest")
    return scale


Scale = Annotated[tuple[float, float], AfterValidator(_check_scale)]


class SceneData(Data):
    """What is read from a store of scenes."""

    batch_size: Annotated[int, Field(ge=2)] = 8
    """Crops per batch, over all processes."""
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Fraction of the train scenes used to select the best epoch, if the store has no val split."""
    fraction: Share = 1.0
    """Fraction of the remaining train scenes to train on. Rescans of a room count as one."""
    voxel: Annotated[float, Field(ge=0.001, le=1)] = 0.05
    """Size of voxels, of the data and of the network: training reads one random point of each."""
    crop: NotNegative = 100_000
    """Voxels of a crop, those nearest to a random one; 0 = whole scenes."""
    crops: Positive = 1
    """Crops of each scene and epoch."""
    color: bool = True
    """Whether the color is an input of the network."""
    normals: bool = False
    """Whether the normal is an input of the network."""

    @property
    def samples(self) -> int:
        """Samples of each scene in an epoch."""
        return self.crops


class VoxelNetwork(Network):
    """A sparse U-Net and a linear layer on its features of points."""

    backbone: Literal["", "sparse-unet-tiny", "sparse-unet-14a", "sparse-unet-34c"] = ""
    """Network on voxels; empty = that of the run in init, or sparse-unet-34c without one."""


class SceneAugmentation(Section):
    """Random changes of each crop, which always turn it by any angle about the vertical."""

    flip: Probability = 0.5
    """Probability of mirroring x, and of mirroring y."""
    scale: Scale = (0.9, 1.1)
    """Smallest and largest factor, the same for all axes."""
    jitter: Weight = 0.005
    """Standard deviation of noise on each coordinate, in meters; at most four times that."""
    color_shift: Weight = 0.05
    """Maximum shift of each color channel of a crop, as a share of its range."""
    color_noise: Weight = 0.05
    """Standard deviation of noise on each color channel of a point, as a share of its range."""


class SemsegConfig(DownstreamConfig):
    """Semantic segmentation of scenes: a class for each point."""

    labeled: ClassVar[bool] = False
    reads: ClassVar[Literal["objects", "scenes"]] = "scenes"
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
    model: VoxelNetwork = VoxelNetwork()
    loss: Loss = Loss(label_smoothing=0.0)
    optimizer: Optimizer = Optimizer(name="adamw", learning_rate=0.003, weight_decay=0.05)
    schedule: Schedule = Schedule(name="cosine", warmup=5.0)
    augmentation: SceneAugmentation = SceneAugmentation()
