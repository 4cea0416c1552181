"""Stage I of PointCMT: MVCNN on the views, smoothed cross entropy, no image augmentation."""

import torch
from torch import Tensor, nn

from pointcmt.console import logger
from pointcmt.datasets.store.streaming import Batch, StreamConfig
from pointcmt.training.config.pointcmt import TeacherConfig
from pointcmt.training.networks.mvcnn import MVCNN, build_mvcnn
from pointcmt.training.ops.augment import choose
from pointcmt.training.ops.losses import smoothed_cross_entropy
from pointcmt.training.recipes.task import Context, accuracy, measure_classes


def build(config: TeacherConfig, classes: int, pretrained: bool) -> "Teacher":
    """The teacher of a configuration; see RECIPES."""
    weights = config.model.weights if pretrained else "random"
    knobs = config.model
    model = build_mvcnn(
        knobs.backbone,
        weights,
        classes,
        config.data.image_size,
        knobs.pooling,
        knobs.encoder,
        knobs.architecture,
    )
    return Teacher(model, config)


class Teacher:
    """Views → class. Trains on `data.views` random views per shape, is evaluated on all of them."""

    def __init__(self, model: MVCNN, config: TeacherConfig) -> None:
        self.model: nn.Module = model
        self.guessed = model.known.guessed
        self.config = config
        self.smoothing = config.loss.label_smoothing
        self.stream = StreamConfig(
            arrays=("rgb",),
            batch_size=config.step_size,
            views=config.data.views,
            points=0,
            seed=config.seed,
        )

    def prepare(self, context: Context) -> None:
        """Nothing but the views is needed; where weights would help, that is said."""
        if self.config.model.weights == "random" and not self.config.init:
            logger.info(
                "note: the image network starts from random weights; those of ImageNet "
                "(model.weights=hub, or a folder) make a better teacher",
            )
        if self.guessed:
            logger.warning(
                f"note: {self.guessed}: its images are normalized with ImageNet's mean and "
                "deviation. A preprocessor_config.json there would say what is right"
            )

    def loss(
        self, model: nn.Module, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        logits = self.logits(model, batch)
        loss = smoothed_cross_entropy(logits, batch["label"], self.smoothing)
        return loss, {"accuracy": accuracy(logits, batch["label"])}

    def measure(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        return measure_classes(self.logits(model, batch), batch["label"], self.smoothing)

    def pictures(self, model: nn.Module, batch: Batch) -> dict[str, bytes]:
        return {}

    def inference(self, model: nn.Module, batch: Batch) -> tuple[nn.Module, tuple[Tensor, ...]]:
        return model, (batch["rgb"],)

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        return model(batch["rgb"])[0]

    def vary(self, batch: Batch, generator: torch.Generator) -> Batch:
        """A random half of the views, another one for each shape."""
        half = max(1, batch["rgb"].shape[1] // 2)
        return {**batch, "rgb": choose(batch["rgb"], half, generator)}
