"""Which points of a scene its frames see: by their depth, or by rays where a surface exists.

A depth sensor is exact to about a centimeter, and its noise grows with distance, so a point may lie
a little behind the measured surface: by max(2 cm, 2 % of the depth).
"""

import numpy as np
from numpy.typing import NDArray

from pointcmt.compiled import compiled
from pointcmt.render import startup
from pointcmt.shapes import Mesh

NEAREST = 0.1  # meters: depth sensors see nothing nearer
TOLERANCE, SHARE = 0.02, 0.02  # meters, and of the depth


def tolerance(z: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return by how much (meters) a visible point at depth z may lie behind the surface."""
    return np.maximum(TOLERANCE, SHARE * np.asarray(z, np.float64))


def seen_by_depth(
    points: NDArray[np.float32],
    K: NDArray[np.float64],
    world_to_camera: NDArray[np.float64],
    depth: NDArray[np.float32],
) -> NDArray[np.bool_]:
    """Return which points [N,3] (world) a frame with depth [H,W] (meters, 0 = unknown) sees, [N].

    A point is seen if it projects into a pixel whose depth is known and agrees with its own, and if
    no other point in that pixel is nearer than it by more than the tolerance.
    """
    projection = K @ world_to_camera[:3]
    seen: NDArray[np.bool_] = _seen_by_depth(
        np.ascontiguousarray(points, np.float32), projection, np.ascontiguousarray(depth)
    )
    return seen


class Surface:
    """A surface in the world, for testing visibility by rays. threads: maximum for Embree."""

    def __init__(self, mesh: Mesh, to_world: NDArray[np.float64], threads: int = 1) -> None:
        open3d = startup.load_open3d("testing what frames see")
        self._tensor, self._threads = open3d.core.Tensor.from_numpy, threads
        vertices = mesh.vertices @ to_world[:3, :3].T + to_world[:3, 3]
        self._scene = open3d.t.geometry.RaycastingScene(nthreads=threads)
        self._scene.add_triangles(
            self._tensor(vertices.astype(np.float32)), self._tensor(mesh.faces.astype(np.uint32))
        )

    def seen(
        self,
        points: NDArray[np.float32],
        K: NDArray[np.float64],
        world_to_camera: NDArray[np.float64],
        size: tuple[int, int],
    ) -> NDArray[np.bool_]:
        """Return which points [N,3] a camera with images of (height, width) sees, [N].

        A point is seen if it projects into the image and nothing lies in front of it by more than
        the tolerance.
        """
        center = -world_to_camera[:3, :3].T @ world_to_camera[:3, 3]
        inside, z, rays = _rays_to(
            np.ascontiguousarray(points, np.float32), K @ world_to_camera[:3], center, size
        )
        hit = self._scene.cast_rays(self._tensor(rays), nthreads=self._threads)["t_hit"].numpy()
        seen = np.zeros(len(points), np.bool_)
        seen[inside] = hit * z >= z - tolerance(z)
        return seen


@compiled
def _rays_to(points, projection, center, size):  # type: ignore[no-untyped-def]
    """Return which points [N,3] project into an image of (height, width), as indices [n], their
    depths [n] and the rays [n,6] f32 from the camera's center that end at them."""
    inside = np.empty(len(points), np.int64)
    z, rays, count = np.empty(len(points)), np.empty((len(points), 6), np.float32), 0
    for n in range(len(points)):
        x, y, w = _projected(points[n], projection)
        if w > NEAREST and 0.0 <= x / w < size[1] and 0.0 <= y / w < size[0]:
            inside[count], z[count] = n, w
            for axis in range(3):
                rays[count, axis] = center[axis]
                rays[count, 3 + axis] = points[n, axis] - np.float32(center[axis])
            count += 1
    return inside[:count], z[:count], rays[:count]


@compiled
def _seen_by_depth(points, projection, depth):  # type: ignore[no-untyped-def]
    count = len(points)
    height, width = depth.shape
    pixel, z = np.full(count, -1, np.int64), np.zeros(count)
    nearest = np.full(height * width, np.inf)
    for n in range(count):
        x, y, w = _projected(points[n], projection)
        if w <= NEAREST:
            continue
        u, v = x / w, y / w
        if not (0.0 <= u < width and 0.0 <= v < height):
            continue
        at = int(v) * width + int(u)
        pixel[n], z[n] = at, w
        nearest[at] = min(nearest[at], w)
    seen = np.zeros(count, np.bool_)
    for n in range(count):
        if pixel[n] >= 0:
            own = max(TOLERANCE, SHARE * z[n])
            measured = depth[pixel[n] // width, pixel[n] % width]
            seen[n] = (
                measured > 0.0 and abs(z[n] - measured) <= own and z[n] - nearest[pixel[n]] <= own
            )
    return seen


@compiled
def _projected(point, projection):  # type: ignore[no-untyped-def]
    """Return a point's homogeneous image coordinates, of which the last is its depth."""
    x = y = w = 0.0
    for axis in range(3):
        x += projection[0, axis] * point[axis]
        y += projection[1, axis] * point[axis]
        w += projection[2, axis] * point[axis]
    return x + projection[0, 3], y + projection[1, 3], w + projection[2, 3]
