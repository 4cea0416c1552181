"""The face at every pixel center, by scan conversion in float64.

This gives the same result as a ray through each pixel center. On the pixel grid a triangle's
inverse depth and weights are linear in the image, which makes it several times faster than ray
casting and avoids float32's ambiguity where surfaces nearly touch.

Where a face that is turned to the camera and one that is turned away coincide, the former is drawn:
files that should look right from both sides hold every face twice.

A face that the camera sees edge-on, or that has no area, covers no pixel: otherwise only rounding
would decide which centers lie on it, and at what depth.
"""

import numpy as np
from numpy.typing import NDArray

from pointcmt.cameras import Camera
from pointcmt.compiled import compiled

NEAR = 1e-4  # world units: surfaces nearer to the camera's plane, or behind it, are not drawn
CLOSE = 0.05  # world units: views with a vertex nearer than this are drawn face by face in 3D
NARROW = 4  # pixels: rows up to this wide are tested pixel by pixel
# Corners in the image are exact to about 1e-15 of its size. Faces narrower than THIN of it are not
# drawn; the depth of those that are is exact to 1e-6 of their extent.
THIN = 1e-9
# A face that is turned away must be nearer than one turned to the camera by this part of its depth.
# Mesh files hold six or seven digits, so the two sides of a sheet may be about 1e-6 apart.
TIE = 4e-7
BEHIND = 1.0 - TIE
TOUCH = 1e-12  # barycentric units: in 3D, centers this far outside a face still count


def nearest_faces(
    vertices: NDArray[np.float64],
    corners: NDArray[np.int32],
    faces: NDArray[np.int32],
    camera: Camera,
    cull: bool = False,
) -> NDArray[np.int32]:
    """Return the nearest of a mesh's `faces` (indices) at each pixel center of views [V].

    vertices [P,3], corners [F,3]: of the mesh. cull: leave out faces that are turned away. Returns
    face_index [V,H,W], -1 = none. Of faces at the same depth, one that is turned to the camera
    counts; of several, the first.
    """
    projection = camera.K @ camera.world_to_camera[:, :3]
    face_index, close = _scan(vertices, corners, faces, projection, camera.width, cull)
    for view in np.flatnonzero(close):
        pose, K = camera.world_to_camera[view], camera.K[view]
        face_index[view] = _scan_close(vertices, corners, faces, pose, K, camera.width, cull)
    return face_index


def nearest_faces_at(
    pixels: NDArray[np.int64],
    vertices: NDArray[np.float64],
    corners: NDArray[np.int32],
    faces: NDArray[np.int32],
    camera: Camera,
    cull: bool = False,
) -> NDArray[np.int32]:
    """Compute `nearest_faces` at a few pixels [n], ascending flat indices into [V,H,W]."""
    projection = camera.K @ camera.world_to_camera[:, :3]
    found, close = _scan_some(pixels, vertices, corners, faces, projection, camera.width, cull)
    for view in np.flatnonzero(close):
        first, last = np.searchsorted(
            pixels, [view * camera.width**2, (view + 1) * camera.width**2]
        )
        image = nearest_faces(vertices, corners, faces, camera[[view]], cull)
        found[first:last] = image.reshape(-1)[pixels[first:last] - view * camera.width**2]
    return found


def close_views(vertices: NDArray[np.float64], camera: Camera) -> NDArray[np.bool_]:
    """Return which views [V] have a vertex within CLOSE of the camera's plane, or behind it."""
    pose = camera.world_to_camera
    radius = np.sqrt(np.einsum("pi,pi->p", vertices, vertices).max())
    close: NDArray[np.bool_] = pose[:, 2, 3] - radius < CLOSE
    for view in np.flatnonzero(close):
        close[view] = (vertices @ pose[view, 2, :3]).min() + pose[view, 2, 3] < CLOSE
    return close


