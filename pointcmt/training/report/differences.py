"""How much better one run is than another, of each class and over all, with intervals.

Both runs must have predicted the same shapes. The shapes are resampled with replacement, the same
ones for both runs (paired bootstrap, Efron and Tibshirani 1993).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointcmt.training.report.box_counts import BoxCounts, box_counts_of
from pointcmt.training.report.source import Source

DRAWS, CHUNK = 2000, 100
LEVEL = 0.95
OVERALL = "overall"

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """A run's measure minus that of the baseline, with its 95 % interval; None = unknown."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Counts:
    """A measure of each class as a ratio of sums over shapes.

    ids [n], classes [C]. above, below [n, C]: numerator and denominator of each shape. pooled:
    whether the overall measure is the ratio of all sums (an accuracy), or the mean of the classes'
    (an mIoU of scenes).
    """

    ids: list[str]
    classes: list[str]
    above: Floats
    below: Floats
    pooled: bool

    def measures(self, times: Floats) -> Floats:
        """Return the measure of each class and over all, [..., C + 1], of shapes drawn `times`
        [..., n]; NaN without any.
        """
        above, below = times @ self.above, times @ self.below
        with np.errstate(divide="ignore", invalid="ignore"):
            each = above / below
            if self.pooled:
                whole = above.sum(axis=-1) / below.sum(axis=-1)
            else:
                known = np.isfinite(each)
                whole = np.where(known, each, 0).sum(axis=-1) / known.sum(axis=-1)
        return np.concatenate([each, whole[..., None]], axis=-1)

    def ordered(self, places: list[int]) -> "Counts":
        """Return the counts with the shapes in another order."""
        ids = [self.ids[place] for place in places]
        return Counts(ids, self.classes, self.above[places], self.below[places], self.pooled)


def counts_of(predictions: dict[str, Any] | None) -> Counts | BoxCounts | None:
    """Return the counts in predictions.json; None if it has none."""
    if predictions is None or not predictions.get("ids"):
        return None
    ids, classes = list(predictions["ids"]), list(predictions["classes"])
    if "right" in predictions:
        above, below = (np.array(predictions[key], float) for key in ("right", "union"))
        return Counts(ids, classes, above, below, pooled=False)
    if "counts" in predictions:
        return box_counts_of(predictions)
    if "true" not in predictions:
        return None
    below = np.eye(len(classes))[np.array(predictions["true"], int)]
    if "iou" in predictions:
        score = np.array(predictions["iou"], float)
    else:
        score = np.array(predictions["true"]) == np.array(predictions["predicted"])
    return Counts(ids, classes, below * score[:, None], below, pooled=True)


def all_differences(
    sources: Sequence[Source], baseline: Source
) -> dict[str, dict[str, Difference]]:
    """Return the differences of each other run with measures of classes, by its name."""
    if not baseline.per_class:
        return {}
    others = [source for source in sources if source is not baseline and source.per_class]
    return {source.name: differences(source, baseline) for source in others}


def differences(source: Source, baseline: Source, seed: int = 0) -> dict[str, Difference]:
    """Return the differences of each class both runs know, and "overall".

    Without stored predictions, or if these are of other shapes, there are no intervals. Those of
    boxes are of scores in steps of 1/1000; the differences themselves are exact.
    """
    ours, theirs = counts_of(source.predictions), counts_of(baseline.predictions)
    if ours is None or theirs is None or not _comparable(ours, theirs):
        return _plain(source, baseline)
    order = {name: place for place, name in enumerate(theirs.ids)}
    theirs = theirs.ordered([order[name] for name in ours.ids])
    n, rng, drawn = len(ours.ids), np.random.default_rng(seed), []
    for _ in range(DRAWS // CHUNK):
        times = rng.multinomial(n, np.full(n, 1 / n), CHUNK).astype(float)
        drawn.append(ours.measures(times) - theirs.measures(times))
    gains = np.concatenate(drawn)
    values = ours.measures(np.ones(n)) - theirs.measures(np.ones(n))
    found, exact = {}, _plain(source, baseline) if isinstance(ours, BoxCounts) else {}
    for place, name in enumerate([*ours.classes, OVERALL]):
        known = gains[np.isfinite(gains[:, place]), place]
        if np.isfinite(values[place]) and len(known):
            low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
            value = exact[name].value if name in exact else float(values[place])
            found[name] = Difference(value, float(low), float(high))
        else:
            found[name] = Difference(None)
    return found


def _kind(counts: Counts | BoxCounts) -> tuple[type, bool]:
    return type(counts), isinstance(counts, Counts) and counts.pooled


def _comparable(ours: Counts | BoxCounts, theirs: Counts | BoxCounts) -> bool:
    same = _kind(ours) == _kind(theirs) and ours.classes == theirs.classes
    unique = len(set(ours.ids)) == len(ours.ids)
    return same and unique and sorted(ours.ids) == sorted(theirs.ids)


def _plain(source: Source, baseline: Source) -> dict[str, Difference]:
    theirs, found = baseline.per_class, {}
    for name, value in source.per_class.items():
        other = theirs.get(name)
        found[name] = Difference(None if value is None or other is None else value - other)
    name = next(iter(source.measures), "")
    if name in baseline.measures:
        found[OVERALL] = Difference(source.measures[name] - baseline.measures[name])
    return found
