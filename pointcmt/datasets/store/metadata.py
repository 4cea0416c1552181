"""The `zarr.json` files of a store: what is prescribed, and whether a file says it.

Everything here is a pure function of the schema, so that every process writes the same bytes.
"""

import json
from dataclasses import replace
from typing import Any

import numpy as np

from pointcmt.datasets.store.schema import (
    BLOCK,
    ArraySpec,
    Schema,
    array_specs,
    digest,
    encode_json,
)

# Earlier stores name the rows and columns of matrices like those of images: still valid.
_EARLIER_AXES = {
    "K": ("view", "row", "column"),
    "world_to_camera": ("view", "row", "column"),
    "source_to_world": ("row", "column"),
}


def array_metadata(schema: Schema, name: str) -> bytes:
    """Return the `zarr.json` of an array: the same bytes in every process."""
    return spec_metadata(schema, array_specs(schema)[name])


def is_array_metadata(data: bytes, schema: Schema, name: str) -> bool:
    """Return whether an array's `zarr.json` is as prescribed now or was in an earlier version."""
    return any(as_prescribed(data, encode_json(form)) for form in array_forms(schema, name))


def array_forms(schema: Schema, name: str) -> list[dict[str, Any]]:
    """Return the metadata of an array: the one that is written now, then those of old stores."""
    spec = array_specs(schema)[name]
    earlier = [replace(spec, axes=_EARLIER_AXES[name])] if name in _EARLIER_AXES else []
    return [_spec_table(schema, each) for each in (spec, *earlier)]


def spec_metadata(schema: Schema, spec: ArraySpec) -> bytes:
    """Return the `zarr.json` of any array with a row per shape, sharded like the store."""
    return encode_json(_spec_table(schema, spec))


def _spec_table(schema: Schema, spec: ArraySpec) -> dict[str, Any]:
    little = {"name": "bytes", "configuration": {"endian": "little"}}
    crc32c = {"name": "crc32c"}
    codecs: list[dict[str, Any]] = [
        {"name": "bytes"} if np.dtype(spec.dtype).itemsize == 1 else little,
        *_compression(schema.codec, np.dtype(spec.dtype).itemsize),
        crc32c,
    ]
    if spec.chunk != "shard":
        inner = [1, *spec.shape]
        if spec.chunk != "shape":
            inner[1] = 1 if spec.chunk == "view" else min(BLOCK, spec.shape[0])
        sharding = {
            "chunk_shape": inner,
            "codecs": codecs,
            "index_codecs": [little, crc32c],
            "index_location": "end",
        }
        codecs = [{"name": "sharding_indexed", "configuration": sharding}]
    chunk_grid = {"chunk_shape": [schema.shard, *spec.shape]}
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [schema.shapes, *spec.shape],
        "data_type": spec.dtype,
        "chunk_grid": {"name": "regular", "configuration": chunk_grid},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": spec.fill,
        "codecs": codecs,
        "attributes": dict(spec.attributes),
        "dimension_names": ["shape", *spec.axes],
    }


def _compression(codec: str, itemsize: int) -> list[dict[str, Any]]:
    """Return a schema's codec as zarr describes it: codecs of its core specification alone."""
    if codec == "none":
        return []
    if codec == "lz4":
        blosc = {"cname": "lz4", "clevel": 5, "shuffle": "noshuffle"}
        return [{"name": "blosc", "configuration": {**blosc, "typesize": itemsize, "blocksize": 0}}]
    level = {"zstd": 3, "zstd1": 1}[codec]
    return [{"name": "zstd", "configuration": {"level": level, "checksum": False}}]


def group_metadata(attributes: dict[str, Any]) -> bytes:
    """Return a root `zarr.json`, with a `checksum` of all other attributes."""
    return encode_json(group_table(attributes))


def group_table(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return what `group_metadata` encodes."""
    return {"zarr_format": 3, "node_type": "group", "attributes": with_checksum(attributes)}


def with_checksum(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes followed by their SHA-256 as `checksum`."""
    return {**attributes, "checksum": digest(encode_json(attributes))}


def as_prescribed(data: bytes, prescribed: bytes) -> bool:
    """Return whether a `zarr.json` matches the prescribed one, apart from other tools' additions.

    Other tools may reformat it and add attributes or consolidated metadata. To detect flipped bits,
    the text must be formatted exactly as Python's json writes it.
    """
    if data == prescribed:
        return True
    try:
        found, wanted = json.loads(data), json.loads(prescribed)
        return holds(found, wanted) and any(
            json.dumps(found, indent=indent, ensure_ascii=ascii).encode().strip() == data.strip()
            for indent in (None, 1, 2, 4)
            for ascii in (True, False)
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def holds(found: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Return whether metadata says what is wanted; it may say more. Raises KeyError, TypeError."""
    found, wanted = _without_endian(found), _without_endian(wanted)
    attributes = found["attributes"]
    same = {key: attributes[key] for key in wanted["attributes"]} == wanted["attributes"]
    same &= all(found[key] == wanted[key] for key in wanted if key != "attributes")
    return same and not found.get("storage_transformers")


def _without_endian(metadata: Any) -> Any:
    """Return metadata as JSON has it, without the byte order, which some tools add to bytes."""
    little = '{"name": "bytes", "configuration": {"endian": "little"}}'
    return json.loads(json.dumps(metadata).replace(little, '{"name": "bytes"}'))
