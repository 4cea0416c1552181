"""What a run predicts: as values, as a table, and as pictures."""

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pointcmt.errors import printable

if TYPE_CHECKING:
    from pointcmt.training.figures.scenes import SegmentedScene
    from pointcmt.training.figures.sheet import Tile

MADE_BY = "pointcmt predict"
COLUMNS = ("id", "source", "true", "predicted", "score")
PART_COLUMNS = ("id", "source", "class", "part", "points", "share")
SCENE_COLUMNS = ("id", "source", "class", "points", "share")
DIGITS = 6  # of a score
MOST_TILES = 48

Palette = tuple[tuple[int, int, int], ...]  # an sRGB color per class, 0 … 255


@dataclass(frozen=True, eq=False)
class PredictedParts:
    """The predicted parts of one shape's points.

    names: of its class's parts. labels [N] i64: the part of each point. points [N, 3] f64: in the
    source's own coordinates. source [N] i32: the face (of a cloud: the point) that each lies on.

    >>> prediction = pc.predict("RUN", "chair.off").shapes[0]
    >>> prediction.parts is None  # RUN classifies
    True
    """

    names: tuple[str, ...]
    labels: NDArray[np.int64]
    points: NDArray[np.float64]
    source: NDArray[np.int32]

    @property
    def counts(self) -> dict[str, int]:
        """Points of each part, by name."""
        found = np.bincount(self.labels, minlength=len(self.names))
        return dict(zip(self.names, found.tolist(), strict=True))


@dataclass(frozen=True, eq=False)
class PredictedPoints:
    """The predicted classes of a scene's points.

    names: of the classes. labels [N] i16: the class of each point, score [N] f32 its probability.
    points [N, 3] f32: in the source's own coordinates. source [N] i32: the point of the store or
    the file (of a mesh: the vertex) that each is; of a PLY file all of them, in order. true [N]
    i16: their classes in a labeled store, -1 = unknown; else None.

    >>> prediction = pc.predict("RUN", "chair.off").shapes[0]
    >>> prediction.points is None  # RUN classifies shapes
    True
    """

    names: tuple[str, ...]
    labels: NDArray[np.int16]
    score: NDArray[np.float32]
    points: NDArray[np.float32]
    source: NDArray[np.int32]
    true: NDArray[np.int16] | None = None

    @property
    def counts(self) -> dict[str, int]:
        """Points of each class, by name."""
        found = np.bincount(self.labels, minlength=len(self.names))
        return dict(zip(self.names, found.tolist(), strict=True))

    @property
    def labeled(self) -> int:
        """Points whose class is known."""
        return 0 if self.true is None else int(np.sum(self.true >= 0))

    @property
    def correct(self) -> int:
        """Those of them that are predicted right."""
        return 0 if self.true is None else int(np.sum(self.true == self.labels))


