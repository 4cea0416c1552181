"""The scenes of a store, or of several that are joined, as the streams read them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointcmt.datasets.store.epochs import require_correspondences
from pointcmt.datasets.store.locations import storage_errors
from pointcmt.datasets.store.schema import CORRESPONDENCES, SCENES, stage_of
from pointcmt.datasets.store.view_store import StoreReader, ViewStore
from pointcmt.errors import StoreError, UsageError, nearest


@dataclass(frozen=True)
class Read:
    """A read of an array of a scene that is in progress."""

    scene: "Scene"
    name: str
    future: Any

    def result(self) -> NDArray[Any]:
        """Wait for the values. Raises DamageError for a chunk that is lost or damaged."""
        store = self.scene.store
        try:
            with storage_errors(store.home_of(self.name).storage.where(self.name)):
                return np.asarray(self.future.result())
        except (ValueError, MemoryError) as error:
            shards = store.schema.shards_of(self.scene.row)
            raise store.unreadable(self.name, shards, error) from error


@dataclass(frozen=True)
class Scene:
    """One scene. row: its index in its own store. views, points: how many its row uses."""

    store: ViewStore
    row: int
    views: int
    points: int

    def start(self, name: str, *index: Any) -> Read:
        """Start reading `array[row, *index]`, which may include padding."""
        return Read(self, name, self.store.array(name)[(self.row, *index)].read())

    def start_points(self, name: str, end: int | None = None) -> Read:
        """Start reading the first `end` values of an array of points, None = all."""
        return self.start(name, slice(0, self.points if end is None else end))

    def start_visible(self, frames: slice | NDArray[np.int64]) -> Read:
        """Start reading which points some frames see, packed, [v, ⌈points/8⌉] u8."""
        return self.start("visible", frames, slice(0, -(-self.points // 8)))


def find_scenes(store: StoreReader, shapes: NDArray[np.int64]) -> dict[int, Scene]:
    """Return scenes by their index in the store. Raises DamageError where the counts are lost."""
    found = {}
    for share in store.shares(shapes):
        counts = [share.store.read(name, share.shapes) for name in ("view_count", "point_count")]
        rows = zip(share.shapes.tolist(), *(count.tolist() for count in counts), strict=True)
        for shape, (row, views, points) in zip(shapes[share.rows].tolist(), rows, strict=True):
            found[shape] = Scene(share.store, row, views, points)
    return found


def require_scenes(store: StoreReader, names: Iterable[str], shapes: NDArray[np.int64]) -> None:
    """Check that these arrays of scenes can be read, and mean the same in all joined stores.

    Raises UsageError for a store of objects or an unknown array, StoreError for stores with other
    classes of points, other sizes of images or without correspondences, and DamageError if a file
    of these scenes is lost.
    """
    names = list(names)
    for member in store.members:
        if member.schema.kind != SCENES:
            raise UsageError(
                "this is a store of shapes, and this stream reads scenes",
                where=member.path,
                fix="render a store from a dataset of scenes, such as toyrooms",
            )
        for name in names:
            if name not in member.specs:
                where = member.path if len(store.members) > 1 else ""
                fix = nearest(name, member.specs)
                raise UsageError(f"unknown array '{name}'", where=where, fix=fix)
        _require_same(store.members[0], member)
        if any(stage_of(name) == CORRESPONDENCES for name in names):
            require_correspondences(member)
    for share in store.shares(shapes):
        share.store.require_files(["view_count", "point_count", *names], share.shards)


def _require_same(first: ViewStore, other: ViewStore) -> None:
    """Raise StoreError unless labels and images of two stores can be in one batch."""
    for what, values in (
        ("classes of points", (first.semantic_names, other.semantic_names)),
        ("sizes of images", (first.schema.image, other.schema.image)),
    ):
        if values[0] != values[1]:
            raise StoreError(
                f"stores of scenes can only be joined if they have the same {what}: "
                f"{values[0]} and {values[1]}",
                where=other.path,
                fix="stream them one by one",
            )
