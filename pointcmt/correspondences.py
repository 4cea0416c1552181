"""Compute correspondences from stored data: point → pixel, pixel → point, pixel ↔ pixel.

A store holds which points each view sees; projection gives their positions in the image.
Letters: V views, N points, H = W pixels.
"""

import numpy as np
from numpy.typing import NDArray

from pointcmt.cameras import Camera, pixel_centers
from pointcmt.compiled import compiled

NONE = -1


def points_to_pixels(
    points: NDArray[np.floating],
    visible: NDArray[np.bool_],
    camera: Camera,
    depth: NDArray[np.floating] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Project points [N,3] into views [V]: uv [V,N,2] f64 and (row, column) [V,N,2] i32.

    uv is given for all points; row and column are -1 if the view does not see the point
    (visible [V,N]). With the views' depth [V,H,W] they are also -1 if the point falls on a
    background pixel: the image is sampled at pixel centers, so the pixel of a visible point near a
    silhouette may show only background.
    """
    uv, _ = camera.project(points)
    shown = visible[..., None]
    pixel = np.where(shown, np.floor(np.where(shown, uv, NONE)), NONE)[..., ::-1].astype(np.int32)
    if depth is not None:
        view, point = np.nonzero(visible)
        row, column = pixel[view, point].T
        background = depth[view, row, column] == 0
        pixel[view[background], point[background]] = NONE
    return uv, pixel


def pixels_to_points(
    points: NDArray[np.floating],
    visible: NDArray[np.bool_],
    camera: Camera,
    radius: float = 2.0,
    depth: NDArray[np.floating] | None = None,
) -> NDArray[np.int32]:
    """Return the visible point nearest to each pixel's center, [V,H,W] i32.

    radius: pixels; -1 if no point is within it. Distances are in the image plane, ties go to the
    lower index. Hidden points are ignored. With the views' depth [V,H,W], background pixels are -1
    as well.
    """
    uv, _ = camera.project(points)
    index = np.full((len(uv), camera.height, camera.width, 1), NONE, np.int32)
    nearest_points(uv, visible, index, float(radius))
    if depth is not None:
        index[depth == 0] = NONE
    return index[..., 0]


def match_pixels(
    depth: tuple[NDArray[np.floating], NDArray[np.floating]],
    camera: tuple[Camera, Camera],
    depth_tolerance: float = 0.02,
    cycle_tolerance: float = 1.0,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Match each pixel of view 1 with its position in view 2: uv [H,W,2] and whether it is valid.

    depth: the two views' [H,W] in world units, 0 = background. A match is valid if the pixel is
    covered, its surface point falls into view 2 in front of the camera, view 2's depth there agrees
    with the point's within `depth_tolerance` (relative), and projecting back from there with that
    depth ends within `cycle_tolerance` pixels of the start. docs/correspondences.md measures the
    matches that this misses at thin parts.
    """
    first, second = camera
    centers = pixel_centers(first.width, first.height)
    uv, reach = _transfer(centers, depth[0], first, second)
    inside = np.all((uv >= 0) & (uv < [second.width, second.height]), axis=-1) & (reach > 0)
    valid = inside & (depth[0] > 0)
    uv = np.where(valid[..., None], uv, 0.0)
    found = _depth_at(depth[1], uv, reach)
    valid &= (found > 0) & (np.abs(found - reach) <= depth_tolerance * reach)
    back, _ = _transfer(uv, found, second, first)
    valid &= np.linalg.norm(back - centers, axis=-1) <= cycle_tolerance
    return uv, valid


def _transfer(
    uv: NDArray[np.float64], depth: NDArray[np.floating], source: Camera, target: Camera
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Unproject pixels [H,W,2] of one view and project them into another: uv, depth."""
    points = source.unproject(uv.reshape(-1, 2), depth.reshape(-1))
    moved, reach = target.project(points)
    return moved.reshape(uv.shape), reach.reshape(depth.shape)


def _depth_at(
    depth: NDArray[np.floating], uv: NDArray[np.float64], expected: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the image's depth [H,W] at uv [h,w,2], 0 = background: interpolated or the nearest
    pixel's, whichever is closer to `expected` [h,w].

    On a plane, inverse depth is linear in the image, so interpolating it is exact at any slope.
    Where the four surrounding pixels show two surfaces, only the nearest pixel is meaningful.
    """
    height, width = depth.shape
    u, v = uv[..., 0], uv[..., 1]
    here = depth[np.floor(v).astype(int), np.floor(u).astype(int)].astype(np.float64)
    column = np.clip(np.floor(u - 0.5), 0, width - 2).astype(int)
    row = np.clip(np.floor(v - 0.5), 0, height - 2).astype(int)
    right, down = np.clip(u - 0.5 - column, 0, 1), np.clip(v - 0.5 - row, 0, 1)
    covered, inverse = np.ones(here.shape, bool), np.zeros(here.shape)
    for r, c in ((0, 0), (0, 1), (1, 0), (1, 1)):
        corner = depth[row + r, column + c]
        covered &= corner > 0
        weight = (right if c else 1 - right) * (down if r else 1 - down)
        inverse += weight / np.where(corner > 0, corner, 1)
    between = np.where(covered, 1 / inverse, here)
    return np.where(np.abs(between - expected) < np.abs(here - expected), between, here)


@compiled
def nearest_points(uv, visible, index, radius):  # type: ignore[no-untyped-def]
    """Fill index [V,H,W,k] i32 with the k visible points nearest to each pixel's center, ascending.

    uv [V,N,2] f64, visible [V,N] bool, radius: pixels. Ties go to the lower index. With fewer than
    k points within the radius, the remaining entries keep their values.
    """
    views, height, width, k = index.shape
    away = np.empty((height, width, k))  # squared distances
    for view in range(views):
        away[:] = np.inf
        for point in range(uv.shape[1]):
            if not visible[view, point]:
                continue
            u, v = uv[view, point, 0], uv[view, point, 1]
            for row in range(max(0, int(v - radius - 0.5)), min(height, int(v + radius + 0.5) + 1)):
                left, right = int(u - radius - 0.5), int(u + radius + 0.5) + 1
                for column in range(max(0, left), min(width, right)):
                    here = (column + 0.5 - u) ** 2 + (row + 0.5 - v) ** 2
                    if here > radius * radius:
                        continue
                    slot = k
                    while slot > 0 and here < away[row, column, slot - 1]:
                        slot -= 1
                    if slot == k:
                        continue
                    for later in range(k - 1, slot, -1):
                        away[row, column, later] = away[row, column, later - 1]
                        index[view, row, column, later] = index[view, row, column, later - 1]
                    away[row, column, slot] = here
                    index[view, row, column, slot] = point
