"""Scores of 3D detection: average precision at an IoU, over all scenes.

The protocol of VoteNet's eval_det.py, which published scores follow: per class, detections of all
scenes by descending score; each is matched to the true box of its scene and class with the largest
IoU, and is a hit if that IoU is over the threshold and no earlier detection has taken the box. A
class without any true boxes has no average precision and does not count in the mean (VoteNet's code
gives NaN for the mean if such a class is predicted).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pointcmt.training.ops.boxes import box_iou


@dataclass(frozen=True, eq=False)
class Detections:
    """The detections of a scene. A box may be there several times, once per class."""

    boxes: NDArray[np.floating]  # [D,7] as in docs/conventions.md
    label: NDArray[np.integer]  # [D]
    score: NDArray[np.floating]  # [D]


@dataclass(frozen=True, eq=False)
class TrueBoxes:
    """The labeled boxes of a scene."""

    boxes: NDArray[np.floating]  # [G,7]
    label: NDArray[np.integer]  # [G]


@dataclass(frozen=True, eq=False)
class DetectionScores:
    """Average precision and recall per class [C]; NaN for a class without any true boxes."""

    average_precision: NDArray[np.float64]
    recall: NDArray[np.float64]  # of all detections

    @property
    def mean_average_precision(self) -> float:
        """Return the mean over the classes that have true boxes; NaN if none has."""
        known = self.average_precision[np.isfinite(self.average_precision)]
        return float(known.mean()) if len(known) else float("nan")


def detection_scores(
    detections: Sequence[Detections],
    targets: Sequence[TrueBoxes],
    classes: int,
    threshold: float = 0.25,
) -> DetectionScores:
    """Return the scores of detections, scene by scene in the order of their true boxes.

    threshold: the IoU that a hit must exceed; 0.25 and 0.5 are usual. Detections of equal score
    keep the order of scenes, then their own. Raises ValueError for lists of different lengths.
    """
    scenes = list(zip(detections, targets, strict=True))
    precision, recall = np.full(classes, np.nan), np.full(classes, np.nan)
    for label in range(classes):
        positives = sum(int((true.label == label).sum()) for _, true in scenes)
        if not positives:
            continue
        found = [_hits(*scene, label, threshold) for scene in scenes]
        scores = np.concatenate([score for score, _ in found])
        order = np.argsort(-scores, kind="stable")
        best = _first_of_each(found, order, label, targets)
        precision[label] = average_precision(best, positives)
        recall[label] = best.sum() / positives
    return DetectionScores(precision, recall)


def average_precision(hits: NDArray[np.bool_], positives: int) -> float:
    """Return the area under the precision envelope at all recalls (PASCAL VOC 2010 and later).

    hits: [D] whether each detection, by descending score, is one. positives: number of true boxes.

    >>> average_precision(np.array([True, False, True, True, False]), positives=4)
    0.625
    """
    right = np.cumsum(hits)
    precision = right / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(envelope[np.asarray(hits, bool)].sum() / positives)


def _hits(
    found: Detections, true: TrueBoxes, label: int, threshold: float
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return (score, true box or -1) of a scene's detections of a class, each [D]."""
    mine, its = found.label == label, true.label == label
    score = np.asarray(found.score[mine], np.float64)
    if not its.any() or not mine.any():
        return score, np.full(len(score), -1)
    overlaps = box_iou(_tensor(found.boxes[mine]), _tensor(true.boxes[its])).numpy()
    best = overlaps.argmax(axis=1)
    return score, np.where(overlaps.max(axis=1) > threshold, best, -1)


def _first_of_each(
    found: list[tuple[NDArray[np.float64], NDArray[np.int64]]],
    order: NDArray[np.int64],
    label: int,
    targets: Sequence[TrueBoxes],
) -> NDArray[np.bool_]:
    """Return, in order, whether each detection is the first that matches its true box."""
    before = np.cumsum([0, *(int((true.label == label).sum()) for true in targets)])
    matched = np.concatenate(
        [
            np.where(box < 0, -1, box + first)
            for (_, box), first in zip(found, before[:-1], strict=True)
        ]
    )[order]
    hits = np.zeros(len(order), bool)
    boxes, first = np.unique(matched, return_index=True)
    hits[first[boxes >= 0]] = True
    return hits


def _tensor(boxes: NDArray[np.floating]) -> torch.Tensor:
    return torch.as_tensor(np.asarray(boxes, np.float64))
