"""Image features of every view, in the store that they were computed from: `features/<key>/`.

An image network's features take minutes to hours to compute but only a thousandth of the images'
disk space, so they are kept, shard by shard. Features are valid once their commit marker
`commits/features-<key>/<shard>.json` exists. It identifies the images that they were made from by
the SHA-256 of the bytes read. When a shard is rendered again with different images, its features
are stale: they are pending again and can no longer be read.

Features of a read-only store are kept elsewhere: see `ViewStore.open`.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pointcmt import __version__
from pointcmt.datasets.store.metadata import (
    as_prescribed,
    spec_metadata,
    with_checksum,
)
from pointcmt.datasets.store.root import (
    own_attributes,
)
from pointcmt.datasets.store.schema import (
    COMMITS,
    FEATURES,
    OBJECTS,
    RENDER,
    ROOT,
    ArraySpec,
    encode_json,
    is_derived,
    marker_key,
    shard_key,
)
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.errors import DamageError, StoreError, differing

GROUP = encode_json({"zarr_format": 3, "node_type": "group", "attributes": {}})
Chunk = Literal["shape", "view"]
CHUNKS: tuple[Chunk, ...] = ("shape", "view")
MISSING, STALE, FRESH = "missing", "stale", "fresh"  # states of a shard's features
RECOMPUTE = "they are recomputed by the next command that needs them"


@dataclass(frozen=True)
class Images:
    """The current images of a shard. done: [s] bool, which shapes have images."""

    shard: int
    done: NDArray[np.bool_]
    sha256: str  # of the shard's `rgb` file


class Features:
    """Features [O, V, D] f16 of one teacher, open for reading and, shard by shard, for writing.

    width: D. facts: how they were made, JSON-able; stored as the array's attributes. chunk: the
    unit of reading: all views of a shape, or one view if D is large.
    """

    def __init__(
        self,
        store: ViewStore,
        key: str,
        width: int,
        facts: dict[str, Any],
        chunk: Chunk = "shape",
    ) -> None:
        self.store, self.key, self.width, self.facts = store, key, width, facts
        self.home = store.derived  # the store that holds them: this one, or one elsewhere
        self.name, self.stage = f"{FEATURES}/{key}", f"{FEATURES}-{key}"
        spec = _spec(store, width, facts, chunk)
        store.specs[self.name] = self.home.specs[self.name] = spec

    def images(self, shard: int) -> Images:
        """Return a shard's images; call it before reading their pixels.

        Raises StoreError if the shard is not rendered.
        """
        if shard not in self.store.committed(RENDER):
            raise _not_rendered(shard, self.store.path)
        return self.images_of(shard, self.store.markers(RENDER, [shard])[shard])

    def images_of(self, shard: int, marker: dict[str, Any]) -> Images:
        """Return a shard's images, given its commit marker."""
        done = np.array([outcome["status"] == "done" for outcome in marker["outcomes"]], bool)
        key = shard_key(self.store.specs["rgb"], "rgb", shard)
        return Images(shard, done, marker["files"][key])

    def read_images(self, shard: int) -> tuple[Images, NDArray[np.uint8]]:
        """Return a shard's current images and their pixels [s, V, H, W, 3].

        Raises StoreError if the shard is not rendered, DamageError if its file is lost or has
        changed since it was committed.
        """
        try:
            marker = self.store.markers(RENDER, [shard])[shard]
        except DamageError:
            if shard in self.store.committed(RENDER):
                raise
            raise _not_rendered(shard, self.store.path) from None
        return self.images_of(shard, marker), self.store.read_committed("rgb", shard, marker)

    def states(self, shards: Iterable[int] | None = None) -> dict[int, str]:
        """Return MISSING, STALE or FRESH by shard, for the given shards that have rendered shapes.

        shards: None = all. Stale: made from images that have been replaced since, or the features'
        file is lost.
        """
        rendered = set(self.store.committed(RENDER))
        wanted = sorted(rendered if shards is None else rendered & set(shards))
        present = set(self.home.storage.list_keys(f"{self.name}/c/", self.store.schema.shards))
        made = set(self.home.committed(self.stage))
        render = self.store.markers(RENDER, wanted)
        ours = self.home.markers(self.stage, [shard for shard in wanted if shard in made])
        found = {}
        for shard in wanted:
            images = self.images_of(shard, render[shard])
            if not np.any(images.done):
                continue
            if shard not in ours:
                found[shard] = MISSING
            else:
                same = ours[shard]["made_from"] == images.sha256
                found[shard] = FRESH if same and self._file(shard) in present else STALE
        return found

    def pending(self) -> list[int]:
        """Return the shards whose rendered shapes lack features made from their current images."""
        return [shard for shard, state in self.states().items() if state != FRESH]

    def write(self, images: Images, features: NDArray[np.floating[Any]]) -> None:
        """Write and commit a shard's features [s, V, D]; those of failed shapes are set to 0.

        images: the shard's `images`, obtained before reading the pixels: if they have changed
        since, the features are stale from the start. Raises StoreError for features that are not
        finite in 16 bits, or if writing fails.
        """
        with np.errstate(over="ignore"):
            array = np.asarray(features).astype(np.float16)
        array[~images.done] = 0
        if not np.all(np.isfinite(array)):
            raise StoreError(
                f"features of shard {images.shard} are not finite in float16",
                where=self.home.storage.where(self.name),
                fix="use other weights for the image network; for mvnet, set images.cache=false; "
                "for a teacher of your own, train it again with a lower learning rate or "
                "from pretrained weights",
            )
        with _elsewhere(self.store):
            written = self.home.write_shard(images.shard, {self.name: array})
            marker = {"files": written, "made_from": images.sha256}
            self.home.commit(self.stage, images.shard, marker)

    def read(self, shapes: NDArray[np.int64]) -> NDArray[np.float16]:
        """Return the features [n, V, D] of shapes [n], indices of axis 0; 0 for failed shapes.

        Raises StoreError if they are missing, stale or damaged.
        """
        self.require_fresh(shapes)
        shapes = np.asarray(shapes, np.int64)
        made = np.isin(shapes // self.store.schema.shard, self.home.committed(self.stage))
        features = np.zeros((len(shapes), self.store.schema.views, self.width), np.float16)
        if np.any(made):  # a shard whose shapes all failed has no features
            features[made] = self.read_fresh(shapes[made])
        return features

    def read_fresh(self, shapes: NDArray[np.int64]) -> NDArray[np.float16]:
        """Read without checking the markers; call `require_fresh` first."""
        try:
            return self.home.read(self.name, np.asarray(shapes))
        except DamageError as error:
            raise DamageError(
                error.what, where=error.where, fix=f"delete {error.where}: {RECOMPUTE}"
            ) from error

    def require_fresh(self, shapes: NDArray[np.int64]) -> None:
        """Raise StoreError unless all these shapes have features made from their current images."""
        shards = set(np.unique(np.asarray(shapes) // self.store.schema.shard).tolist())
        unrendered = sorted(shards - set(self.store.committed(RENDER)))
        if unrendered:
            raise _not_rendered(unrendered[0], self.store.path)
        reasons = {
            MISSING: "they have not been computed yet",
            STALE: "their images have been rendered again, or the file is lost",
        }
        for shard, state in self.states(shards).items():  # without shards whose shapes all failed
            if state != FRESH:
                raise StoreError(
                    f"the features of shard {shard} are {state}: {reasons[state]}",
                    where=self.home.storage.where(self._file(shard)),
                    fix=RECOMPUTE,
                )

    def _file(self, shard: int) -> str:
        return shard_key(self.store.specs[self.name], self.name, shard)


@contextmanager
def _elsewhere(store: ViewStore) -> Iterator[None]:
    """Add to a read-only store's error how to keep its features elsewhere."""
    try:
        yield
    except StoreError as error:
        if store.derived is not store or isinstance(error, DamageError):
            raise
        fix = (
            f"{error.fix}; or, for a read-only store, keep the features elsewhere with --features "
            "DIR"
        )
        raise StoreError(error.what, where=error.where, fix=fix) from error


def _not_rendered(shard: int, path: str) -> StoreError:
    return StoreError(
        f"shard {shard} has no rendered images",
        where=path,
        fix="run `pointcmt render` again to finish the store",
    )


def open_features(store: ViewStore, key: str) -> Features | None:
    """Return the features of a key, None if missing. Raises DamageError for damaged metadata."""
    storage, name = store.derived.storage, f"{FEATURES}/{key}/{ROOT}"
    data = storage.read(name)
    if data is None:
        return None
    try:
        table = json.loads(data)
        width, facts = int(table["shape"][2]), own_attributes(table["attributes"])
        fitting = [
            chunk
            for chunk in CHUNKS
            for shapes in {generation.shapes for generation in store.generations}
            if as_prescribed(data, _metadata(store, _spec(store, width, facts, chunk), shapes))
        ]
    except (ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError):
        fitting = []
    if not fitting:
        raise DamageError(
            "the metadata of these features is damaged",
            where=storage.where(name),
            fix=f"delete this file: {RECOMPUTE}",
        )
    return Features(store, key, width, facts, fitting[0])


def create_features(
    store: ViewStore, key: str, width: int, facts: dict[str, Any], chunk: Chunk = "shape"
) -> Features:
    """Create the features of a key, or open them if they exist with the same facts.

    facts: how they are made, JSON-able; the version of pointcmt is added and may differ. Safe when
    many processes start at once. Raises StoreError with the differences if the existing features
    were made differently.
    """
    spec = _spec(store, width, {**facts, "pointcmt": __version__}, chunk)
    storage, name = store.derived.storage, f"{FEATURES}/{key}/{ROOT}"
    with _elsewhere(store):
        storage.write_new(f"{FEATURES}/{ROOT}", GROUP)
        found = storage.write_new(name, spec_metadata(store.schema, spec))
    features = open_features(store, key)
    if features is None:
        what = "a file was deleted while it was being written"
        raise StoreError(what, where=storage.where(FEATURES))
    present = spec_metadata(store.schema, store.specs[features.name])
    if not as_prescribed(found, present):  # the store has grown since
        with _elsewhere(store):
            storage.write(name, present)
    stored = {name: value for name, value in features.facts.items() if name != "pointcmt"}
    different = differing({"width": features.width, **stored}, {"width": width, **facts})
    if different:
        lines = [f"{name}: {a} in the store, {b} requested" for name, (a, b) in different.items()]
        raise StoreError(
            "these features were computed with different settings:\n  " + "\n  ".join(lines),
            where=storage.where(f"{FEATURES}/{key}"),
            fix=f"delete {FEATURES}/{key} and {COMMITS}/{FEATURES}-{key} here: {RECOMPUTE}",
        )
    return features


def list_features(store: ViewStore) -> list[str]:
    """Return the keys of all features that have metadata or commits in a store, sorted."""
    storage, expected = store.derived.storage, store.schema.shards
    found = {key.split("/")[1] for key in storage.list_keys(f"{FEATURES}/", expected)} - {ROOT}
    stages = {key.split("/")[1] for key in storage.list_keys(f"{COMMITS}/{FEATURES}-", expected)}
    return sorted(found | {stage.removeprefix(f"{FEATURES}-") for stage in stages})


def features_size(store: ViewStore, arrays: Iterable[str]) -> int | None:
    """Return the size in bytes of those arrays that are features; None on object storage."""
    sizes = [store.derived.storage.size(name) for name in arrays if is_derived(name)]
    return None if None in sizes else sum(size or 0 for size in sizes)


def view_counts(store: ViewStore, shapes: Sequence[int]) -> NDArray[np.int64]:
    """Return how many views of their rows these shapes use, [n]: objects all of them."""
    if store.schema.kind == OBJECTS:
        return np.full(len(shapes), store.schema.views, np.int64)
    return store.read("view_count", np.asarray(shapes, np.int64)).astype(np.int64)


def forget_shard(store: ViewStore, key: str, shard: int) -> None:
    """Delete a shard's features; the next use computes them again."""
    storage, spec = store.derived.storage, _spec(store, 0, {}, "shape")
    storage.delete([marker_key(f"{FEATURES}-{key}", shard)])
    storage.delete([shard_key(spec, f"{FEATURES}/{key}", shard)])


def _metadata(store: ViewStore, spec: ArraySpec, shapes: int) -> bytes:
    """Return the metadata that features got when the store had so many shapes."""
    return spec_metadata(replace(store.schema, shapes=shapes), spec)


def _spec(store: ViewStore, width: int, facts: dict[str, Any], chunk: Chunk) -> ArraySpec:
    attributes = tuple(with_checksum(facts).items())
    shape = (store.schema.views, width)
    return ArraySpec("float16", ("view", "feature"), shape, chunk=chunk, attributes=attributes)
