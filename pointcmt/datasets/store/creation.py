"""View stores: created by whoever comes first, made whole again where they can be, removed."""

import json
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import tensorstore as ts

from pointcmt.datasets.store import schema as contract
from pointcmt.datasets.store import storage as files
from pointcmt.datasets.store.claims import open_claims, require_idle
from pointcmt.datasets.store.documents import (
    decode_marker,
    identity,
    identity_digest,
    loose_attributes,
    require_root,
    root_attributes,
)
from pointcmt.datasets.store.leftovers import names_of
from pointcmt.datasets.store.locations import tidy
from pointcmt.datasets.store.names import Names
from pointcmt.datasets.store.schema import ShapeRecord
from pointcmt.datasets.store.view_store import PLAN, ROOT, ViewStore
from pointcmt.errors import DamageError, StoreError

FOREIGN_SHOWN = 5  # names in an error


def create(
    path: str, attributes: dict[str, Any], shapes: Iterable[ShapeRecord], threads: int = 4
) -> ViewStore:
    """Create a store, or open it where it exists with the same plan and configuration.

    Safe when many processes start at once: the first one's root counts, and all other files
    follow from it. Those that are lost or damaged are written again, the root too if all that was
    rendered agrees with it. Raises StoreError with the differences where the store holds something
    else, and where others' files are.
    """
    path = tidy(path)
    plan = contract.encode_plan(shapes)
    attributes = {**attributes, "plan_sha256": contract.digest(plan)}
    stored = _claim_root(path, attributes, plan, threads)
    different = differences(stored, attributes)
    if different:
        raise StoreError(
            "this store was made with another configuration:\n  " + "\n  ".join(different),
            where=path,
            fix="repeat the settings it was made with, choose another --out, or use --overwrite",
        )
    store = ViewStore(path, stored, threads)
    _ensure(store.kv, PLAN, plan)
    for name in contract.array_specs(store.schema):
        ensure_metadata(store.kv, name, contract.array_metadata(store.schema, name))
    return store


def remove(path: str) -> None:
    """Delete a store. Raises StoreError, before anything is deleted, for a place that holds
    anything but one view store, and while some process works on it.

    What says that shards are finished goes first and what says that this is a store goes last, so
    that whatever a kill leaves behind can be deleted again, or rendered again.
    """
    path = tidy(path)
    kv = files.open_kv(path)
    if not is_root(files.first_read(path, ROOT)):
        if files.top_names(kv):
            raise StoreError(
                "this folder is not a view store, or its root is damaged: it is not deleted",
                where=path,
                fix="choose another --out, or delete the folder yourself",
            )
        return
    names = _names(path)
    _require_own(path, files.inventory(kv), names)
    require_idle(open_claims(path))
    found = files.inventory(kv)  # again: whoever was at work until now may have written more
    _require_own(path, found, names)
    files.delete_in_order(kv, found, first="commits", last=ROOT)


def is_root(data: bytes | None) -> bool:
    """Whether a `zarr.json` says that it is a view store's, intact or not, of whatever version."""
    try:
        attributes = json.loads(data or b"")["attributes"]
        return "schema_version" in attributes and "plan_sha256" in attributes
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def _require_own(path: str, found: files.Inventory, names: Names) -> None:
    """Raise StoreError where a store's folder holds anything that is not the store's."""
    foreign = _foreign(found, names)
    if foreign:
        more = f" and {len(foreign) - FOREIGN_SHOWN} more" if len(foreign) > FOREIGN_SHOWN else ""
        raise StoreError(
            f"this store's folder holds other things as well: {', '.join(foreign[:FOREIGN_SHOWN])}"
            f"{more}; nothing is deleted",
            where=path,
            fix="move them elsewhere or delete them yourself, or choose another --out",
        )


def _names(path: str) -> Names:
    """Which names are those of the store at `path`, whose root may be damaged or newer than us."""
    try:
        return names_of(ViewStore.open(path))
    except (StoreError, KeyError, TypeError, ValueError):
        return Names.of_any_store()


