"""`Dice`: the random decisions of one shape, the same on every machine and numpy version."""

import hashlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Choice = TypeVar("Choice")


class Dice:
    """Random draws seeded by a string. Only uses `Generator.random`, whose stream is stable."""

    def __init__(self, key: str) -> None:
        seed = int.from_bytes(hashlib.sha256(key.encode()).digest(), "little")
        self._stream = np.random.Generator(np.random.PCG64(seed))

    def between(self, low: float, high: float) -> float:
        """Return a number in [low, high)."""
        return low + (high - low) * float(self._stream.random())

    def whole(self, low: int, high: int) -> int:
        """Return an integer in [low, high], both included."""
        return low + int(self._stream.random() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        """Return True with this probability."""
        return bool(self._stream.random() < probability)

    def pick(self, choices: Sequence[Choice], weights: Sequence[float] | None = None) -> Choice:
        """Return one of the choices, equally likely or by weight."""
        if weights is None:
            return choices[self.whole(0, len(choices) - 1)]
        mark = self.between(0.0, sum(weights))
        for choice, weight in zip(choices, weights, strict=True):
            mark -= weight
            if mark < 0:
                return choice
        return choices[-1]

    def field(self, *shape: int) -> NDArray[np.float64]:
        """Return uniform numbers in [0, 1) of this shape."""
        return self._stream.random(shape)