@compiled
def _scan(vertices, corners, faces, projection, size, cull):  # type: ignore[no-untyped-def]
    """Return face_index, and which views [V] are close and left empty."""
    views, count = len(projection), len(vertices)
    face_index = np.full((views, size, size), -1, np.int32)
    close = np.zeros(views, np.bool_)
    u, v, w = np.empty(count), np.empty(count), np.empty(count)
    column_of, row_of = np.empty(count, np.int32), np.empty(count, np.int32)
    nearest = np.empty((size, size))  # inverse depth
    for view in range(views):
        close[view] = _project(vertices, projection[view], size, u, v, w, column_of, row_of)
        if close[view]:
            continue
        nearest[:] = 0.0
        for face in faces:
            a, b, c = corners[face, 0], corners[face, 1], corners[face, 2]
            # No center lies between corners with the same next center: common in fine meshes.
            left = max(min(column_of[a], column_of[b], column_of[c]), 0)
            right = min(max(column_of[a], column_of[b], column_of[c]), size) - 1
            if left > right:
                continue
            top = max(min(row_of[a], row_of[b], row_of[c]), 0)
            bottom = min(max(row_of[a], row_of[b], row_of[c]), size) - 1
            if top > bottom:
                continue
            ua, va, wa = u[a], v[a], w[a]
            ub, vb, wb = u[b] - ua, v[b] - va, w[b] - wa
            uc, vc, wc = u[c] - ua, v[c] - va, w[c] - wa
            area = ub * vc - uc * vb
            if _is_thin(area, ub, vb, uc, vc, size):
                continue
            if area > 0.0:  # turned away, since rows are numbered downwards
                if cull:
                    continue
                wa, wb, wc = wa * BEHIND, wb * BEHIND, wc * BEHIND
            # The weights of b and c as slopes per column and row, relative to corner a.
            scale = 1.0 / area
            bx, by, cx, cy = vc * scale, -uc * scale, -vb * scale, ub * scale
            wide = right - left >= NARROW
            for row in range(top, bottom + 1):
                b0, c0 = by * (row - va), cy * (row - va)
                first, last = left, right
                if wide:  # the part of this row where all weights are positive, and one more pixel
                    low, high = _clip(left - ua, right - ua, bx, b0)
                    low, high = _clip(low, high, cx, c0)
                    low, high = _clip(low, high, -bx - cx, 1.0 - b0 - c0)
                    if low > high + 2.0:
                        continue
                    first = max(left, np.int64(low + ua) - 1)
                    last = min(right, np.int64(high + ua) + 1)
                for column in range(first, last + 1):
                    weight_b, weight_c = bx * (column - ua) + b0, cx * (column - ua) + c0
                    if weight_b >= 0.0 and weight_c >= 0.0 and weight_b + weight_c <= 1.0:
                        inverse = wa + weight_b * wb + weight_c * wc
                        if inverse > nearest[row, column]:
                            nearest[row, column] = inverse
                            face_index[view, row, column] = face
    return face_index, close