@dataclass(frozen=True, eq=False)
class Prediction:
    """What is predicted for one shape or scene.

    id: in its store, or its path in its folder without suffix. source: the file or the store. true:
    its class, if known. scores: probabilities by class, highest first. parts, points: of a
    segmentation of a shape or of a scene, which has no scores.

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

    @property
    def predicted(self) -> str | None:
        """The class with the highest score; of a segmentation None, since the class is given."""
        return next(iter(self.scores), None)

    @property
    def score(self) -> float | None:
        """The highest score."""
        return next(iter(self.scores.values()), None)


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

    run: its folder. class_names: of the run. top: classes shown for each shape. palette, scenes: of
    a run that segments scenes, the colors of its classes and what `sheet` shows.

    >>> found = pc.predict("RUN", "S", "chair.off")
    >>> len(found), len(found.failures), found.recipe
    (41, 0, 'student')
    """

    run: str
    recipe: str
    which: str
    epoch: int
    class_names: tuple[str, ...]
    shapes: tuple[Prediction, ...]
    failures: tuple[FailedShape, ...]
    notes: tuple[str, ...]
    top: int
    tiles: "tuple[Tile, ...]" = ()
    palette: Palette = ()
    scenes: "tuple[SegmentedScene, ...]" = ()

    def __len__(self) -> int:
        return len(self.shapes)

    @property
    def segments(self) -> bool:
        """Whether parts are predicted instead of classes."""
        return any(shape.parts is not None for shape in self.shapes)

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
            "predictions": [self._row(shape) for shape in self.shapes],
            "failures": [vars(failure) for failure in self.failures],
            "notes": list(self.notes),
        }

    def json(self) -> str:
        """Return the same as text, for a file."""
        return json.dumps(self.as_json(), indent=1) + "\n"

    def csv(self) -> str:
        """Return a table: a row for each shape, or for each part of each shape, or for each class
        of each scene.

        Classes after the first are in the columns predicted_2, score_2 and so on.
        """
        buffer = io.StringIO()
        write = csv.writer(buffer, lineterminator="\n").writerow
        if self.palette:
            write(SCENE_COLUMNS)
            for shape in self.shapes:
                points = shape.points
                for name, count in points.counts.items() if points else ():
                    share = round(count / max(len(points.labels), 1), DIGITS) if points else 0
                    write((shape.id, shape.source, name, count, share))
            return buffer.getvalue()
        if self.segments:
            write(PART_COLUMNS)
            for shape in self.shapes:
                parts = shape.parts
                for name, count in parts.counts.items() if parts else ():
                    share = round(count / max(len(parts.labels), 1), DIGITS) if parts else 0
                    write((shape.id, shape.source, shape.true, name, count, share))
            return buffer.getvalue()
        more = [(f"predicted_{n}", f"score_{n}") for n in range(2, self.top + 1)]
        write((*COLUMNS, *(name for pair in more for name in pair)))
        for shape in self.shapes:
            cells = [
                cell for name, score in shape.scores.items() for cell in (name, _digits(score))
            ]
            write((shape.id, shape.source, shape.true or "", *cells))
        return buffer.getvalue()

    def describe(self, most: int | None = None) -> str:
        """Return the predictions as text, one line for each shape; at most `most` of them."""
        kind = "scenes" if self.palette else "shapes"
        lines = [
            f"{self.recipe}, {self.which} checkpoint (epoch {self.epoch}), "
            f"{len(self.shapes):,} {kind}"
        ]
        lines += [f"  {printable(s.id)}: {self.sentence(s)}" for s in self.shapes[:most]]
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

    def sentence(self, shape: Prediction) -> str:
        """Return what is predicted for a shape on one line."""
        if shape.points is not None:
            return self._sentence_of_points(shape.points)
        if shape.parts is not None:
            total = max(len(shape.parts.labels), 1)
            found = [
                f"{printable(name)} {count / total:.1%}"
                for name, count in shape.parts.counts.items()
                if count
            ]
            return f"({printable(str(shape.true))}) {', '.join(found)}"
        found = [f"{printable(name)} {score:.1%}" for name, score in shape.scores.items()]
        truth = "" if shape.true is None else f"  (labeled {printable(shape.true)})"
        return ", ".join(found) + truth

    def sheet(self) -> bytes:
        """Draw a contact sheet of up to 48 shapes, spread evenly; return the PNG file's bytes.

        Below each shape are its predicted class and score, green if its class is known and right,
        red if wrong. Of scenes, up to six are shown from above.
        """
        if self.palette:
            from pointcmt.training.figures.scenes import draw_scenes

            return draw_scenes(list(self.scenes), self.class_names, self.palette, MADE_BY)
        from pointcmt.training.figures.sheet import draw_sheet

        shown = "" if len(self.tiles) == len(self.shapes) else f"{len(self.tiles)} of "
        heading = f"{self.recipe}, {self.which} checkpoint: {shown}{len(self.shapes):,} shapes"
        return draw_sheet(list(self.tiles), heading, MADE_BY)

    def _sentence_of_points(self, points: PredictedPoints) -> str:
        """Return the most frequent classes of a scene, and how many points are right."""
        total = max(len(points.labels), 1)
        counts = sorted(points.counts.items(), key=lambda pair: -pair[1])[: self.top]
        found = ", ".join(f"{printable(name)} {n / total:.1%}" for name, n in counts if n)
        right = f"  ({points.correct / points.labeled:.1%} right)" if points.labeled else ""
        return f"{len(points.labels):,} points: {found}{right}"

    def _row(self, shape: Prediction) -> dict[str, Any]:
        about: dict[str, Any] = {"id": shape.id, "source": shape.source, "true": shape.true}
        if shape.points is not None:
            points = shape.points
            right = {"labeled": points.labeled, "correct": points.correct}
            return {**about, "points": len(points.labels), **right, "classes": points.counts}
        if shape.parts is not None:
            return {**about, "points": len(shape.parts.labels), "parts": shape.parts.counts}
        scores = {name: _digits(score) for name, score in shape.scores.items()}
        best = {"predicted": shape.predicted, "score": _digits(shape.score)}
        return {**about, **best, "scores": scores}


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
