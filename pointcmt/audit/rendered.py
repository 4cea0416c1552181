"""The rendered shapes of a store, with what is known about each."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pointcmt.datasets.store.schema import CORRESPONDENCES, DONE, SCENES, SPLITS
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.errors import StoreError


@dataclass(frozen=True, eq=False)
class Rendered:
    """shapes: their numbers in the store, [n]. matched: whether each has correspondences, [n]."""

    store: ViewStore
    shapes: NDArray[np.int64]
    matched: NDArray[np.bool_]

    @property
    def is_scenes(self) -> bool:
        """Whether they are scenes."""
        return self.store.schema.kind == SCENES

    @property
    def unit(self) -> str:
        """What a message calls one of them."""
        return "scene" if self.is_scenes else "shape"

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """The class of each, [n]; -1 = unknown."""
        return self.store.labels[self.shapes]

    def class_of(self, shape: int) -> str:
        """Return the name of a shape's class."""
        return self.store.shapes[shape].class_name or "no class"

    def split_of(self, shape: int) -> str:
        """Return the name of a shape's split."""
        return SPLITS[self.store.splits[shape]]

    def named(self, shape: int) -> str:
        """Return a shape's id with its class and split."""
        record = self.store.shapes[shape]
        return f"{record.id} ({self.class_of(shape)}, {record.split})"


def find_rendered(store: ViewStore) -> Rendered:
    """Return the rendered shapes. Raises StoreError if there are none."""
    shapes = np.flatnonzero(store.status() == DONE)
    if not len(shapes):
        raise StoreError(
            f"no {'scene' if store.schema.kind == SCENES else 'shape'} of this store has been "
            "rendered yet",
            where=store.path,
            fix="run `pointcmt render`",
        )
    unmatched = {
        table["id"]
        for _, marker in store.each_marker(CORRESPONDENCES)
        for table in marker["failures"]
    }
    matched = np.isin(shapes // store.schema.shard, store.committed(CORRESPONDENCES))
    if unmatched:
        matched &= [store.shapes[shape].id not in unmatched for shape in shapes.tolist()]
    return Rendered(store, shapes, matched)
