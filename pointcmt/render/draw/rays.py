"""Numba kernels: rays through pixels, and where they meet the faces they hit."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pointcmt.cameras import Camera
from pointcmt.compiled import compiled
from pointcmt.render.draw.shading import (
    AXIS_IN_WORLD,
    KEY_FROM_CAMERA,
    KEY_IN_WORLD,
    has_axis,
    light_on,
    smooth_light,
)

CENTER = np.array([(0.5, 0.5)])  # the offset of a pixel's center for `make_rays`

NARROW = 1e-8  # squared sine of a corner's angle: below it, a Gram determinant is mostly rounding
EDGE_ON = 1e-6  # sine of the angle between ray and face: below it, test again whether they meet
BESIDE = 1e-7  # barycentric units: a ray that misses a face by less still meets it
MISSED = 1e-3  # barycentric units: how far a ray may appear to miss a narrow face that it meets


class PackedCameras(NamedTuple):
    """Cameras and light in the layout that the kernels read. V views."""

    origin: NDArray[np.float64]  # [V,3]
    pixel_to_ray: NDArray[np.float64]  # [V,3,3]: (u, v, 1) → direction with a z depth of 1
    focal: NDArray[np.float64]  # [V] pixels
    light: NDArray[np.float64]  # [V,3] unit vector to the key light
    axis: NDArray[np.float64]  # [V,3] of the light from both sides; 0 = a headlight instead


def pack_cameras(camera: Camera, light: str) -> PackedCameras:
    """Pack cameras [V]. light: "camera" (over the viewer's shoulder) or "world" (from above)."""
    turn = np.swapaxes(camera.world_to_camera[:, :3, :3], 1, 2)
    key, axis = np.array(KEY_IN_WORLD), np.array(AXIS_IN_WORLD)
    if light == "camera":
        key, axis = turn @ np.array(KEY_FROM_CAMERA), np.zeros(3)
    return PackedCameras(
        camera.center,
        turn @ np.linalg.inv(camera.K),
        camera.K[:, 0, 0].copy(),
        *(np.broadcast_to(each, (len(camera), 3)).copy() for each in (key, axis)),
    )


@compiled
def make_rays(pixels, offsets, size, cameras):  # type: ignore[no-untyped-def]
    """Return rays [n·S,6] f32 through S points of each pixel; directions have a z depth of 1.

    pixels: [n] flat index into [V,size,size]; offsets: [S,2] position (x, y) inside the pixel.
    """
    samples = len(offsets)
    rays = np.empty((len(pixels) * samples, 6), np.float32)
    for i in range(len(pixels)):
        view, rest = divmod(pixels[i], size * size)
        row, column = divmod(rest, size)
        for s in range(samples):
            u, v = column + offsets[s, 0], row + offsets[s, 1]
            for axis in range(3):
                rays[i * samples + s, axis] = cameras.origin[view, axis]
                rays[i * samples + s, 3 + axis] = (
                    cameras.pixel_to_ray[view, axis, 0] * u
                    + cameras.pixel_to_ray[view, axis, 1] * v
                    + cameras.pixel_to_ray[view, axis, 2]
                )
    return rays


@compiled
def locate(pixels, offsets, hits, size, cameras, surface):  # type: ignore[no-untyped-def]
    """Compute in float64 where the rays of `make_rays` meet the faces they hit.

    hits: [n·S] faces, -1 = none. Returns depth [n·S] f64, barycentric weights [n·S,3] f32, the
    width of a pixel there [n·S] f32 in world units, the light there [n·S] f32, and whether the ray
    certainly meets the face [n·S]: it neither passes beside it nor runs along its plane.
    Weights follow Ericson, Real-Time Collision Detection, section 3.4. The code uses scalars: a
    slice per vector, or a function that takes the surface, would cost more than the arithmetic.
    """
    samples, count = len(offsets), len(hits)
    depth, weights = np.zeros(count), np.zeros((count, 3), np.float32)
    width, light = np.zeros(count, np.float32), np.zeros(count, np.float32)
    met = np.ones(count, np.bool_)
    fixed = has_axis(cameras.axis[0])  # not in the loop, where slices are slow
    for n in range(count):
        face = hits[n]
        if face < 0:
            continue
        view, rest = divmod(pixels[n // samples], size * size)
        row, column = divmod(rest, size)
        u, v = column + offsets[n % samples, 0], row + offsets[n % samples, 1]
        m = cameras.pixel_to_ray
        dx = m[view, 0, 0] * u + m[view, 0, 1] * v + m[view, 0, 2]
        dy = m[view, 1, 0] * u + m[view, 1, 1] * v + m[view, 1, 2]
        dz = m[view, 2, 0] * u + m[view, 2, 1] * v + m[view, 2, 2]
        length = np.sqrt(dx * dx + dy * dy + dz * dz)
        nx, ny, nz = surface.normals[face, 0], surface.normals[face, 1], surface.normals[face, 2]
        i, j, k = surface.faces[face, 0], surface.faces[face, 1], surface.faces[face, 2]
        at = surface.vertices
        # The first corner relative to the camera, then the edges from it.
        ax = at[i, 0] - cameras.origin[view, 0]
        ay = at[i, 1] - cameras.origin[view, 1]
        az = at[i, 2] - cameras.origin[view, 2]
        ux, uy, uz = at[j, 0] - at[i, 0], at[j, 1] - at[i, 1], at[j, 2] - at[i, 2]
        vx, vy, vz = at[k, 0] - at[i, 0], at[k, 1] - at[i, 1], at[k, 2] - at[i, 2]
        facing = nx * dx + ny * dy + nz * dz
        t = (nx * ax + ny * ay + nz * az) / facing if facing != 0.0 else 0.0
        px, py, pz = t * dx - ax, t * dy - ay, t * dz - az
        uu = ux * ux + uy * uy + uz * uz
        uv = ux * vx + uy * vy + uz * vz
        vv = vx * vx + vy * vy + vz * vz
        pu, pv = px * ux + py * uy + pz * uz, px * vx + py * vy + pz * vz
        area = uu * vv - uv * uv
        narrow = area <= NARROW * uu * vv
        if narrow:  # the difference above is mostly rounding
            wb, wc = _weights_of_narrow(px, py, pz, ux, uy, uz, vx, vy, vz)
        else:
            wb, wc = (vv * pu - uv * pv) / area, (uu * pv - uv * pu) / area
        wa = 1.0 - wb - wc
        least = min(wa, wb, wc)
        if narrow or abs(facing) <= EDGE_ON * length:
            met[n] = False
        if least < 0.0:
            met[n] = met[n] and least >= -BESIDE
            # Rounding, or a sample for which Embree chose a face beside it or an edge-on one whose
            # plane is ill-conditioned: stay inside the face.
            wa, wb, wc = max(wa, 0.0), max(wb, 0.0), max(wc, 0.0)
            total = wa + wb + wc
            wa, wb, wc = wa / total, wb / total, wc / total
            if not narrow or least < -MISSED:
                px, py, pz = ax + wb * ux + wc * vx, ay + wb * uy + wc * vy, az + wb * uz + wc * vz
                t = (px * dx + py * dy + pz * dz) / (length * length)
        depth[n], width[n] = t, t / cameras.focal[view]
        weights[n, 0], weights[n, 1], weights[n, 2] = wa, wb, wc
        toward = (
            nx * cameras.light[view, 0] + ny * cameras.light[view, 1] + nz * cameras.light[view, 2]
        )
        along = nx * cameras.axis[view, 0] + ny * cameras.axis[view, 1] + nz * cameras.axis[view, 2]
        light[n] = light_on(facing, length, toward, along, fixed)
    if len(surface.corner_normals) > 0:
        _shade_smoothly(light, pixels, offsets, hits, weights, size, cameras, surface)
    return depth, weights, width, light, met


@compiled
def _shade_smoothly(light, pixels, offsets, hits, weights, size, cameras, surface):  # type: ignore[no-untyped-def]
    """Replace the light [n·S] of `locate` by that of the corners' normals, where there are any."""
    samples = len(offsets)
    for n in range(len(hits)):
        face = hits[n]
        if face < 0:
            continue
        view, rest = divmod(pixels[n // samples], size * size)
        row, column = divmod(rest, size)
        u, v = column + offsets[n % samples, 0], row + offsets[n % samples, 1]
        m = cameras.pixel_to_ray[view]
        dx = m[0, 0] * u + m[0, 1] * v + m[0, 2]
        dy = m[1, 0] * u + m[1, 1] * v + m[1, 2]
        dz = m[2, 0] * u + m[2, 1] * v + m[2, 2]
        nx, ny, nz = surface.normals[face, 0], surface.normals[face, 1], surface.normals[face, 2]
        corners, ray = surface.corner_normals[face], (dx, dy, dz)
        turned_away = nx * dx + ny * dy + nz * dz > 0.0
        length = np.sqrt(dx * dx + dy * dy + dz * dz)
        key, axis = cameras.light[view], cameras.axis[view]
        wa, wb, wc = weights[n, 0], weights[n, 1], weights[n, 2]
        found = smooth_light(corners, wa, wb, wc, ray, turned_away, length, key, axis)
        if found >= 0.0:
            light[n] = found


@compiled
def _weights_of_narrow(px, py, pz, ux, uy, uz, vx, vy, vz):  # type: ignore[no-untyped-def]
    """Return the weights of the second and third corner at p, by ratios of areas; both 0 without
    area. u, v: almost parallel edges of the face from its first corner."""
    nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
    square = nx * nx + ny * ny + nz * nz
    if square == 0.0:
        return 0.0, 0.0
    b = nx * (py * vz - pz * vy) + ny * (pz * vx - px * vz) + nz * (px * vy - py * vx)
    c = nx * (uy * pz - uz * py) + ny * (uz * px - ux * pz) + nz * (ux * py - uy * px)
    return b / square, c / square
