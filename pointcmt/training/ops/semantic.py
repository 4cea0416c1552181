"""Scores of semantic segmentation: one confusion matrix over all points of all scenes.

As in ScanNet's evaluate_semantic_label.py: points whose true class is unknown do not count at all,
and a prediction of no class counts against the true class alone.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

IGNORE = -1  # a true class that is unknown, or a prediction of none


@dataclass(frozen=True, eq=False)
class Confusion:
    """Counts [C,C+1] of points by true class and predicted class; the last column: none.

    Confusions of several scenes, or of the six areas of S3DIS, are added before scores are taken
    (a mean of scores is another number). A class that is neither in the labels nor predicted has no
    IoU, and does not count in the mean: `averaged` tells how many do. (Code that adds 1e-10 to the
    union gives such a class an IoU of 0.)

    >>> counts = confusion(np.array([0, 0, 1, -1]), np.array([0, 1, 1, 0]), classes=3)
    >>> float(counts.miou), counts.averaged
    (0.5, 2)
    """

    counts: NDArray[np.int64]

    def __add__(self, other: "Confusion") -> "Confusion":
        return Confusion(self.counts + other.counts)

    @property
    def iou(self) -> NDArray[np.float64]:
        """Return intersection over union per class [C]; NaN for a class without any points."""
        union = self.counts.sum(axis=1) + self.counts[:, :-1].sum(axis=0) - self._hits
        return _ratio(self._hits, union)

    @property
    def recall(self) -> NDArray[np.float64]:
        """Return the accuracy per true class [C]; NaN for a class without labeled points."""
        return _ratio(self._hits, self.counts.sum(axis=1))

    @property
    def miou(self) -> float:
        """Return the mean IoU of the classes that have one; NaN if none has."""
        return _mean(self.iou)

    @property
    def averaged(self) -> int:
        """Return the number of classes in the mean IoU."""
        return int(np.isfinite(self.iou).sum())

    @property
    def mean_accuracy(self) -> float:
        """Return the mean accuracy of the classes that have labeled points; NaN if none has."""
        return _mean(self.recall)

    @property
    def overall_accuracy(self) -> float:
        """Return the share of labeled points that are right; NaN without any."""
        total = int(self.counts.sum())
        return float(self._hits.sum() / total) if total else float("nan")

    @property
    def _hits(self) -> NDArray[np.int64]:
        return np.asarray(np.diagonal(self.counts), np.int64)


def confusion(true: NDArray[Any], predicted: NDArray[Any], classes: int) -> Confusion:
    """Count the points of a scene. true, predicted: [N] class indices, -1 = none.

    Raises ValueError for arrays of other lengths and for classes that do not exist.
    """
    if true.shape != predicted.shape:
        raise ValueError(f"{true.shape} labels, {predicted.shape} predictions")
    for name, array in (("labels", true), ("predictions", predicted)):
        if array.size and not IGNORE <= array.min() <= array.max() < classes:
            raise ValueError(f"{name} from {array.min()} to {array.max()}, of {classes} classes")
    known = true != IGNORE
    column = np.where(predicted[known] == IGNORE, classes, predicted[known]).astype(np.int64)
    cells = true[known].astype(np.int64) * (classes + 1) + column
    counts = np.bincount(cells, minlength=classes * (classes + 1))
    return Confusion(counts.reshape(classes, classes + 1).astype(np.int64))


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


def _mean(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
