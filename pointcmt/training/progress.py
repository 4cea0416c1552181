"""How time goes by: progress that does not flood a log, and the time spent waiting for data."""

import time
from collections.abc import Iterable, Iterator
from typing import Any

from pointcmt.console import Meter
from pointcmt.datasets.streaming import Batch

EVERY = 10.0  # seconds between two reports of a long epoch


class Paced:
    """Hands many small steps to a meter, which may print a line for each, as few large ones."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.count, self.reported = 0, time.monotonic()

    def advance(self, count: int, note: str = "", now: bool = False, **facts: Any) -> None:
        """Count finished work; reported if some seconds have passed, or `now`."""
        self.count += count
        if now or time.monotonic() - self.reported > EVERY:
            self.meter.advance(self.count, note, **facts)
            self.count, self.reported = 0, time.monotonic()


class Stopwatch:
    """Seconds since it was made, and those of them spent waiting for batches."""

    def __init__(self) -> None:
        self.began, self.waited = time.perf_counter(), 0.0

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.began

    def watch(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The same batches; the time it takes to get each one counts as waiting."""
        asked = time.perf_counter()
        for batch in batches:
            self.waited += time.perf_counter() - asked
            yield batch
            asked = time.perf_counter()
