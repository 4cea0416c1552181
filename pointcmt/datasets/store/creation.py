"""Create a view store, whichever process comes first; let it grow; mend its root; delete it.

A store grows at its end: shapes that its source has gained follow those that it has. What is there
stays: the order of the shapes, the indices of their classes, every full shard. Only a last shard
that is not full is written again, with the shapes that it has and new ones.
"""

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from pointcmt.datasets.store.claims import Claims
from pointcmt.datasets.store.documents import (
    decode_marker,
)
from pointcmt.datasets.store.file_checks import Inventory
from pointcmt.datasets.store.leftovers import Names, names_of
from pointcmt.datasets.store.metadata import (
    array_metadata,
    is_array_metadata,
)
from pointcmt.datasets.store.root import (
    GROWN_FROM,
    encode_generations,
    generations,
    identity,
    identity_digest,
    is_root_metadata,
    loose_attributes,
    require_root,
    root_attributes,
    root_metadata,
)
from pointcmt.datasets.store.schema import (
    CODECS,
    COMMITS,
    PLAN,
    ROOT,
    Schema,
    ShapeRecord,
    array_specs,
    digest,
    encode_plan,
)
from pointcmt.datasets.store.storage import Storage
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.errors import DamageError, StoreError, brief, differing

FOREIGN_SHOWN = 5  # names in an error
NAMED = 5  # shapes in a message


def create(
    storage: Storage, attributes: dict[str, Any], shapes: Iterable[ShapeRecord]
) -> ViewStore:
    """Create a store, or open it if it exists with the same configuration and has these shapes.

    It may lack some of them: see `grow`. Safe when many processes start at once: the first
    one's root counts, and all other files follow from it. Lost or damaged ones are written again,
    the root too if everything that was rendered agrees with it. Raises StoreError with the
    differences if the location holds another store, or shapes that are not in the list, and if it
    holds files that are not a store's.
    """
    storage.require_writable()
    shapes = list(shapes)
    plan = encode_plan(shapes)
    attributes = {**attributes, "plan_sha256": digest(plan)}
    stored = _claim_root(storage, attributes, plan)
    store = ViewStore(storage, stored)
    if attributes["plan_sha256"] == stored["plan_sha256"]:
        ensure(storage, PLAN, plan)
    if attributes["plan_sha256"] == stored["plan_sha256"] and GROWN_FROM not in stored:
        require_same(store, attributes)
    else:  # a store that has grown has shapes and classes in an order of its own
        require_same(store, for_more_shapes(attributes, stored))
        additions(store.shapes, shapes, store.path)
    for name in array_specs(store.schema):
        ensure_metadata(storage, store.schema, name)
    return store


def grow(
    store: ViewStore, attributes: dict[str, Any], shapes: Iterable[ShapeRecord]
) -> tuple[ViewStore, list[ShapeRecord]]:
    """Add the shapes that a store lacks at its end; returns the store and the added shapes.

    attributes, shapes: as for `create`. The new list of shapes is written before the root
    that counts it, and everything else follows from the root: a kill at any time leaves a store
    that can be read, and the same call finishes it. Of several processes with different shapes one
    is first, and the others add theirs to its. Raises StoreError, with the shapes' names, if the
    store has shapes that are not listed or are listed differently.
    """
    shapes, storage = list(shapes), store.storage
    while True:
        require_same(store, for_more_shapes(attributes, store.attributes))
        new = additions(store.shapes, shapes, store.path)
        if not new:
            return store, []
        plan = encode_plan([*store.shapes, *new])
        grown = _grown(store, attributes, plan, len(new))
        root, version = storage.read_version(ROOT)
        if root is not None and root_attributes(root, storage.where(ROOT)) == store.attributes:
            storage.write(PLAN, plan)
            if storage.replace(ROOT, root_metadata(grown), version):
                break
        store = ViewStore.open(storage)
    store = ViewStore(storage, grown)
    ensure(storage, PLAN, plan)
    for name in array_specs(store.schema):
        ensure_metadata(storage, store.schema, name)
    return store, new


def for_more_shapes(asked: dict[str, Any], stored: dict[str, Any]) -> dict[str, Any]:
    """Return a root's attributes as they would be for the shapes that a store has."""
    schema = {**asked["schema"], "shapes": stored["schema"]["shapes"]}
    same = {key: stored[key] for key in ("class_names", "plan_sha256")}
    return {**asked, **same, "schema": schema}


