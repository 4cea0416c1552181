"""A description of a shape that does not depend on its position, rotation and scale.

The distribution of the distances between pairs of points (D2 of Osada et al. 2002, "Shape
distributions"), in units of the root mean square radius, for pairs of inner and outer points apart:
the points are cut into RINGS of equal size by their distance from the centroid, and each pair of
rings has its curve of cumulative shares. Similar shapes have similar curves, and only they are
compared in full: see `alignment`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST = 1024  # points: the first ones, which lie evenly on the surface
FEWEST = 512  # with fewer, similar shapes are as far apart as two samples of one shape
RINGS = 4
STEPS, REACH = 24, 4.0  # of a curve; the distances of a rod go up to √12


@dataclass(frozen=True)
class Descriptor:
    """curve: cumulative shares [RINGS (RINGS + 1) / 2 · STEPS]. noise: the root mean square
    difference between the curves of one half of the points and of the other half.
    """

    curve: NDArray[np.float32]
    noise: float


def describe_points(points: NDArray[np.floating]) -> Descriptor | None:
    """Return the descriptor of points [N,3]; None for fewer than FEWEST, or if they all coincide.

    Points are in farthest-point order, so every other one is half of them, just as even.
    """
    first = normalized(points[:MOST])
    if len(first) < FEWEST or not np.any(first):
        return None
    halves = _curve(first[::2]) - _curve(first[1::2])
    return Descriptor(_curve(first), float(np.sqrt(np.mean(halves**2))))


def normalized(points: NDArray[np.floating]) -> NDArray[np.float32]:
    """Center points [N,3] at their centroid and scale them to a root mean square radius of 1."""
    centered = np.asarray(points, np.float64) - np.mean(points, axis=0)
    radius = np.sqrt(np.mean(np.sum(centered**2, axis=1)))
    scaled: NDArray[np.float32] = (centered / radius if radius > 0 else centered).astype(np.float32)
    return scaled


def _curve(points: NDArray[np.float32]) -> NDArray[np.float32]:
    squares = np.sum(points**2, axis=1)
    rings = np.array_split(np.argsort(squares, kind="stable"), RINGS)
    curves = []
    for place, ring in enumerate(rings):
        for other in rings[place:]:
            products = points[ring] @ points[other].T
            pairs = squares[ring][:, None] + squares[other] - 2 * products
            distances = np.sqrt(np.maximum(pairs, 0)).ravel()
            steps = np.minimum(distances * (STEPS / REACH), STEPS - 1).astype(np.intp)
            curves.append(np.cumsum(np.bincount(steps, minlength=STEPS)) / len(steps))
    return np.concatenate(curves).astype(np.float32)
