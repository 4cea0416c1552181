"""What a run measures of itself: time spent waiting for batches, sums of metrics."""

import math
import time
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor

from pointcmt.datasets.store.streaming import Batch

LATE = 16  # pieces of a batch after which a GPU's losses are looked at: each look makes it wait


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


class Sums:
    """Sums of metrics over shapes, kept on the device until they are looked at.

    A metric that is NaN says that its batch has nothing to judge it by, and is left out of its
    mean; the loss is never left out.
    """

    def __init__(self, device: torch.device) -> None:
        self.late = LATE if device.type == "cuda" else 1
        self.waiting: list[tuple[int, int, list[str], Tensor]] = []
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self.totals: dict[str, float] = {}
        self.counts: dict[str, int] = {}  # shapes that each was summed over

    def add(self, step: int, means: dict[str, Tensor], count: int) -> None:
        """Take in scalars that are means over `count` shapes; `loss` is one of them."""
        values = torch.stack([value.detach().float() for value in means.values()])
        self.waiting.append((step, count, list(means), values))

    def check(self, now: bool = False) -> list[tuple[int, float]]:
        """Sum up what waits, if enough does or `now`; returns (step, loss) of each."""
        if not now and len(self.waiting) < self.late:
            return []
        losses = []
        for step, count, names, values in self.waiting:
            for name, value in zip(names, values.tolist(), strict=True):
                if name == "loss":
                    losses.append((step, value))
                left_out = math.isnan(value) and name != "loss"
                total, seen = self.totals.get(name, 0.0), self.counts.get(name, 0)
                self.totals[name] = total if left_out else total + value * count
                self.counts[name] = seen if left_out else seen + count
        self.waiting.clear()
        return losses

    def means(self, accelerator: Accelerator) -> dict[str, float]:
        """The mean over the shapes of all processes, by name, of what had something to judge by."""
        totals, counts = self._everywhere(accelerator)
        return {name: total / counts[name] for name, total in totals.items() if counts[name]}

    def gather(self, accelerator: Accelerator) -> dict[str, Any]:
        """Move the sums of all processes to the main one; returns them, JSON-able."""
        totals, counts = self._everywhere(accelerator)
        state = {"totals": totals, "counts": counts}
        self.load_state_dict(state, accelerator)
        return state

    def _everywhere(self, accelerator: Accelerator) -> tuple[dict[str, float], dict[str, int]]:
        """The sums over all processes; what waits must have been checked."""
        if accelerator.num_processes == 1:
            return dict(self.totals), dict(self.counts)
        # a process without a shape knows no names; the main one has the largest share
        names = broadcast_object_list([list(self.totals)])[0]
        mine = [[self.totals.get(name, 0.0), self.counts.get(name, 0)] for name in names]
        numbers = torch.tensor(mine, dtype=torch.float64, device=accelerator.device).view(-1, 2)
        totals, counts = accelerator.reduce(numbers).T.tolist()
        whole = [int(count) for count in counts]
        return dict(zip(names, totals, strict=True)), dict(zip(names, whole, strict=True))

    def load_state_dict(self, state: dict[str, Any], accelerator: Accelerator) -> None:
        """Go on with these sums; the main process holds them, the others have nothing to add."""
        mine = accelerator.is_main_process
        self.totals = {name: total if mine else 0.0 for name, total in state["totals"].items()}
        self.counts = {name: count if mine else 0 for name, count in state["counts"].items()}
