"""Scores of part segmentation: ShapeNetPart's protocol (Yi et al. 2016; Qi et al. 2017).

The category of a shape is given, and only its parts can be predicted. The IoU of a shape is the
mean over its category's parts of |predicted ∩ true| / |predicted ∪ true|, counted in points; a part
that is neither present nor predicted counts 1. Instance mIoU is the mean over all shapes, class
mIoU the mean over categories of the mean over their shapes.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pointcmt.errors import printable
from pointcmt.training.evaluation.classes import left_out_lines
from pointcmt.training.evaluation.evaluated import Evaluated
from pointcmt.training.figures.plots import Segmented, draw_parts, to_png
from pointcmt.training.ops.iou import shape_iou
from pointcmt.training.ops.statistics import mean_interval
from pointcmt.training.runs.part_labels import Parts

DRAWN = 8  # shapes in a picture


@dataclass(frozen=True, eq=False)
class PartReport(Evaluated):
    """Results of a segmentation: what was evaluated, and the labels that all numbers follow from.

    labels: classes [n]. true, predicted: parts [n, N], numbered within the class. points:
    [n, N, 3].
    """

    parts: Parts
    labels: NDArray[np.int64]
    true: NDArray[np.int64]
    predicted: NDArray[np.int64]
    points: NDArray[np.float32]

    @property
    def shapes(self) -> int:
        """The number of shapes that were segmented."""
        return len(self.labels)

    @cached_property
    def scores(self) -> NDArray[np.float64]:
        """The IoU of each shape, [n]; the mean is the first measure."""
        counts = torch.tensor([len(names) for names in self.parts.values()])
        predicted, true = torch.from_numpy(self.predicted), torch.from_numpy(self.true)
        return shape_iou(predicted, true, counts[self.labels], int(counts.max())).numpy()

    @property
    def measures(self) -> dict[str, float]:
        """The numbers to compare runs by, the most important one first."""
        by_class = [c["miou"] for c in self.per_class.values() if c["shapes"]]
        return {
            "instance_miou": float(self.scores.mean()),
            "class_miou": float(np.mean(by_class)),
            "point_accuracy": float(np.mean(self.predicted == self.true)),
        }

    @cached_property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the instance mIoU, by the bootstrap over shapes."""
        return mean_interval(self.scores)

    @property
    def per_class(self) -> dict[str, dict[str, Any]]:
        """Class name → shapes, miou, point_accuracy (None without shapes)."""
        scores, table = self.scores, {}
        correct = (self.predicted == self.true).mean(axis=1)
        for label, name in enumerate(self.parts):
            members = self.labels == label
            count = int(members.sum())
            miou, accuracy = (
                float(values[members].mean()) if count else None for values in (scores, correct)
            )
            table[name] = {"shapes": count, "miou": miou, "point_accuracy": accuracy}
        return table

    def as_json(self) -> dict[str, Any]:
        """Return the fields that `evaluate --json` prints."""
        interval = {"instance_miou_interval": list(self.interval)}
        about = {"per_class": self.per_class, "notes": list(self.notes), "left_out": self.left_out}
        return {**self.measures, **interval, **about}

    def of_each(self) -> dict[str, Any]:
        """Return the class and the IoU of each shape, for predictions.json."""
        return {"true": self.labels.tolist(), "iou": self.scores.tolist()}

    def facts(self) -> dict[str, Any]:
        """Return more fields for evaluation.json: none."""
        return {}

    def describe(self) -> str:
        """Return the numbers as text; each class takes one line, whatever its name holds."""
        voted = f", {self.votes} votes" if self.votes > 1 else ""
        trained = f" checkpoint (epoch {self.epoch})" if self.epoch else ""  # none of a file
        measures, printed = self.measures, {name: printable(name) for name in self.parts}
        width = max(map(len, printed.values()))
        low, high = self.interval
        lines = [
            f"{self.recipe}, {self.which}{trained}, {self.shapes:,} {self.split} shapes of "
            f"{self.true.shape[1]:,} points{voted}",
            f"  instance mIoU   {measures['instance_miou']:7.2%}  (95 % bootstrap interval: "
            f"{low:.2%} … {high:.2%})",
            f"  class mIoU      {measures['class_miou']:7.2%}",
            f"  point accuracy  {measures['point_accuracy']:7.2%}",
        ]
        for name, c in self.per_class.items():
            if c["shapes"]:
                lines.append(
                    f"    {printed[name]:<{width}}  {c['miou']:7.2%}  {c['shapes']:>5} shapes"
                )
        return "\n".join([*lines, *left_out_lines(self.left_out)])

    def pictures(self) -> dict[str, bytes]:
        """Draw the true and predicted parts of some shapes, spread over the split."""
        chosen = np.unique(np.linspace(0, self.shapes - 1, DRAWN).astype(int))
        names = [list(self.parts.items())[label] for label in self.labels[chosen]]
        arrays = (array[chosen] for array in (self.points, self.true, self.predicted))
        shapes = [
            Segmented(cloud, true, predicted, name, parts, iou)
            for cloud, true, predicted, (name, parts), iou in zip(
                *arrays, names, self.scores[chosen], strict=True
            )
        ]
        return {"segmentation": to_png(draw_parts(shapes))}