def additions(
    stored: Iterable[ShapeRecord], asked: Sequence[ShapeRecord], where: str
) -> list[ShapeRecord]:
    """Return the shapes that a store lacks, in the order asked for.

    where: the store. Raises StoreError, with their names, for shapes of the store that are not
    asked for, or that are described differently.
    """
    wanted = {record.id: record for record in asked}
    missing, different = [], []
    for record in stored:
        found = wanted.pop(record.id, None)
        if found is None:
            missing.append(record.id)
        elif found != record:
            changes = differing(vars(record), vars(found))
            what = ", ".join(f"{key}: {a} in the store, {b} now" for key, (a, b) in changes.items())
            different.append(f"{record.id} ({what})")
    problems = []
    if missing:
        problems.append(f"{len(missing)} of its shapes are not there now: {named(missing)}")
    if different:
        problems.append(f"{len(different)} are described differently: {named(different)}")
    if problems:
        more = f"; {len(wanted)} are new: {named(list(wanted))}" if wanted else ""
        raise StoreError(
            f"this store was made of other shapes: {'; '.join(problems)}{more}",
            where=where,
            fix="a store can gain shapes but not lose them: use the dataset, --split and --limit "
            "that it was made with, choose another --out, or use --overwrite",
        )
    return list(wanted.values())


def named(names: Sequence[str]) -> str:
    """Return the first few names, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _grown(store: ViewStore, attributes: dict[str, Any], plan: bytes, count: int) -> dict[str, Any]:
    """Return the attributes of a store's root with `count` more shapes."""
    stored = store.attributes
    known = stored["class_names"]
    return {
        **stored,
        "schema": {**stored["schema"], "shapes": store.schema.shapes + count},
        "class_names": known + [name for name in attributes["class_names"] if name not in known],
        "part_names": _joined_parts(store, attributes.get("part_names", {})),
        "plan_sha256": digest(plan),
        GROWN_FROM: encode_generations(store.generations),
    }


def _joined_parts(store: ViewStore, asked: dict[str, list[str]]) -> dict[str, list[str]]:
    """Return the part names of the store's classes, then of new ones."""
    known: dict[str, list[str]] = store.attributes.get("part_names", {})
    for name in known.keys() & asked.keys():
        if known[name] != asked[name]:
            raise StoreError(
                f"the parts of class '{name}' are {known[name]} in the store and {asked[name]} now",
                where=store.path,
                fix="render the new shapes into a store of their own",
            )
    return {**known, **asked}


def require_same(store: ViewStore, attributes: dict[str, Any]) -> None:
    """Raise StoreError with the differences unless a store has these attributes."""
    different = differences(store.attributes, attributes)
    if different:
        raise StoreError(
            "this store was created with a different configuration:\n  " + "\n  ".join(different),
            where=store.path,
            fix="use the settings it was created with, choose another --out, or use --overwrite",
        )


def differences(stored: dict[str, Any], asked: dict[str, Any]) -> list[str]:
    """Return the differences between two stores' attributes, one per line.

    Versions and paths do not count.
    """
    unsaid = {"schema.codec": CODECS[0]}
    here, there = (unsaid | _flatten(identity(each)) for each in (stored, asked))
    different = differing(here, there)
    return [
        f"{key}: {brief(here)} in the store, {brief(there)} requested"
        for key, (here, there) in different.items()
    ]


def remove(storage: Storage) -> None:
    """Delete a store.

    Raises StoreError, before anything is deleted, if the location holds anything else than one view
    store, and while a process works on it. The commit markers are deleted first and the root last,
    so that what a kill leaves can be deleted again, or rendered again.
    """
    if not is_root(storage.first_read(ROOT)):
        if storage.top_names():
            raise StoreError(
                "this folder is not a view store, or its zarr.json is damaged; nothing was deleted",
                where=storage.path,
                fix="choose another --out, or delete the folder manually",
            )
        return
    names = _names(storage)
    _require_own(storage, storage.inventory(), names)
    Claims(storage).require_idle()
    found = storage.inventory()  # again: a process that was working until now may have written more
    _require_own(storage, found, names)
    storage.delete_in_order(found, first=COMMITS, last=ROOT)


def is_root(data: bytes | None) -> bool:
    """Return whether a `zarr.json` is that of a view store of any version, damaged or not."""
    try:
        attributes = json.loads(data or b"")["attributes"]
        return "schema_version" in attributes and "plan_sha256" in attributes
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def _require_own(storage: Storage, found: Inventory, names: Names) -> None:
    """Raise StoreError if a store's folder holds anything that is not part of the store."""
    foreign = _foreign(found, names)
    if foreign:
        more = f" and {len(foreign) - FOREIGN_SHOWN} more" if len(foreign) > FOREIGN_SHOWN else ""
        raise StoreError(
            "this store's folder contains other files: "
            f"{', '.join(foreign[:FOREIGN_SHOWN])}{more}; nothing was deleted",
            where=storage.path,
            fix="move or delete them manually, or choose another --out",
        )


