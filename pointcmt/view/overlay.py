"""What a run adds to the page: predictions, features and matches, computed elsewhere.

This folder only packs what others have computed, so that a page needs no network and no torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.view.packing import pack

MOST_CONFUSIONS = 12  # of a shape, in the index
SHARE_STEPS = 100  # per pixel, of a matched position


class Overlay(Protocol):
    """What a run adds. shape: its number in the store."""

    def about(self) -> dict[str, Any]:
        """Return what the index says about the run."""
        ...

    def line(self, shape: int) -> dict[str, Any]:
        """Return what the index says about a shape."""
        ...

    def data(self, shape: int, views: Sequence[int]) -> dict[str, Any]:
        """Return what a shape's data holds. views: those that the page shows."""
        ...


@dataclass(frozen=True)
class Overlays:
    """Several overlays of one run."""

    parts: tuple[Overlay, ...]

    def about(self) -> dict[str, Any]:
        return {key: value for part in self.parts for key, value in part.about().items()}

    def line(self, shape: int) -> dict[str, Any]:
        return {key: value for part in self.parts for key, value in part.line(shape).items()}

    def data(self, shape: int, views: Sequence[int]) -> dict[str, Any]:
        return {key: value for part in self.parts for key, value in part.data(shape, views).items()}


@dataclass(frozen=True)
class PredictedClasses:
    """What a classifier predicts. scores: by id of a shape, probabilities by class, the highest
    first. classes: those that the classifier knows.
    """

    store: ViewStore
    scores: Mapping[str, Mapping[str, float]]
    classes: frozenset[str]

    def about(self) -> dict[str, Any]:
        return {}

    def line(self, shape: int) -> dict[str, Any]:
        """Return the scores, and whether the first one is right."""
        record = self.store.shapes[shape]
        scores = self.scores.get(record.id)
        if not scores:
            return {}
        known, first = record.class_name in self.classes, next(iter(scores))
        wrong = known and first != record.class_name
        return {
            "predicted": [[name, round(score, 4)] for name, score in scores.items()],
            "right": not wrong if known else None,
            **({"confused": {arrow(str(record.class_name), first): 1}} if wrong else {}),
        }

    def data(self, shape: int, views: Sequence[int]) -> dict[str, Any]:
        return {}


@dataclass(frozen=True)
class Labels:
    """The predicted classes or parts of one shape's first points [n], as numbers of names.

    true: the same of what is stored, -1 = unknown or none of the names; None without labels.
    """

    names: tuple[str, ...]
    predicted: NDArray[np.integer]
    true: NDArray[np.integer] | None


@dataclass(frozen=True)
class PredictedLabels:
    """What a segmentation predicts: labels by number of the shape.

    palette: an sRGB color for each name, if all shapes have the same names; else empty. whole: of
    all points, not only of those that the page shows: what share is right, and the confusions.
    """

    labels: Mapping[int, Labels]
    shares: Mapping[int, float | None]
    confusions: Mapping[int, Mapping[str, int]]
    palette: Sequence[Sequence[int]] = ()

    def about(self) -> dict[str, Any]:
        return {"segments": True, "run_palette": [list(color) for color in self.palette]}

    def line(self, shape: int) -> dict[str, Any]:
        share = self.shares.get(shape)
        found: dict[str, Any] = {} if share is None else {"share": round(share, 4)}
        confused = most_frequent(self.confusions.get(shape, {}))
        return found | ({"confused": confused} if confused else {})

    def data(self, shape: int, views: Sequence[int]) -> dict[str, Any]:
        if shape not in self.labels:
            return {}
        own = self.labels[shape]
        true = None if own.true is None else pack(own.true.astype(np.int32))
        labels = {"names": own.names, "predicted": pack(own.predicted.astype(np.int32))}
        return {"labeling": {**labels, "true": true}}


@dataclass(frozen=True)
class Boxes:
    """The predicted boxes [K,7] of a scene, with labels [K] (numbers of names) and scores [K]."""

    boxes: NDArray[np.floating]
    label: NDArray[np.integer]
    score: NDArray[np.floating]


@dataclass(frozen=True)
class PredictedBoxes:
    """What a detection predicts: boxes and confusions by number of the scene."""

    names: tuple[str, ...]
    boxes: Mapping[int, Boxes]
    confusions: Mapping[int, Mapping[str, int]]

    def about(self) -> dict[str, Any]:
        return {"detects": True, "run_names": list(self.names)}

    def line(self, shape: int) -> dict[str, Any]:
        confused = most_frequent(self.confusions.get(shape, {}))
        return {"confused": confused} if confused else {}

    def data(self, shape: int, views: Sequence[int]) -> dict[str, Any]:
        if shape not in self.boxes:
            return {}
        own = self.boxes[shape]
        return {
            "found": {
                "boxes": np.round(own.boxes.astype(np.float64), 4).tolist(),
                "label": own.label.tolist(),
                "score": np.round(own.score.astype(np.float64), 4).tolist(),
            }
        }


def pack_colors(colors: NDArray[np.floating]) -> dict[str, Any]:
    """Pack colors [n,3] from 0 to 1."""
    return pack(np.rint(255 * colors).astype(np.uint8).T)


@dataclass(frozen=True)
class ViewMatches:
    """Matches between views of one shape, for v views with tokens in r rows and c columns.

    partner [v]: the view that each one is compared to, as a place among the v; -1 = none. u [c],
    v [r]: pixels of the tokens. valid [v,r,c]: which tokens have a match in the partner. true,
    predicted [v,r,c,2]: where it is, in pixels (u, v) of the partner.
    """

    partner: NDArray[np.integer]
    u: NDArray[np.floating]
    v: NDArray[np.floating]
    valid: NDArray[np.bool_]
    true: NDArray[np.floating]
    predicted: NDArray[np.floating]

    def data(self) -> dict[str, Any]:
        """Return the matches as a shape's data; positions are rounded to 1/SHARE_STEPS pixel."""
        ends = {"true": self.true, "predicted": self.predicted}
        packed = {name: pack(_hundredths(end)) for name, end in ends.items()}
        about = {"partner": self.partner.tolist(), "u": self.u.tolist(), "v": self.v.tolist()}
        return {"matching": {**about, "valid": pack(self.valid.astype(np.uint8).ravel()), **packed}}


def _hundredths(places: NDArray[np.floating]) -> NDArray[np.int32]:
    return np.rint(SHARE_STEPS * places.astype(np.float64)).astype(np.int32).ravel()


def arrow(true: str, predicted: str) -> str:
    """Return how the page calls a confusion."""
    return f"{true} → {predicted}"


def most_frequent(confusions: Mapping[str, int]) -> dict[str, int]:
    """Return the most frequent confusions, the first of them the most frequent one."""
    ranked = sorted(confusions.items(), key=lambda pair: (-pair[1], pair[0]))
    return dict(ranked[:MOST_CONFUSIONS])