@compiled
def _scan_some(pixels, vertices, corners, faces, projection, size, cull):  # type: ignore[no-untyped-def]
    """Run `_scan` at a few ascending pixels [n]; return faces [n] and which views [V] are close."""
    count, total = len(vertices), len(pixels)
    found, close = np.full(total, -1, np.int32), np.zeros(len(projection), np.bool_)
    u, v, w = np.empty(count), np.empty(count), np.empty(count)
    column_of, row_of = np.empty(count, np.int32), np.empty(count, np.int32)
    nearest = np.zeros(total)  # inverse depth
    starts = np.empty(size + 1, np.int64)  # where each row's pixels start
    begin = 0
    for view in range(len(projection)):
        if begin == total or pixels[begin] >= (view + 1) * size * size:
            continue
        for row in range(size + 1):
            starts[row] = begin
            while begin < total and row < size and pixels[begin] < (view * size + row + 1) * size:
                begin += 1
        close[view] = _project(vertices, projection[view], size, u, v, w, column_of, row_of)
        if close[view]:
            continue
        for face in faces:
            a, b, c = corners[face, 0], corners[face, 1], corners[face, 2]
            left = max(min(column_of[a], column_of[b], column_of[c]), 0)
            right = min(max(column_of[a], column_of[b], column_of[c]), size) - 1
            top = max(min(row_of[a], row_of[b], row_of[c]), 0)
            bottom = min(max(row_of[a], row_of[b], row_of[c]), size) - 1
            if left > right or top > bottom or starts[top] == starts[bottom + 1]:
                continue
            ua, va, wa = u[a], v[a], w[a]
            ub, vb, wb = u[b] - ua, v[b] - va, w[b] - wa
            uc, vc, wc = u[c] - ua, v[c] - va, w[c] - wa
            area = ub * vc - uc * vb
            if _is_thin(area, ub, vb, uc, vc, size):
                continue
            if area > 0.0:  # turned away, since rows are numbered downwards
                if cull:
                    continue
                wa, wb, wc = wa * BEHIND, wb * BEHIND, wc * BEHIND
            scale = 1.0 / area
            bx, by, cx, cy = vc * scale, -uc * scale, -vb * scale, ub * scale
            for n in range(starts[top], starts[bottom + 1]):
                line = pixels[n] // size
                row, column = line - view * size, pixels[n] - line * size
                weight_b = bx * (column - ua) + by * (row - va)
                weight_c = cx * (column - ua) + cy * (row - va)
                if weight_b >= 0.0 and weight_c >= 0.0 and weight_b + weight_c <= 1.0:
                    inverse = wa + weight_b * wb + weight_c * wc
                    if inverse > nearest[n]:
                        nearest[n], found[n] = inverse, face
    return found, close


@compiled
def _project(vertices, p, size, u, v, w, column_of, row_of):  # type: ignore[no-untyped-def]
    """Fill in, per vertex, column u and row v (pixel centers are whole numbers), inverse depth w,
    and the next center's column and row. Returns True early if a vertex is close."""
    for i in range(len(vertices)):
        x, y, z = vertices[i, 0], vertices[i, 1], vertices[i, 2]
        depth = p[2, 0] * x + p[2, 1] * y + p[2, 2] * z + p[2, 3]
        if depth < CLOSE:
            return True
        w[i] = 1.0 / depth
        u[i] = (p[0, 0] * x + p[0, 1] * y + p[0, 2] * z + p[0, 3]) * w[i] - 0.5
        v[i] = (p[1, 0] * x + p[1, 1] * y + p[1, 2] * z + p[1, 3]) * w[i] - 0.5
        column_of[i] = np.int32(np.ceil(min(max(u[i], -1.0), size + 1.0)))
        row_of[i] = np.int32(np.ceil(min(max(v[i], -1.0), size + 1.0)))
    return False


@compiled
def _is_thin(area, ub, vb, uc, vc, size):  # type: ignore[no-untyped-def]
    """Return whether a triangle in the image is as narrow as the rounding errors of its corners.

    area: twice its signed area; (ub, vb), (uc, vc): two of its edges, all in pixels.
    """
    extent = abs(ub) + abs(vb) + abs(uc) + abs(vc)
    return abs(area) <= THIN * extent * (extent + size)


@compiled
def _clip(low, high, slope, rest):  # type: ignore[no-untyped-def]
    """Return the part of low ≤ x ≤ high where slope · x + rest is not negative."""
    if slope > 0.0:
        return max(low, -rest / slope), high
    if slope < 0.0:
        return low, min(high, -rest / slope)
    return low, high


