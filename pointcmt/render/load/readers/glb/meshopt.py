"""Decompress EXT_meshopt_compression and KHR_meshopt_compression: views of attributes and indices.

By the extensions' texts (Appendix A, the bitstream, in versions 0 and 1; Appendix B, the filters).
Every read is checked against the length of the data; any invalid stream is refused.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pointcmt.compiled import compiled
from pointcmt.errors import Reason, ShapeRefused
from pointcmt.render.load.readers import MAX_FACES
from pointcmt.render.load.readers.glb.container import whole
from pointcmt.render.load.readers.glb.meshopt_filters import FILTERS
from pointcmt.render.load.readers.glb.meshopt_indices import decode_indices, decode_triangles

_MODES = ("ATTRIBUTES", "TRIANGLES", "INDICES")
_GROUP = 16  # elements
_WIDEST = 256  # bytes of an element
_MOST_IN_BLOCK, _BLOCK_BYTES = 256, 8192
_TAIL = {0xA0: 32, 0xA1: 24}  # least bytes of the tail block, by the header of a version


@dataclass(frozen=True)
class Packed:
    """How a view is compressed: `count` elements of `stride` bytes."""

    mode: str
    filter: str
    count: int
    stride: int

    @classmethod
    def of(cls, source: dict[str, Any]) -> Self:
        """Read the object of the extension. Raises ValueError, or ShapeRefused (too_large)."""
        mode, name = source["mode"], source.get("filter", "NONE")
        count, stride = whole(source["count"]), whole(source["byteStride"])
        if count > 3 * MAX_FACES:
            raise ShapeRefused(Reason.TOO_LARGE, f"a compressed view of {count} elements")
        if mode == "ATTRIBUTES":
            valid = stride % 4 == 0 and 0 < stride <= _WIDEST
            strides = FILTERS[name].strides if name in FILTERS else ()
            valid &= name == "NONE" or (name in FILTERS and (not strides or stride in strides))
        else:
            valid = mode in _MODES and stride in (2, 4) and name == "NONE"
            valid &= mode != "TRIANGLES" or count % 3 == 0
        if not valid:
            raise ValueError(f"mode {mode}, filter {name} and stride {stride} do not fit")
        return cls(mode, name, count, stride)

    @property
    def size(self) -> int:
        """Return the number of bytes of the decompressed view."""
        return self.count * self.stride


def unpack(data: memoryview, layout: Packed) -> memoryview:
    """Return a decompressed view. Raises ShapeRefused (bad_syntax) for an invalid stream."""
    stream = np.frombuffer(data, np.uint8)
    if layout.mode == "ATTRIBUTES":
        rows = _attributes(stream, layout)
        values = rows if layout.filter == "NONE" else FILTERS[layout.filter].apply(rows)
        return values.reshape(-1).view(np.uint8).data
    indices = np.empty(layout.count, np.uint32)
    decode = decode_triangles if layout.mode == "TRIANGLES" else decode_indices
    if not decode(stream, indices):
        raise _invalid()
    return indices.astype(f"<u{layout.stride}").view(np.uint8).data


def _attributes(stream: NDArray[np.uint8], layout: Packed) -> NDArray[np.uint8]:
    """Return elements [count, stride] of a stream of attributes."""
    header = int(stream[0]) if len(stream) else 0
    version = header - 0xA0
    tail = layout.stride + (layout.stride // 4 if version else 0)
    if header not in _TAIL or len(stream) < 1 + max(tail, _TAIL[header]):
        raise _invalid()
    first = stream[len(stream) - tail :][: layout.stride]
    channels = stream[len(stream) - layout.stride // 4 :] if version else np.zeros(64, np.uint8)
    end = len(stream) - max(tail, _TAIL[header])
    per_block = min(_BLOCK_BYTES // layout.stride // _GROUP * _GROUP, _MOST_IN_BLOCK)
    rows = np.zeros((layout.count, layout.stride), np.uint8)
    if not _decode_bytes(stream, end, version, per_block, rows):
        raise _invalid()
    if not _undo_deltas(rows, first, channels):
        raise _invalid()
    return rows


def _invalid() -> ShapeRefused:
    return ShapeRefused(Reason.BAD_SYNTAX, "its meshopt-compressed data is invalid")


@compiled
def _decode_bytes(data, end, version, per_block, rows):  # type: ignore[no-untyped-def]
    """Fill rows [count, stride] with the bytes of deltas, which lie in data[1:end], by blocks of
    elements, and in a block byte by byte of the element. Return whether the stream is valid."""
    count, stride = rows.shape
    at = 1
    for start in range(0, count, per_block):
        size = min(per_block, count - start)
        groups = (size + 15) // 16
        controls = at
        if version:
            at += stride // 4
            if at > end:
                return False
        for byte in range(stride):
            control = np.int64(4)  # signed: numba mixes the two kinds to floats
            if version:
                control = (np.int64(data[controls + byte // 4]) >> (2 * (byte % 4))) & 3
            if control == 2:
                continue
            if control == 3:
                if at + size > end:
                    return False
                for n in range(size):
                    rows[start + n, byte] = data[at + n]
                at += size
                continue
            headers = at
            at += (groups + 3) // 4
            if at > end:
                return False
            for group in range(groups):
                mode = (np.int64(data[headers + group // 4]) >> (2 * (group % 4))) & 3
                bits = _bits(control, mode)
                at = _decode_group(data, at, end, bits, rows, start + 16 * group, byte)
                if at < 0:
                    return False
    return at == end


@compiled
def _bits(control, mode):  # type: ignore[no-untyped-def]
    """Return the bits per delta: 0, 1, 2, 4 or 8. control: 4 for version 0."""
    if control == 4:
        return 0 if mode == 0 else 1 << mode
    if control == 0:
        return 0 if mode == 0 else 1 << (mode - 1)
    return 1 << mode


@compiled
def _decode_group(data, at, end, bits, rows, first, byte):  # type: ignore[no-untyped-def]
    """Decode 16 deltas into rows[first:, byte], those after the last row excepted. Return where the
    next group begins, or -1 if the data ends before."""
    if bits == 0:
        return at
    if at + 2 * bits > end:
        return -1
    more = at + 2 * bits  # explicit deltas follow the packed ones
    sentinel = (1 << bits) - 1
    for n in range(16):
        position = n * bits
        shift = position % 8 if bits == 1 else 8 - bits - position % 8
        delta = (np.int64(data[at + position // 8]) >> shift) & sentinel
        if bits < 8 and delta == sentinel:
            if more >= end:
                return -1
            delta = np.int64(data[more])
            more += 1
        if first + n < len(rows):
            rows[first + n, byte] = delta
    return more


@compiled
def _undo_deltas(rows, first, channels):  # type: ignore[no-untyped-def]
    """Turn deltas [count, stride] into elements, in place. first [stride]: the baseline. channels:
    the mode of each 4 bytes. Return whether the modes are valid."""
    count, stride = rows.shape
    for channel in range(stride // 4):
        mode, turn = np.int64(channels[channel]) & 15, np.int64(channels[channel]) >> 4
        if mode > 2 or (mode < 2 and turn > 0):
            return False
        width = 1 if mode == 0 else 2 if mode == 1 else 4
        for byte in range(4 * channel, 4 * channel + 4, width):
            mask = (np.int64(1) << (8 * width)) - 1
            value = np.int64(0)
            for k in range(width):
                value |= np.int64(first[byte + k]) << (8 * k)
            for n in range(count):
                delta = np.int64(0)
                for k in range(width):
                    delta |= np.int64(rows[n, byte + k]) << (8 * k)
                if mode == 2:
                    back = (delta >> turn) | (delta << ((32 - turn) & 31))
                    value ^= back & mask
                else:
                    value = (value + ((delta >> 1) ^ -(delta & 1))) & mask
                for k in range(width):
                    rows[n, byte + k] = (value >> (8 * k)) & 255
    return True
