"""A small vocabulary of solids: what all toy shapes are put together from.

Everything is one of two kinds, a loft (rings of points, joined) or an extruded outline, and comes
back closed and wound outwards. Texture coordinates: u once around, v once along a loft; box
projection for the rest (`Solid.project`, `Solid.tile` change them).
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pointcmt.datasets.sources.toy_shapes.loft import loft, unit
from pointcmt.datasets.sources.toy_shapes.outlines import (
    Curve,
    inward,
    is_starlike,
    rectangle,
    rounded_rectangle,
    superellipse,
    triangulate,
)
from pointcmt.datasets.sources.toy_shapes.solid import Solid


def box(width: float, depth: float, height: float, bevel: float = 0.0) -> Solid:
    """A box that stands on z = 0 about the z axis; `bevel` cuts all of its edges."""
    if not bevel:
        return extrude(rectangle(width, depth), height)
    return extrude(rounded_rectangle(width, depth, bevel, steps=1), height, bevel)


def soft_box(width: float, depth: float, height: float, softness: float) -> Solid:
    """An upholstered box on z = 0: edges rounded by `softness`, in three steps."""
    softness = min(softness, 0.49 * width, 0.49 * depth, 0.49 * height)
    return extrude(rounded_rectangle(width, depth, softness), height, softness, steps=3)


def extrude(outline: Curve, height: float, bevel: float = 0.0, steps: int = 1) -> Solid:
    """An outline [S,2] raised from z = 0 to `height`, its edges bevelled in so many steps."""
    if bevel:
        turn = math.pi / 2 * np.arange(steps + 1) / steps
        inset, rise = bevel * (1 - np.sin(turn)), bevel * (1 - np.cos(turn))
        inset = np.concatenate([inset, inset[::-1]])
        z = np.concatenate([rise, height - rise[::-1]])
    else:
        inset, z = np.zeros(2), np.array([0.0, height])
    flat = outline + inset[:, None, None] * inward(outline)
    rings = np.concatenate([flat, np.broadcast_to(z[:, None, None], (*flat.shape[:2], 1))], axis=2)
    cap = None if is_starlike(outline) else triangulate(outline)
    return loft(rings, cap=cap).project()


def lathe(profile: ArrayLike, segments: int = 28, ring: bool = False) -> Solid:
    """A profile [K,2] of (radius, z), bottom to top, turned about the z axis.

    Ends on the axis close by themselves, others by a flat cap. ring: the profile is a closed loop
    away from the axis, as a tyre's.
    """
    profile = np.asarray(profile, np.float64)
    angle = (
        2 * math.pi * (np.arange(segments) + 0.5) / segments
    )  # a flat, not an edge, at the front
    rings = np.empty((len(profile), segments, 3))
    rings[:, :, 0] = profile[:, :1] * np.cos(angle)
    rings[:, :, 1] = profile[:, :1] * np.sin(angle)
    rings[:, :, 2] = profile[:, 1:]
    return loft(rings, closed=ring)


def cylinder(radius: float, height: float, segments: int = 20, bevel: float = 0.0) -> Solid:
    """A cylinder on z = 0."""
    return frustum(radius, radius, height, segments, bevel)


def frustum(
    bottom: float, top: float, height: float, segments: int = 20, bevel: float = 0.0
) -> Solid:
    """A cone cut off, from radius `bottom` at z = 0 to `top` at `height`; `top` 0 is a cone."""
    profile = [(bottom, 0.0), (top, height)]
    if bevel:
        low = (bottom - bevel, 0.0), (bottom, bevel)
        high = (top, height - bevel), (top - bevel, height)
        profile = [*low, *high]
    return lathe(profile, segments)


def ellipsoid(rx: float, ry: float, rz: float, segments: int = 20, rows: int = 10) -> Solid:
    """An ellipsoid about the origin."""
    angle = math.pi * (np.arange(rows + 1) / rows - 0.5)
    profile = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    profile[[0, -1], 0] = 0.0
    return lathe(profile, segments).scale(rx, ry, rz)


def torus(radius: float, thickness: float, segments: int = 24, around: int = 10) -> Solid:
    """A ring about the z axis; `radius` to the middle of the tube of radius `thickness`."""
    angle = 2 * math.pi * np.arange(around) / around
    section = np.stack([radius + thickness * np.cos(angle), thickness * np.sin(angle)], axis=1)
    return lathe(section, segments, ring=True)


def cushion(width: float, depth: float, height: float, power: float = 4.0) -> Solid:
    """A filled pillow about the origin: full in the middle, thin at its seam."""
    rows = 8
    angle = math.pi * (np.arange(rows + 1) / rows - 0.5)
    reach = np.abs(np.cos(angle)) ** 0.45  # below 1: the seam is sharp, the faces are flat
    reach[[0, -1]] = 0.0
    ring = superellipse(width / 2, depth / 2, power, 24)
    rings = np.empty((rows + 1, len(ring), 3))
    rings[:, :, :2] = reach[:, None, None] * ring
    rings[:, :, 2] = height / 2 * np.sin(angle)[:, None]
    return loft(rings).project()


def tube(
    path: ArrayLike,
    radius: float | ArrayLike,
    segments: int = 10,
    section: Curve | None = None,
    closed: bool = False,
) -> Solid:
    """A round bar along a curve [K,3], or one of any `section` [S,2], scaled by `radius`.

    radius: one number, or one per point. The section's x axis is level where the curve allows it.
    """
    path = np.asarray(path, np.float64)
    ahead, behind = np.roll(path, -1, axis=0), np.roll(path, 1, axis=0)
    if not closed:
        ahead[-1], behind[0] = path[-1], path[0]
    tangent = unit(ahead - behind)
    right = _sideways(tangent)
    normal = np.cross(right, tangent)
    if section is None:
        angle = 2 * math.pi * (np.arange(segments) + 0.5) / segments
        section = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    across, up = section[None, :, :1] * right[:, None], section[None, :, 1:] * normal[:, None]
    size = np.broadcast_to(np.asarray(radius, np.float64), len(path))
    return loft(path[:, None] + size[:, None, None] * (across + up), closed=closed)


def _sideways(tangent: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit vectors [K,3] across a curve's tangents that do not twist around it.

    Across a fixed axis where none of the tangents comes near it, carried along otherwise.
    """
    reach = np.round(np.abs(tangent).max(axis=0), 9)
    axis = int(np.argmin(reach))
    right = unit(np.cross(tangent, np.eye(3)[axis]))
    if reach[axis] < 0.95:
        return right
    across = [right[0] if right[0].any() else np.cross(tangent[0], np.eye(3)[axis - 1])]
    for direction in tangent[1:]:
        across.append(unit(across[-1] - (across[-1] * direction).sum() * direction))
    return np.stack(across)


def rod(start: ArrayLike, end: ArrayLike, radius: float, tip: float | None = None) -> Solid:
    """A straight round bar between two points, `tip` being its radius at the end."""
    return tube(np.array([start, end]), [radius, radius if tip is None else tip], segments=8)


def sheet(grid: NDArray[np.float64], thickness: float | NDArray[np.float64]) -> Solid:
    """A curved panel: a grid of points [R,S,3] given a thickness (one, or [R,S])."""
    rows, columns = np.gradient(grid, axis=0), np.gradient(grid, axis=1)
    half = np.broadcast_to(np.asarray(thickness, np.float64), grid.shape[:2])[..., None] / 2
    offset = unit(np.cross(columns, rows)) * half
    rings = np.concatenate([grid + offset, (grid - offset)[:, ::-1]], axis=1)
    last = rings.shape[1] - 1
    near = np.arange(grid.shape[1] - 1)
    far = last - near
    lower, upper = np.stack([near, near + 1, far - 1]), np.stack([near, far - 1, far])
    return loft(rings, cap=np.concatenate([lower, upper], axis=1).T)
