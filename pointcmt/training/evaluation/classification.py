"""Results of classifiers: accuracy over shapes and over classes, and which classes they confuse."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointcmt.errors import printable
from pointcmt.training.evaluation.classes import left_out_lines
from pointcmt.training.evaluation.evaluated import Evaluated
from pointcmt.training.figures.confusion import draw_confusion
from pointcmt.training.ops.statistics import accuracy_interval

MOST_NAMED = 5  # classes without shapes that are listed


@dataclass(frozen=True, eq=False)
class Report(Evaluated):
    """Results of a classifier: what was evaluated, and the labels that all numbers follow from.

    true, predicted: class indices [n], in the order of the split's shapes.
    """

    class_names: list[str]
    true: NDArray[np.int64]
    predicted: NDArray[np.int64]

    @property
    def shapes(self) -> int:
        """The number of shapes that were classified."""
        return len(self.true)

    @property
    def scores(self) -> NDArray[np.float64]:
        """1 for each correctly classified shape, else 0, [n]; the mean is the first measure."""
        return self.correct.astype(float)

    @property
    def measures(self) -> dict[str, float]:
        """The numbers to compare runs by, the most important one first."""
        return {
            "overall_accuracy": self.overall_accuracy,
            "mean_class_accuracy": self.mean_class_accuracy,
        }

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether each shape is classified correctly, [n]."""
        return self.true == self.predicted

    @property
    def confusion(self) -> NDArray[np.int64]:
        """Counts [C, C]; rows are the true classes, columns the predicted ones."""
        return confusion_matrix(self.true, self.predicted, len(self.class_names))

    @property
    def overall_accuracy(self) -> float:
        """The share of correctly classified shapes."""
        return float(self.correct.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the overall accuracy, by the bootstrap over shapes."""
        return accuracy_interval(int(self.correct.sum()), self.shapes)

    @property
    def mean_class_accuracy(self) -> float:
        """The mean accuracy over the classes that have shapes."""
        return float(np.mean([c["accuracy"] for c in self.per_class.values() if c["shapes"]]))

    @property
    def per_class(self) -> dict[str, dict[str, Any]]:
        """Class name → shapes, correct, accuracy (None without shapes)."""
        table, confusion = {}, self.confusion
        for name, row, correct in zip(
            self.class_names, confusion.sum(axis=1), np.diag(confusion), strict=True
        ):
            accuracy = float(correct / row) if row else None
            table[name] = {"shapes": int(row), "correct": int(correct), "accuracy": accuracy}
        return table

    def as_json(self) -> dict[str, Any]:
        """Return the fields that `evaluate --json` prints."""
        return {**self.numbers(), "notes": list(self.notes), "left_out": self.left_out}

    def of_each(self) -> dict[str, Any]:
        """Return the true and the predicted class of each shape, for predictions.json."""
        return {"true": self.true.tolist(), "predicted": self.predicted.tolist()}

    def facts(self) -> dict[str, Any]:
        """Return more fields for evaluation.json."""
        return {"confusion": self.confusion.tolist()}

    def numbers(self) -> dict[str, Any]:
        """Return the same without the notes."""
        return {
            "overall_accuracy": self.overall_accuracy,
            "overall_accuracy_interval": list(self.interval),
            "mean_class_accuracy": self.mean_class_accuracy,
            "per_class": self.per_class,
        }

    def pictures(self) -> dict[str, bytes]:
        """Draw the confusion matrix."""
        title = (
            f"{self.recipe}, {self.split}: {self.overall_accuracy:.1%} of {self.shapes:,} shapes"
        )
        return {"confusion": draw_confusion(self.confusion, self.class_names, title)}

    def describe(self) -> str:
        """Return the numbers as text; each class takes one line, whatever its name holds."""
        voted = f", {self.votes} votes" if self.votes > 1 else ""
        trained = f" checkpoint (epoch {self.epoch})" if self.epoch else ""  # none of a file
        printed = {name: printable(name) for name in self.class_names}
        width = max(map(len, printed.values()))
        lines = [
            f"{self.recipe}, {self.which}{trained}, {self.shapes:,} {self.split} shapes{voted}",
            f"  overall accuracy     {self.overall_accuracy:7.2%}  (95 % bootstrap interval: "
            "{:.2%} … {:.2%})".format(*self.interval),
            f"  mean class accuracy  {self.mean_class_accuracy:7.2%}",
        ]
        for name, c in self.per_class.items():
            if c["shapes"]:
                share = f"{c['correct']:>5} of {c['shapes']:<5}"
                lines.append(
                    f"    {printed[name]:<{width}}  {c['accuracy']:7.2%}  {share}".rstrip()
                )
        absent = [printed[name] for name, c in self.per_class.items() if not c["shapes"]]
        if absent:
            some = ", ".join(absent[:MOST_NAMED]) + (" …" if len(absent) > MOST_NAMED else "")
            lines.append(f"  {len(absent)} classes without shapes are not included: {some}")
        lines += left_out_lines(self.left_out)
        return "\n".join(lines)


def confusion_matrix(
    true: NDArray[np.int64], predicted: NDArray[np.int64], classes: int
) -> NDArray[np.int64]:
    """Count pairs of classes, [C, C]; rows are the true classes, columns the predicted ones."""
    cells = np.bincount(true * classes + predicted, minlength=classes * classes)
    return cells.reshape(classes, classes)