def _foreign(found: files.Inventory, names: Names) -> list[str]:
    """What is not a store's, the topmost foreign folder instead of everything in it."""
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


def differences(stored: dict[str, Any], asked: dict[str, Any]) -> list[str]:
    """What distinguishes two stores' attributes, a line each; versions and paths do not count."""
    left, right = _flatten(identity(stored)), _flatten(identity(asked))
    return [
        f"{key}: {_brief(left.get(key))} in the store, {_brief(right.get(key))} asked for"
        for key in [*left, *(key for key in right if key not in left)]
        if left.get(key) != right.get(key)
    ]


def _claim_root(path: str, attributes: dict[str, Any], plan: bytes, threads: int) -> dict[str, Any]:
    """The attributes of the root that is there; ours, where there was none or a broken one.

    A root that was lost or damaged is made again only where all else is of the same store.
    """
    found = files.first_read(path, ROOT, threads)
    kv = files.open_kv(path, threads)
    root = contract.group_metadata(attributes)
    if found is None:
        names = files.top_names(kv)  # once, since others may be creating the same store just now
        foreign = sorted(name for name in names if not name.startswith(ROOT))
        if ROOT not in names and foreign and not _is_ours(kv, attributes, plan):
            raise StoreError(
                f"this folder holds other things (such as {foreign[0]}) and no view store",
                where=path,
                fix="choose an empty or a new folder for --out",
            )
        found = files.write_new(kv, ROOT, root)
    try:
        return root_attributes(found, f"{path}/{ROOT}")
    except DamageError:
        if not _is_ours(kv, attributes, plan):
            raise
        files.write(kv, ROOT, root)
        return attributes


def mend_root(path: str) -> bool:
    """Write a damaged root again from what it still says, if all commit markers agree with it.

    What decides the store's bytes has a digest, which every marker repeats; where data came from
    and the versions of libraries are taken as they are. Returns whether anything was mended. Raises
    StoreError where there is no store, DamageError where nothing agrees.
    """
    path, where = tidy(path), f"{tidy(path)}/{ROOT}"
    data = files.first_read(path, ROOT)
    if data is None:
        return False
    kv = files.open_kv(path)
    try:
        body = root_attributes(data, where)
    except DamageError as damage:
        try:
            body = loose_attributes(data, where)[0]
            require_root(body, where)
        except DamageError:
            raise damage from None
        if _owners(kv) != {identity_digest(body)}:
            raise
    root = contract.group_metadata(body)
    if contract.as_prescribed(data, root):
        return False
    files.write(kv, ROOT, root)
    return True


def _owners(kv: ts.KvStore) -> set[str]:
    """The stores, by their identity, that the commit markers here belong to."""
    owners = set()
    for key, data in files.read_many(kv, files.list_keys(kv, "commits/")):
        with suppress(DamageError):
            owners.add(str(decode_marker(data or b"", key).get("store")))
    return owners


def _is_ours(kv: ts.KvStore, attributes: dict[str, Any], plan: bytes) -> bool:
    """Whether what lies beside a lost or damaged root belongs to a store of these attributes.

    Commit markers tell; without any, the list of shapes has to do.
    """
    owners = _owners(kv)
    if owners:
        return owners == {identity_digest(attributes)}
    return files.read(kv, PLAN) == plan


def ensure_metadata(kv: ts.KvStore, name: str, prescribed: bytes) -> bool:
    """Have an array's `zarr.json` say what is prescribed; whether it had to be written again.

    What other tools have added is left alone.
    """
    key = f"{name}/{ROOT}"
    found = files.write_new(kv, key, prescribed)
    if found is prescribed or contract.as_prescribed(found, prescribed):
        return False
    files.write(kv, key, prescribed)
    return True


def _ensure(kv: ts.KvStore, key: str, value: bytes) -> None:
    """Have a file hold what the root prescribes: written if it is missing, mended if damaged."""
    if files.write_new(kv, key, value) != value:
        files.write(kv, key, value)


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, part in value.items():
        flat |= _flatten(part, f"{prefix}.{key}" if prefix else key)
    return flat


def _brief(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:45]}… ({len(text)} characters)"
