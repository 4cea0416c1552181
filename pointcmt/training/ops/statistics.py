"""Confidence intervals by the seeded bootstrap (Efron 1979)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DRAWS = 10_000
FEWER_DRAWS = 2_000  # of measures that take longer
LEVEL = 0.95


@dataclass(frozen=True)
class Difference:
    """A minus B: mean and standard deviation over seeds, and the interval of the mean."""

    mean: float
    std: float
    low: float
    high: float


def accuracy_interval(correct: int, shapes: int, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % interval of correct / shapes, resampling shapes with replacement.

    The number correct among resampled shapes is binomial, so it is drawn from that distribution.
    """
    draws = np.random.default_rng(seed).binomial(shapes, correct / shapes, DRAWS) / shapes
    return _interval(draws)


def mean_interval(
    scores: NDArray[np.float64], seed: int = 0, draws: int = DRAWS
) -> tuple[float, float]:
    """Return the 95 % interval of the mean of scores [n], resampling shapes with replacement."""
    rng, n = np.random.default_rng(seed), len(scores)
    return _interval(np.array([scores[rng.integers(0, n, n)].mean() for _ in range(draws)]))


def spread(values: list[float]) -> tuple[float, float]:
    """Return mean and sample standard deviation (n - 1; 0 for a single value)."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def paired_difference(
    a: NDArray[np.float64], b: NDArray[np.float64], seed: int = 0, draws: int = DRAWS
) -> Difference:
    """Estimate how much higher A scores than B, trained with the same seeds.

    a, b: [S, n], the score of each shape in the run of each seed: 0 or 1, or an IoU. The interval
    resamples both seeds and shapes with replacement, so it covers other seeds and other test
    shapes.
    """
    gain = a - b  # [S, n]
    S, n = gain.shape
    rng = np.random.default_rng(seed)
    means = np.empty(draws)
    for i in range(draws):
        weights = np.bincount(rng.integers(0, S, S), minlength=S) / S  # [S]
        means[i] = (weights @ gain)[rng.integers(0, n, n)].mean()
    mean, std = spread(gain.mean(axis=1).tolist())
    return Difference(mean, std, *_interval(means))


def paired_sum_difference(
    a: NDArray[np.int64],
    b: NDArray[np.int64],
    measure: Callable[[NDArray[np.int64]], float],
    seed: int = 0,
    draws: int = FEWER_DRAWS,
) -> Difference:
    """The same for a measure of sums over shapes, such as the mean IoU of a confusion matrix.

    a, b: [S, n, ...], the counts of each shape in the run of each seed. measure: of their sum over
    shapes, [...].
    """

    def gains(times: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return A minus B of each seed, [S], for shapes that are drawn so many times [n]."""
        sums = (np.tensordot(times, counts, axes=(0, 1)) for counts in (a, b))
        pairs = zip(*sums, strict=True)
        return np.array([measure(one) - measure(other) for one, other in pairs])

    S, n = a.shape[:2]
    rng = np.random.default_rng(seed)
    means = np.empty(draws)
    for i in range(draws):
        seeds = rng.integers(0, S, S)
        means[i] = gains(np.bincount(rng.integers(0, n, n), minlength=n))[seeds].mean()
    mean, std = spread(gains(np.ones(n, np.int64)).tolist())
    return Difference(mean, std, *_interval(means))


def _interval(draws: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
