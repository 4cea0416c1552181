"""`loft`: rings of points joined to a closed surface, which is how nearly every solid is made."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pointcmt.datasets.sources.toy_shapes.solid import Solid, outwards

Floats = NDArray[np.float64]
Faces = NDArray[np.integer]


def loft(rings: Floats, cap: Faces | None = None, closed: bool = False) -> Solid:
    """Rings [R,S,3] of S points each, joined one to the next.

    A first or last ring whose points coincide is a tip. Other ends are filled by a fan about
    their mean, or by the triangles `cap` [T,3] (indices into a ring, in its direction). closed:
    the last ring joins the first instead. Texture coordinates: u around, v along, both 0..1.
    """
    v = _lengthwise(rings, closed)
    tip_below, tip_above = (not closed and _is_point(rings[end]) for end in (0, -1))
    body = rings[int(tip_below) : len(rings) - int(tip_above)]
    count, size = body.shape[:2]
    pieces = [_sides(count, size, v[int(tip_below) :][: count + closed])]
    vertices = [body.reshape(-1, 3)]
    for far in () if closed else (False, True):
        tip, ring = (tip_above, rings[-1]) if far else (tip_below, rings[0])
        start = (count - 1) * size if far else 0
        if cap is not None and not tip:
            end = cap + start, ring[cap][..., :2]
        else:
            edge = v[int(tip_below) + (count - 1 if far else 0)]
            fan = _cone_uv(size, edge, float(far)) if tip else _disc_uv(size)
            end = _fan(start, sum(map(len, vertices)), fan)
            vertices.append(ring.mean(axis=0, keepdims=True))
        # the near end is seen from the other side
        pieces.append(end if far else (end[0][:, ::-1], end[1][:, ::-1]))
    faces, uv = (np.concatenate(part) for part in zip(*pieces, strict=True))
    return outwards(Solid(np.concatenate(vertices), faces.astype(np.int32), uv))


def unit(vectors: Floats) -> Floats:
    """Vectors [...,3] scaled to length 1; where there is none, left as they are."""
    length = np.sqrt((vectors**2).sum(axis=-1, keepdims=True))
    return vectors / np.where(length > 0, length, 1.0)


def _is_point(ring: Floats) -> bool:
    return bool(np.abs(ring - ring[0]).max() < 1e-9)


def _lengthwise(rings: Floats, closed: bool) -> Floats:
    """How far along the loft each ring is, 0..1; a closed one ends on its first ring again."""
    if closed:
        rings = np.concatenate([rings, rings[:1]])
    steps = np.sqrt(((rings[1:] - rings[:-1]) ** 2).sum(axis=2)).mean(axis=1)
    distance = np.concatenate([[0.0], np.cumsum(steps)])
    return distance / distance[-1]


def _sides(count: int, size: int, v: Floats) -> tuple[Faces, Floats]:
    """The band of triangles between each ring and the next; len(v) > count closes the loop."""
    faces, u = _bands(count, size, len(v) - 1)
    low, high = v[:-1].repeat(size), v[1:].repeat(size)
    v_of = np.stack([low, low, high, low, high, high], axis=-1).reshape(-1, 3)
    return faces, np.stack([u, v_of], axis=-1)


@lru_cache(maxsize=512)  # shapes are full of lofts with equal numbers
def _bands(count: int, size: int, bands: int) -> tuple[Faces, Floats]:
    """Faces [F,3] of so many bands between `count` rings of `size` points, and their u [F,3]."""
    ring, point = np.arange(bands)[:, None], np.arange(size)
    here, there, follow = (ring % count) * size, ((ring + 1) % count) * size, (point + 1) % size
    a, b, c, d = here + point, here + follow, there + follow, there + point
    faces = np.stack([a, b, c, a, c, d], axis=-1).reshape(-1, 3)
    left, right = np.tile(point / size, bands), np.tile((point + 1) / size, bands)
    return faces, np.stack([left, right, right, left, right, left], axis=-1).reshape(-1, 3)


def _fan(start: int, center: int, uv: Floats) -> tuple[Faces, Floats]:
    point = np.arange(len(uv))
    faces = np.stack([start + point, start + np.roll(point, -1), np.full_like(point, center)], 1)
    return faces, uv


def _cone_uv(size: int, edge: float, tip: float) -> Floats:
    """The fan of a tip: u around, v from the edge to the tip."""
    u = np.arange(size)[:, None] / size + np.array([0.0, 1.0, 0.5]) / size
    return np.stack([u, np.broadcast_to([edge, edge, tip], u.shape)], axis=-1)


@lru_cache(maxsize=64)
def _disc_uv(size: int) -> Floats:
    """The fan of a flat end: the largest disc in the texture."""
    angle = 2 * np.pi * np.arange(size + 1) / size
    rim = 0.5 + 0.5 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return np.stack([rim[:-1], rim[1:], np.full_like(rim[1:], 0.5)], axis=1)
