"""`Solid`: one closed surface with texture coordinates, and the ways to place it."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

AXES = {"x": 0, "y": 1, "z": 2}
PREFERENCE = (1.0, 0.999, 0.998)  # of equally near axes, so that no rounding error decides


@dataclass(frozen=True, eq=False)
class Solid:
    """A closed triangle surface, wound outwards. Everything that places it returns a new one.

    vertices: [P,3] f64. faces: [F,3] i32. uv: [F,3,2] f64, v upwards, repeating.
    """

    vertices: NDArray[np.float64]
    faces: NDArray[np.int32]
    uv: NDArray[np.float64]

    def move(self, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> "Solid":
        """Shifted."""
        return replace(self, vertices=self.vertices + np.array([x, y, z]))

    def scale(self, x: float = 1.0, y: float = 1.0, z: float = 1.0) -> "Solid":
        """Stretched about the origin; negative factors mirror, and the winding follows."""
        scaled = replace(self, vertices=self.vertices * np.array([x, y, z]))
        return scaled if x * y * z > 0 else scaled.inside_out()

    def turn(self, axis: str, degrees: float) -> "Solid":
        """Turned about an axis through the origin, by the right-hand rule."""
        cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        i, j = (AXES[axis] + 1) % 3, (AXES[axis] + 2) % 3
        turned = self.vertices.copy()
        turned[:, i] = cos * self.vertices[:, i] - sin * self.vertices[:, j]
        turned[:, j] = sin * self.vertices[:, i] + cos * self.vertices[:, j]
        return replace(self, vertices=turned)

    def warp(self, bend: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> "Solid":
        """Bent by a map of the vertices [P,3] that keeps left and right apart."""
        return replace(self, vertices=bend(self.vertices))

    def shear(self, x: float = 0.0, y: float = 0.0) -> "Solid":
        """Leaning: x and y shift with height, in units per unit of z."""
        z = self.vertices[:, 2:]
        return replace(self, vertices=self.vertices + z * np.array([x, y, 0.0]))

    def mirror(self, axis: str) -> "Solid":
        """The mirror image in the plane where this coordinate is 0."""
        return self.scale(*(-1.0 if axis == name else 1.0 for name in AXES))

    def inside_out(self) -> "Solid":
        """The same surface with the other winding."""
        return Solid(self.vertices, self.faces[:, ::-1], self.uv[:, ::-1])

    def project(self, size: float = 1.0, along: str = "z") -> "Solid":
        """Texture coordinates by box projection: one repeat of the texture per `size`.

        Each face is seen along the axis nearest to its normal; v runs along `along`, the
        direction of wood's grain, wherever the face is not across it.
        """
        corners = self.vertices[self.faces]  # [F,3,3]
        facing = np.argmax(np.abs(_normals(corners)) * PREFERENCE, axis=1)
        grain = AXES[along]
        others = [axis for axis in range(3) if axis != grain]
        u = np.where(facing == others[0], others[1], others[0])
        v = np.where(facing == grain, others[1], grain)
        pick = np.stack([u, v], axis=1)[:, None, :].repeat(3, axis=1)
        return replace(self, uv=np.take_along_axis(corners, pick, axis=2) / size)

    def upright_v(self, low: float, high: float) -> "Solid":
        """The same u, but v from 0 at z = low to 1 at z = high."""
        z = self.vertices[self.faces][..., 2]
        return replace(self, uv=np.stack([self.uv[..., 0], (z - low) / (high - low)], axis=-1))

    def tile(self, u: float = 1.0, v: float = 1.0, du: float = 0.0, dv: float = 0.0) -> "Solid":
        """Texture repeated u × v times, then shifted."""
        return replace(self, uv=self.uv * np.array([u, v]) + np.array([du, dv]))

    @property
    def top(self) -> float:
        """The highest z."""
        return float(self.vertices[:, 2].max())


def outwards(solid: Solid) -> Solid:
    """The solid, turned inside out where its volume is negative."""
    a, b, c = (solid.vertices[solid.faces[:, corner]] for corner in range(3))
    x, y, z = (axis.T for axis in (a - solid.vertices[0], b - a, c - a))
    volume = (
        x[0] * (y[1] * z[2] - y[2] * z[1])
        + x[1] * (y[2] * z[0] - y[0] * z[2])
        + x[2] * (y[0] * z[1] - y[1] * z[0])
    )
    return solid if volume.sum() > 0 else solid.inside_out()


def four(solid: Solid) -> list[Solid]:
    """The solid and its mirror images in x = 0 and y = 0: the legs of most furniture."""
    return [*pair(solid), *pair(solid.mirror("y"))]


def pair(solid: Solid) -> list[Solid]:
    """The solid and its mirror image in x = 0."""
    return [solid, solid.mirror("x")]


def around(solid: Solid, count: int, start: float = 0.0) -> list[Solid]:
    """`count` copies evenly about the z axis, the first turned by `start` degrees."""
    return [solid.turn("z", start + 360.0 * i / count) for i in range(count)]


def _normals(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Normals [F,3] of triangles [F,3,3], of twice their areas' length."""
    p, q = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    x, y, z = (0, 1, 2)
    return np.stack(
        [
            p[:, y] * q[:, z] - p[:, z] * q[:, y],
            p[:, z] * q[:, x] - p[:, x] * q[:, z],
            p[:, x] * q[:, y] - p[:, y] * q[:, x],
        ],
        axis=1,
    )
