"""Shapes that are in a store twice, maybe turned, scaled or sampled otherwise.

Two shapes are duplicates if their descriptors are as close as those of two samples of one surface,
and then their surfaces are, too. Descriptors are compared only with those whose leading component
is close, not all with all.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pointcmt.audit.alignment import Surface, gap_between

BLOCK = 512  # shapes that are compared at once
CANDIDATES = 4  # of each shape: the most similar ones
NOISE = 0.7  # of the difference between two halves of a shape: samples of one surface differ less
SAME_POINTS, SAME_PLANES = 0.6, 0.07  # the largest `Gap` of two samples of one surface


@dataclass(frozen=True)
class Group:
    """The numbers of shapes that are the same surface, ascending.

    gap: the largest `alignment.Gap.planes` of the pairs that were compared.
    """

    shapes: tuple[int, ...]
    gap: float


def candidates(curves: NDArray[np.float32], noise: NDArray[np.floating]) -> list[tuple[int, int]]:
    """Return pairs of rows of `curves` [n,D] that may be duplicates, the most similar ones first.

    noise: of each curve, [n]; see `Descriptor`. There are at most n × CANDIDATES pairs.
    """
    if len(curves) < 2:
        return []
    limit = NOISE * float(np.median(noise)) * np.sqrt(curves.shape[1])  # of the Euclidean distance
    centered = curves - curves.mean(axis=0)
    _, vectors = np.linalg.eigh(centered.T @ centered)
    leading = centered @ vectors[:, -1]
    order = np.argsort(leading, kind="stable")
    leading, sorted_curves = leading[order], centered[order]
    found: list[tuple[float, int, int]] = []
    for start in range(0, len(order), BLOCK):
        stop = min(start + BLOCK, len(order))
        end = int(np.searchsorted(leading, leading[stop - 1] + limit, side="right"))
        block, others = sorted_curves[start:stop], sorted_curves[start:end]
        squares = np.sum(block**2, axis=1)[:, None] + np.sum(others**2, axis=1)
        squares -= 2 * block @ others.T
        squares[np.tril_indices(stop - start, m=end - start)] = np.inf  # each pair once
        few = min(CANDIDATES, end - start)
        nearest = np.argpartition(squares, few - 1, axis=1)[:, :few]
        close = np.take_along_axis(squares, nearest, axis=1)
        for row, place in np.argwhere(close <= limit**2).tolist():
            one, other = int(order[start + row]), int(order[start + nearest[row, place]])
            found.append((float(close[row, place]), min(one, other), max(one, other)))
    return [(first, second) for _, first, second in sorted(found)]


def confirmed(
    pairs: Iterable[tuple[int, int]],
    surface_of: Callable[[int], Surface],
    advance: Callable[[int], None],
) -> list[Group]:
    """Return the groups of shapes that are the same surface, by number.

    A pair is not compared if both are duplicates of the same shape already. surface_of: the points
    and normals of a shape. advance: is called with the number of pairs looked at.
    """
    groups, found = _Groups(), list[tuple[int, int, float]]()
    for first, second in pairs:
        if groups.root(first) != groups.root(second):
            gap = gap_between(surface_of(first), surface_of(second))
            if gap.points <= SAME_POINTS and gap.planes <= SAME_PLANES:
                found.append((first, second, gap.planes))
                groups.join(first, second)
        advance(1)
    members, gaps = defaultdict[int, set[int]](set), defaultdict[int, float](float)
    for first, second, planes in found:
        root = groups.root(first)
        members[root] |= {first, second}
        gaps[root] = max(gaps[root], planes)
    made = [Group(tuple(sorted(members[root])), round(gaps[root], 3)) for root in members]
    return sorted(made, key=lambda group: group.shapes)


class _Groups:
    """Shapes that are duplicates of each other."""

    def __init__(self) -> None:
        self._above: dict[int, int] = {}

    def root(self, shape: int) -> int:
        while (above := self._above.get(shape, shape)) != shape:
            shape = above
        return shape

    def join(self, one: int, other: int) -> None:
        self._above[self.root(one)] = self.root(other)
