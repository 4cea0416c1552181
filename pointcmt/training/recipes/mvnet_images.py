"""The frozen image network of mvnet, prepared so that its features can be compared with points'."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pointcmt.console import logger
from pointcmt.datasets.store.streaming import Batch, StreamConfig, ViewStream
from pointcmt.training.config.mvnet import MvnetConfig
from pointcmt.training.images.levels import (
    Cached,
    ImageFeatures,
    ImageLevels,
    Online,
    Standardized,
    build_levels,
    cache_levels,
)
from pointcmt.training.images.networks import RANDOM
from pointcmt.training.networks.view_consistency import Grid
from pointcmt.training.recipes.recipe import RecipeContext

SHAPES, VIEWS = 64, 4  # sample size for statistics and checks: shapes, and views of each
SHAPES_AT_ONCE = 8


@dataclass(frozen=True)
class ImageTeacher:
    """image_network: its name. image_features: batch → its features at every level,
    [B·v, D, h, w]. grids: (h, w) of each level. reads: the array that image_features takes from
    the batch.
    """

    image_network: str
    image_features: ImageFeatures
    grids: list[Grid]
    reads: str


def find_teacher(config: MvnetConfig, context: RecipeContext) -> ImageTeacher:
    """Build the image network that a configuration names; cache its features if asked for.

    Raises UsageError for weights that cannot be had or images that it does not take.
    """
    settings, stored_size = config.images, context.store.schema.size
    network = build_levels(
        settings.backbone, settings.weights, settings.levels, settings.size, stored_size
    )
    network.to(context.device)
    if settings.weights == RANDOM:
        logger.warning(
            "note: the 2D network has random weights and only detects edges and colors; set "
            "images.weights=hub, or a folder, for pretrained weights",
        )
    if network.known.guessed:
        logger.warning(
            f"note: {network.known.guessed}: using ImageNet's mean and standard deviation. Add a "
            "preprocessor_config.json with the right values",
        )
    features = _cache(network, context) if settings.cache else Online(network)
    grids = [(rows, columns) for _, rows, columns in network.shapes]
    image_features: ImageFeatures = features
    if settings.standardize:
        views = min(VIEWS, context.store.schema.views)
        batches = sample_views(context, ("depth", features.reads), views)
        image_features = Standardized(features, batches, config.transfer.coverage)
    return ImageTeacher(network.known.name, image_features, grids, features.reads)


def sample_views(
    context: RecipeContext, arrays: tuple[str, ...], views: int, points: int = 0
) -> Iterator[Batch]:
    """Read some views of some shapes, the same for every seed and in every process."""
    chosen = np.unique(np.linspace(0, len(context.shapes) - 1, SHAPES).astype(int))
    config = StreamConfig(
        arrays=arrays,
        batch_size=min(SHAPES_AT_ONCE, len(chosen)),
        views=views,
        points=points,
        shuffle=False,
        drop_last=False,
    )
    for batch in ViewStream(context.store, np.sort(context.shapes)[chosen], config):
        yield {name: data.to(context.device) for name, data in batch.items()}


def _cache(network: ImageLevels, context: RecipeContext) -> Cached:
    return cache_levels(
        network,
        context.store,
        context.shapes,
        context.device,
        context.processes,
    )
