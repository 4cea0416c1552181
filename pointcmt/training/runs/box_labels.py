"""The boxes of a store of scenes: their classes, and the mean size of each class."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pointcmt.datasets.store.view_store import StoreReader
from pointcmt.errors import StoreError
from pointcmt.training.runs.store_kinds import scene_classes


def require_instances(store: StoreReader) -> None:
    """Raise StoreError for a store that does not tell which points belong to a box."""
    for member in store.members:
        if "instance" not in member.specs:
            raise StoreError(
                "the points of this store have no instances to vote for",
                where=member.path,
                fix="use --set data.votes=boxes: points inside a box then vote for its center",
            )


def require_boxes(store: StoreReader, scenes: NDArray[np.int64], which: str) -> None:
    """Raise StoreError if there are scenes [n], but no box in any. which: what they are."""
    if len(scenes) and not any(len(label) for label, _ in _labeled_boxes(store, scenes)):
        raise StoreError(
            f"no box is in any of the {len(scenes)} {which} scenes",
            where=store.path,
            fix="use a dataset with boxes, or more scenes of it",
        )


def mean_sizes(store: StoreReader, scenes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean size of each class of boxes in these scenes, [C, 3] meters.

    A class without boxes gets the mean of all boxes. There must be at least one.
    """
    labels, boxes = (
        np.concatenate(each) for each in zip(*_labeled_boxes(store, scenes), strict=True)
    )
    sizes = boxes[:, 3:6].astype(np.float64)
    found = np.tile(sizes.mean(axis=0), (len(scene_classes(store, "boxes")), 1))
    for label in np.unique(labels):
        found[label] = sizes[labels == label].mean(axis=0)
    return found


def _labeled_boxes(
    store: StoreReader, scenes: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int16], NDArray[np.float32]]]:
    """Yield the labels [K] and boxes [K, 7] of each scene, without boxes that have no class."""
    for share in store.shares(scenes):
        for scene in share.shapes.tolist():
            label = share.store.read("box_label", scene)
            yield label[label >= 0], share.store.read("boxes", scene)[label >= 0]
