"""Few labeled points of a scene, for training with limited annotation (CSC, Hou et al. 2021)."""

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointcmt.scenes import IGNORE


def choose_labeled(labels: NDArray[Any], count: int, scene: str, seed: int) -> NDArray[np.int64]:
    """Choose `count` of the points [n] that have a class, all if there are fewer; ascending.

    scene: its id. The choice follows from the labels, the id and the seed, and a smaller one is a
    part of a larger one.
    """
    known = np.flatnonzero(labels != IGNORE)
    digest = hashlib.sha256(scene.encode("utf-8", "surrogatepass")).digest()
    rng = np.random.default_rng([seed, int.from_bytes(digest[:8])])
    return np.sort(rng.permutation(known)[:count])


def only_labels(labels: NDArray[Any], chosen: NDArray[np.int64]) -> NDArray[Any]:
    """Return the labels [n] of the chosen points, and IGNORE for all others."""
    kept = np.full_like(labels, IGNORE)
    kept[chosen] = labels[chosen]
    return kept
