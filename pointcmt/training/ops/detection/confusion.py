"""Which classes of boxes a detector confuses, what it misses, and what it finds where nothing is.

Detections are matched to true boxes whatever their classes: by descending score, each takes the
free true box with the largest IoU, if that exceeds the threshold. Average precision, in contrast,
compares within a class (`scores`).
"""

import numpy as np
import torch
from numpy.typing import NDArray

from pointcmt.training.ops.detection.boxes import box_iou
from pointcmt.training.ops.detection.scores import Detections, TrueBoxes


def count_classes(
    found: Detections, true: TrueBoxes, classes: int, threshold: float = 0.25
) -> NDArray[np.int64]:
    """Count a scene's boxes by true class and predicted class, [C + 1, C + 1].

    found: each box once. The last row has detections without a true box, the last column true boxes
    without a detection; their common cell stays 0.
    """
    counts = np.zeros((classes + 1, classes + 1), np.int64)
    overlaps = box_iou(torch.as_tensor(found.boxes), torch.as_tensor(true.boxes)).numpy().copy()
    missed = np.ones(len(true.label), bool)
    for index in np.argsort(-np.asarray(found.score, np.float64), kind="stable").tolist():
        row = classes
        if len(missed) and overlaps[index].max() > threshold:
            best = int(overlaps[index].argmax())
            row, missed[best] = int(true.label[best]), False
            overlaps[:, best] = 0  # taken
        counts[row, found.label[index]] += 1
    np.add.at(counts[:, classes], true.label[missed], 1)
    return counts
