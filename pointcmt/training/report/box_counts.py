"""Average precision of each class from counts of scenes, for scenes that are drawn at random.

Precision is not a ratio of sums over scenes. But detections in steps of their score can be added up
over scenes, and its average follows from the sums: see `ops.detection.scores`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointcmt.training.ops.detection.scores import BINS, counted_precision

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class BoxCounts:
    """ids [n] of the scenes, classes [C]. counts: for each class its counts by scene and by bin of
    the score, [n, b, 2], as in `count_detections`, without bins that are empty in all scenes; the
    last bin counts true boxes.
    """

    ids: list[str]
    classes: list[str]
    counts: tuple[Floats, ...]

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
        return BoxCounts(
            [self.ids[place] for place in places],
            self.classes,
            tuple(counts[places] for counts in self.counts),
        )


def _precision(times: Floats, counts: Floats) -> Floats:
    """Return a class's average precision [m] for scenes drawn times [m, n]."""
    m, b = len(times), counts.shape[1]
    sums = (times @ counts.reshape(len(counts), -1)).reshape(m, b, 2)
    return counted_precision(sums)


def box_counts_of(predictions: dict[str, Any]) -> BoxCounts:
    """Return the counts in predictions.json, which `sparse_counts` wrote."""
    ids, classes = list(predictions["ids"]), list(predictions["classes"])
    dense = np.zeros((len(classes), len(ids), BINS + 1, 2))
    for scene, rows in enumerate(predictions["detections"]):
        if rows:
            label, place, *outcomes = np.array(rows, np.int64).T
            dense[label, scene, place] = np.stack(outcomes, axis=1)
    kept = [_occupied(each) for each in dense]
    return BoxCounts(ids, classes, tuple(kept))


def _occupied(counts: Floats) -> Floats:
    """Return counts [n, b, 2] without bins that are empty; the last one, of true boxes, stays."""
    used = np.any(counts, axis=(0, 2))
    return counts[:, np.append(used[:-1], True)]
