"""The classes of points: those of a store of scenes, and which store a recipe can read."""

import numpy as np
from numpy.typing import NDArray

from pointcmt.datasets.store.schema import OBJECTS, SCENES
from pointcmt.datasets.store.view_store import StoreReader
from pointcmt.errors import StoreError, UsageError
from pointcmt.training.config.mvnet import MvnetConfig, ScenePairs
from pointcmt.training.config.sections import TrainConfig
from pointcmt.training.runs.box_labels import box_classes


def fit_kind(config: TrainConfig, store: StoreReader) -> TrainConfig:
    """Return the configuration as a recipe that reads both kinds of stores reads this one."""
    scenes = any(member.schema.kind == SCENES for member in store.members)
    if isinstance(config, MvnetConfig) and scenes and config.scenes is None:
        return config.model_copy(update={"scenes": ScenePairs()})
    return config


def require_kind(store: StoreReader, config: TrainConfig) -> None:
    """Raise UsageError for a recipe that reads scenes and a store of objects, or the reverse."""
    for member in store.members:
        if member.schema.kind == SCENES and config.reads == OBJECTS:
            raise UsageError(
                f"this is a store of scenes, which the recipe '{config.recipe}' cannot use",
                where=member.path,
                fix="train `semseg`, `detect` or `mvnet` on it, or pass a store of shapes",
            )
        if member.schema.kind == OBJECTS and config.reads == SCENES:
            raise UsageError(
                f"this is a store of objects, which the recipe '{config.recipe}' cannot use",
                where=member.path,
                fix="pass a store of a dataset of scenes, such as one that `pointcmt render "
                "--dataset toyrooms` makes"
                + ("; or use no options of `scenes`" if isinstance(config, MvnetConfig) else ""),
            )


def learned_classes(store: StoreReader, config: TrainConfig) -> list[str]:
    """Return the names of the classes that a recipe learns: of shapes, points or boxes."""
    if config.detects:
        return box_classes(store)
    of_points = config.reads == SCENES and config.classifies
    return point_classes(store) if of_points else store.class_names


def point_classes(store: StoreReader) -> list[str]:
    """Return the names of the classes of points, in the order of the labels.

    Raises StoreError for a store whose points have no labels, or stores with different classes.
    """
    first = store.members[0]
    for member in store.members:
        if "semantic" not in member.specs or not member.semantic_names:
            raise StoreError(
                "the points of this store have no classes",
                where=member.path,
                fix="render a dataset that has them, such as toyrooms, scannet or s3dis",
            )
        if member.semantic_names != first.semantic_names:
            raise StoreError(
                f"points have other classes here than in {first.path}",
                where=member.path,
                fix="use stores of one dataset",
            )
    return first.semantic_names


def count_points(store: StoreReader, scenes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many points of these scenes [n] are in each class, [C]."""
    counts = np.zeros(len(point_classes(store)), np.int64)
    for share in store.shares(scenes):
        for scene in share.shapes.tolist():
            labels = share.store.read("semantic", scene)
            counts += np.bincount(labels[labels >= 0], minlength=len(counts))
    return counts


def require_labeled_points(store: StoreReader, scenes: NDArray[np.int64], which: str) -> None:
    """Raise StoreError if no point of these scenes [n] has a class. which: what they are."""
    for scene in scenes:
        if count_points(store, np.array([scene])).any():
            return
    raise StoreError(
        f"no point of the {len(scenes)} {which} scenes has a class",
        where=store.path,
        fix="use a dataset whose points are labeled",
    )
