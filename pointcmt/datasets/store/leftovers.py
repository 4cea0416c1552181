"""The files of a store, sorted out: its own, leftovers, and files of others.

`--overwrite` and `verify --repair` delete only files whose names pointcmt itself writes. A file
that merely lies in one of the folders of a store (`rgb/notes.txt`, `claims/.DS_Store`) belongs to
somebody else.
"""

import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from re import Pattern

from pointcmt.datasets.store.claims import FOLDER as CLAIMS
from pointcmt.datasets.store.claims import claim_key
from pointcmt.datasets.store.features import list_features, open_features
from pointcmt.datasets.store.file_checks import LOCK
from pointcmt.datasets.store.schema import (
    COMMITS,
    CORRESPONDENCES,
    FEATURES,
    OPTIONAL_LAYERS,
    PLAN,
    RENDER,
    ROOT,
    Schema,
    array_specs,
    marker_key,
    shard_key,
)
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.errors import DamageError

FEATURES_KEY = "[0-9a-f]{16}"
NUMBER = "(?:0|[1-9][0-9]*)"  # of a chunk along one axis
SHARD = "[0-9]{6,}\\.json"  # the name of a commit marker or a claim


class Names:
    """The names that files and folders of one store can have, relative to the store.

    arrays: the names of its arrays. features: keys of features known to be the store's, in addition
    to keys that look like a hash.
    """

    def __init__(self, arrays: Iterable[str], features: Iterable[str] = ()) -> None:
        keys = "|".join([FEATURES_KEY, *map(re.escape, features)])
        self._array = "|".join([*map(re.escape, arrays), f"{FEATURES}/(?:{keys})"])
        self._commits = f"{COMMITS}/(?:{RENDER}|{CORRESPONDENCES}|{FEATURES}-(?:{keys}))"

    @classmethod
    def of_any_store(cls) -> "Names":
        """Return the names of every array that any store may have, for an unreadable root."""
        largest = Schema(1, 1, 1, 1, 1, 1.0, OPTIONAL_LAYERS, parts=True)
        return cls(array_specs(largest))

    def file(self, name: str) -> bool:
        """Return whether a file of this name belongs to the store, finished or half-written."""
        return self._files.fullmatch(name.removesuffix(LOCK)) is not None

    def folder(self, name: str) -> bool:
        """Return whether a folder of this name belongs to the store."""
        return self._folders.fullmatch(name) is not None

    @cached_property
    def _files(self) -> Pattern[str]:
        roots = "|".join(map(re.escape, (ROOT, PLAN, f"{FEATURES}/{ROOT}")))
        arrays = f"(?:{self._array})/(?:{re.escape(ROOT)}|c(?:/{NUMBER})+)"
        return re.compile(f"{roots}|{arrays}|(?:{CLAIMS}|{self._commits})/{SHARD}")

    @cached_property
    def _folders(self) -> Pattern[str]:
        arrays = f"(?:{self._array})(?:/c(?:/{NUMBER})*)?"
        return re.compile(f"{arrays}|{FEATURES}|{CLAIMS}|{COMMITS}|{self._commits}")


@dataclass
class Survey:
    """All keys of a store, sorted out.

    names: the names that are the store's. begun: by shard, the arrays that have a file of it,
    whether the shard is committed or not. orphans: keys named like the store's own that no shard
    and no features of it can have. foreign: keys of others.
    """

    names: Names
    begun: dict[int, set[str]] = field(default_factory=dict)
    orphans: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)


def names_of(store: ViewStore) -> Names:
    """Return the names that files of an open store can have. Raises StoreError."""
    return Names(array_specs(store.schema), _features(store))


def survey(store: ViewStore) -> Survey:
    """Sort out a store by the names of all its files. Raises StoreError."""
    features = _features(store)
    specs, shards = array_specs(store.schema), range(store.schema.shards)
    found = Survey(Names(specs, features))
    chunks = {
        shard_key(spec, name, shard): (name, shard)
        for name, spec in specs.items()
        for shard in shards
    }
    own = {ROOT, PLAN, f"{FEATURES}/{ROOT}", *(f"{name}/{ROOT}" for name in specs)}
    own |= {marker_key(stage, shard) for stage in (RENDER, CORRESPONDENCES) for shard in shards}
    own |= {claim_key(shard) for shard in shards}  # of running jobs, which sweep void claims
    for key in (key for key, intact in features.items() if intact):
        stage, spec = f"{FEATURES}-{key}", store.specs[f"{FEATURES}/{key}"]
        own |= {f"{FEATURES}/{key}/{ROOT}", *(marker_key(stage, shard) for shard in shards)}
        own |= {shard_key(spec, f"{FEATURES}/{key}", shard) for shard in shards}
    for key in store.storage.list_keys():
        if key in chunks:
            name, shard = chunks[key]
            found.begun.setdefault(shard, set()).add(name)
        elif key not in own:
            (found.orphans if found.names.file(key) else found.foreign).append(key)
    return found


def _features(store: ViewStore) -> dict[str, bool]:
    """Return the keys of features that are certainly ours, and whether their metadata is intact."""
    markers = store.storage.list_keys(f"{COMMITS}/{FEATURES}-")
    committed = {key.split("/")[1] for key in markers}
    found = {}
    for key in list_features(store):
        intact = False
        with suppress(DamageError):
            intact = open_features(store, key) is not None
        if intact or re.fullmatch(FEATURES_KEY, key) or f"{FEATURES}-{key}" in committed:
            found[key] = intact
    return found