def _names(storage: Storage) -> Names:
    """Return the names of a store whose root may be damaged, or newer than this version."""
    try:
        return names_of(ViewStore.open(storage))
    except (StoreError, KeyError, TypeError, ValueError):
        return Names.of_any_store()


def _foreign(found: Inventory, names: Names) -> list[str]:
    """Return what is not part of a store; for a foreign folder its name, not its contents."""
    strange = [name for name in found.files if not names.file(name)]
    strange += [f"{name}/" for name in found.folders if not names.folder(name)]
    strange += found.others
    tops = set()
    for name in strange:
        parts = name.rstrip("/").split("/")
        above = ("/".join(parts[:depth]) for depth in range(1, len(parts)))
        top = next((folder for folder in above if not names.folder(folder)), None)
        tops.add(name if top is None else f"{top}/")
    return sorted(tops)


def _claim_root(storage: Storage, attributes: dict[str, Any], plan: bytes) -> dict[str, Any]:
    """Return the attributes of the existing root; ours, if it was missing or damaged.

    A lost or damaged root is written again only if everything else belongs to the same store.
    """
    found = storage.first_read(ROOT)
    root = root_metadata(attributes)
    if found is None:
        names = storage.top_names()  # once, since other processes may be creating the same store
        foreign = sorted(name for name in names if not name.startswith(ROOT))
        if ROOT not in names and foreign and not _is_ours(storage, attributes, plan):
            raise StoreError(
                f"this folder is not empty (it contains {foreign[0]}) and is not a view store",
                where=storage.path,
                fix="choose an empty or new folder for --out",
            )
        found = storage.write_new(ROOT, root)
    try:
        return root_attributes(found, storage.where(ROOT))
    except DamageError:
        if not _is_ours(storage, attributes, plan):
            raise
        storage.write(ROOT, root)
        return attributes


def repair_root(storage: Storage) -> bool:
    """Rewrite a damaged root from what it still says, if all commit markers agree with it.

    The attributes that decide the store's bytes have a digest, which every marker repeats; the
    origin of the data and the versions of libraries are taken as they are. Returns whether anything
    was repaired. Raises StoreError if there is no store, DamageError if no marker agrees.
    """
    where = storage.where(ROOT)
    data = storage.first_read(ROOT)
    if data is None:
        return False
    try:
        body = root_attributes(data, where)
    except DamageError as damage:
        try:
            body = loose_attributes(data, where)[0]
            require_root(body, where)
        except DamageError:
            raise damage from None
        owners = _owners(storage)
        if not owners or not owners <= {known.store for known in generations(body)}:
            raise
    if is_root_metadata(data, body):
        return False
    storage.write(ROOT, root_metadata(body))
    return True


def _owners(storage: Storage) -> set[str]:
    """Return the identities of the stores that the commit markers here belong to."""
    owners = set()
    for key, data in storage.read_many(storage.list_keys(f"{COMMITS}/")):
        with suppress(DamageError):
            owners.add(str(decode_marker(data or b"", key).get("store")))
    return owners


def _is_ours(storage: Storage, attributes: dict[str, Any], plan: bytes) -> bool:
    """Return whether the files beside a lost or damaged root are of a store of these attributes.

    Commit markers prove it; without any, the list of shapes has to match.
    """
    owners = _owners(storage)
    if owners:
        return owners == {identity_digest(attributes)}
    return storage.read(PLAN) == plan


def ensure_metadata(storage: Storage, schema: Schema, name: str) -> bool:
    """Make an array's `zarr.json` say what is prescribed; returns whether it had to be rewritten.

    Additions of other tools are kept, and what an earlier version wrote.
    """
    key, prescribed = f"{name}/{ROOT}", array_metadata(schema, name)
    found = storage.write_new(key, prescribed)
    if found is prescribed or is_array_metadata(found, schema, name):
        return False
    storage.write(key, prescribed)
    return True


def ensure(storage: Storage, key: str, value: bytes) -> None:
    """Make a file hold what the root prescribes: written if missing, rewritten if damaged."""
    if storage.write_new(key, value) != value:
        storage.write(key, value)


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested tables as one, with keys such as "render.rig.name"."""
    if not isinstance(value, dict):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, part in value.items():
        flat |= _flatten(part, f"{prefix}.{key}" if prefix else key)
    return flat
