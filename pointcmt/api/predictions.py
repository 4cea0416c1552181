"""What a run predicts: as values, as a table, and as pictures."""

import csv
import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pointcmt.api.predicted import DIGITS, PredictedBoxes, PredictedParts, PredictedPoints
from pointcmt.errors import UsageError, printable

MADE_BY = "pointcmt predict"
NAME = "predictions"  # of the files, and of the picture that `sheet` draws
Kind = Literal["classes", "parts", "points", "boxes"]
COLUMNS: dict[Kind, tuple[str, ...]] = {
    "classes": ("id", "source", "true", "predicted", "score"),
    "parts": ("id", "source", "class", "part", "points", "share"),
    "points": ("id", "source", "class", "points", "share"),
    "boxes": ("id", "source", "class", "score", "x", "y", "z", "dx", "dy", "dz", "yaw"),
}
MOST_TILES = 48

Palette = tuple[tuple[int, int, int], ...]  # an sRGB color per class, 0 … 255


@dataclass(frozen=True, eq=False)
class Prediction:
    """What is predicted for one shape or scene.

    id: in its store, or its path in its folder without suffix. source: the file or the store. true:
    its class, if known. scores: probabilities by class, highest first. parts: of a segmentation of
    a shape; points, boxes: of a scene. Those have no scores.

    >>> found = pc.predict("RUN", "chair.off").shapes[0]
    >>> found.id, found.true, found.predicted == next(iter(found.scores))
    ('chair', None, True)
    """

    id: str
    source: str
    true: str | None
    scores: dict[str, float] = field(default_factory=dict)
    parts: PredictedParts | None = None
    points: PredictedPoints | None = None
    boxes: PredictedBoxes | None = None

    @property
    def predicted(self) -> str | None:
        """The class with the highest score; of a segmentation None, since the class is given."""
        return next(iter(self.scores), None)

    @property
    def score(self) -> float | None:
        """The highest score."""
        return next(iter(self.scores.values()), None)

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of the table, see COLUMNS; further classes come after the first."""
        start = self.id, self.source
        if self.parts is not None:
            yield from ((*start, self.true, *row) for row in self.parts.rows())
        elif self.points is not None:
            yield from ((*start, *row) for row in self.points.rows())
        elif self.boxes is not None:
            yield from ((*start, *row) for row in self.boxes.rows())
        else:
            cells = [cell for name, score in self.scores.items() for cell in (name, _digits(score))]
            yield (*start, self.true or "", *cells)

    def as_json(self) -> dict[str, Any]:
        """Return what `predict --json` says about it."""
        about: dict[str, Any] = {"id": self.id, "source": self.source, "true": self.true}
        for found in (self.parts, self.points, self.boxes):
            if found is not None:
                return about | found.as_json()
        scores = {name: _digits(score) for name, score in self.scores.items()}
        best = {"predicted": self.predicted, "score": _digits(self.score)}
        return {**about, **best, "scores": scores}

    def sentence(self, top: int) -> str:
        """Return what is predicted on one line. top: of scenes, the number of classes to name."""
        for found in (self.points, self.boxes):
            if found is not None:
                return found.sentence(top)
        if self.parts is not None:
            return f"({printable(str(self.true))}) {self.parts.sentence()}"
        scores = [f"{printable(name)} {score:.1%}" for name, score in self.scores.items()]
        truth = "" if self.true is None else f"  (labeled {printable(self.true)})"
        return ", ".join(scores) + truth


@dataclass(frozen=True)
class FailedShape:
    """A shape without a prediction. reason: one of a fixed set (docs/store.md).

    >>> [(failed.id, failed.reason) for failed in pc.predict("RUN", "none.off").failures]
    [('none', 'missing_file')]
    """

    id: str
    source: str
    reason: str
    detail: str


@dataclass(frozen=True, eq=False)
class Predictions:
    """The result of `predict`: shapes in the order of the targets, and those that failed.

    run: its folder. kind: what is predicted. class_names: of the run. top: classes shown for each
    shape. palette: colors of the classes of points. pictures: functions that draw, by name; the
    first is that of `sheet`.

    >>> found = pc.predict("RUN", "S", "chair.off")
    >>> len(found), len(found.failures), found.recipe
    (41, 0, 'student')
    """

    run: str
    recipe: str
    which: str
    epoch: int
    kind: Kind
    class_names: tuple[str, ...]
    shapes: tuple[Prediction, ...]
    failures: tuple[FailedShape, ...]
    notes: tuple[str, ...]
    top: int
    palette: Palette = ()
    pictures: dict[str, Callable[[], bytes]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.shapes)

    @property
    def known(self) -> list[Prediction]:
        """The shapes whose class is one of the run's."""
        return [shape for shape in self.shapes if shape.scores and shape.true in self.class_names]

    def as_json(self) -> dict[str, Any]:
        """Return the object that `predict --json` prints."""
        known = self.known
        right = sum(shape.true == shape.predicted for shape in known)
        return {
            "made_by": MADE_BY,
            "run": self.run,
            "recipe": self.recipe,
            "checkpoint": self.which,
            "epoch": self.epoch,
            "class_names": list(self.class_names),
            "shapes": len(self.shapes),
            "with_class": len(known),
            "correct": right,
            "predictions": [shape.as_json() for shape in self.shapes],
            "failures": [vars(failure) for failure in self.failures],
            "notes": list(self.notes),
        }

    def json(self) -> str:
        """Return the same as text, for a file."""
        return json.dumps(self.as_json(), indent=1) + "\n"

    def csv(self) -> str:
        """Return a table: a row for each shape; for each part of each shape; or, of each scene, for
        each class of its points or for each box.

        Classes after the first are in the columns predicted_2, score_2 and so on.
        """
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        ranks = range(2, self.top + 1) if self.kind == "classes" else ()
        more = (name for n in ranks for name in (f"predicted_{n}", f"score_{n}"))
        writer.writerow((*COLUMNS[self.kind], *more))
        for shape in self.shapes:
            writer.writerows(shape.rows())
        return buffer.getvalue()

    def describe(self, most: int | None = None) -> str:
        """Return the predictions as text, one line for each shape; at most `most` of them."""
        unit = "scenes" if self.kind in ("points", "boxes") else "shapes"
        lines = [
            f"{self.recipe}, {self.which} checkpoint (epoch {self.epoch}), "
            f"{len(self.shapes):,} {unit}"
        ]
        lines += [f"  {printable(s.id)}: {s.sentence(self.top)}" for s in self.shapes[:most]]
        left = len(self.shapes) - len(self.shapes[:most])
        lines += [f"  and {left:,} more"] if left else []
        known = self.known
        if known:
            right = sum(shape.true == shape.predicted for shape in known)
            lines.append(f"  {right:,} of {len(known):,} shapes with a known class are right")
        for failure in self.failures:
            where = printable(failure.source)
            lines.append(f"  failed: {where}: {failure.reason}: {printable(failure.detail, 400)}")
        return "\n".join(lines)

    def sheet(self) -> bytes:
        """Draw a contact sheet of up to 48 shapes, spread evenly; return the PNG file's bytes.

        Below each shape are its predicted class and score, green if its class is known and right,
        red if wrong. Of scenes, up to six are shown from above. Raises UsageError if nothing could
        be predicted.
        """
        for draw in self.pictures.values():
            return draw()
        raise UsageError("there is nothing to draw: no shape could be predicted", where="sheet")


def ranked(
    probabilities: NDArray[np.float32], class_names: Sequence[str], top: int
) -> dict[str, float]:
    """Return the `top` highest probabilities by class; of equal ones the first class is first."""
    order = np.argsort(-probabilities, kind="stable")[:top]
    return {class_names[i]: float(probabilities[i]) for i in order}


def spread(count: int, most: int = MOST_TILES) -> set[int]:
    """Return up to `most` of the numbers below `count`, evenly spread."""
    return set(np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)).tolist())


def _digits(score: float | None) -> float | None:
    """Round a score as it is written, so that files do not differ in its last bits."""
    return None if score is None or not math.isfinite(score) else round(score, DIGITS)
