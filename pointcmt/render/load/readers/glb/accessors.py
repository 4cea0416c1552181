"""Accessors of glTF: all are checked against their data first; items are read only when needed.

A declared count costs nothing. An accessor is a view of its buffer, or zeros that take no memory,
until `Accessor.take` copies items out of it. Callers charge them to a `Budget` in advance.
"""

import base64
import binascii
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointcmt.errors import Reason, ShapeRefused
from pointcmt.render.load.readers import MAX_FACES
from pointcmt.render.load.readers.sidecars import (
    ModelFolder,
    NotRead,
    find,
    printable,
    read_sidecar,
)

_TYPES = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_FULL_SCALE = {5120: 127, 5121: 255, 5122: 32767, 5123: 65535}  # of normalized integers
_UNSIGNED = (5121, 5123, 5125)
_WIDTH = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
_PER_BYTE = 32  # bytes of memory per byte of the file: indices and positions may have 8 bits
_ALLOWANCE = 256 << 20  # additional bytes for every file: a small one may place its mesh many times
_ITEM_BYTES = 96  # bytes per vertex, and per triangle, while reading
_MAX_EXTERNAL = 1 << 30  # bytes of all buffers outside the file


@dataclass
class Budget:
    """Count the memory that the geometry of a file takes, before it is allocated.

    file_size: in bytes. most_faces, most_vertices: of the whole scene.
    """

    file_size: int
    most_faces: int
    most_vertices: int
    spent: int = 0
    faces: int = 0
    vertices: int = 0

    def spend(self, size: int) -> None:
        """Charge `size` bytes. Raises ShapeRefused (too_large) if the file exceeds its limit."""
        self.spent += size
        limit = _ALLOWANCE + _PER_BYTE * self.file_size
        if self.spent > limit:
            raise ShapeRefused(
                Reason.TOO_LARGE,
                f"its geometry needs at least {self.spent >> 20} MiB of memory, more than the "
                f"maximum of {limit >> 20} MiB for a file of {self.file_size} bytes",
            )

    def add(self, faces: int, vertices: int) -> None:
        """Charge the faces and vertices of a primitive. Raises ShapeRefused (too_large)."""
        self.faces += faces
        self.vertices += vertices
        if self.faces > self.most_faces:
            what = f"at least {self.faces} triangles, more than the maximum of {self.most_faces}"
            raise ShapeRefused(Reason.TOO_LARGE, what)
        if self.vertices > self.most_vertices:
            what = (
                f"at least {self.vertices} vertices, more than the maximum of {self.most_vertices}"
            )
            raise ShapeRefused(Reason.TOO_LARGE, what)
        self.spend(_ITEM_BYTES * (faces + vertices))


