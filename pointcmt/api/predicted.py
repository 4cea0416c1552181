"""What a run predicts for one shape or scene besides a class: parts, classes of points, boxes.

Each kind knows its rows of the table, its part of the JSON object, and its sentence.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pointcmt.errors import printable

if TYPE_CHECKING:
    from pointcmt.training.ops.detection.scores import Detections

DIGITS = 6  # of a score
BOX_DIGITS = 4  # of meters and radians


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
        return _counts(self.names, self.labels)

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a table: part, points, share."""
        return _shares(self.counts)

    def as_json(self) -> dict[str, Any]:
        """Return what `predict --json` says about the shape."""
        return {"points": len(self.labels), "parts": self.counts}

    def sentence(self) -> str:
        """Return the parts on one line."""
        return ", ".join(f"{printable(name)} {share:.1%}" for name, n, share in self.rows() if n)


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
        return _counts(self.names, self.labels)

    @property
    def labeled(self) -> int:
        """Points whose class is known."""
        return 0 if self.true is None else int(np.sum(self.true >= 0))

    @property
    def correct(self) -> int:
        """Those of them that are predicted right."""
        return 0 if self.true is None else int(np.sum(self.true == self.labels))

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a table: class, points, share."""
        return _shares(self.counts)

    def as_json(self) -> dict[str, Any]:
        """Return what `predict --json` says about the scene."""
        right = {"labeled": self.labeled, "correct": self.correct}
        return {"points": len(self.labels), **right, "classes": self.counts}

    def sentence(self, top: int) -> str:
        """Return the most frequent classes on one line, and how many points are right."""
        most = sorted(self.rows(), key=lambda row: -row[1])[:top]
        found = ", ".join(f"{printable(name)} {share:.1%}" for name, n, share in most if n)
        right = f"  ({self.correct / self.labeled:.1%} right)" if self.labeled else ""
        return f"{len(self.labels):,} points: {found}{right}"


@dataclass(frozen=True, eq=False)
class PredictedBoxes:
    """The boxes that are predicted in a scene, the likeliest first.

    names: of the classes. boxes [K, 7] f64: center, full sizes and yaw, meters and radians, as in
    docs/conventions.md. label [K] i64: the class of each; score [K] f32: its probability. corners
    [K, 8, 3] f64: of the bottom, then of the top.

    Centers and corners are in the coordinates of what was given: of a store those of its world, of
    a file or an object its own. The yaw is about the axis that points up there. detections: with a
    layout, all that evaluation scores, as the benchmark has coordinates and classes; else None.

    >>> prediction = pc.predict("RUN", "chair.off").shapes[0]
    >>> prediction.boxes is None  # RUN classifies shapes
    True
    """

    names: tuple[str, ...]
    boxes: NDArray[np.float64]
    label: NDArray[np.int64]
    score: NDArray[np.float32]
    corners: NDArray[np.float64]
    detections: "Detections | None" = None

    @property
    def counts(self) -> dict[str, int]:
        """Boxes of each class, by name."""
        return _counts(self.names, self.label)

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a table: class, score, x, y, z, dx, dy, dz, yaw."""
        for box, label, score in zip(
            self.boxes.tolist(), self.label.tolist(), self.score.tolist(), strict=True
        ):
            numbers = (round(number, BOX_DIGITS) for number in box)
            yield (self.names[label], round(score, DIGITS), *numbers)

    def as_json(self) -> dict[str, Any]:
        """Return what `predict --json` says about the scene."""
        return {
            "boxes": [
                {"class": name, "score": score, "center": box[:3], "size": box[3:6], "yaw": box[6]}
                for name, score, *box in self.rows()
            ]
        }

    def sentence(self, top: int) -> str:
        """Return the most frequent classes on one line."""
        most = sorted(self.counts.items(), key=lambda pair: -pair[1])[:top]
        found = ", ".join(f"{count} {printable(name)}" for name, count in most if count)
        return f"{len(self.label)} boxes" + (f": {found}" if found else "")


def _counts(names: tuple[str, ...], labels: NDArray[np.integer]) -> dict[str, int]:
    found = np.bincount(labels, minlength=len(names))
    return dict(zip(names, found.tolist(), strict=True))


def _shares(counts: dict[str, int]) -> Iterator[tuple[str, int, float]]:
    total = max(sum(counts.values()), 1)
    for name, count in counts.items():
        yield name, count, round(count / total, DIGITS)