@compiled
def _scan_close(vertices, corners, faces, pose, K, size, cull):  # type: ignore[no-untyped-def]
    """Return face_index [size,size] of one view whose faces come close to the camera or reach
    behind it, by intersecting pixel centers' rays with the faces' planes in camera coordinates."""
    face_index = np.full((size, size), -1, np.int32)
    nearest = np.full((size, size), np.inf)  # depth, a little more for faces turned away
    fx, fy, x0, y0 = K[0, 0], K[1, 1], K[0, 2] - 0.5, K[1, 2] - 0.5
    at = np.empty((len(vertices), 3))
    for i in range(len(vertices)):
        x, y, z = vertices[i, 0], vertices[i, 1], vertices[i, 2]
        for axis in range(3):
            turned = pose[axis, 0] * x + pose[axis, 1] * y + pose[axis, 2] * z
            at[i, axis] = turned + pose[axis, 3]
    for face in faces:
        a, b, c = at[corners[face, 0]], at[corners[face, 1]], at[corners[face, 2]]
        if max(a[2], b[2], c[2]) < NEAR:
            continue
        # Two edges, the plane's normal (not of unit length), and its distance times that length.
        bx, by, bz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
        cx, cy, cz = c[0] - a[0], c[1] - a[1], c[2] - a[2]
        nx, ny, nz = by * cz - bz * cy, bz * cx - bx * cz, bx * cy - by * cx
        distance = nx * a[0] + ny * a[1] + nz * a[2]
        extent = abs(bx) + abs(by) + abs(bz) + abs(cx) + abs(cy) + abs(cz)
        far = abs(a[0]) + abs(a[1]) + abs(a[2]) + extent
        if abs(distance) <= THIN * far * far * extent:  # edge-on, or without area
            continue
        if cull and distance > 0.0:
            continue
        margin = 1.0 / BEHIND if distance > 0.0 else 1.0
        left, right, top, bottom = _bounds(a, b, c, fx, fy, x0, y0)
        square = nx * nx + ny * ny + nz * nz
        # p · gb and p · gc: the weights of b and c at a point p of the plane, relative to a.
        gbx = (cy * nz - cz * ny) / square
        gby = (cz * nx - cx * nz) / square
        gbz = (cx * ny - cy * nx) / square
        gcx = (ny * bz - nz * by) / square
        gcy = (nz * bx - nx * bz) / square
        gcz = (nx * by - ny * bx) / square
        first, last = _centers_between(left, right, size)
        upper, lower = _centers_between(top, bottom, size)
        for row in range(upper, lower + 1):
            dy = (row - y0) / fy
            for column in range(first, last + 1):
                dx = (column - x0) / fx
                depth = distance / (nx * dx + ny * dy + nz)
                if depth < NEAR or not margin * depth < nearest[row, column]:
                    continue
                px, py, pz = depth * dx - a[0], depth * dy - a[1], depth - a[2]
                weight_b = px * gbx + py * gby + pz * gbz
                weight_c = px * gcx + py * gcy + pz * gcz
                if min(weight_b, weight_c, 1.0 - weight_b - weight_c) >= -TOUCH:
                    nearest[row, column] = margin * depth
                    face_index[row, column] = face
    return face_index


@compiled
def _bounds(a, b, c, fx, fy, x0, y0):  # type: ignore[no-untyped-def]
    """Return the left, right, top and bottom of a triangle's part in front of the camera."""
    left, right, top, bottom = np.inf, -np.inf, np.inf, -np.inf
    for here, there in ((a, b), (b, c), (c, a)):
        crosses = (here[2] < NEAR) != (there[2] < NEAR)
        for share in (0.0, (NEAR - here[2]) / (there[2] - here[2]) if crosses else 0.0):
            if share == 0.0 and here[2] < NEAR:
                continue
            z = max(here[2] + share * (there[2] - here[2]), NEAR)
            column = x0 + fx * (here[0] + share * (there[0] - here[0])) / z
            row = y0 + fy * (here[1] + share * (there[1] - here[1])) / z
            left, right = min(left, column), max(right, column)
            top, bottom = min(top, row), max(bottom, row)
    return left, right, top, bottom


@compiled
def _centers_between(low, high, size):  # type: ignore[no-untyped-def]
    """Return the first and last whole number of 0..size-1 that enclose low..high."""
    first = np.int64(np.floor(min(max(low, 0.0), size * 1.0)))
    return first, np.int64(np.ceil(min(max(high, -1.0), size - 1.0)))
