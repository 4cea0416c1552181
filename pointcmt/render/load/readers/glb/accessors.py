"""Accessors of glTF: all are checked against their data first; items are read only when needed.

A declared count costs nothing. An accessor is a view of its buffer, or zeros that take no memory,
until `Accessor.take` copies items out of it. Callers charge them to a `Budget` in advance.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointcmt.errors import Reason, ShapeRefused
from pointcmt.render.load.readers import MAX_FACES
from pointcmt.render.load.readers.glb.budget import Budget
from pointcmt.render.load.readers.glb.buffers import Buffers
from pointcmt.render.load.readers.glb.container import member, whole
from pointcmt.render.load.readers.sidecars import NotRead

_TYPES = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_UNSIGNED = (5121, 5123, 5125)
_WHITE = {"|i1": 127, "|u1": 255, "<i2": 32767, "<u2": 65535}  # of normalized integers
_WIDTH = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
_KINDS = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4"}  # of decompressed items


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

    def fill(self, index: Any, values: NDArray[Any]) -> None:
        """Let an accessor hold decompressed items [count, width] instead of what it refers to."""
        declared = member(self._tree, "accessors", index)
        self._budget.spend(values.nbytes)
        white = _WHITE.get(values.dtype.str) if declared.get("normalized") else None
        self._known[index] = Accessor(_KINDS[values.shape[1]], values, white)

    def _open(self, accessor: dict[str, Any]) -> Accessor:
        count, code, kind = accessor["count"], accessor["componentType"], accessor["type"]
        if "bufferView" in accessor:
            start = accessor.get("byteOffset", 0)
            stored = self._rows(accessor["bufferView"], start, (count, _WIDTH[kind]), code)
        else:
            stored = np.broadcast_to(np.zeros((), _TYPES[code]), (count, _WIDTH[kind]))
        white = _WHITE.get(stored.dtype.str) if accessor.get("normalized") else None
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
