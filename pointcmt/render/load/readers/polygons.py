"""Triangulate polygons in place and in order: a fan if that is correct, else ear clipping."""

import mapbox_earcut
import numpy as np
from numpy.typing import NDArray

from pointcmt.compiled import compiled
from pointcmt.errors import Reason, ShapeRefused

_EARS = -1  # in place of a fan's first corner, for ear clipping
_FLAT = 1e-10  # turns (of polygons scaled to 1) up to this are rounding errors, not concave
_MOST_CORNERS = 10_000  # of a concave polygon: ear clipping takes quadratic time
_AREA_ERROR = 1e-6  # relative; ears whose area differs by more do not fill the polygon


def triangulate(
    vertices: NDArray[np.float64], corners: NDArray[np.int32], sizes: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cut polygons of any size into triangles that keep their order and orientation.

    vertices [P,3]; corners [sum of sizes] indices into vertices, polygon after polygon, all in
    range. Returns the triangles [F,3] as positions in `corners` and the polygon [F] of each.
    A polygon of n corners becomes n - 2 triangles (points and lines: 0), or fewer where a
    concave one has corners on a straight line. Self-crossing polygons become fans. Raises
    ShapeRefused (too_large) for concave polygons with too many corners to cut in time.
    """
    if (sizes == 3).all():
        return np.arange(len(corners)).reshape(-1, 3), np.arange(len(sizes))
    starts = np.cumsum(sizes, dtype=np.int64) - sizes
    fans = _plan_fans(vertices, corners, starts, sizes)
    counts = np.maximum(sizes.astype(np.int64) - 2, 0)
    ears = {}
    for polygon in np.flatnonzero(fans == _EARS):
        if sizes[polygon] > _MOST_CORNERS:
            what = (
                f"a concave polygon with {sizes[polygon]} corners, more than the maximum of "
                f"{_MOST_CORNERS}"
            )
            raise ShapeRefused(Reason.TOO_LARGE, what)
        span = slice(starts[polygon], starts[polygon] + sizes[polygon])
        found = _cut_ears(vertices[corners[span]])
        if found is None:
            fans[polygon] = 0
        else:
            ears[polygon], counts[polygon] = found, len(found)
    first = np.cumsum(counts) - counts
    triangles = np.empty((int(counts.sum()), 3), np.int64)
    _write_fans(triangles, first, starts, sizes, fans)
    for polygon, found in ears.items():
        triangles[first[polygon] : first[polygon] + len(found)] = starts[polygon] + found
    return triangles, np.repeat(np.arange(len(sizes)), counts)


def zero_unused(
    vertices: NDArray[np.float64], faces: NDArray[np.int32]
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Set vertices [P,3] that are not finite to 0 if no face [F,3] uses them; also return a note.

    Faces that use such a vertex remain an error.
    """
    wrong: NDArray[np.bool_] = np.logical_not(np.isfinite(vertices).all(axis=1))
    if not wrong.any():
        return vertices, ()
    wrong[faces.ravel()] = False
    if not wrong.any():
        return vertices, ()
    note = f"{int(wrong.sum())} vertices that no face uses are not finite: set to 0"
    return np.where(wrong[:, None], 0, vertices), (note,)


@compiled
def _plan_fans(vertices, corners, starts, sizes):  # type: ignore[no-untyped-def]
    """Return the corner where each polygon's fan begins: 0 if convex, the notch of a quad."""
    fans = np.zeros(len(sizes), np.int64)
    for polygon in range(len(sizes)):
        size = sizes[polygon]
        if size < 4:
            continue
        points = vertices[corners[starts[polygon] : starts[polygon] + size]]
        points = points - points[0]
        extent = np.abs(points).max()
        if not 0 < extent < np.inf:
            continue
        points /= extent
        normal = np.zeros(3)  # by Newell's method; its length is twice the area
        for i in range(1, size - 1):
            normal += _cross(points[i], points[i + 1])
        length = np.sqrt((normal**2).sum())
        if length <= _FLAT:
            continue
        notches = 0
        for i in range(size):
            before, after = points[(i - 1) % size], points[(i + 1) % size]
            turn = _cross(points[i] - before, after - points[i])
            if (turn * normal).sum() < -_FLAT * length:
                notches += 1
                fans[polygon] = i
        if notches > 0 and (size > 4 or notches > 1):
            fans[polygon] = _EARS
    return fans


@compiled
def _write_fans(triangles, first, starts, sizes, fans):  # type: ignore[no-untyped-def]
    for polygon in range(len(sizes)):
        fan, size = fans[polygon], sizes[polygon]
        if fan != _EARS:
            for i in range(size - 2):
                triangles[first[polygon] + i, 0] = starts[polygon] + fan
                triangles[first[polygon] + i, 1] = starts[polygon] + (fan + i + 1) % size
                triangles[first[polygon] + i, 2] = starts[polygon] + (fan + i + 2) % size


@compiled
def _cross(a, b):  # type: ignore[no-untyped-def]
    cross = np.empty(3)
    cross[0] = a[1] * b[2] - a[2] * b[1]
    cross[1] = a[2] * b[0] - a[0] * b[2]
    cross[2] = a[0] * b[1] - a[1] * b[0]
    return cross


def _cut_ears(points: NDArray[np.float64]) -> NDArray[np.int64] | None:
    """Cut a polygon [c,3] into triangles [n,3] of its indices; None if ears do not fill it."""
    points = points - points[0]
    points /= np.abs(points).max()
    normal = np.cross(points[1:-1], points[2:]).sum(axis=0)
    flat = np.delete(points, np.abs(normal).argmax(), axis=1)  # projected along the nearest axis
    ring = np.array([len(flat)], np.uint32)
    cut = mapbox_earcut.triangulate_float64(np.ascontiguousarray(flat), ring)
    ears = cut.astype(np.int64).reshape(-1, 3)
    areas = _doubled_areas(flat[ears])
    outline = np.stack([np.zeros_like(flat[1:-1]), flat[1:-1], flat[2:]], axis=1)
    wanted = _doubled_areas(outline).sum()
    if not abs(np.abs(areas).sum() - abs(wanted)) <= _AREA_ERROR * abs(wanted):
        return None
    return ears if areas.sum() * wanted > 0 else np.ascontiguousarray(ears[:, ::-1])


def _doubled_areas(triangles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return twice the signed areas [n] of triangles [n,3,2] in the plane."""
    side, other = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    return side[:, 0] * other[:, 1] - side[:, 1] * other[:, 0]
