"""Test whether the class can be predicted from numbers that should be the same for all shapes.

Each shape is classified by its nearest neighbor among the others (leave-one-out cross-validation),
and the share that is right is compared with that of shuffled classes. The neighbors do not depend
on the classes, so the permutation test is exact at any number of shapes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.01  # of significance: the share of stores without a leak in which the test finds one
DRAWS = 4999  # permutations
MOST = 2000  # shapes: more add no certainty that matters
SIGNIFICANT = 6  # decimals up to which values are compared


@dataclass(frozen=True)
class Told:
    """How well classes are told. accuracy: of the nearest neighbor. chance: its mean with shuffled
    classes. p: the share of permutations, with the real one, that are at least as accurate.
    """

    shapes: int
    accuracy: float
    chance: float
    p: float

    @property
    def beyond_chance(self) -> bool:
        """Whether this is significant at LEVEL."""
        return self.p <= LEVEL


def sample_of(labels: NDArray[np.int64], seed: int = 0) -> NDArray[np.int64]:
    """Return at most MOST labeled shapes, drawn at random, in order."""
    known = np.flatnonzero(labels >= 0)
    if len(known) > MOST:
        known = np.sort(np.random.default_rng(seed).choice(known, MOST, replace=False))
    return known


def probe(values: NDArray[np.float64], labels: NDArray[np.int64], seed: int = 0) -> Told | None:
    """Test whether labels [n] are told from values [n,D].

    Returns None if there is nothing to tell from: fewer than two classes, or all values equal.
    """
    rounded = np.round(values, SIGNIFICANT)
    if len(np.unique(labels)) < 2 or np.all(rounded == rounded[:1]):
        return None
    rng = np.random.default_rng(seed)
    neighbor = _neighbors(rounded, rng)
    right = float(np.mean(labels[neighbor] == labels))
    drawn = np.empty(DRAWS)
    for draw in range(DRAWS):
        shuffled = rng.permutation(labels)
        drawn[draw] = np.mean(shuffled[neighbor] == shuffled)
    p = (1 + int(np.sum(drawn >= right))) / (1 + DRAWS)
    return Told(len(labels), right, float(drawn.mean()), p)


def _neighbors(values: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return each row's nearest other row, [n]; one of the nearest at random."""
    _, first, group = np.unique(values, axis=0, return_index=True, return_inverse=True)
    group = group.ravel()
    distinct = values[first]
    spread = distinct.std(axis=0)
    scaled = distinct / np.where(spread > 0, spread, 1)
    members = [np.flatnonzero(group == each) for each in range(len(first))]
    neighbor = np.empty(len(values), np.int64)
    for each, own in enumerate(members):
        if len(own) > 1:
            # A random other member: the next one on a random circle.
            circle = rng.permutation(own)
            neighbor[circle] = np.roll(circle, -1)
        else:
            away = np.sum((scaled - scaled[each]) ** 2, axis=1)
            away[each] = np.inf
            nearest = np.flatnonzero(away <= away.min() * (1 + 1e-9))
            neighbor[own] = rng.choice(members[rng.choice(nearest)])
    return neighbor
