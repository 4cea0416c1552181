"""The root of a store: its attributes, the identity that follows from them, its earlier sizes.

It may come from a stranger: everything that is read here is checked, see `documents`.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice, pairwise
from typing import Any

from pointcmt.datasets.store.documents import UNREADABLE, Form, misfit, require_form
from pointcmt.datasets.store.metadata import (
    array_forms,
    as_prescribed,
    group_metadata,
    group_table,
    holds,
    with_checksum,
)
from pointcmt.datasets.store.schema import (
    BLOCK,
    CODECS,
    OPTIONAL_LAYERS,
    SCENES,
    SCENES_VERSION,
    SCHEMA_VERSION,
    array_specs,
    digest,
    encode_json,
    padded_points,
    schema_from_attributes,
)
from pointcmt.errors import DamageError, StoreError

REMAKE = (
    "run `pointcmt verify --repair`, or `pointcmt render` with the original settings: the root "
    "zarr.json is rewritten if it matches everything that was rendered"
)
GROWN_FROM = "grown_from"  # in the root
ROOT_FORM: dict[str, Form] = {
    "schema_version": int,
    "schema": {
        "shapes": int,
        "views": int,
        "size": int,
        "points": int,
        "shard": int,
        "depth_scale": float,
        "layers": [str],
        "parts": bool,
    },
    "render": {"rig": {"name": str}},
    "render_hash": str,
    "source": {"name": str, "root": (str, None), "up": str, "licence": str},
    "class_names": [str],
    "plan_sha256": str,
}
GENERATION_FORM: dict[str, Form] = {"shapes": int, "plan_sha256": str, "store": str}
# What the root of a store of scenes says instead, and in addition.
SCENES_FORM: dict[str, Form] = {
    **ROOT_FORM,
    "schema": {
        "kind": str,
        "shapes": int,
        "views": int,
        "height": int,
        "width": int,
        "points": int,
        "shard": int,
        "depth_scale": float,
        "layers": [str],
        "parts": bool,
        "boxes": int,
        "labels": bool,
    },
    "render": {"kind": str},
    "semantic_names": [str],
    "box_names": [str],
    "palette": [[int]],
}
_MOST = {
    "shapes": 1 << 27,
    "views": 1 << 16,
    "points": 1 << 31,
    "shard": 1 << 27,
    "size": 1 << 16,
    "height": 1 << 16,
    "width": 1 << 16,
}


@dataclass(frozen=True)
class Generation:
    """One size that a store has had; the root lists the earlier ones in `grown_from`.

    A commit marker names the identity that the store had when the shard was committed, and remains
    valid: except that of a last shard that was not full, and has room for new shapes now. shapes: O
    then. plan_sha256: of the list of shapes. store: the identity.
    """

    shapes: int
    plan_sha256: str
    store: str

    def covers(self, shapes: range) -> bool:
        """Return whether the store had all these shapes (indices of axis 0) then."""
        return shapes.stop <= self.shapes


def root_attributes(data: bytes, where: str) -> dict[str, Any]:
    """Return the attributes of a root `zarr.json`, without additions of other tools.

    Raises DamageError, and StoreError for another schema version.
    """
    body, intact = loose_attributes(data, where)
    version = body["schema_version"]
    if version not in (SCHEMA_VERSION, SCENES_VERSION) or isinstance(version, bool):
        kind = StoreError if intact else DamageError
        raise kind(
            f"the store has schema version {version!r:.40}; this version of pointcmt reads "
            f"{SCHEMA_VERSION} and {SCENES_VERSION}",
            where=where,
            fix="use the version of pointcmt that wrote it, or render again",
        )
    if not intact:
        raise DamageError("the root zarr.json of this store is damaged", where=where, fix=REMAKE)
    require_root(body, where)
    return body


def loose_attributes(data: bytes, where: str) -> tuple[dict[str, Any], bool]:
    """Return the attributes of a root, unchecked, and whether their checksum is right.

    Ours precede `checksum`: other tools keep the order and append theirs. Raises DamageError if the
    root is not that of a view store.
    """
    try:
        attributes = json.loads(data)["attributes"]
        body = own_attributes(attributes)
        _ = body["schema_version"]
        intact = with_checksum(body)["checksum"] == attributes["checksum"]
    except (*UNREADABLE, KeyError, TypeError, AttributeError):
        raise DamageError(
            "this is not a view store, or its root zarr.json is damaged", where=where, fix=REMAKE
        ) from None
    return body, intact


def own_attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes that pointcmt wrote: those before `checksum`."""
    names = list(attributes)
    return {name: attributes[name] for name in names[: names.index("checksum")]}


