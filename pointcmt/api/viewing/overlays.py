"""What a run adds to the page, by what it was trained for."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pointcmt.api.stores import ViewStore
from pointcmt.api.viewing.features import features_of_run
from pointcmt.api.viewing.matches import MatchOverlay
from pointcmt.api.viewing.predictions import predict_shown
from pointcmt.datasets.store.schema import DONE
from pointcmt.errors import UsageError
from pointcmt.training.evaluation.classifier import Trained, open_trained
from pointcmt.training.evaluation.prediction import open_predictor
from pointcmt.training.recipes.mvnet import Mvnet
from pointcmt.training.runs.folder import open_run
from pointcmt.training.runs.locate import find_run
from pointcmt.training.runs.store_kinds import require_kind
from pointcmt.view.overlay import Overlay, Overlays


def open_overlay(
    folder: Path, store: ViewStore, shapes: Sequence[int], checkpoint: str, device: str
) -> Overlay:
    """Open what a run adds to these shapes: predictions, features of points, and matches.

    Raises UsageError for a run that has none of them or reads other stores, StoreError for one that
    is missing or damaged.
    """
    folder = find_run(folder)
    config = open_run(folder).config
    featured = config.dense and config.point_network is not None
    if not config.classifies and not featured:
        raise UsageError(
            f"a run of the recipe '{config.recipe}' has nothing that the page can show",
            where=f"--run {folder}",
            fix="pass a run that classifies, segments or detects, or one whose network has a "
            "feature for each point, such as one of mvnet",
        )
    require_kind(store, config)
    done = store.status() == DONE
    rendered = np.array([shape for shape in shapes if done[shape]], np.int64)
    parts: list[Overlay] = []
    trained: Trained
    if config.classifies:
        trained = predictor = open_predictor(folder, checkpoint, 1, device)
        parts += [predict_shown(predictor, store, rendered)] if len(rendered) else []
    else:
        trained = open_trained(folder, checkpoint, device)
    features = features_of_run(trained, store, rendered)
    if features is not None:
        parts.append(features)
    if isinstance(trained.recipe, Mvnet) and trained.recipe.config.matching.weight:
        parts.append(MatchOverlay(trained.recipe, store))
    return Overlays(tuple(parts))
