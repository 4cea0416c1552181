"""Which surface points each camera sees, by casting one ray per point and view.

A point is visible if it projects into the image, its face is not seen edge-on, and no face crosses
the line from the camera to it. Faces within CLEARANCE of the point do not count: its own face,
coplanar twins, neighbors across an edge. Surfaces nearer to the camera than the images show
(`scanline.NEAR`) neither hide points nor are visible. No depth tolerance can achieve this;
benchmarks/correspondences.py shows the errors of each.
"""

import numpy as np
from numpy.typing import NDArray

from pointcmt.cameras import Camera
from pointcmt.compiled import compiled
from pointcmt.geometry import spatial_order
from pointcmt.render.draw.scanline import NEAR, close_views
from pointcmt.render.draw.scene import Scene

# Two surfaces closer than this count as one (world units, along the ray). Mesh files hold six or
# seven digits, so copies of a surface may be about 1e-6 apart.
CLEARANCE = 1e-5
IN_PLANE = 2e-7  # world units: points are stored as float32
EDGE_ON = 1e-9  # world units: a face covers no pixel if the camera is this close to its plane


def visible_points(
    scene: Scene, points: NDArray[np.float32], point_face: NDArray[np.int32], camera: Camera
) -> NDArray[np.bool_]:
    """Compute visibility [V,N] of surface points [N,3] that lie on faces [N], for cameras [V]."""
    order = spatial_order(points)  # neighboring rays traverse the same boxes: twice as fast
    ordered, own = points[order].astype(np.float64), scene.first_twin[point_face[order]]
    centers, vertices = camera.center, scene.mesh.vertices
    rays = _rays_to_points(centers, ordered)
    for view in np.flatnonzero(close_views(vertices, camera)):
        _start_at_near_plane(rays.reshape(len(camera), -1, 6)[view], ordered, camera[view])
    hits, distance = scene.cast(rays, by_side=False)
    shape = (len(camera), len(points))
    seen = np.empty(shape, bool)
    seen[:, order] = _unhidden(
        centers,
        ordered,
        own,
        hits.reshape(shape),
        distance.reshape(shape),
        vertices,
        scene.mesh.faces,
    )
    if scene.sides.cull:
        seen &= _turned_to(centers, points, point_face, scene)
    uv, depth = camera.project(points)
    return seen & np.all((uv >= 0) & (uv < [camera.width, camera.height]), axis=2) & (depth >= NEAR)


def _turned_to(
    centers: NDArray[np.float64],
    points: NDArray[np.float32],
    point_face: NDArray[np.int32],
    scene: Scene,
) -> NDArray[np.bool_]:
    """Return [V,N] whether a face at each point, which lies on faces [N], is turned to a center."""
    first = scene.first_twin[point_face]
    normals = scene.surface.normals[first]
    toward = centers @ normals.T > np.einsum("ni,ni->n", points.astype(np.float64), normals)
    turned: NDArray[np.bool_] = toward | scene.has_both_sides(first)
    return turned


def _start_at_near_plane(
    rays: NDArray[np.float32], points: NDArray[np.float64], camera: Camera
) -> None:
    """Remove the part of one view's rays [N,6] to points [N,3] in front of the near plane.

    Points stay at distance 1. Rays to points in front of that plane stay unchanged.
    """
    _, depth = camera.project(points)
    share = np.where(depth > NEAR, NEAR / np.maximum(depth, NEAR), 0)[:, None]
    rays[:, :3] += share * rays[:, 3:]
    rays[:, 3:] *= 1 - share


@compiled
def _rays_to_points(centers, points):  # type: ignore[no-untyped-def]
    """Return rays [V·N,6] f32 from each center through each point; points are at distance 1."""
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
    """Return whether the first face hit [V,N] leaves its point visible. Ambiguous float32 hits are
    computed again in float64."""
    seen = np.ones(hits.shape, np.bool_)
    # The planes of the points' own faces: unit normals and distances from the world's origin.
    planes = np.empty((len(points), 4))
    for point in range(len(points)):
        nx, ny, nz, ax, ay, az = _plane(own[point], vertices, faces)
        unit = np.sqrt(nx * nx + ny * ny + nz * nz)
        planes[point, 0], planes[point, 1], planes[point, 2] = nx / unit, ny / unit, nz / unit
        planes[point, 3] = (nx * ax + ny * ay + nz * az) / unit
    for view in range(len(centers)):
        ox, oy, oz = centers[view, 0], centers[view, 1], centers[view, 2]
        for point in range(len(points)):
            beside = planes[point, 0] * ox + planes[point, 1] * oy + planes[point, 2] * oz
            if not abs(beside - planes[point, 3]) > EDGE_ON:
                seen[view, point] = False
                continue
            face = hits[view, point]
            if face < 0 or face == own[point] or distance[view, point] >= 1.0:
                continue
            x, y, z = points[point, 0], points[point, 1], points[point, 2]
            nx, ny, nz, ax, ay, az = _plane(face, vertices, faces)
            unit = np.sqrt(nx * nx + ny * ny + nz * nz)
            dx, dy, dz = x - ox, y - oy, z - oz
            # The distance of the point behind the face's plane, perpendicular and along the ray.
            away = abs(nx * (x - ax) + ny * (y - ay) + nz * (z - az))
            slope = abs(nx * dx + ny * dy + nz * dz) / np.sqrt(dx * dx + dy * dy + dz * dz)
            seen[view, point] = away <= IN_PLANE * unit or away <= CLEARANCE * slope
    return seen


@compiled
def _plane(face, vertices, faces):  # type: ignore[no-untyped-def]
    """Return a face's normal, whose length is proportional to its area, and its first corner."""
    i, j, k = faces[face, 0], faces[face, 1], faces[face, 2]
    ax, ay, az = vertices[i, 0], vertices[i, 1], vertices[i, 2]
    ux, uy, uz = vertices[j, 0] - ax, vertices[j, 1] - ay, vertices[j, 2] - az
    vx, vy, vz = vertices[k, 0] - ax, vertices[k, 1] - ay, vertices[k, 2] - az
    return uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx, ax, ay, az
