"""Solids: closed surfaces with texture coordinates, and functions that make them.

Every solid is a loft (rings of points, joined), closed and wound outward. Texture coordinates: u
once around, v once along a loft; box projection for extruded outlines.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pointcmt.datasets.sources.toy.objects.outlines import (
    Curve,
    inward,
    rectangle,
    rounded_rectangle,
    spline,
    superellipse,
    triangulate,
)

Floats = NDArray[np.float64]
Faces = NDArray[np.int32]
Point = tuple[float, float, float]
AXES = {"x": 0, "y": 1, "z": 2}
PREFERENCE = (1.0, 0.999, 0.998)  # ranks equally near axes, so that rounding does not decide


@dataclass(frozen=True, eq=False)
class Solid:
    """A closed triangle surface, wound outward. Every method returns a new solid.

    vertices: [P,3] f64. faces: [F,3] i32. uv: [F,3,2] f64, v upward, repeating.
    """

    vertices: Floats
    faces: Faces
    uv: Floats

    def move(self, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> "Solid":
        """Shift the solid."""
        return replace(self, vertices=self.vertices + np.array([x, y, z]))

    def scale(self, x: float = 1.0, y: float = 1.0, z: float = 1.0) -> "Solid":
        """Scale about the origin; negative factors mirror, and the winding is corrected."""
        scaled = replace(self, vertices=self.vertices * np.array([x, y, z]))
        return scaled if x * y * z > 0 else _reversed(scaled)

    def turn(self, axis: str, degrees: float) -> "Solid":
        """Turn about an axis through the origin, by the right-hand rule."""
        cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        i, j = (AXES[axis] + 1) % 3, (AXES[axis] + 2) % 3
        turned = self.vertices.copy()
        turned[:, i] = cos * self.vertices[:, i] - sin * self.vertices[:, j]
        turned[:, j] = sin * self.vertices[:, i] + cos * self.vertices[:, j]
        return replace(self, vertices=turned)

    def warp(self, bend: Callable[[Floats], Floats]) -> "Solid":
        """Map the vertices [P,3] by a function that preserves orientation."""
        return replace(self, vertices=bend(self.vertices))

    def shear(self, x: float = 0.0, y: float = 0.0) -> "Solid":
        """Shift x and y in proportion to z."""
        return self.warp(lambda v: v + v[:, 2:] * np.array([x, y, 0.0]))

    def clip(self, low: float = 0.0, high: float = math.inf) -> "Solid":
        """Clamp the z of all vertices to [low, high]."""
        return self.warp(lambda v: np.clip(v, (-np.inf, -np.inf, low), (np.inf, np.inf, high)))

    def mirror(self, axis: str) -> "Solid":
        """Mirror in the plane where the coordinate `axis` is 0."""
        return self.scale(*(-1.0 if axis == name else 1.0 for name in AXES))

    def project(self, size: float = 1.0, along: str = "z") -> "Solid":
        """Set texture coordinates by box projection: one repeat of the texture per `size`.

        Each face is projected along the axis nearest to its normal. v runs along `along`, the
        direction of a wood's grain, except on faces perpendicular to it.
        """
        corners = self.vertices[self.faces]  # [F,3,3]
        normals = _cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        facing = np.argmax(np.abs(normals) * PREFERENCE, axis=1)
        grain = AXES[along]
        first, second = (axis for axis in range(3) if axis != grain)
        u, v = np.where(facing == first, second, first), np.where(facing == grain, second, grain)
        pick = np.stack([u, v], axis=1)[:, None, :].repeat(3, axis=1)
        return replace(self, uv=np.take_along_axis(corners, pick, axis=2) / size)

    def span_v(self, low: float, high: float) -> "Solid":
        """Keep u, but let v run from 0 at z = low to 1 at z = high."""
        z = self.vertices[self.faces][..., 2]
        return replace(self, uv=np.stack([self.uv[..., 0], (z - low) / (high - low)], axis=-1))

    def tile(self, u: float = 1.0, v: float = 1.0, du: float = 0.0, dv: float = 0.0) -> "Solid":
        """Repeat the texture u × v times, then shift it."""
        return replace(self, uv=self.uv * np.array([u, v]) + np.array([du, dv]))


def pair(solid: Solid) -> list[Solid]:
    """Return the solid and its mirror image in x = 0."""
    return [solid, solid.mirror("x")]


def four(solid: Solid) -> list[Solid]:
    """Return the solid and its mirror images in x = 0 and y = 0: the legs of most furniture."""
    return [*pair(solid), *pair(solid.mirror("y"))]


def around(solid: Solid, count: int, start: float = 0.0) -> list[Solid]:
    """Return `count` copies evenly spaced about the z axis, the first turned by `start` degrees."""
    return [solid.turn("z", start + 360.0 * i / count) for i in range(count)]


def loft(rings: Floats, cap: Faces | None = None, closed: bool = False) -> Solid:
    """Join consecutive rings [R,S,3] of S points each.

    A first or last ring whose points coincide is a tip. Other ends are filled by a fan about
    their mean, or by the triangles `cap` [T,3] (indices into a ring). closed: join the last ring to
    the first instead.
    """
    looped = np.concatenate([rings, rings[:1]]) if closed else rings
    steps = np.sqrt(((looped[1:] - looped[:-1]) ** 2).sum(axis=2)).mean(axis=1)
    v = np.concatenate([[0.0], np.cumsum(steps)]) / steps.sum()
    tips = [not closed and float(np.ptp(rings[end], axis=0).max()) < 1e-9 for end in (0, -1)]
    body = rings[tips[0] : len(rings) - tips[1]]
    count, size = body.shape[:2]
    faces, uv = _sides(count, size, v[tips[0] : len(v) - tips[1]])
    vertices = [body.reshape(-1, 3)]
    for end, start in () if closed else ((0, 0), (-1, (count - 1) * size)):
        if cap is not None:
            fan, fan_uv = cap + start, np.zeros((len(cap), 3, 2))
        else:
            fan, fan_uv = _fan(start, count * size + len(vertices) - 1, size)
            vertices.append(rings[end].mean(axis=0, keepdims=True))
        turn = slice(None, None, 1 if end else -1)  # the first end faces the other way
        faces, uv = np.concatenate([faces, fan[:, turn]]), np.concatenate([uv, fan_uv[:, turn]])
    return _outwards(Solid(np.concatenate(vertices), faces.astype(np.int32), uv))


def _sides(count: int, size: int, v: Floats) -> tuple[Faces, Floats]:
    """Return the triangles between each ring and the next; len(v) > count closes the loop."""
    ring, point = np.arange(len(v) - 1)[:, None], np.arange(size)[None]
    follow = (point + 1) % size
    here, there = ring * size, (ring + 1) % count * size
    a, b, c, d = here + point, here + follow, there + follow, there + point
    faces = np.stack([a, b, c, a, c, d], axis=-1).reshape(-1, 3)
    left, right = (np.broadcast_to((point + i) / size, a.shape) for i in (0, 1))
    low, high = (np.broadcast_to(edge[:, None], a.shape) for edge in (v[:-1], v[1:]))
    u_of = np.stack([left, right, right, left, right, left], axis=-1)
    v_of = np.stack([low, low, high, low, high, high], axis=-1)
    return faces, np.stack([u_of, v_of], axis=-1).reshape(-1, 3, 2)


def _fan(start: int, center: int, size: int) -> tuple[Faces, Floats]:
    """Return a fan over the ring that begins at `start`; its texture is the largest disc."""
    point = np.arange(size)
    faces = np.stack([start + point, start + (point + 1) % size, np.full(size, center)], axis=1)
    angle = 2 * np.pi * np.stack([point, point + 1], axis=1) / size
    rim = 0.5 + 0.5 * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    return faces, np.concatenate([rim, np.full((size, 1, 2), 0.5)], axis=1)


def _outwards(solid: Solid) -> Solid:
    """Turn the solid inside out where its volume is negative."""
    a, b, c = (solid.vertices[solid.faces[:, i]] - solid.vertices[0] for i in range(3))
    return solid if (a * _cross(b, c)).sum() > 0 else _reversed(solid)


def _reversed(solid: Solid) -> Solid:
    return Solid(solid.vertices, solid.faces[:, ::-1], solid.uv[:, ::-1])


def extrude(outline: Curve, height: float, bevel: float = 0.0, steps: int = 1) -> Solid:
    """Extrude an outline [S,2] from z = 0 to `height`, with its edges beveled in `steps` steps."""
    if bevel:
        turn = math.pi / 2 * np.arange(steps + 1) / steps
        inset, rise = bevel * (1 - np.sin(turn)), bevel * (1 - np.cos(turn))
        inset = np.concatenate([inset, inset[::-1]])
        z = np.concatenate([rise, height - rise[::-1]])
    else:
        inset, z = np.zeros(2), np.array([0.0, height])
    flat = outline + inset[:, None, None] * inward(outline)
    rings = np.concatenate([flat, np.broadcast_to(z[:, None, None], (*flat.shape[:2], 1))], axis=2)
    return loft(rings, cap=triangulate(outline)).project()


def plate(outline: Curve, thickness: float, bevel: float = 0.0) -> Solid:
    """Extrude an outline (x, z) to an upright plate centered on the plane y = 0."""
    return extrude(outline, thickness, bevel).turn("x", 90).move(y=thickness / 2)


def box(width: float, depth: float, height: float, bevel: float = 0.0) -> Solid:
    """Return a box on z = 0, centered on the z axis, with all of its edges beveled by `bevel`."""
    if not bevel:
        return boxes(np.array([[width, depth, height]]), np.zeros((1, 3)))
    return extrude(rounded_rectangle(width, depth, bevel, steps=1), height, bevel)


def boxes(sizes: Floats, places: Floats) -> Solid:
    """Return boxes of sizes [n,3] as one solid; places [n,3]: the middle of each lower side.

    Every box has texture coordinates as if it stood at the origin.
    """
    unit, axes = _unit_box()
    vertices = unit.vertices * sizes[:, None] + places[:, None]
    faces = unit.faces + len(unit.vertices) * np.arange(len(sizes), dtype=np.int32)[:, None, None]
    uv = unit.uv * sizes[:, axes]
    return Solid(vertices.reshape(-1, 3), faces.reshape(-1, 3), uv.reshape(-1, 3, 2))


@cache
def _unit_box() -> tuple[Solid, Faces]:
    """Return the box of size 1, and which axes its texture coordinates run along, [12,3,2]."""
    solid = extrude(rectangle(1.0, 1.0), 1.0)
    slopes = [solid.scale(*(2.0 if i == axis else 1.0 for i in range(3))) for axis in range(3)]
    moved = np.stack([np.abs(each.project().uv - solid.uv).max(axis=1) for each in slopes])
    axes = np.argmax(moved, axis=0).astype(np.int32)  # [12,2]
    return solid, np.repeat(axes[:, None], 3, axis=1)


def soft_box(width: float, depth: float, height: float, softness: float) -> Solid:
    """Return an upholstered box on z = 0, its edges rounded by `softness`."""
    softness = min(softness, 0.49 * width, 0.49 * depth, 0.49 * height)
    flat = rounded_rectangle(width, depth, softness)
    return extrude(flat, height, softness, steps=3).project(0.45)


def lathe(profile: ArrayLike, segments: int = 28, ring: bool = False) -> Solid:
    """Revolve a profile [K,2] of (radius, z), bottom to top, about the z axis.

    Ends that are not on the axis are closed by flat caps. ring: the profile is a closed loop away
    from the axis, such as a tire's.
    """
    radius, z = np.asarray(profile, np.float64).T[..., None]
    angle = 2 * math.pi * (np.arange(segments) + 0.5) / segments  # a face in front, not an edge
    rings = np.stack(np.broadcast_arrays(radius * np.cos(angle), radius * np.sin(angle), z), -1)
    return loft(rings, closed=ring)


def cylinder(radius: float, height: float, segments: int = 20, bevel: float = 0.0) -> Solid:
    """Return a cylinder on z = 0."""
    return frustum(radius, radius, height, segments, bevel)


def frustum(
    bottom: float, top: float, height: float, segments: int = 20, bevel: float = 0.0
) -> Solid:
    """Return a truncated cone on z = 0, or a full cone if `top` is 0."""
    if not bevel:
        return lathe([(bottom, 0.0), (top, height)], segments)
    low, high = [(bottom - bevel, 0.0), (bottom, bevel)], [(top, height - bevel)]
    return lathe([*low, *high, (top - bevel, height)], segments)


def ellipsoid(rx: float, ry: float, rz: float, segments: int = 18, rows: int = 10) -> Solid:
    """Return an ellipsoid about the origin."""
    angle = math.pi * (np.arange(rows + 1) / rows - 0.5)
    profile = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    profile[[0, -1], 0] = 0.0
    return lathe(profile, segments).scale(rx, ry, rz)


def ball(radius: float, segments: int = 16, rows: int = 10) -> Solid:
    """Return a sphere about the origin."""
    return ellipsoid(radius, radius, radius, segments, rows)


def torus(radius: float, thickness: float, segments: int = 24, around: int = 8) -> Solid:
    """Return a torus about the z axis; `radius` is that of its center line."""
    angle = 2 * math.pi * np.arange(around) / around
    section = np.stack([radius + thickness * np.cos(angle), thickness * np.sin(angle)], axis=1)
    return lathe(section, segments, ring=True)


def cushion(width: float, depth: float, height: float, power: float = 4.0) -> Solid:
    """Return a pillow about the origin: thick in the middle, thin at its seam."""
    angle = math.pi * (np.arange(9) / 8 - 0.5)
    reach = np.abs(np.cos(angle)) ** 0.45  # a power below 1 gives a sharp seam and flat faces
    reach[[0, -1]] = 0.0
    ring = superellipse(width / 2, depth / 2, power, 24)
    rings = np.empty((9, len(ring), 3))
    rings[:, :, :2] = reach[:, None, None] * ring
    rings[:, :, 2] = height / 2 * np.sin(angle)[:, None]
    return loft(rings).project(0.3)


def tube(
    path: ArrayLike,
    radius: ArrayLike,
    segments: int = 8,
    section: Curve | None = None,
    closed: bool = False,
) -> Solid:
    """Return a round bar along a curve [K,3], or one with any `section` [S,2] scaled by `radius`.

    radius: one number, or one per point. One axis must never be parallel to the curve.
    """
    path = np.asarray(path, np.float64)
    ahead, behind = np.roll(path, -1, axis=0), np.roll(path, 1, axis=0)
    if not closed:
        ahead[-1], behind[0] = path[-1], path[0]
    tangent = _unit(ahead - behind)
    # the axis that the curve's direction never comes near to, so that the bar does not twist
    axis = np.eye(3)[int(np.argmin(np.round(np.abs(tangent).max(axis=0), 9)))]
    right = _unit(np.cross(tangent, axis))
    up = np.cross(right, tangent)
    if section is None:
        section = superellipse(1.0, 1.0, 2.0, segments)
    across = section[None, :, :1] * right[:, None] + section[None, :, 1:] * up[:, None]
    size = np.broadcast_to(np.asarray(radius, np.float64), len(path))
    return loft(path[:, None] + size[:, None, None] * across, closed=closed)


def rod(start: ArrayLike, end: ArrayLike, radius: float, tip: float | None = None) -> Solid:
    """Return a straight round bar between two points; `tip` is its radius at the end."""
    return tube(np.array([start, end]), [radius, radius if tip is None else tip])


def lath(path: ArrayLike, width: float, height: float) -> Solid:
    """Return a bar of rectangular section along a curve [K,3]."""
    return tube(path, 1.0, section=rectangle(width, height))


def sheet(grid: Floats, thickness: float) -> Solid:
    """Return a curved panel: a grid of points [R,S,3] with a thickness."""
    rows, columns = np.gradient(grid, axis=0), np.gradient(grid, axis=1)
    offset = _unit(np.cross(columns, rows)) * thickness / 2
    rings = np.concatenate([grid + offset, (grid - offset)[:, ::-1]], axis=1)
    near = np.arange(grid.shape[1] - 1)
    far = rings.shape[1] - 1 - near
    strips = [np.stack([near, near + 1, far - 1]), np.stack([near, far - 1, far])]
    return loft(rings, cap=np.concatenate(strips, axis=1).T.astype(np.int32))


def hull(stations: ArrayLike, power: float = 2.0, segments: int = 18, per: int = 3) -> Solid:
    """Return a body along y through stations (y, half width, lowest z, highest z), nose to tail.

    Its sections are superellipses; an end station without width or height is a tip. Texture: u
    around from +x over the top, v from the nose to the tail.
    """
    line = spline(np.asarray(stations, np.float64), per)
    y, width, low, high = line.T[..., None]
    inner = np.zeros_like(y)
    inner[1:-1] = 0.002  # a spline may dip to 0 between stations; only tips may be 0
    ring = superellipse(1.0, 1.0, power, segments)
    x = np.maximum(width, inner) * ring[:, 0]
    z = (low + high) / 2 + np.maximum((high - low) / 2, inner) * ring[:, 1]
    return loft(np.stack(np.broadcast_arrays(x, y, z), axis=-1))


def _cross(a: Floats, b: Floats) -> Floats:
    """Return cross products [n,3]: what numpy's does, with less overhead on small arrays."""
    (ax, ay, az), (bx, by, bz) = a.T, b.T
    return np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], axis=1)


def _unit(vectors: Floats) -> Floats:
    """Scale vectors [...,3] to length 1; zero vectors stay as they are."""
    length = np.sqrt((vectors**2).sum(axis=-1, keepdims=True))
    return vectors / np.where(length > 0, length, 1.0)
