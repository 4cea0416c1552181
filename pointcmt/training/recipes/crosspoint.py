"""Contrastive pre-training, the baseline of `mvnet`: trains a network of points without labels.

Afham et al., CVPR 2022 (arXiv 2203.00680). L = intra · L_imid + cross · L_cmid, where
- L_imid: NT-Xent between the projections z₁, z₂ of two random augmentations of a cloud;
- L_cmid: NT-Xent between their mean and the projection of a random view's image feature.
The negatives of a cloud are the others of its micro-batch in its process: more processes or
micro-batches of the same effective batch size leave it with fewer.
"""

import torch
from torch import Tensor, nn

from pointcmt.console import logger
from pointcmt.datasets.store.epochs import Batch
from pointcmt.datasets.store.streaming import StreamConfig
from pointcmt.input_frame import AS_STORED
from pointcmt.training.config.crosspoint import CrosspointConfig
from pointcmt.training.images.levels import level_widths
from pointcmt.training.networks.backbones import build_dense
from pointcmt.training.networks.contrast import CrossPoint
from pointcmt.training.networks.view_consistency import PointFeatures
from pointcmt.training.ops.losses import nt_xent
from pointcmt.training.recipes.augmentation import augment
from pointcmt.training.recipes.mvnet_images import ImageTeacher, find_teacher
from pointcmt.training.recipes.recipe import RecipeContext

COVERAGE = 0.25  # of the patches that the statistics of image features are taken from, as in mvnet
SEED = 0  # of the augmentations in validation


def build(config: CrosspointConfig, classes: int, pretrained: bool) -> "Crosspoint":
    """Build the pre-training recipe from its configuration; see RECIPES. It has no classifier."""
    images, width = config.image_network, 0
    if images:
        width = level_widths(images.backbone, images.weights, images.levels, images.size)[-1]
    backbone = build_dense(config.model.backbone, 1)
    return Crosspoint(CrossPoint(backbone, width, config.model.width), config)


class Crosspoint:
    """Points → a feature that is the same for all augmentations, and that of a view.

    teacher: the frozen image network; None without it, and until the recipe is prepared.
    """

    def __init__(
        self, model: nn.Module, config: CrosspointConfig, teacher: ImageTeacher | None = None
    ) -> None:
        self.model = model
        self.config = config
        self.teacher = teacher
        self.stream = StreamConfig(
            arrays=("points", *([teacher.reads] if teacher else [])),
            batch_size=config.effective_batch_size,
            views=1,
            points=config.data.points,
            seed=config.seed,
        )

    def prepare(self, context: RecipeContext) -> "Crosspoint":
        """Return the recipe with its image network, whose features are cached if asked for.

        Raises UsageError for an image network that cannot be had or does not take these images.
        """
        images = self.config.image_network
        if images is None:
            logger.info("note: cross=0, so nothing is learned from the images")
            return self
        teacher = find_teacher(images, COVERAGE, context, self.stream)
        return Crosspoint(self.model, self.config, teacher)

    def loss(
        self, model: nn.Module, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        settings, points = self.config.augmentation, batch["points"]
        first, second = (augment(points, settings, AS_STORED, generator) for _ in range(2))
        # Both in one pass: the batch norms see all clouds, as many as the losses compare.
        one, two = model(torch.cat([first, second])).chunk(2)
        terms = {}
        if self.config.intra:
            terms["intra"] = nt_xent(one, two, self.config.temperature)
        if self.config.cross:
            assert self.teacher is not None, "call prepare() before using this recipe"
            assert isinstance(model, CrossPoint)
            view = self.teacher.image_features(batch)[-1].mean(dim=(2, 3))  # [B, D]
            terms["cross"] = nt_xent((one + two) / 2, model.project(view), self.config.temperature)
        weights = {"intra": self.config.intra, "cross": self.config.cross}
        return torch.stack([weights[name] * term for name, term in terms.items()]).sum(), terms

    def measure(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        if len(batch["points"]) == 1:  # without a negative, both losses are exactly 0
            return {}
        loss, terms = self.loss(model, batch, torch.Generator().manual_seed(SEED))
        return {"loss": loss, **terms}

    def pictures(self, model: nn.Module, batch: Batch) -> dict[str, bytes]:
        return {}

    def deployable(self, model: nn.Module, batch: Batch) -> tuple[nn.Module, tuple[Tensor, ...]]:
        return PointFeatures(model.get_submodule("backbone")), (batch["points"],)
