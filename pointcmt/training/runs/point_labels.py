"""The classes of a store's points: how many points have them."""

import numpy as np
from numpy.typing import NDArray

from pointcmt.datasets.store.view_store import StoreReader
from pointcmt.errors import StoreError
from pointcmt.training.runs.store_kinds import scene_classes


def count_points(store: StoreReader, scenes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many points of these scenes [n] are in each class, [C]."""
    counts = np.zeros(len(scene_classes(store, "points")), np.int64)
    for share in store.shares(scenes):
        for scene in share.shapes.tolist():
            labels = share.store.read("semantic", scene)
            counts += np.bincount(labels[labels >= 0], minlength=len(counts))
    return counts


def require_labeled_points(store: StoreReader, scenes: NDArray[np.int64], which: str) -> None:
    """Raise StoreError if there are scenes [n], but no point has a class. which: what they are."""
    if not len(scenes) or any(count_points(store, np.array([scene])).any() for scene in scenes):
        return
    raise StoreError(
        f"no point of the {len(scenes)} {which} scenes has a class",
        where=store.path,
        fix="use a dataset whose points are labeled",
    )
