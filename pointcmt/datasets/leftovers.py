"""Which files of a store belong to what: shards, features, nothing any more, or somebody else."""

import re
from contextlib import suppress
from dataclasses import dataclass, field

from pointcmt.datasets import kv as files
from pointcmt.datasets import schema as contract
from pointcmt.datasets.claims import FOLDER as CLAIMS
from pointcmt.datasets.claims import claim_key
from pointcmt.datasets.features import FOLDER, list_features, open_features
from pointcmt.datasets.store import CORRESPONDENCES, PLAN, RENDER, ROOT, ViewStore, marker_key
from pointcmt.errors import DamageError

FEATURES_KEY = re.compile("[0-9a-f]{16}")


@dataclass
class Survey:
    """All keys of a store, sorted out.

    begun: by shard, the arrays that have a file of it, whether it is committed or not. orphans:
    keys in places of ours that no shard and no features can have. foreign: keys of others.
    """

    begun: dict[int, set[str]] = field(default_factory=dict)
    orphans: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)


def survey(store: ViewStore) -> Survey:
    """Look at the names of all files of a store. Raises StoreError."""
    found = Survey()
    specs, shards = contract.array_specs(store.schema), range(store.schema.shards)
    chunks = {
        contract.shard_key(spec, name, shard): (name, shard)
        for name, spec in specs.items()
        for shard in shards
    }
    own = {ROOT, PLAN, f"{FOLDER}/{ROOT}", *(f"{name}/{ROOT}" for name in specs)}
    own |= {marker_key(stage, shard) for stage in (RENDER, CORRESPONDENCES) for shard in shards}
    own |= {claim_key(shard) for shard in shards}  # of jobs that run now; they sweep what is void
    ours = [f"{CLAIMS}/", *(f"{name}/c/" for name in specs)]
    ours += [f"commits/{stage}/" for stage in (RENDER, CORRESPONDENCES)]
    for key, intact in _features(store).items():
        ours += [f"{FOLDER}/{key}/" + ("c/" if intact else ""), f"commits/{FOLDER}-{key}/"]
        if intact:
            stage, spec = f"{FOLDER}-{key}", store.specs[f"{FOLDER}/{key}"]
            own |= {f"{FOLDER}/{key}/{ROOT}", *(marker_key(stage, shard) for shard in shards)}
            own |= {contract.shard_key(spec, f"{FOLDER}/{key}", shard) for shard in shards}
    for key in files.list_keys(store.kv):
        if key in chunks:
            name, shard = chunks[key]
            found.begun.setdefault(shard, set()).add(name)
        elif key not in own:
            (found.orphans if key.startswith(tuple(ours)) else found.foreign).append(key)
    return found


def _features(store: ViewStore) -> dict[str, bool]:
    """The keys of features that are ours without a doubt, and whether their metadata is intact."""
    committed = {key.split("/")[1] for key in files.list_keys(store.kv, f"commits/{FOLDER}-")}
    found = {}
    for key in list_features(store):
        intact = False
        with suppress(DamageError):
            intact = open_features(store, key) is not None
        if intact or FEATURES_KEY.fullmatch(key) or f"{FOLDER}-{key}" in committed:
            found[key] = intact
    return found
