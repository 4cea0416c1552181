"""Stage I of PointCMT: MVCNN on the views, smoothed cross entropy, no image augmentation."""

from copy import copy
from dataclasses import replace

import torch
from torch import Tensor, nn

from pointcmt.console import logger
from pointcmt.datasets.store.streaming import Batch, StreamConfig
from pointcmt.training.config.pointcmt import TeacherConfig
from pointcmt.training.networks.mvcnn import MVCNN, build_mvcnn
from pointcmt.training.ops.augment import choose
from pointcmt.training.ops.losses import smoothed_cross_entropy
from pointcmt.training.recipes.class_weights import find_weights
from pointcmt.training.recipes.recipe import RecipeContext, accuracy, measure_classes
from pointcmt.training.recipes.teacher_features import cache_views

IMAGES = "rgb"


def build(config: TeacherConfig, classes: int, pretrained: bool) -> "Teacher":
    """Build the teacher recipe from its configuration; see RECIPES."""
    weights = config.model.weights if pretrained else "random"
    settings = config.model
    model = build_mvcnn(
        settings.backbone,
        weights,
        classes,
        config.data.image_size,
        settings.pooling,
        settings.encoder,
        settings.architecture,
    )
    return Teacher(model, config)


class Teacher:
    """Views → class: trained on `data.views` random views of each shape, evaluated on all views.

    views: the array that it reads, the images or, in a prepared recipe, cached features of them.
    """

    def __init__(self, model: MVCNN, config: TeacherConfig) -> None:
        self.model: nn.Module = model
        self.guessed = model.known.guessed
        self.config = config
        self.smoothing = config.loss.label_smoothing
        self.weights: Tensor | None = None  # of the classes, in a prepared recipe
        self.views = IMAGES
        self.stream = StreamConfig(
            arrays=(IMAGES,),
            batch_size=config.effective_batch_size,
            views=config.data.views,
            points=0,
            seed=config.seed,
            balance=config.data.sampling == "balanced",
        )

    def prepare(self, context: RecipeContext) -> "Teacher":
        """Find the weights of the classes, and cache the views' features if asked for.

        Suggest ImageNet weights if it starts from none. Raises as `cache_views`.
        """
        if self.config.model.weights == "random" and not self.config.init:
            logger.warning(
                "note: the image network starts from random weights; a teacher is better with "
                "ImageNet weights (model.weights=hub, or a folder)",
            )
        if self.guessed:
            logger.warning(
                f"note: {self.guessed}: using ImageNet's mean and standard deviation. Add a "
                "preprocessor_config.json with the right values"
            )
        prepared = copy(self)
        prepared.weights = find_weights(
            self.config.loss, context.store, context.train, context.device
        )
        if self.config.model.cache:
            assert isinstance(self.model, MVCNN)
            model = self.model.to(context.device)
            parts = cache_views(
                model, self.config, context.store, context.shapes, context.processes
            )
            prepared.views = parts[0][0].name
            prepared.stream = replace(self.stream, arrays=(prepared.views,))
        return prepared

    def loss(
        self, model: nn.Module, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        logits = self.logits(model, batch)
        loss = smoothed_cross_entropy(logits, batch["label"], self.smoothing, self.weights)
        return loss, {"accuracy": accuracy(logits, batch["label"])}

    def measure(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        return measure_classes(self.logits(model, batch), batch["label"], self.smoothing)

    def pictures(self, model: nn.Module, batch: Batch) -> dict[str, bytes]:
        return {}

    def deployable(self, model: nn.Module, batch: Batch) -> tuple[nn.Module, tuple[Tensor, ...]]:
        return model, (batch[IMAGES],)

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        if self.views == IMAGES:
            return model(batch[IMAGES])[0]
        assert isinstance(model, MVCNN)
        return model.classify(batch[self.views].float())[0]

    def test_time_augmentation(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return a random half of the views, a different half for each shape."""
        half = max(1, batch[IMAGES].shape[1] // 2)
        return {**batch, IMAGES: choose(batch[IMAGES], half, generator)}
