"""Average precision of each class from counts of scenes, for scenes that are drawn at random.

Precision is not a ratio of sums over scenes. But detections in steps of their score can be added up
over scenes, and its average follows from the sums: see `ops.detection.scores`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pointcmt.training.ops.detection.scores import BINS, counted_precision, unpack_counts

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class BoxCounts:
    """ids [n] of the scenes, classes [C]. counts: for each class, a sparse tensor [b·2, n] of its
    hits and others by bin of the score and scene, as in `count_detections`, without bins that are
    empty in all scenes; the last bin counts true boxes.
    """

    ids: list[str]
    classes: list[str]
    counts: tuple[Tensor, ...]  # dense ones of thousands of scenes would take gigabytes

    def measures(self, times: Floats) -> Floats:
        """Return the average precision of each class and their mean, [..., C + 1], of scenes drawn
        `times` [..., n]; NaN without any true boxes.
        """
        drawn = times.reshape(-1, times.shape[-1])
        each = np.stack([_precision(drawn, counts) for counts in self.counts], axis=1)
        known = np.isfinite(each)
        with np.errstate(invalid="ignore"):
            mean = np.where(known, each, 0).sum(axis=1) / known.sum(axis=1)
        found = np.concatenate([each, mean[:, None]], axis=1)
        return found.reshape(*times.shape[:-1], -1)

    def ordered(self, places: list[int]) -> "BoxCounts":
        """Return the counts with the scenes in another order."""
        moved = tuple(counts.index_select(1, torch.tensor(places)) for counts in self.counts)
        return BoxCounts([self.ids[place] for place in places], self.classes, moved)


def _precision(times: Floats, counts: Tensor) -> Floats:
    """Return a class's average precision [m] for scenes drawn times [m, n]."""
    sums = torch.sparse.mm(counts, torch.from_numpy(np.ascontiguousarray(times.T)))  # [b·2, m]
    return counted_precision(sums.numpy().T.reshape(len(times), -1, 2))


def box_counts_of(predictions: dict[str, Any]) -> BoxCounts:
    """Return the counts in predictions.json, which `pack_counts` wrote."""
    ids, classes = list(predictions["ids"]), list(predictions["classes"])
    unpacked = [unpack_counts(packed) for packed in predictions["counts"]]
    scene = np.repeat(np.arange(len(ids)), [len(places) for places, _ in unpacked])
    place, count = (np.concatenate(each) for each in zip(*unpacked, strict=True))
    label, place = np.divmod(place, (BINS + 1) * 2)
    counts = []
    for number in range(len(classes)):
        own = label == number
        counts.append(_sparse(place[own], scene[own], count[own], len(ids)))
    return BoxCounts(ids, classes, tuple(counts))


def _sparse(
    place: NDArray[np.int64], scene: NDArray[np.int64], count: NDArray[np.int64], scenes: int
) -> Tensor:
    """Return the counts [k] of a class as a tensor [b·2, n] without empty bins; the last one, of
    true boxes, stays. place: 2 · bin, + 1 for those that are not hits.
    """
    bins, outcome = np.divmod(place, 2)
    used, bins = np.unique(np.append(bins, BINS), return_inverse=True)
    where = np.stack([2 * bins[:-1] + outcome, scene])
    size = (2 * len(used), scenes)
    parts = torch.from_numpy(where), torch.from_numpy(count.astype(np.float64))
    return torch.sparse_coo_tensor(*parts, size, check_invariants=True).coalesce()