@dataclass(frozen=True)
class Accessor:
    """The items of an accessor as stored in the file.

    stored: [count, width], a view. white: divisor for integers, None for plain numbers. sparse:
    indices [S] of replaced items, ascending, and their values [S, width].
    """

    kind: str
    stored: NDArray[Any]
    white: int | None = None
    sparse: tuple[NDArray[np.int64], NDArray[Any]] | None = None

    def __len__(self) -> int:
        return len(self.stored)

    def take(self, rows: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """Copy the items with indices `rows` [R], or all of them, as floats [R, width]."""
        with np.errstate(all="ignore"):
            values = self._take(rows).astype(np.float64)
        return values if self.white is None else np.maximum(values / self.white, -1)

    def integers(self) -> NDArray[np.int64]:
        """Copy all items as integers [count, width]. Raises ShapeRefused for floats."""
        if self.stored.dtype.kind != "u":
            raise ShapeRefused(Reason.BAD_SYNTAX, "indices are not unsigned integers")
        return self._take(None).astype(np.int64)

    def _take(self, rows: NDArray[np.int64] | None) -> NDArray[Any]:
        values = self.stored.copy() if rows is None else self.stored[rows]
        if self.sparse is None:
            return values
        items, replaced = self.sparse
        if rows is None:
            values[items] = replaced
        else:
            found = np.minimum(np.searchsorted(items, rows), len(items) - 1)
            hit = items[found] == rows
            values[hit] = replaced[found[hit]]
        return values


@dataclass
class Buffers:
    """The buffers of a file, each read once: its binary chunk, data URIs and external files."""

    tree: dict[str, Any]
    binary: memoryview
    folder: ModelFolder
    _inline: dict[int, memoryview] = field(default_factory=dict)
    _files: dict[Path, memoryview] = field(default_factory=dict)

    def view(self, index: Any) -> memoryview:
        """Return the bytes of a buffer view, without a copy.

        Raises ShapeRefused (truncated) if its buffer is too short, NotRead if it has no buffer.
        """
        view = member(self.tree, "bufferViews", index)
        start, size = whole(view.get("byteOffset", 0)), whole(view["byteLength"])
        data = self._buffer(view.get("buffer", 0))
        if start + size > len(data):
            raise ShapeRefused(Reason.TRUNCATED, "a buffer view is longer than its buffer")
        return data[start : start + size]

    def _buffer(self, index: Any) -> memoryview:
        uri = member(self.tree, "buffers", index).get("uri")
        if uri is None and index == 0:
            return self.binary
        if not isinstance(uri, str):
            raise NotRead(
                f"{index} has no data that can be read: export the file without compression"
            )
        if not uri.startswith("data:"):
            return self._external(find(self.folder, uri))
        if index not in self._inline:
            self._inline[index] = memoryview(data_of(uri))
        return self._inline[index]

    def _external(self, path: Path) -> memoryview:
        if path not in self._files:
            data = read_sidecar(path)
            if len(data) + sum(len(other) for other in self._files.values()) > _MAX_EXTERNAL:
                raise NotRead(
                    f"external files of more than {_MAX_EXTERNAL >> 20} MiB in total are not read"
                )
            self._files[path] = memoryview(data)
        return self._files[path]


class Accessors:
    """The accessors of a file by index. All of them are checked before any is read."""

    def __init__(self, tree: dict[str, Any], buffers: Buffers, budget: Budget) -> None:
        self._tree, self._buffers, self._budget = tree, buffers, budget
        self._known: dict[int, Accessor] = {}
        for accessor in tree.get("accessors", []):
            _check(tree, accessor, budget)

    def get(self, index: Any) -> Accessor:
        """Return an accessor. Raises ShapeRefused: bad_syntax, truncated, missing_file."""
        if index not in self._known:
            accessor = member(self._tree, "accessors", index)
            try:
                self._known[index] = self._open(accessor)
            except NotRead as reason:
                raise ShapeRefused(Reason.MISSING_FILE, f"its buffer {reason}") from reason
        return self._known[index]

    def _open(self, accessor: dict[str, Any]) -> Accessor:
        count, code, kind = accessor["count"], accessor["componentType"], accessor["type"]
        if "bufferView" in accessor:
            start = accessor.get("byteOffset", 0)
            stored = self._rows(accessor["bufferView"], start, (count, _WIDTH[kind]), code)
        else:
            stored = np.broadcast_to(np.zeros((), _TYPES[code]), (count, _WIDTH[kind]))
        white = _FULL_SCALE.get(code) if accessor.get("normalized") else None
        sparse = self._sparse(accessor) if "sparse" in accessor else None
        return Accessor(kind, stored, white, sparse)

    def _rows(self, view: int, start: int, shape: tuple[int, int], code: int) -> NDArray[Any]:
        """Return items [count, width] of a buffer view whose length `_check` has verified."""
        data, item = self._buffers.view(view), np.dtype(_TYPES[code])
        stride = self._tree["bufferViews"][view].get("byteStride", shape[1] * item.itemsize)
        if not shape[0]:
            return np.empty(shape, item)
        return np.ndarray(shape, item, data, start, (stride, item.itemsize))

    def _sparse(self, accessor: dict[str, Any]) -> tuple[NDArray[np.int64], NDArray[Any]] | None:
        sparse = accessor["sparse"]
        count, indices, values = sparse["count"], sparse["indices"], sparse["values"]
        if count == 0:
            return None
        self._budget.spend(8 * count)
        code = indices["componentType"]
        start = indices.get("byteOffset", 0)
        items = self._rows(indices["bufferView"], start, (count, 1), code)[:, 0].astype(np.int64)
        if (np.diff(items) <= 0).any() or items[-1] >= accessor["count"]:
            raise ShapeRefused(Reason.BAD_INDEX, "the items of a sparse accessor are not sorted")
        shape, start = (count, _WIDTH[accessor["type"]]), values.get("byteOffset", 0)
        return items, self._rows(values["bufferView"], start, shape, accessor["componentType"])


def whole(value: Any) -> int:
    """Return a number after checking that it is 0, 1, 2, … Raises ValueError."""
    if type(value) is not int or value < 0:
        raise ValueError(f"{printable(str(value))} instead of an integer")
    return value


def member(tree: dict[str, Any], name: str, index: Any) -> dict[str, Any]:
    """Return an object from one of the file's lists. Raises ValueError, IndexError or KeyError."""
    found = tree[name][whole(index)]
    if not isinstance(found, dict):
        raise ValueError(f"{name} {index} is not an object")
    return found


def data_of(uri: str) -> bytes:
    """Decode a base64 data URI. Raises NotRead."""
    try:
        return base64.b64decode(uri.partition(",")[2])
    except (binascii.Error, ValueError) as error:
        raise NotRead("in a data URI cannot be decoded") from error


def _check(tree: dict[str, Any], accessor: dict[str, Any], budget: Budget) -> None:
    """Refuse an accessor that is longer than its data; charge one that has no data."""
    count, code, width = whole(accessor["count"]), accessor["componentType"], accessor["type"]
    size = np.dtype(_TYPES[code]).itemsize * _WIDTH[width]
    if count > 3 * MAX_FACES:
        raise ShapeRefused(Reason.TOO_LARGE, f"an accessor of {count} items")
    if "bufferView" in accessor:
        _check_view(tree, accessor, count, size)
    else:
        budget.spend(count * size)
    if "sparse" in accessor:
        sparse = accessor["sparse"]
        changed, indices = whole(sparse["count"]), sparse["indices"]
        if indices["componentType"] not in _UNSIGNED or changed > count:
            raise ValueError("a sparse accessor is invalid")
        _check_view(tree, indices, changed, np.dtype(_TYPES[indices["componentType"]]).itemsize)
        _check_view(tree, sparse["values"], changed, size)


def _check_view(tree: dict[str, Any], part: dict[str, Any], count: int, size: int) -> None:
    """Refuse `count` items of `size` bytes that extend beyond their buffer view."""
    view = member(tree, "bufferViews", part["bufferView"])
    stride = whole(view.get("byteStride", size))
    if stride < size:
        raise ValueError(f"items of {size} bytes have a stride of {stride} bytes")
    end = whole(part.get("byteOffset", 0)) + (stride * (count - 1) + size if count else 0)
    if end > whole(view["byteLength"]):
        raise ShapeRefused(Reason.TRUNCATED, "an accessor is longer than its data")
