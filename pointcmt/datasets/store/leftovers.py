"""Which files of a store belong to what: shards, features, nothing any more, or somebody else."""

import re
from contextlib import suppress
from dataclasses import dataclass, field

from pointcmt.datasets.store import schema as contract
from pointcmt.datasets.store import storage as files
from pointcmt.datasets.store.claims import claim_key
from pointcmt.datasets.store.features import FOLDER, list_features, open_features
from pointcmt.datasets.store.names import FEATURES_KEY, Names
from pointcmt.datasets.store.view_store import (
    CORRESPONDENCES,
    PLAN,
    RENDER,
    ROOT,
    ViewStore,
    marker_key,
)
from pointcmt.errors import DamageError


@dataclass
class Survey:
    """All keys of a store, sorted out.

    names: which names are the store's. begun: by shard, the arrays that have a file of it, whether
    it is committed or not. orphans: keys named like the store's own that no shard and no features
    of it can have. foreign: keys of others.
    """

    names: Names
    begun: dict[int, set[str]] = field(default_factory=dict)
    orphans: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)


def names_of(store: ViewStore) -> Names:
    """The names that files of an open store can have. Raises StoreError."""
    return Names(contract.array_specs(store.schema), _features(store))


def survey(store: ViewStore) -> Survey:
    """Look at the names of all files of a store. Raises StoreError."""
    features = _features(store)
    specs, shards = contract.array_specs(store.schema), range(store.schema.shards)
    found = Survey(Names(specs, features))
    chunks = {
        contract.shard_key(spec, name, shard): (name, shard)
        for name, spec in specs.items()
        for shard in shards
    }
    own = {ROOT, PLAN, f"{FOLDER}/{ROOT}", *(f"{name}/{ROOT}" for name in specs)}
    own |= {marker_key(stage, shard) for stage in (RENDER, CORRESPONDENCES) for shard in shards}
    own |= {claim_key(shard) for shard in shards}  # of jobs that run now; they sweep what is void
    for key in (key for key, intact in features.items() if intact):
        stage, spec = f"{FOLDER}-{key}", store.specs[f"{FOLDER}/{key}"]
        own |= {f"{FOLDER}/{key}/{ROOT}", *(marker_key(stage, shard) for shard in shards)}
        own |= {contract.shard_key(spec, f"{FOLDER}/{key}", shard) for shard in shards}
    for key in files.list_keys(store.kv):
        if key in chunks:
            name, shard = chunks[key]
            found.begun.setdefault(shard, set()).add(name)
        elif key not in own:
            (found.orphans if found.names.file(key) else found.foreign).append(key)
    return found


def _features(store: ViewStore) -> dict[str, bool]:
    """The keys of features that are ours without a doubt, and whether their metadata is intact."""
    committed = {key.split("/")[1] for key in files.list_keys(store.kv, f"commits/{FOLDER}-")}
    found = {}
    for key in list_features(store):
        intact = False
        with suppress(DamageError):
            intact = open_features(store, key) is not None
        if intact or re.fullmatch(FEATURES_KEY, key) or f"{FOLDER}-{key}" in committed:
            found[key] = intact
    return found
