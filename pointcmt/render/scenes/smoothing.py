"""Smooth depth images before points are fused from them, so that noise does not thicken surfaces.

The noise of depth cameras grows with the square of the distance: at 5 m it spreads a wall over
10 cm, which is five voxels. KinectFusion (Newcombe et al., 2011, section 3.2) averages neighboring
pixels of similar depth. Here opposite neighbors count in pairs: on a plane, the mean inverse depth
of a pair equals that of the pixel between them, so that slanted planes stay where they are.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pointcmt.compiled import compiled
from pointcmt.render.scenes.fusion import View
from pointcmt.render.scenes.visibility import SHARE, TOLERANCE

RADIUS = 2  # pixels: with 3, edges of furniture lose more than walls gain


def smoothed(view: View) -> View:
    """Return a view whose depth is smooth within surfaces (`smoothed_depth`)."""
    return replace(view, image=replace(view.image, depth=smoothed_depth(view.image.depth)))


def smoothed_depth(depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean inverse depth around every pixel [H,W] as depth; 0 stays 0.

    Pairs of opposite neighbors up to RADIUS pixels away count if both are known and if their mean
    agrees with the pixel's own depth within the tolerance of visibility: max(2 cm, 2 %).
    """
    found: NDArray[np.float32] = _smoothed(np.ascontiguousarray(depth))
    return found


@compiled
def _smoothed(depth):  # type: ignore[no-untyped-def]
    height, width = depth.shape
    out = np.zeros_like(depth)
    for row in range(height):
        for column in range(width):
            z = np.float64(depth[row, column])
            if z <= 0.0:
                continue
            own = max(TOLERANCE, SHARE * z)
            total, count = 1.0 / z, 1
            rows, columns = (
                min(RADIUS, row, height - 1 - row),
                min(RADIUS, column, width - 1 - column),
            )
            for down in range(rows + 1):
                for right in range(-columns if down else 1, columns + 1):
                    a = np.float64(depth[row + down, column + right])
                    b = np.float64(depth[row - down, column - right])
                    if a > 0.0 and b > 0.0:
                        pair = 1.0 / a + 1.0 / b
                        if abs(2.0 / pair - z) <= own:
                            total += pair
                            count += 2
            out[row, column] = count / total
    return out
