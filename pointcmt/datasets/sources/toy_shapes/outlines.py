"""Curves and outlines: the drawings that `solids` turns into shapes.

An outline is a closed polygon [S,2] that runs counter-clockwise, a curve an open line [K,2] or
[K,3]. Angles are in degrees, lengths in the shape's own unit.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Curve = NDArray[np.float64]


def circle(radius: float, count: int = 24) -> Curve:
    """A regular polygon of `count` corners; the first lies on +x."""
    return ellipse(radius, radius, count)


def ellipse(rx: float, ry: float, count: int = 24) -> Curve:
    """An ellipse about the origin."""
    angle = 2 * math.pi * np.arange(count) / count
    return np.stack([rx * np.cos(angle), ry * np.sin(angle)], axis=1)


def superellipse(rx: float, ry: float, power: float, count: int = 24) -> Curve:
    """|x/rx|^power + |y/ry|^power = 1: an ellipse at 2, nearly a rectangle from 5 on."""
    round_ = ellipse(1.0, 1.0, count)
    round_[np.abs(round_) < 1e-12] = 0.0  # cos(90°) is not quite 0, and a small power of it is not
    bent = np.sign(round_) * np.abs(round_) ** (2 / power)
    return bent * (rx, ry)


def rectangle(width: float, depth: float) -> Curve:
    """A rectangle about the origin."""
    w, d = width / 2, depth / 2
    return np.array([(-w, -d), (w, -d), (w, d), (-w, d)])


def rounded(points: ArrayLike, radius: float, steps: int = 3, closed: bool = True) -> Curve:
    """Corners replaced by curves that begin `radius` before each corner, or halfway if nearer.

    Each is a quadratic Bézier curve of `steps` segments; the ends of an open line stay.
    """
    corners = np.asarray(points, np.float64)
    before, after = np.roll(corners, 1, axis=0) - corners, np.roll(corners, -1, axis=0) - corners
    starts, stops = (corners + side * _reach(side, radius) for side in (before, after))
    t = (np.arange(steps + 1) / steps)[:, None, None]
    bends = (1 - t) ** 2 * starts + 2 * t * (1 - t) * corners + t**2 * stops
    if closed:
        return bends.transpose(1, 0, 2).reshape(-1, corners.shape[1])
    inner = bends[:, 1:-1].transpose(1, 0, 2).reshape(-1, corners.shape[1])
    return np.concatenate([corners[:1], inner, corners[-1:]])


def _reach(side: Curve, radius: float) -> Curve:
    length = np.sqrt((side**2).sum(axis=1, keepdims=True))
    return np.minimum(radius / np.maximum(length, 1e-12), 0.49)  # below 1/2: no doubled points


def rounded_rectangle(width: float, depth: float, radius: float, steps: int = 3) -> Curve:
    """A rectangle about the origin with round corners."""
    return rounded(rectangle(width, depth), radius, steps)


def spline(points: Sequence[Sequence[float]] | Curve, per: int = 6, closed: bool = False) -> Curve:
    """A smooth curve (Catmull-Rom) through all points, `per` segments between neighbours."""
    knots = np.asarray(points, np.float64)
    if closed:
        padded = np.concatenate([knots[-1:], knots, knots[:2]])
    else:
        padded = np.concatenate([2 * knots[:1] - knots[1:2], knots, 2 * knots[-1:] - knots[-2:-1]])
    p0, p1, p2, p3 = (padded[i : len(padded) - 3 + i, None] for i in range(4))
    t = (np.arange(per) / per)[None, :, None]
    bend = (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * (p1 - p2) + p3 - p0) * t**3
    curve = (p1 + ((p2 - p0) * t + bend) / 2).reshape(-1, knots.shape[1])
    return curve if closed else np.concatenate([curve, knots[-1:]])


def arc(radius: float, start: float, stop: float, count: int = 12) -> Curve:
    """Part of a circle about the origin, [count+1,2], angles in degrees from +x."""
    angle = np.radians(start + (stop - start) * np.arange(count + 1) / count)
    return radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def symmetric(right: ArrayLike) -> Curve:
    """A half outline with x ≥ 0, from bottom to top, and its mirror image in x = 0.

    Points on the axis itself are taken once.
    """
    half = np.asarray(right, np.float64)
    left = half[half[:, 0] > 1e-9][::-1] * (-1, 1)
    return np.concatenate([half, left])


def inward(outline: Curve) -> Curve:
    """How each corner moves [S,2] when all edges move inwards by 1, at most by 2."""
    edge = np.roll(outline, -1, axis=0) - outline
    edge /= np.sqrt((edge**2).sum(axis=1, keepdims=True))
    normal = np.stack([-edge[:, 1], edge[:, 0]], axis=1)
    both = normal + np.roll(normal, 1, axis=0)
    square = (both**2).sum(axis=1, keepdims=True)
    return 2 * both / np.maximum(square, 1.0)


def is_starlike(outline: Curve) -> bool:
    """Whether the mean of the corners sees every edge, so that a fan of triangles fills it."""
    spoke = outline - outline.mean(axis=0)
    follow = np.roll(spoke, -1, axis=0)
    return bool((spoke[:, 0] * follow[:, 1] - spoke[:, 1] * follow[:, 0] > 1e-9).all())


def triangulate(outline: Curve) -> NDArray[np.int32]:
    """Triangles [S-2,3] that fill a simple polygon, by clipping ears."""
    left = list(range(len(outline)))
    triangles = []
    while len(left) > 3:
        position = _ear(outline[left])
        triangles.append((left[position - 1], left[position], left[(position + 1) % len(left)]))
        del left[position]
    return np.array([*triangles, left], np.int32)


def _ear(polygon: Curve) -> int:
    """The roundest corner that no other corner lies inside of."""
    a, c = np.roll(polygon, 1, axis=0), np.roll(polygon, -1, axis=0)
    area = _cross(polygon - a, c - polygon)
    longest = ((c - a) ** 2).sum(axis=1) + ((polygon - a) ** 2).sum(axis=1)
    for position in np.argsort(-area / longest, kind="stable").tolist():
        corners = a[position], polygon[position], c[position]
        inside = np.ones(len(polygon), bool)
        for tail, head in zip(corners, (*corners[1:], corners[0]), strict=True):
            inside &= _cross(head - tail, polygon - tail) >= 0
        for corner in corners:  # a corner that touches itself is no obstacle
            inside &= (polygon != corner).any(axis=1)
        if not inside.any():
            return int(position)
    raise ValueError("the outline crosses itself")


def _cross(a: Curve, b: Curve) -> NDArray[np.float64]:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
