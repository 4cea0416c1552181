"""Derived features of every view, in the store they were computed from: `features/<key>/`.

An image network's features cost minutes to hours of computing and a thousandth of the images' disk
space, so they are kept, a shard at a time: computed features count once their commit marker
`commits/features-<key>/<shard>.json` is there. It names the images they were made from by their
SHA-256, which is that of the very bytes that were read. Where a shard is rendered again with other
images, its features are stale: they are pending again, and reading them is refused.

A store that must not be written to keeps them elsewhere: see `ViewStore.open`.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pointcmt import __version__
from pointcmt.datasets.store import schema as contract
from pointcmt.datasets.store import storage as files
from pointcmt.datasets.store.documents import own_attributes
from pointcmt.datasets.store.schema import ArraySpec
from pointcmt.datasets.store.view_store import RENDER, ROOT, ViewStore, marker_key
from pointcmt.errors import DamageError, StoreError

FOLDER = "features"
GROUP = contract.encode_json({"zarr_format": 3, "node_type": "group", "attributes": {}})
Chunk = Literal["shape", "view"]
CHUNKS: tuple[Chunk, ...] = ("shape", "view")
MISSING, STALE, FRESH = "missing", "stale", "fresh"  # a shard's features
RECOMPUTE = "any command that needs the features of this teacher computes them again"


@dataclass(frozen=True)
class Images:
    """The rendered images of a shard as they are now. done: [s] bool, which shapes have some."""

    shard: int
    done: NDArray[np.bool_]
    sha256: str  # of the shard's `rgb` file


class Features:
    """Features [O, V, D] f16 of one teacher, open for reading and, shard by shard, for writing.

    width: D. facts: what made them, JSON-able; they are the array's attributes. chunk: what is read
    at once, all views of a shape, or a view where D is large.
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
        self.home = store.derived  # where they lie: the store itself, or another place
        self.name, self.stage = f"{FOLDER}/{key}", f"{FOLDER}-{key}"
        spec = _spec(store, width, facts, chunk)
        store.specs[self.name] = self.home.specs[self.name] = spec

    def images(self, shard: int) -> Images:
        """A shard's images, to be asked for before they are read.

        Raises StoreError where the shard is not rendered.
        """
        if shard not in self.store.committed(RENDER):
            raise _not_rendered(shard, self.store.path)
        return self.images_of(shard, self.store.markers(RENDER, [shard])[shard])

    def images_of(self, shard: int, marker: dict[str, Any]) -> Images:
        """`images` of a shard whose commit marker is at hand."""
        done = np.array([outcome["status"] == "done" for outcome in marker["outcomes"]], bool)
        key = contract.shard_key(self.store.specs["rgb"], "rgb", shard)
        return Images(shard, done, marker["files"][key])

    def read_images(self, shard: int) -> tuple[Images, NDArray[np.uint8]]:
        """A shard's images as they are now, and their pixels [s, V, H, W, 3].

        Raises StoreError where the shard is not rendered, DamageError where its file is lost or is
        not the one that was committed.
        """
        try:
            marker = self.store.markers(RENDER, [shard])[shard]
        except DamageError:
            if shard in self.store.committed(RENDER):
                raise
            raise _not_rendered(shard, self.store.path) from None
        return self.images_of(shard, marker), self.store.read_committed("rgb", shard, marker)

    def states(self, shards: Iterable[int] | None = None) -> dict[int, str]:
        """MISSING, STALE or FRESH by shard: of all shards that have rendered shapes, or of these.

        Stale: made from other images than the shard has now, or their file is gone.
        """
        rendered = set(self.store.committed(RENDER))
        wanted = sorted(rendered if shards is None else rendered & set(shards))
        present = set(files.list_keys(self.home.kv, f"{self.name}/c/", self.store.schema.shards))
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
        """The shards whose rendered shapes lack features made from the images they have now."""
        return [shard for shard, state in self.states().items() if state != FRESH]

    def write(self, images: Images, features: NDArray[np.floating[Any]]) -> None:
        """Write and commit a shard's features [s, V, D]; those of failed shapes are set to 0.

        images: of the shard, as they were before they were read: if they change meanwhile, what is
        written here is stale from the beginning. Raises StoreError for features that are not
        finite in 16 bits, or where the disk refuses.
        """
        with np.errstate(over="ignore"):
            array = np.asarray(features).astype(np.float16)
        array[~images.done] = 0
        if not np.all(np.isfinite(array)):
            raise StoreError(
                f"features of shard {images.shard} are not finite in 16 bits",
                where=f"{self.home.path}/{self.name}",
                fix="take other weights for the image network, or, of mvnet, images.cache=false, "
                "which keeps no features; train a teacher of your own anew, with a lower learning "
                "rate or from pretrained weights",
            )
        with _elsewhere(self.store):
            written = self.home.write_shard(images.shard, {self.name: array})
            marker = {"files": written, "made_from": images.sha256}
            self.home.commit(self.stage, images.shard, marker)

    def read(self, shapes: NDArray[np.int64]) -> NDArray[np.float16]:
        """The features [n, V, D] of shapes [n], indices of axis 0; those of failed shapes are 0.

        Raises StoreError where they are missing, stale or damaged.
        """
        self.require_fresh(shapes)
        shapes = np.asarray(shapes, np.int64)
        made = np.isin(shapes // self.store.schema.shard, self.home.committed(self.stage))
        features = np.zeros((len(shapes), self.store.schema.views, self.width), np.float16)
        if np.any(made):  # shards where every shape failed have none
            features[made] = self.read_fresh(shapes[made])
        return features

    def read_fresh(self, shapes: NDArray[np.int64]) -> NDArray[np.float16]:
        """`read` without a look at the markers, for who has called `require_fresh` before."""
        try:
            return self.home.read(self.name, np.asarray(shapes))
        except DamageError as error:
            raise DamageError(
                error.what, where=error.where, fix=f"delete {error.where}: {RECOMPUTE}"
            ) from error

    def require_fresh(self, shapes: NDArray[np.int64]) -> None:
        """Raise StoreError unless the features of all these shapes are there, of today's images."""
        shards = set(np.unique(np.asarray(shapes) // self.store.schema.shard).tolist())
        unrendered = sorted(shards - set(self.store.committed(RENDER)))
        if unrendered:
            raise _not_rendered(unrendered[0], self.store.path)
        reasons = {
            MISSING: "they have not been computed yet",
            STALE: "its images were rendered again since, or the file is gone",
        }
        for shard, state in self.states(shards).items():  # none of a shard where nothing is done
            if state != FRESH:
                raise StoreError(
                    f"the features of shard {shard} are {state}: {reasons[state]}",
                    where=f"{self.home.path}/{self._file(shard)}",
                    fix=RECOMPUTE,
                )

    def _file(self, shard: int) -> str:
        return contract.shard_key(self.store.specs[self.name], self.name, shard)


@contextmanager
def _elsewhere(store: ViewStore) -> Iterator[None]:
    """Say of a store that cannot be written how to keep its features elsewhere."""
    try:
        yield
    except StoreError as error:
        if store.derived is not store or isinstance(error, DamageError):
            raise
        fix = f"{error.fix}; or keep the features of a read-only store elsewhere: --features DIR"
        raise StoreError(error.what, where=error.where, fix=fix) from error


def _not_rendered(shard: int, path: str) -> StoreError:
    return StoreError(
        f"shard {shard} has no rendered images",
        where=path,
        fix="run `pointcmt render` again to finish the store",
    )


def open_features(store: ViewStore, key: str) -> Features | None:
    """The features of a key, None where the store has none. Raises DamageError for damaged ones."""
    where = f"{FOLDER}/{key}/{ROOT}"
    data = files.read(store.derived.kv, where)
    if data is None:
        return None
    try:
        table = json.loads(data)
        width, facts = int(table["shape"][2]), own_attributes(table["attributes"])
        forms: dict[Chunk, bytes] = {
            chunk: contract.spec_metadata(store.schema, _spec(store, width, facts, chunk))
            for chunk in CHUNKS
        }
        fitting = [chunk for chunk in CHUNKS if contract.as_prescribed(data, forms[chunk])]
    except (ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError):
        fitting = []
    if not fitting:
        raise DamageError(
            "the metadata of these features is damaged",
            where=f"{store.derived.path}/{where}",
            fix=f"delete this file: {RECOMPUTE}",
        )
    return Features(store, key, width, facts, fitting[0])


def create_features(
    store: ViewStore, key: str, width: int, facts: dict[str, Any], chunk: Chunk = "shape"
) -> Features:
    """Create the features of a key, or open them where they exist with the same facts.

    facts: what makes them, JSON-able; the version of pointcmt is added and may differ. Safe when
    many processes start at once. Raises StoreError with the differences where others are there.
    """
    spec = _spec(store, width, {**facts, "pointcmt": __version__}, chunk)
    kv, metadata = store.derived.kv, contract.spec_metadata(store.schema, spec)
    with _elsewhere(store):
        files.write_new(kv, f"{FOLDER}/{ROOT}", GROUP)
        files.write_new(kv, f"{FOLDER}/{key}/{ROOT}", metadata)
    features = open_features(store, key)
    if features is None:
        raise StoreError(
            "a file vanished while it was written", where=f"{store.derived.path}/{FOLDER}"
        )
    stored = {name: value for name, value in features.facts.items() if name != "pointcmt"}
    left, right = {"width": features.width, **stored}, {"width": width, **facts}
    different = [
        f"{name}: {left.get(name)} in the store, {right.get(name)} asked for"
        for name in [*left, *(name for name in right if name not in left)]
        if left.get(name) != right.get(name)
    ]
    if different:
        raise StoreError(
            "these features were made by something else:\n  " + "\n  ".join(different),
            where=f"{store.derived.path}/{FOLDER}/{key}",
            fix=f"delete {FOLDER}/{key} and commits/{FOLDER}-{key} of this store: {RECOMPUTE}",
        )
    return features


def list_features(store: ViewStore) -> list[str]:
    """The keys of all features that a store has metadata or commits of, sorted."""
    kv, many = store.derived.kv, store.schema.shards
    found = {key.split("/")[1] for key in files.list_keys(kv, f"{FOLDER}/", many)} - {ROOT}
    stages = {key.split("/")[1] for key in files.list_keys(kv, f"commits/{FOLDER}-", many)}
    return sorted(found | {stage.removeprefix(f"{FOLDER}-") for stage in stages})


def features_size(store: ViewStore, arrays: Iterable[str]) -> int | None:
    """Bytes of those of these arrays that are features; None on object storage."""
    sizes = [files.size(store.derived.kv, name) for name in arrays if name.startswith(f"{FOLDER}/")]
    return None if None in sizes else sum(size or 0 for size in sizes)


def forget_shard(store: ViewStore, key: str, shard: int) -> None:
    """Delete a shard's features: the next use computes them again."""
    stage = f"{FOLDER}-{key}"
    files.delete(store.derived.kv, [marker_key(stage, shard)])
    files.delete(
        store.derived.kv,
        [contract.shard_key(_spec(store, 0, {}, "shape"), f"{FOLDER}/{key}", shard)],
    )


def _spec(store: ViewStore, width: int, facts: dict[str, Any], chunk: Chunk) -> ArraySpec:
    attributes = tuple(contract.with_checksum(facts).items())
    shape = (store.schema.views, width)
    return ArraySpec("float16", ("view", "feature"), shape, chunk=chunk, attributes=attributes)
