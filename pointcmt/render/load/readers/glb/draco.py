"""Decompress KHR_draco_mesh_compression with the DracoPy library (an extra)."""

from typing import Any

import numpy as np

from pointcmt.errors import Reason, ShapeRefused
from pointcmt.extras import install
from pointcmt.render.load.readers.glb.accessors import Accessors
from pointcmt.render.load.readers.glb.budget import Budget
from pointcmt.render.load.readers.glb.buffers import Buffers
from pointcmt.render.load.readers.glb.container import member
from pointcmt.render.load.readers.sidecars import NotRead, printable

DRACO = "KHR_draco_mesh_compression"
_BYTES = 96  # of memory per vertex and per face while decompressing
_HEADER = 32  # bytes that hold the counts
_EDGEBREAKER, _METADATA = 1, 0x8000


def unpack(
    tree: dict[str, Any],
    primitive: dict[str, Any],
    buffers: Buffers,
    accessors: Accessors,
    budget: Budget,
) -> bool:
    """Fill the accessors of a compressed primitive: a list of triangles, and its attributes.

    Return False, without reading anything, if the file also has them uncompressed: that is used, so
    that the result does not depend on what is installed. Raises ShapeRefused: unknown_format
    (without the library), bad_syntax, truncated, missing_file, too_large.
    """
    packed = primitive["extensions"][DRACO]
    attributes = {name: primitive["attributes"][name] for name in packed["attributes"]}
    used = [*attributes.values(), *([primitive["indices"]] if "indices" in primitive else [])]
    if all("bufferView" in member(tree, "accessors", index) for index in used):
        return False
    if "indices" not in primitive:
        raise ValueError("a compressed primitive has no indices")
    try:
        data = buffers.view(packed["bufferView"])
    except NotRead as reason:
        raise ShapeRefused(Reason.MISSING_FILE, f"its compressed buffer {reason}") from reason
    budget.found_compressed(len(data))
    budget.spend(_BYTES * sum(_counts(bytes(data[:_HEADER]))))
    mesh = _decode(bytes(data))
    faces = np.asarray(mesh.faces, np.uint32)
    accessors.fill(primitive["indices"], faces.reshape(-1, 1))
    stored = {one["unique_id"]: one["data"] for one in mesh.attributes}
    for name, identity in packed["attributes"].items():
        if identity not in stored:
            raise ValueError(f"{printable(str(name))} is not in the compressed data")
        values = np.asarray(stored[identity])
        accessors.fill(attributes[name], values.reshape(len(values), -1))
    return True


def _counts(header: bytes) -> list[int]:
    """Return the two numbers of faces and vertices that a stream declares, in this or that order.

    By the bitstream's specification, from version 2.2 on; empty if they are not at the beginning:
    older versions, metadata.
    """
    if len(header) < _HEADER or header[:5] != b"DRACO":
        return []
    version, method = tuple(header[5:7]), header[8]
    if version < (2, 2) or int.from_bytes(header[9:11], "little") & _METADATA:
        return []
    found: list[int] = []
    at = 12 if method == _EDGEBREAKER else 11
    while len(found) < 2:
        value = shift = 0
        while header[at] & 128 and shift < 28:
            value |= (header[at] & 127) << shift
            at, shift = at + 1, shift + 7
        found.append(value | (header[at] & 127) << shift)
        at += 1
    return found


def _decode(data: bytes) -> Any:
    """Return DracoPy's mesh. Raises ShapeRefused."""
    try:
        import DracoPy
    except ModuleNotFoundError as error:
        what = f"reading {DRACO} needs DracoPy: {install('draco')}"
        raise ShapeRefused(Reason.UNKNOWN_FORMAT, what) from error
    try:
        mesh = DracoPy.decode(data)
    except Exception as error:  # it raises whatever its compiled code raises
        what = f"its Draco-compressed data is invalid: {printable(str(error))}"
        raise ShapeRefused(Reason.BAD_SYNTAX, what) from error
    if not hasattr(mesh, "faces"):
        raise ShapeRefused(Reason.NO_FACES, "its Draco-compressed data is a cloud of points")
    return mesh
