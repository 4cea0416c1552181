"""Scores of 3D detection: average precision at an IoU, over all scenes.

The protocol of VoteNet's eval_det.py, which published scores follow: per class, detections of all
scenes by descending score; each is matched to the true box of its scene and class with the largest
IoU, and is a hit if that IoU is over the threshold and no earlier detection has taken the box. A
class without any true boxes has no average precision and does not count in the mean (VoteNet's code
gives NaN for the mean if such a class is predicted).

`detection_scores` ranks all detections. `count_detections` and `counted_precision` do the same with
scores in steps of 1/1000, where equal ones count together: counts of scenes can be added up, in any
order and over several processes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pointcmt.training.ops.detection.boxes import box_iou

BINS = 1000  # of scores from 0 to 1


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


def over(found: Detections, least: float) -> Detections:
    """Return the detections with a score over the least."""
    kept = found.score > least
    return Detections(found.boxes[kept], found.label[kept], found.score[kept])


@dataclass(frozen=True, eq=False)
class DetectionScores:
    """Average precision and recall per class [C]; NaN for a class without any true boxes.

    hits: of each class, whether its detections by descending score are right. positives: its true
    boxes, [C].
    """

    average_precision: NDArray[np.float64]
    recall: NDArray[np.float64]  # of all detections
    hits: tuple[NDArray[np.bool_], ...]
    positives: NDArray[np.int64]

    @property
    def mean_average_precision(self) -> float:
        """Return the mean over the classes that have true boxes; NaN if none has."""
        return known_mean(self.average_precision)

    @property
    def mean_recall(self) -> float:
        """Return the mean recall over the same classes, VoteNet's AR."""
        return known_mean(self.recall)


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
    positives, hits = np.zeros(classes, np.int64), []
    for label in range(classes):
        positives[label] = count = sum(int((true.label == label).sum()) for _, true in scenes)
        found = [_hits(*scene, label, threshold) for scene in scenes]
        scores = np.concatenate([np.zeros(0), *(score for score, _ in found)])
        order = np.argsort(-scores, kind="stable")
        hits.append(_first_of_each(found, order, label, targets))
        if count:
            precision[label] = average_precision(hits[label], count)
            recall[label] = hits[label].sum() / count
    return DetectionScores(precision, recall, tuple(hits), positives)


def known_mean(values: NDArray[np.float64]) -> float:
    """Return the mean of the values that are not NaN; NaN if all are."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def average_precision(hits: NDArray[np.bool_], positives: int) -> float:
    """Return the area under the precision envelope at all recalls (PASCAL VOC 2010 and later).

    hits: [D] whether each detection, by descending score, is one. positives: number of true boxes.

    >>> average_precision(np.array([True, False, True, True, False]), positives=4)
    0.625
    """
    envelope, _ = precision_recall(hits, positives)
    return float(envelope[np.asarray(hits, bool)].sum() / positives)


def precision_recall(
    hits: NDArray[np.bool_], positives: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return precision and recall after each detection by descending score, [D] each.

    The precision is its envelope: the highest that is reached at this recall or a higher one.
    """
    right = np.cumsum(hits)
    precision = right / np.arange(1, len(hits) + 1)
    return np.maximum.accumulate(precision[::-1])[::-1], right / positives


def count_detections(
    found: Detections, true: TrueBoxes, classes: int, threshold: float = 0.25
) -> NDArray[np.int64]:
    """Count a scene's detections by class, score and outcome, [C, BINS + 1, 2].

    The bin of a score is ⌊score · BINS⌋, and 1 is in the last one. Hits are at [..., 0], others at
    [..., 1]. The row after the last bin has the number of true boxes at [BINS, 0].
    """
    counts = np.zeros((classes, BINS + 1, 2), np.int64)
    for label in range(classes):
        score, box = _hits(found, true, label, threshold)
        order = np.argsort(-score, kind="stable")
        hits = _first_of_each([(score, box)], order, label, [true])
        bins = np.clip((score[order] * BINS).astype(np.int64), 0, BINS - 1)
        np.add.at(counts[label], (bins, np.where(hits, 0, 1)), 1)
        counts[label, BINS, 0] = (true.label == label).sum()
    return counts


def pack_counts(counts: NDArray[np.int64]) -> list[int]:
    """Return a scene's counts, of any shape, as a short list for a JSON file.

    For each place of the flat array that is not 0: its distance to the previous one (the first: to
    place 0), followed by 1 - count if the count is more than 1, which is negative.

    >>> pack_counts(np.array([[0, 0, 1], [5, 0, 1]]))
    [2, 1, -4, 2]
    """
    flat = counts.ravel()
    places, packed = np.flatnonzero(flat), []
    steps = np.diff(places, prepend=0)
    for step, count in zip(steps.tolist(), flat[places].tolist(), strict=True):
        packed += [step] if count == 1 else [step, 1 - count]
    return packed


def unpack_counts(packed: list[int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the places [k] of the flat array that are not 0, and their counts [k]."""
    values = np.array(packed, np.int64)
    steps = values >= 0
    places = np.cumsum(values[steps])
    counts = np.ones(len(places), np.int64)
    counts[np.cumsum(steps)[~steps] - 1] -= values[~steps]
    return places, counts


def counted_precision(counts: NDArray[np.number]) -> NDArray[np.float64]:
    """Return the average precision of each class [C] from counts [C, BINS + 1, 2], added up.

    Bins that are empty may be left out, but not the last one, of true boxes.
    """
    positives = counts[:, -1, 0]
    right, wrong = np.moveaxis(counts[:, :-1][:, ::-1], 2, 0)  # by descending score
    precision = right.cumsum(axis=1) / np.maximum((right + wrong).cumsum(axis=1), 1)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    area = (envelope * right).sum(axis=1)
    return np.where(positives > 0, area / np.maximum(positives, 1), np.nan)


def mean_counted_precision(counts: NDArray[np.int64]) -> float:
    """Return the mean of `counted_precision` over the classes that have true boxes."""
    return known_mean(counted_precision(counts))


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
    numbered = (
        np.where(box < 0, -1, box + first)
        for (_, box), first in zip(found, before[:-1], strict=True)
    )
    matched = np.concatenate([np.zeros(0, np.int64), *numbered])[order]
    hits = np.zeros(len(order), bool)
    boxes, first = np.unique(matched, return_index=True)
    hits[first[boxes >= 0]] = True
    return hits


def _tensor(boxes: NDArray[np.floating]) -> torch.Tensor:
    return torch.as_tensor(np.asarray(boxes, np.float64))
