"""Which surface points each camera sees, by casting one ray per point and view.

A point is visible when it projects into the image and no face crosses the line from the camera to
it, faces within CLEARANCE of the point not counting: its own, coplanar twins, neighbours across
an edge. No depth tolerance can do this; benchmarks/correspondences.py shows what each gets wrong.
"""

import numpy as np
from numpy.typing import NDArray

from pointcmt.cameras import Camera
from pointcmt.compiled import compiled
from pointcmt.geometry import spatial_order
from pointcmt.render.raycaster import RayCaster

# Two surfaces closer than this count as one (world units, along the ray). Mesh files hold six or
# seven digits, so twins of one surface may lie some 1e-6 apart.
CLEARANCE = 1e-5
IN_PLANE = 2e-7  # world units: points are stored as float32


def visible_points(
    caster: RayCaster, points: NDArray[np.float32], point_face: NDArray[np.int32], camera: Camera
) -> NDArray[np.bool_]:
    """Visibility [V,N] of surface points [N,3] that lie on faces [N], for cameras [V]."""
    order = spatial_order(points)  # neighbouring rays traverse the same boxes: twice as fast
    ordered, own = points[order].astype(np.float64), caster.first_twin[point_face[order]]
    centers = camera.center
    hits, distance = caster.cast(_rays_to_points(centers, ordered))
    shape = (len(camera), len(points))
    seen = np.empty(shape, bool)
    seen[:, order] = _unhidden(
        centers,
        ordered,
        own,
        hits.reshape(shape),
        distance.reshape(shape),
        caster.mesh.vertices,
        caster.mesh.faces,
    )
    uv, depth = camera.project(points)
    return seen & np.all((uv >= 0) & (uv < [camera.width, camera.height]), axis=2) & (depth > 0)


@compiled
def _rays_to_points(centers, points):  # type: ignore[no-untyped-def]
    """Rays [V·N,6] f32 from each center through each point; a point is at distance 1."""
    rays = np.empty((len(centers) * len(points), 6), np.float32)
    for view in range(len(centers)):
        for point in range(len(points)):
            for axis in range(3):
                ray = view * len(points) + point
                rays[ray, axis] = centers[view, axis]
                rays[ray, 3 + axis] = points[point, axis] - centers[view, axis]
    return rays


@compiled
def _unhidden(centers, points, own, hits, distance, vertices, faces):  # type: ignore[no-untyped-def]
    """Whether the first face hit [V,N] leaves its point visible; float32 hits are only trusted
    where they are clear, the others are computed again in float64."""
    seen = np.ones(hits.shape, np.bool_)
    for view in range(len(centers)):
        ox, oy, oz = centers[view, 0], centers[view, 1], centers[view, 2]
        for point in range(len(points)):
            face = hits[view, point]
            if face < 0 or face == own[point] or distance[view, point] >= 1.0:
                continue
            x, y, z = points[point, 0], points[point, 1], points[point, 2]
            i, j, k = faces[face, 0], faces[face, 1], faces[face, 2]
            ax, ay, az = vertices[i, 0], vertices[i, 1], vertices[i, 2]
            ux, uy, uz = vertices[j, 0] - ax, vertices[j, 1] - ay, vertices[j, 2] - az
            vx, vy, vz = vertices[k, 0] - ax, vertices[k, 1] - ay, vertices[k, 2] - az
            nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
            unit = np.sqrt(nx * nx + ny * ny + nz * nz)
            dx, dy, dz = x - ox, y - oy, z - oz
            # How far the point lies behind the face's plane, straight and along the ray.
            away = abs(nx * (x - ax) + ny * (y - ay) + nz * (z - az))
            slope = abs(nx * dx + ny * dy + nz * dz) / np.sqrt(dx * dx + dy * dy + dz * dz)
            seen[view, point] = away <= IN_PLANE * unit or away <= CLEARANCE * slope
    return seen
