"""The frozen image network of pre-training, whose features are compared with those of points."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from pointcmt.console import logger
from pointcmt.datasets.store.epochs import Batch
from pointcmt.datasets.store.scene_streams.pairs import PairConfig
from pointcmt.datasets.store.streaming import StreamConfig
from pointcmt.datasets.streams import open_stream
from pointcmt.training.config.mvnet import Images
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
from pointcmt.training.ops.projection import Grid
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


def find_teacher(
    settings: Images, coverage: float, context: RecipeContext, stream: StreamConfig | PairConfig
) -> ImageTeacher:
    """Build the image network that a configuration names; cache its features if asked for.

    coverage: share of a patch that a shape must cover to count in the channels' statistics.
    Raises UsageError for weights that cannot be had or images that it does not take.
    """
    stored = context.store.schema.image
    network = build_levels(
        settings.backbone, settings.weights, settings.levels, settings.size, stored
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
        batches = sample_views(context, stream, ("depth", features.reads), VIEWS)
        image_features = Standardized(features, batches, coverage)
    return ImageTeacher(network.known.name, image_features, grids, features.reads)


def sample_views(
    context: RecipeContext,
    stream: StreamConfig | PairConfig,
    arrays: tuple[str, ...],
    views: int,
    points: int = 1,
) -> Iterator[Batch]:
    """Read some views of some shapes, the same for every seed and in every process.

    stream: what training reads; of scenes, views come in its pairs. views: an even number, or all
    of a shape if it has fewer.
    """
    chosen = np.unique(np.linspace(0, len(context.shapes) - 1, SHAPES).astype(int))
    shapes = np.sort(context.shapes)[chosen]
    config: StreamConfig | PairConfig
    if isinstance(stream, PairConfig):
        config = replace(stream, seed=0, samples=views // 2)
    else:
        config = StreamConfig(views=min(views, context.store.schema.views))
    config = replace(
        config,
        arrays=arrays,
        batch_size=min(SHAPES_AT_ONCE, len(chosen)),
        points=points,
        shuffle=False,
        drop_last=False,
    )
    for batch in open_stream(context.store, shapes, config):
        yield {name: data.to(context.device) for name, data in batch.items()}


def _cache(network: ImageLevels, context: RecipeContext) -> Cached:
    return cache_levels(
        network,
        context.store,
        context.shapes,
        context.device,
        context.processes,
    )