def require_root(body: dict[str, Any], where: str) -> None:
    """Raise DamageError for attributes that no store can have."""
    scenes = body["schema_version"] == SCENES_VERSION
    form = SCENES_FORM if scenes else ROOT_FORM
    require_form(body, form, "attributes", where, REMAKE)
    schema = body["schema"]
    sizes = {key: most for key, most in _MOST.items() if key in schema}
    problem = next(
        (f"{key} is {schema[key]}" for key, most in sizes.items() if not 0 < schema[key] <= most),
        "" if 0 < schema["depth_scale"] < math.inf else "depth_scale is not a positive number",
    )
    if scenes:
        problem = problem or _scenes_problem(body)
    problem = problem or _history_problem(body)
    names = body.get("part_names", {})
    if not isinstance(names, dict) or misfit(list(names.values()), [[str]], ""):
        problem = "part_names must be lists of names"
    strange = set(schema["layers"]) - set(OPTIONAL_LAYERS)
    strange |= set(schema) - {*form["schema"], "codec"}
    strange |= {str(schema.get("codec", CODECS[0]))} - set(CODECS)
    if strange:
        problem = f"{min(strange)!r:.40} is unknown"
    if problem:
        raise DamageError(
            f"the schema in the root zarr.json is invalid: {problem}", where=where, fix=REMAKE
        )


def _scenes_problem(body: dict[str, Any]) -> str:
    """Return what is wrong with the schema and the names of a store of scenes; "" if nothing is."""
    schema, colors = body["schema"], body["palette"]
    if schema["kind"] != SCENES:
        return f"kind is {schema['kind']!r:.40}"
    if not 0 <= schema["boxes"] <= 1 << 20:
        return f"boxes is {schema['boxes']}"
    if schema["points"] != padded_points(schema["points"]):
        return f"points is {schema['points']}, which is not a multiple of {BLOCK}"
    if len(colors) != len(body["semantic_names"]):
        return "palette must have a color per semantic class"
    if not all(len(color) == 3 and all(0 <= c <= 255 for c in color) for color in colors):
        return "palette must be of sRGB bytes"
    return ""


def _history_problem(body: dict[str, Any]) -> str:
    """Return what is wrong with the earlier sizes of a store; "" if nothing is."""
    wrong = misfit(body.get(GROWN_FROM, []), [GENERATION_FORM], GROWN_FROM)
    if wrong:
        return f"{wrong} is missing or invalid"
    sizes = [found.shapes for found in generations(body)]
    rising = all(0 < few < more for few, more in pairwise(sizes))
    return "" if rising else f"{GROWN_FROM} does not grow"


def root_metadata(attributes: dict[str, Any]) -> bytes:
    """Return the root `zarr.json` of a new store: `group_metadata` and all arrays' metadata.

    With this consolidated metadata, zarr-python and xarray need not list the folder, where they
    warn of every file that is not zarr's. Other readers ignore it.
    """
    schema = schema_from_attributes(attributes)
    arrays = {name: array_forms(schema, name)[0] for name in array_specs(schema)}
    consolidated = {"kind": "inline", "must_understand": False, "metadata": arrays}
    return encode_json({**group_table(attributes), "consolidated_metadata": consolidated})


def is_root_metadata(data: bytes, attributes: dict[str, Any]) -> bool:
    """Return whether a root `zarr.json` is as prescribed, apart from other tools' additions.

    Consolidated metadata may be missing, as in earlier stores, or be another tool's, but must be
    that of the store's arrays.
    """
    if data == root_metadata(attributes):
        return True
    if not as_prescribed(data, group_metadata(attributes)):
        return False
    found = json.loads(data)
    if "consolidated_metadata" not in found:
        return found.keys() == group_table({}).keys()
    schema, consolidated = schema_from_attributes(attributes), found["consolidated_metadata"]
    try:
        return (consolidated["kind"], consolidated["must_understand"]) == ("inline", False) and all(
            any(holds(consolidated["metadata"][name], form) for form in array_forms(schema, name))
            for name in array_specs(schema)
        )
    except (KeyError, TypeError, AttributeError):
        return False


def identity(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes that must agree for two runs to fill the same store."""
    keys = ["schema_version", "schema", "render", "class_names", "plan_sha256"]
    if attributes["schema_version"] == SCENES_VERSION:
        keys += ["semantic_names", "box_names"]
    source = {"dataset": attributes["source"]["name"], "up": attributes["source"]["up"]}
    return {**source, **{key: attributes[key] for key in keys}}


def identity_digest(attributes: dict[str, Any]) -> str:
    """Return `identity` as a SHA-256."""
    return digest(encode_json(identity(attributes)))


def generations(attributes: dict[str, Any]) -> tuple[Generation, ...]:
    """Return all sizes that a store of these root attributes has had, the present one last."""
    earlier = [
        Generation(table["shapes"], table["plan_sha256"], table["store"])
        for table in attributes.get(GROWN_FROM, [])
    ]
    now = attributes["schema"]["shapes"], attributes["plan_sha256"], identity_digest(attributes)
    return *earlier, Generation(*now)


def encode_generations(found: tuple[Generation, ...]) -> list[dict[str, Any]]:
    """Return what the root stores of earlier sizes."""
    return [asdict(generation) for generation in found]


def plan_of(data: bytes, generation: Generation) -> bytes | None:
    """Return a generation's list of shapes from a file that may have been extended since.

    None if the file does not begin with it.
    """
    if digest(data) == generation.plan_sha256:
        return data
    ends = list(islice(_line_ends(data), generation.shapes))
    first = data[: ends[-1]] if len(ends) == generation.shapes > 0 else b""
    return first if digest(first) == generation.plan_sha256 else None


def _line_ends(data: bytes) -> Iterator[int]:
    end = data.find(b"\n") + 1
    while end:
        yield end
        end = data.find(b"\n", end) + 1
