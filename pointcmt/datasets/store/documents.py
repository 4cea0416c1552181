"""The JSON documents of a store: its commit markers, and how each shape ended.

All of them may come from a stranger, or have been rewritten by another zarr tool: everything that
is read here is checked against its form, and a mismatch raises a DamageError that says where.
"""

import json
import re
from collections.abc import Set
from dataclasses import dataclass, fields
from typing import Any

from pointcmt.datasets.store.schema import (
    digest,
    encode_line,
)
from pointcmt.datasets.store.storage import REPAIR
from pointcmt.errors import DamageError, Reason

Form = Any  # a type, None, a tuple of alternatives, [form] for a list, {key: form} for a table
MARKER_FORM: dict[str, Form] = {"shard": int, "stage": str, "files": dict, "checksum": str}
OUTCOME_FORM: dict[str, Form] = {
    "id": str,
    "status": str,
    "reason": (str, None),
    "detail": str,
    "sha256": str,
    "faces": int,
    "backend": str,
    "backend_reason": str,
    "seconds": (float, int),
    "notes": [str],
}
REASONS = frozenset(Reason)
UNREADABLE = (ValueError, RecursionError)  # what json.loads raises for bytes that are not JSON
# In a note: quoted names, paths, names of files, and numbers.
_PARTICULAR = re.compile(  # quoted text, paths, names of files, numbers
    r"'[^']*'|\"[^\"]*\"|\S*[/\\]\S*|[\w<>%()-]+(?:\.[\w<>%()-]+)*\.[A-Za-z]\w{1,4}\b|\d[\d.,]*%?"
)


@dataclass(frozen=True)
class Outcome:
    """How one shape ended. seconds: the time it took; everything else repeats exactly."""

    id: str
    status: str  # "done" or "failed"
    reason: Reason | None = None
    detail: str = ""
    sha256: str = ""  # of the source file
    faces: int = 0
    backend: str = ""  # what drew it, and why it was chosen
    backend_reason: str = ""
    seconds: float = 0.0
    notes: tuple[str, ...] = ()


def kind_of_note(note: str) -> str:
    """Return a note without what is particular to one shape: its details, names and numbers.

    >>> kind_of_note("texture of material 'oak': images/oak.png is missing")
    'texture of material …'
    """
    return _PARTICULAR.sub("…", note.split(": ")[0])


def decode_marker(data: bytes, where: str) -> dict[str, Any]:
    """Return a commit marker. Raises DamageError if it has changed or lacks a field."""
    try:
        marker = json.loads(data)
        checksum = marker.pop("checksum")
        body = encode_line(marker)
        marker["checksum"] = checksum
        if digest(body) != checksum or encode_line(marker) != data:
            raise ValueError("checksum")
    except (*UNREADABLE, KeyError, TypeError, AttributeError):
        raise DamageError("a commit marker is damaged", where=where, fix=REPAIR) from None
    require_form(marker, MARKER_FORM, "marker", where, REPAIR)
    return marker


def require_marker(
    marker: dict[str, Any], results: str, keys: Set[str], count: int, where: str
) -> None:
    """Raise DamageError for a marker with a valid checksum and invalid content.

    Only forged stores have one. results: the field that says how shapes ended: "outcomes" of all
    `count` shapes, "failures" of some, or, for features, "made_from". keys: the files that its
    stage writes for the shard.
    """
    shas = marker["files"]
    if shas.keys() != keys or not all(isinstance(sha256, str) for sha256 in shas.values()):
        raise DamageError("a commit marker lists the wrong files", where=where, fix=REPAIR)
    found = marker.get(results)
    if results == "made_from" and isinstance(found, str):
        return
    if not isinstance(found, list) or (results == "outcomes" and len(found) != count):
        raise DamageError(f"a commit marker has no valid {results}", where=where, fix=REPAIR)
    for table in found:
        require_form(table, OUTCOME_FORM, "outcome", where, REPAIR)
        failed = table["status"] == "failed" and table["reason"] in REASONS
        if not failed and (table["status"] != "done" or table["reason"]):
            raise DamageError("a commit marker has an invalid outcome", where=where, fix=REPAIR)


def encode_outcome(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as JSON-able values."""
    return {
        **vars(outcome),
        "seconds": round(outcome.seconds, 6),
        "detail": _encodable(outcome.detail),
        "notes": [_encodable(note) for note in outcome.notes],
    }


def decode_outcome(table: dict[str, Any]) -> Outcome:
    """Return the outcome that `encode_outcome` encoded; fields of later versions are ignored."""
    reason = Reason(table["reason"]) if table["reason"] else None
    known = {field.name: table[field.name] for field in fields(Outcome)}
    return Outcome(**{**known, "reason": reason, "notes": tuple(table["notes"])})


def require_form(value: Any, form: Form, name: str, where: str, fix: str) -> None:
    """Raise DamageError if a value from a JSON document does not have its form."""
    wrong = misfit(value, form, name)
    if wrong:
        raise DamageError(f"a field is missing or invalid: {wrong}", where=where, fix=fix)


def misfit(value: Any, form: Form, name: str) -> str:
    """Return the name of the first field that does not fit, "" if all do; extra keys are fine."""
    if isinstance(form, dict):
        if not isinstance(value, dict):
            return name
        return next(filter(None, (_of_key(value, key, form[key], name) for key in form)), "")
    if isinstance(form, list):
        if not isinstance(value, list):
            return name
        return next(
            filter(None, (misfit(v, form[0], f"{name}[{i}]") for i, v in enumerate(value))), ""
        )
    if isinstance(form, tuple):
        return name if all(misfit(value, each, name) for each in form) else ""
    if form is None:
        return "" if value is None else name
    if isinstance(value, bool) and form is not bool:
        return name
    return "" if isinstance(value, form) else name


def _of_key(table: dict[str, Any], key: str, form: Form, name: str) -> str:
    return misfit(table[key], form, f"{name}.{key}") if key in table else f"{name}.{key}"


def _encodable(text: str) -> str:
    """Return text that UTF-8 can encode: text from files may contain lone surrogates."""
    return text.encode("utf-8", "replace").decode()
