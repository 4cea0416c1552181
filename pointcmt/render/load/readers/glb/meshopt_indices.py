"""Indices compressed by meshopt: lists of triangles, and plain sequences."""

import numpy as np

from pointcmt.compiled import compiled

_TRIANGLE_HEADER, _INDEX_HEADER = 0xE1, 0xD1
_FIFO = 16  # entries of the two first-in, first-out lists
_MASK = 0xFFFFFFFF
_SHORTEST_TABLE, _PADDING = 16, 4  # bytes after the data
_NO_VERTEX = np.int64(-1)


@compiled
def decode_triangles(data, out):  # type: ignore[no-untyped-def]
    """Decode a stream of triangles (mode 1) into out [count] u32. Return whether it is valid."""
    triangles = len(out) // 3
    table = len(data) - _SHORTEST_TABLE
    if table < 1 + triangles or data[0] != _TRIANGLE_HEADER:
        return False
    for n in range(16):
        if data[table + n] & 15 == 15 or data[table + n] >> 4 == 15:
            return False
    if data[table + 14] or data[table + 15]:
        return False
    edges = np.full((_FIFO, 2), _NO_VERTEX)
    vertices = np.full(_FIFO, _NO_VERTEX)
    # at: in the data. following: the next new vertex. last: the last one that was stored.
    at, following, last = 1 + triangles, np.int64(0), np.int64(0)
    edge = vertex = 0  # entries that were pushed
    for n in range(triangles):
        code = np.int64(data[1 + n])  # signed: numba mixes the two kinds to floats
        if code < 0xF0:
            a = edges[(edge - 1 - (code >> 4)) % _FIFO, 0]
            b = edges[(edge - 1 - (code >> 4)) % _FIFO, 1]
            kind = code & 15
            if kind == 0:
                c, following = following, (following + 1) & _MASK
            elif kind < 13:
                c = vertices[(vertex - 1 - kind) % _FIFO]
            elif kind == 15:
                at, last = _stored(data, at, table, last)
                c = last
            else:
                last = (last + (-1 if kind == 13 else 1)) & _MASK
                c = last
            if a < 0 or c < 0 or at < 0:
                return False
            if kind == 0 or kind >= 13:
                vertices[vertex % _FIFO] = c
                vertex += 1
            edge = _push(edges, edge, c, b)
            edge = _push(edges, edge, a, c)
        else:
            if code < 0xFE:
                pair = np.int64(data[table + (code & 15)])
            else:
                if at >= table:
                    return False
                pair = np.int64(data[at])
                at += 1
                if pair == 0:
                    following = np.int64(0)
            if code < 0xFF:
                a, following = following, (following + 1) & _MASK
            else:
                at, last = _stored(data, at, table, last)
                a = last
                if at < 0:
                    return False
            # Indices of the list count from the state before this triangle's vertices are pushed.
            b, c = _NO_VERTEX, _NO_VERTEX
            left, right = pair >> 4, pair & 15
            if left == 0:
                b, following = following, (following + 1) & _MASK
            elif left < 15:
                b = vertices[(vertex - left) % _FIFO]
            else:
                at, last = _stored(data, at, table, last)
                b = last
            if at < 0:
                return False
            if right == 0:
                c, following = following, (following + 1) & _MASK
            elif right < 15:
                c = vertices[(vertex - right) % _FIFO]
            else:
                at, last = _stored(data, at, table, last)
                c = last
            if b < 0 or c < 0 or at < 0:
                return False
            vertices[vertex % _FIFO] = a
            vertex += 1
            if left == 0 or left == 15:
                vertices[vertex % _FIFO] = b
                vertex += 1
            if right == 0 or right == 15:
                vertices[vertex % _FIFO] = c
                vertex += 1
            edge = _push(edges, edge, b, a)
            edge = _push(edges, edge, c, b)
            edge = _push(edges, edge, a, c)
        out[3 * n], out[3 * n + 1], out[3 * n + 2] = a, b, c
    return at == table


@compiled
def decode_indices(data, out):  # type: ignore[no-untyped-def]
    """Decode a stream of indices (mode 2) into out [count] u32. Return whether it is valid."""
    end = len(data) - _PADDING
    if end < 1 or data[0] != _INDEX_HEADER:
        return False
    at = 1
    last = np.zeros(2, np.int64)
    for n in range(len(out)):
        at, value = _varint(data, at, end)
        if at < 0:
            return False
        baseline = value & 1
        last[baseline] = (last[baseline] + _signed(value >> 1)) & _MASK
        out[n] = last[baseline]
    return at == end


@compiled
def _stored(data, at, end, last):  # type: ignore[no-untyped-def]
    """Return where the data continues (-1: it ends), and the vertex stored as the difference."""
    at, value = _varint(data, at, end)
    return at, (last + _signed(value)) & _MASK


@compiled
def _varint(data, at, end):  # type: ignore[no-untyped-def]
    """Return where the data continues (-1: it ends or is invalid), and a LEB128 integer."""
    value = np.int64(0)
    for n in range(5):
        if at < 0 or at >= end:
            return -1, value
        value |= np.int64(data[at] & 127) << (7 * n)
        at += 1
        if data[at - 1] < 128:
            return at, value & _MASK
    return -1, value


@compiled
def _signed(value):  # type: ignore[no-untyped-def]
    return (value >> 1) ^ -(value & 1)


@compiled
def _push(edges, count, first, second):  # type: ignore[no-untyped-def]
    edges[count % _FIFO, 0], edges[count % _FIFO, 1] = first, second
    return count + 1
