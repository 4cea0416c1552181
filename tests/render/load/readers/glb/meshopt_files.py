"""Compress by the texts of the meshopt extensions, choosing at random among all valid encodings."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Rng = np.random.Generator


def compress_attributes(rows: np.ndarray, version: int, channels: bytes, rng: Rng) -> bytes:
    """Elements [count, stride] u8. channels: the mode of each 4 bytes; zeros for version 0."""
    count, stride = rows.shape
    first = rng.integers(0, 256, stride, np.uint8)
    deltas = _deltas(np.concatenate([first[None], rows]), channels)
    out = bytearray([0xA0 + version])
    size = min(8192 // stride // 16 * 16, 256)
    for start in range(0, count, size):
        block = deltas[start : start + size]
        controls = [_control(block[:, byte], rng) if version else 4 for byte in range(stride)]
        if version:
            out += _pairs(controls)
        for byte, control in enumerate(controls):
            out += _data_block(block[:, byte], control, rng)
    tail = first.tobytes() + (channels if version else b"")
    return bytes(out) + tail.rjust(24 if version else 32, b"\0")


def compress_indices(indices: Any, rng: Rng) -> bytes:
    out, last = bytearray([0xD1]), [0, 0]
    for index in indices:
        which = int(rng.integers(2))
        out += _varint(_zigzag(int(index) - last[which], 31) << 1 | which)
        last[which] = int(index)
    return bytes(out) + bytes(4)


def compress_triangles(faces: Any, rng: Rng) -> bytes:
    table = [int(left) << 4 | int(right) for left, right in rng.integers(0, 15, (14, 2))]
    table[0] = 0
    coder, codes, data = _Triangles(table), bytearray(), bytearray()
    for face in faces:
        options = list(coder.options(*(int(corner) for corner in face)))
        # The general encoding is always possible; prefer the others where there are any.
        code, more, state = options[int(rng.integers(len(options)))]
        codes.append(code)
        data += more
        coder = state
    return bytes([0xE1]) + bytes(codes) + bytes(data) + bytes([*table, 0, 0])


@dataclass
class _Triangles:
    """The state of a decoder. Lists have the most recent entry first."""

    table: list[int]
    following: int = 0
    last: int = 0
    edges: list[tuple[int, int]] = field(default_factory=list)
    vertices: list[int] = field(default_factory=list)

    def options(self, a: int, b: int, c: int) -> Iterator[tuple[int, bytes, "_Triangles"]]:
        """All codes of a triangle, with their data and the state after them."""
        for place in [k for k in range(min(15, len(self.edges))) if self.edges[k] == (a, b)]:
            pushed = [(c, b), (a, c)]
            if c == self.following:
                yield place << 4, b"", self._after(c + 1, self.last, pushed, [c])
            for near in range(1, min(13, len(self.vertices))):
                if self.vertices[near] == c:
                    yield place << 4 | near, b"", self._after(self.following, self.last, pushed, [])
            for step, code in ((-1, 13), (1, 14)):
                if c == self.last + step:
                    yield place << 4 | code, b"", self._after(self.following, c, pushed, [c])
            data = _varint(_zigzag(c - self.last, 32))
            yield place << 4 | 15, data, self._after(self.following, c, pushed, [c])
        pushed = [(b, a), (c, b), (a, c)]
        for code in (*range(14), 14, 15):
            for pair in [self.table[code]] if code < 14 else range(256):
                found = self._three((a, b, c), code, pair)
                if found is not None:
                    data, following, last = found
                    new = [a, *([b] if pair >> 4 in (0, 15) else [])]
                    new += [c] if pair & 15 in (0, 15) else []
                    yield 0xF0 | code, data, self._after(following, last, pushed, new)

    def _three(
        self, corners: tuple[int, int, int], code: int, pair: int
    ) -> tuple[bytes, int, int] | None:
        """Data, next vertex and last vertex if the three corners can be encoded so."""
        data = b"" if code < 14 else bytes([pair])
        following, last = (0 if code >= 14 and pair == 0 else self.following), self.last
        for corner, how in zip(
            corners, (0 if code < 15 else 15, pair >> 4, pair & 15), strict=True
        ):
            if how == 0:
                if corner != following:
                    return None
                following += 1
            elif how < 15:
                if how > len(self.vertices) or self.vertices[how - 1] != corner:
                    return None
            else:
                data, last = data + _varint(_zigzag(corner - last, 32)), corner
        return data, following, last

    def _after(
        self, following: int, last: int, edges: list[tuple[int, int]], vertices: list[int]
    ) -> "_Triangles":
        return _Triangles(
            self.table,
            following,
            last,
            [*reversed(edges), *self.edges][:16],
            [*reversed(vertices), *self.vertices][:16],
        )


def _deltas(rows: np.ndarray, channels: bytes) -> np.ndarray:
    """Differences of each row [1:] to the one before, as stored."""
    out = np.empty((len(rows) - 1, rows.shape[1]), np.uint8)
    for channel, mode in enumerate(channels):
        part = np.ascontiguousarray(rows[:, 4 * channel : 4 * channel + 4])
        if mode & 15 == 2:
            turn = mode >> 4
            values = part.view("<u4")[:, 0].astype(np.uint64)
            mixed = values[1:] ^ values[:-1]
            stored = (mixed << turn | mixed >> (32 - turn)) & 0xFFFFFFFF
        else:
            kind, bits = ("<u1", 8) if mode == 0 else ("<u2", 16)
            wide = part.view(kind).astype(np.int64)
            change = (wide[1:] - wide[:-1] + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1)
            stored = (change << 1 ^ change >> 63) % 2**bits
        kind = {0: "<u1", 1: "<u2", 2: "<u4"}[mode & 15]
        raw = np.ascontiguousarray(stored.astype(kind)).reshape(-1).view(np.uint8)
        out[:, 4 * channel : 4 * channel + 4] = raw.reshape(len(out), 4)
    return out


def _control(values: np.ndarray, rng: Rng) -> int:
    return int(rng.choice([0, 1, 3] if values.any() else [0, 1, 2, 3]))


def _data_block(values: np.ndarray, control: int, rng: Rng) -> bytes:
    if control == 2:
        return b""
    if control == 3:
        return values.tobytes()
    groups = np.zeros((-(-len(values) // 16), 16), np.uint8)
    groups.reshape(-1)[: len(values)] = values
    widths = {0: (0, 1, 2, 4), 1: (1, 2, 4, 8), 4: (0, 2, 4, 8)}[control]
    modes, out = [], b""
    for group in groups:
        modes.append(int(rng.integers(1 if widths[0] == 0 and group.any() else 0, 4)))
        out += _group(group, widths[modes[-1]])
    return _pairs(modes) + out


def _group(values: np.ndarray, bits: int) -> bytes:
    if bits in (0, 8):
        return values.tobytes() if bits else b""
    sentinel = 2**bits - 1
    packed = np.minimum(values, sentinel).reshape(-1, 8 // bits)
    shifts = np.arange(0, 8, bits)
    shifts = shifts if bits == 1 else shifts[::-1]
    return (packed << shifts).sum(axis=1).astype(np.uint8).tobytes() + values[
        values >= sentinel
    ].tobytes()


def _pairs(values: list[int]) -> bytes:
    """Two bits each, the first in the lowest bits."""
    padded = [*values, 0, 0, 0]
    return bytes(sum(padded[at + k] << 2 * k for k in range(4)) for at in range(0, len(values), 4))


def _zigzag(value: int, bits: int) -> int:
    return (value << 1 ^ value >> 63) % 2**bits


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])
