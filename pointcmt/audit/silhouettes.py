"""Silhouettes of objects: by depth, by color, and those of the projected points.

What a silhouette looks like follows from the shape, and so may tell its class. That the three agree
does not: they differ only if images, depth and cameras do not belong together.
"""

import numpy as np
from numpy.typing import NDArray

FAINT = 10  # of 255: a smaller difference from the background in every channel does not count
NEARBY = 2  # pixels: a point of a thin part may be as far from a covered pixel's center
SIDES = ("left", "top", "right", "bottom")
COLUMNS = (  # of `framing`
    *(f"{side} of the silhouette against the points" for side in SIDES),
    *(f"{side} of the colored pixels against depth" for side in SIDES),
    "points beside the silhouette",
    "silhouette in the background's color",
)

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


def framing(covered: Bools, drawn: Bools, uv: Floats) -> Floats:
    """Return how far depth, color and projected points disagree, [V,10]: see COLUMNS.

    covered, drawn [V,H,W]: pixels with depth, and pixels that differ from the background. uv
    [V,N,2]: the projected points. Sides of boxes differ by shares of the image's width, the first
    ones being positive to the right and downward. All values are near 0, whatever the shape, if the
    images show the stored points through the stored cameras.
    """
    H, W = covered.shape[1:]
    silhouette, inside = _boxes(covered), is_inside(uv, (H, W))
    off_points = silhouette - np.concatenate([uv.min(axis=1), uv.max(axis=1)], axis=1)
    off_depth = _boxes(drawn) - silhouette
    boxes = np.nan_to_num(np.concatenate([off_points, off_depth], axis=1) / W)
    beside = inside & ~_near(covered, uv)
    missed = beside.sum(axis=1) / np.maximum(inside.sum(axis=1), 1)
    bare = (covered & ~drawn).sum(axis=(1, 2)) / np.maximum(covered.sum(axis=(1, 2)), 1)
    return np.column_stack([boxes, missed, bare])


def differs(rgb: NDArray[np.uint8], background: list[int]) -> Bools:
    """Return which pixels [V,H,W] differ from the background in some channel."""
    color = np.array(background, np.int64)
    low, high = np.clip([color - FAINT, color + FAINT], 0, 255).astype(np.uint8)
    return np.any((rgb < low) | (rgb > high), axis=-1)


def is_inside(uv: Floats, size: tuple[int, int]) -> Bools:
    """Return which projected points [V,N,2] are in the image. size: H, W."""
    return np.all((uv >= 0) & (uv < (size[1], size[0])), axis=-1)


def touched_border(covered: Bools) -> Floats:
    """Return the share of the image's border that is covered, [V]."""
    sides = (covered[:, 0], covered[:, -1], covered[:, 1:-1, 0], covered[:, 1:-1, -1])
    return np.concatenate(sides, axis=1).mean(axis=1)


def _boxes(mask: Bools) -> Floats:
    """Return left, top, right and bottom of the pixels in a mask, [V,4]; NaN without any."""
    V, H, W = mask.shape
    boxes = np.full((V, 4), np.nan)
    for axis, size, low, high in ((1, W, 0, 2), (2, H, 1, 3)):
        hit: Bools = np.any(mask, axis=axis)
        some = hit.any(axis=1)
        boxes[some, low] = hit[some].argmax(axis=1)
        boxes[some, high] = size - hit[some, ::-1].argmax(axis=1)
    return boxes


def _near(covered: Bools, uv: Floats) -> Bools:
    """Return which projected points [V,N] have a covered pixel at most NEARBY pixels away."""
    V, H, W = covered.shape
    views = np.arange(V)[:, None]
    column, row = np.moveaxis(np.clip(np.nan_to_num(uv), -1, max(H, W)).astype(int), -1, 0)
    near = np.zeros(uv.shape[:2], bool)
    for down in (-NEARBY, 0, NEARBY):
        for right in (-NEARBY, 0, NEARBY):
            rows, columns = (row + down).clip(0, H - 1), (column + right).clip(0, W - 1)
            near |= covered[views, rows, columns]
    return near
