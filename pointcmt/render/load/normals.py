"""Unit normals for clouds: those of the file if they are good, else estimated."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pointcmt.render.startup import load_open3d
from pointcmt.shapes import Cloud

NEIGHBORS = 16  # of a point, including itself, whose plane gives its normal
TOLERANCE = 0.01  # allowed difference of a normal's length from 1


def complete_normals(cloud: Cloud) -> Cloud:
    """Return a normalized cloud whose normals all have unit length.

    Normals whose length is not 1 (zeros, placeholders) are replaced by estimated ones; if only some
    are, a note says so.
    """
    with np.errstate(over="ignore"):
        length = np.linalg.norm(cloud.normals, axis=1)
    good = np.abs(length - 1) <= TOLERANCE
    normals = np.empty_like(cloud.normals)
    normals[good] = cloud.normals[good] / length[good, None]
    if good.all():
        return replace(cloud, normals=normals)
    normals[~good] = estimate_normals(cloud.points)[~good]
    notes = cloud.notes
    if good.any():
        notes = (*notes, f"{int((~good).sum())} normals are not unit vectors: estimated instead")
    return replace(cloud, normals=normals, notes=notes)


def estimate_normals(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Estimate unit normals [M,3] of points [M,3]; they point away from the origin.

    Each is the direction in which the nearest neighbors of its point vary least (Hoppe et al.
    1992). Away from the origin is outward only for convex shapes; images do not depend on it.
    """
    open3d = load_open3d("estimating the normals of clouds")
    cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(points))
    search = open3d.geometry.KDTreeSearchParamKNN(NEIGHBORS)
    cloud.estimate_normals(search, fast_normal_computation=False)
    normals = np.asarray(cloud.normals)
    inward = (normals * points).sum(axis=1) < 0
    return np.where(inward[:, None], -normals, normals)
