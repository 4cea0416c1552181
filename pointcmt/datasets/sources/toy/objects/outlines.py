"""Curves and outlines, from which `solids` makes shapes.

An outline is a closed polygon [S,2] that runs counter-clockwise; a curve is an open line [K,2] or
[K,3].
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Curve = NDArray[np.float64]
Points = Sequence[Sequence[float]]
CONVEX = 1e-9  # twice the least area of a corner that bends outward


def superellipse(rx: float, ry: float, power: float = 2.0, count: int = 24) -> Curve:
    """Return |x/rx|^power + |y/ry|^power = 1: an ellipse at 2, nearly a rectangle at 5 or more."""
    angle = 2 * np.pi * np.arange(count) / count
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    circle[np.abs(circle) < 1e-12] = 0.0  # cos(90°) is not exactly 0; a small power enlarges it
    return np.sign(circle) * np.abs(circle) ** (2 / power) * (rx, ry)


def rectangle(width: float, depth: float) -> Curve:
    """Return a rectangle about the origin."""
    w, d = width / 2, depth / 2
    return np.array([(-w, -d), (w, -d), (w, d), (-w, d)])


def rounded(points: ArrayLike, radius: float, steps: int = 3, closed: bool = True) -> Curve:
    """Replace corners by curves that start `radius` before each corner, at most halfway.

    Each curve is a quadratic Bézier curve of `steps` segments; the ends of an open line are kept.
    """
    corners = np.asarray(points, np.float64)
    sides = (np.roll(corners, shift, axis=0) - corners for shift in (1, -1))
    starts, stops = (
        corners + side * np.minimum(radius / np.maximum(_length(side), 1e-12), 0.49)
        for side in sides
    )
    t = (np.arange(steps + 1) / steps)[:, None, None]
    bends = (1 - t) ** 2 * starts + 2 * t * (1 - t) * corners + t**2 * stops
    if closed:
        return bends.transpose(1, 0, 2).reshape(-1, corners.shape[1])
    inner = bends[:, 1:-1].transpose(1, 0, 2).reshape(-1, corners.shape[1])
    return np.concatenate([corners[:1], inner, corners[-1:]])


def rounded_rectangle(width: float, depth: float, radius: float, steps: int = 3) -> Curve:
    """Return a rectangle about the origin with round corners."""
    return rounded(rectangle(width, depth), radius, steps)


def spline(points: Points | Curve, per: int = 4, closed: bool = False) -> Curve:
    """Return a Catmull-Rom curve through all points, `per` segments between neighbors."""
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


def symmetric(right: Points | Curve) -> Curve:
    """Return a half outline with x ≥ 0, bottom to top, joined to its mirror image in x = 0."""
    half = np.asarray(right, np.float64)
    return np.concatenate([half, half[half[:, 0] > 1e-9][::-1] * (-1, 1)])


def inward(outline: Curve) -> Curve:
    """Return each corner's movement [S,2], at most 2, when all edges move inward by 1."""
    side = np.roll(outline, -1, axis=0) - outline
    side /= _length(side)
    normal = np.stack([-side[:, 1], side[:, 0]], axis=1)
    both = normal + np.roll(normal, 1, axis=0)
    return 2 * both / np.maximum((both**2).sum(axis=1, keepdims=True), 1.0)


def triangulate(outline: Curve) -> NDArray[np.int32]:
    """Return triangles [S-2,3] that fill a simple polygon: a fan if convex, else ear clipping."""
    before, after = np.roll(outline, 1, axis=0), np.roll(outline, -1, axis=0)
    if (_cross(outline - before, after - outline) > CONVEX).all():
        second = np.arange(1, len(outline) - 1, dtype=np.int32)
        return np.stack([np.zeros_like(second), second, second + 1], axis=1)
    left, triangles = list(range(len(outline))), []
    while len(left) > 3:
        corner = _ear(outline[left])
        triangles.append((left[corner - 1], left[corner], left[(corner + 1) % len(left)]))
        del left[corner]
    return np.array([*triangles, left], np.int32)


def _ear(polygon: Curve) -> int:
    """Return the roundest corner whose triangle with its neighbors contains no other corner."""
    before, after = np.roll(polygon, 1, axis=0), np.roll(polygon, -1, axis=0)
    area = _cross(polygon - before, after - polygon)
    if (area > CONVEX).all():
        return 1  # in a convex polygon, any corner is an ear
    size = ((after - before) ** 2).sum(axis=1) + ((polygon - before) ** 2).sum(axis=1)
    for i in np.argsort(-np.round(area / size, 6), kind="stable").tolist():
        corners = [before[i], polygon[i], after[i]]
        sides = [_cross(corners[k] - corners[k - 1], polygon - corners[k - 1]) for k in range(3)]
        inside = np.stack(sides).min(axis=0) >= 0
        inside[[i - 1, i, (i + 1) % len(polygon)]] = False
        if not inside.any():
            return int(i)
    raise ValueError("the outline crosses itself")


def _cross(a: Curve, b: Curve) -> Curve:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def at_height(profile: Curve, z: float) -> float:
    """Return the radius of a profile (radius, z) at this height."""
    return float(np.interp(z, profile[:, 1], profile[:, 0]))


def _length(vectors: Curve) -> Curve:
    return np.sqrt((vectors**2).sum(axis=1, keepdims=True))
