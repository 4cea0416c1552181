"""Indices compressed by meshopt: lists of triangles, and plain sequences."""

import numpy as np

from pointcmt.compiled import compiled

_TRIANGLE_HEADER, _INDEX_HEADER = 0xE1, 0xD1
_FIFO = 16  # entries of the two first-in, first-out lists
_MASK = 0xFFFFFFFF
_SHORTEST_TABLE, _PADDING = 16, 4  # bytes after the data
_NONE = np.int64(-1)  # no vertex


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
    edges = np.full((_FIFO, 2), _NONE)
    vertices = np.full(_FIFO, _NONE)
    edge = vertex = 0  # entries that were pushed
    # at: in the data. following: the next new vertex. last: the last one that was stored.
    at, following, last = 1 + triangles, np.int64(0), np.int64(0)
    for n in range(triangles):
        code = np.int64(data[1 + n])  # signed: numba mixes the two kinds to floats
        if code < 0xF0:
            place, kind = (edge - 1 - (code >> 4)) % _FIFO, code & 15
            a, b = edges[place, 0], edges[place, 1]
            if kind == 13 or kind == 14:
                last = (last + (-1 if kind == 13 else 1)) & _MASK
                c = last
            else:
                how = kind + 1 if 0 < kind < 13 else kind  # the most recent vertex has no code
                c, following, last, at = _corner(
                    how, vertices, vertex, following, last, data, at, table
                )
            vertex = _push_new(vertices, vertex, c, 15 if kind > 12 else kind)
        else:
            pair = np.int64(data[table + (code & 15)])
            if code >= 0xFE:
                if at >= table:
                    return False
                pair = np.int64(data[at])
                at += 1
                following = following if pair else np.int64(0)
            left, right = pair >> 4, pair & 15
            # The list of vertices counts from before this triangle.
            a, following, last, at = _corner(
                15 if code == 0xFF else 0, vertices, vertex, following, last, data, at, table
            )
            b, following, last, at = _corner(
                left, vertices, vertex, following, last, data, at, table
            )
            c, following, last, at = _corner(
                right, vertices, vertex, following, last, data, at, table
            )
            vertex = _push_new(vertices, vertex, a, 0)
            vertex = _push_new(vertices, vertex, b, left)
            vertex = _push_new(vertices, vertex, c, right)
            edge = _push(edges, edge, b, a)
        if a < 0 or b < 0 or c < 0 or at < 0:
            return False
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
def _corner(how, vertices, pushed, following, last, data, at, end):  # type: ignore[no-untyped-def]
    """Return a corner (-1: invalid), and following, last and at after it. how: 0 = the next new
    vertex, 1 to 14 = from the list, the most recent first, 15 = stored in the data."""
    if how == 0:
        return following, (following + 1) & _MASK, last, at
    if how < 15:
        return vertices[(pushed - how) % _FIFO], following, last, at
    at, value = _varint(data, at, end)
    if at < 0:
        return _NONE, following, last, at
    last = (last + _signed(value)) & _MASK
    return last, following, last, at


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


@compiled
def _push_new(vertices, count, vertex, how):  # type: ignore[no-untyped-def]
    """Put a vertex into the list, unless it comes from there. Return how many were put there."""
    if how != 0 and how != 15:
        return count
    vertices[count % _FIFO] = vertex
    return count + 1
