"""Which stores a recipe can read, and the classes that it learns there."""

from typing import Literal

from pointcmt.datasets.store.schema import OBJECTS, SCENES
from pointcmt.datasets.store.view_store import StoreReader
from pointcmt.errors import StoreError, UsageError
from pointcmt.training.config.mvnet import MvnetConfig, ScenePairs
from pointcmt.training.config.sections import TrainConfig


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
        return scene_classes(store, "boxes")
    of_points = config.reads == SCENES and config.classifies
    return scene_classes(store, "points") if of_points else store.class_names


def scene_classes(store: StoreReader, of: Literal["points", "boxes"]) -> list[str]:
    """Return the names of the classes of a store's points or boxes, in the order of the labels.

    Raises StoreError for a store that has none, or stores with different ones.
    """
    array = {"points": "semantic", "boxes": "boxes"}[of]
    found = []
    for member in store.members:
        names = member.semantic_names if of == "points" else member.box_names
        if array not in member.specs or not names:
            sets = "toyrooms, scannet or " + ("s3dis" if of == "points" else "sunrgbd")
            raise StoreError(
                "the points of this store have no classes"
                if of == "points"
                else "this store has no boxes",
                where=member.path,
                fix=f"render a dataset that has them, such as {sets}",
            )
        found.append(names)
        if names != found[0]:
            raise StoreError(
                f"{of} have other classes here than in {store.members[0].path}",
                where=member.path,
                fix="use stores of one dataset",
            )
    return found[0]
