"""A run's metrics: accumulated during an epoch, then written as a line of metrics.jsonl."""

import json
import math
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor

from pointcmt.datasets.store.streaming import Batch
from pointcmt.errors import PointcmtError, StoreError
from pointcmt.files import append_regular, parse_json, read_regular
from pointcmt.training.config.tables import Count, Number, Table, check
from pointcmt.training.runs import checkpoint

METRICS = "metrics.jsonl"
METRICS_MOST = 256 << 20  # bytes of metrics.jsonl: a million epochs
LOSS = "val_loss"
SCORES = (
    "val_miou",
    "val_ap25",
    "val_instance_miou",
    "val_accuracy",
)  # select the best epoch, if a recipe has one
GPU_DELAY = 16  # micro-batches between two looks at a GPU's losses: each look waits for the GPU


class Stopwatch:
    """Seconds since it was created, and how many of them were spent waiting for batches."""

    def __init__(self) -> None:
        self.began, self.waited = time.perf_counter(), 0.0

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.began

    def watch(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Pass the batches on, and count the time it takes to get each of them as waiting."""
        requested = time.perf_counter()
        for batch in batches:
            self.waited += time.perf_counter() - requested
            yield batch
            requested = time.perf_counter()


class MetricAccumulator:
    """Sums of metrics over shapes. Values stay on the device until `check` reads them.

    A metric that is NaN says that its batch has nothing to measure, and is left out of the mean.
    The loss is never left out.
    """

    def __init__(self, device: torch.device) -> None:
        self.delay = GPU_DELAY if device.type == "cuda" else 1
        self.pending: list[tuple[int, int, list[str], Tensor]] = []
        self.clear()

    def clear(self) -> None:
        """Start over, for the next epoch."""
        self.totals: dict[str, float] = {}
        self.counts: dict[str, int] = {}  # shapes that each total covers

    def add(self, step: int, means: dict[str, Tensor], count: int) -> None:
        """Add scalars that are means over `count` shapes; `loss` is one of them."""
        values = torch.stack([value.detach().float() for value in means.values()])
        self.pending.append((step, count, list(means), values))

    def check(self, now: bool = False) -> list[tuple[int, float]]:
        """Sum pending values, if there are enough of them or `now`; return each (step, loss)."""
        if not now and len(self.pending) < self.delay:
            return []
        losses = []
        for step, count, names, values in self.pending:
            for name, value in zip(names, values.tolist(), strict=True):
                if name == "loss":
                    losses.append((step, value))
                left_out = math.isnan(value) and name != "loss"
                total, seen = self.totals.get(name, 0.0), self.counts.get(name, 0)
                self.totals[name] = total if left_out else total + value * count
                self.counts[name] = seen if left_out else seen + count
        self.pending.clear()
        return losses

    def means(self, accelerator: Accelerator) -> dict[str, float]:
        """Return the mean of each metric over the shapes of all processes that have a value."""
        totals, counts = self._reduce(accelerator)
        return {name: total / counts[name] for name, total in totals.items() if counts[name]}

    def gather(self, accelerator: Accelerator) -> dict[str, Any]:
        """Move the sums of all processes to the main process; return them, ready for JSON."""
        totals, counts = self._reduce(accelerator)
        state = {"totals": totals, "counts": counts}
        self.load_state_dict(state, accelerator)
        return state

    def load_state_dict(self, state: dict[str, Any], accelerator: Accelerator) -> None:
        """Continue with these sums. The main process holds them; the others start at 0."""
        is_main = accelerator.is_main_process
        self.totals = {name: total if is_main else 0.0 for name, total in state["totals"].items()}
        self.counts = {name: count if is_main else 0 for name, count in state["counts"].items()}

    def _reduce(self, accelerator: Accelerator) -> tuple[dict[str, float], dict[str, int]]:
        """Return the sums over all processes; no value may be pending."""
        if accelerator.num_processes == 1:
            return dict(self.totals), dict(self.counts)
        # A process without a shape knows no names; the main process has the largest share.
        names = broadcast_object_list([list(self.totals)])[0]
        rows = [[self.totals.get(name, 0.0), self.counts.get(name, 0)] for name in names]
        numbers = torch.tensor(rows, dtype=torch.float64, device=accelerator.device).view(-1, 2)
        totals, counts = accelerator.reduce(numbers).T.tolist()
        integers = [int(count) for count in counts]
        return dict(zip(names, totals, strict=True)), dict(zip(names, integers, strict=True))


class CountAccumulator:
    """A sum of counts over the shapes of all processes. total: of this process, if it has any."""

    def __init__(self) -> None:
        self.total: Tensor | None = None

    def add(self, counts: Tensor) -> None:
        """Add integers of one shape, the same each time."""
        self.total = counts if self.total is None else self.total + counts

    def sum(self, accelerator: Accelerator) -> Tensor | None:
        """Return the sum over all processes, on the CPU; None if nothing was counted."""
        if accelerator.num_processes == 1:
            return None if self.total is None else self.total.cpu()
        # A process without a shape has no counts; the main process has the largest share.
        shape = broadcast_object_list([None if self.total is None else [*self.total.shape]])[0]
        if shape is None:
            return None
        none = torch.zeros(shape, dtype=torch.int64, device=accelerator.device)
        mine = none if self.total is None else self.total.to(accelerator.device)
        return accelerator.reduce(mine).cpu()


def require_finite(losses: Iterable[tuple[int, float]], when: str, out: Path) -> None:
    """Raise PointcmtError for the first loss that is NaN or infinite. losses: (step, value)."""
    for step, loss in losses:
        if not math.isfinite(loss):
            raise PointcmtError(
                f"the loss is {loss} at step {step} {when}",
                where=str(out),
                fix="lower optimizer.learning_rate or set optimizer.clip_norm (such as 1.0), "
                "with a new --out; if that does not help, check the data with `pointcmt "
                "verify`",
            )


def best_of(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the epoch with the highest score; of equal ones the latest, which trained longest.

    Without a score, return the epoch with the lowest validation loss; without validation, the last.
    """
    key = score_name(records[0])
    if key not in records[0]:
        return records[-1]
    sign = -1 if key == LOSS else 1
    return max(records, key=lambda record: (sign * record[key], record["epoch"]))


def score_name(record: dict[str, Any]) -> str:
    """Return the entry of metrics.jsonl that selects the best epoch; absent without validation."""
    return next((key for key in SCORES if key in record), LOSS)


class Record(Table):
    """A line of metrics.jsonl: numbers by name, these and the recipe's own."""

    __pydantic_extra__: dict[str, Number]

    epoch: Count
    loss: Number
    val_loss: Number = 0.0  # absent without validation shapes
    lr: Number
    samples_per_second: Number
    data_wait: Number
    seconds: Number


def append_metrics(folder: Path, record: dict[str, Any]) -> None:
    """Append an epoch's line to metrics.jsonl; it is on disk on return."""
    with (
        checkpoint.disk_errors(folder / METRICS),
        append_regular(folder / METRICS) as file,
    ):
        file.write((json.dumps(record, allow_nan=False) + "\n").encode())
        file.flush()
        os.fsync(file.fileno())


def read_metrics(folder: Path, epochs: int) -> list[dict[str, Any]]:
    """Read the lines of the first `epochs` epochs. Raises StoreError if any is missing or damaged.

    A killed process may leave a line, or half of one, for an epoch that has no checkpoint; it is
    ignored.
    """
    path, fix = folder / METRICS, "train again into a new --out"
    try:
        lines = read_regular(path, METRICS_MOST).splitlines()[:epochs] if epochs else []
        records = [parse_json(line) for line in lines]
    except (OSError, ValueError):
        records = []
    for record in records:
        check(Record, record, "this line of metrics.jsonl", str(path), fix)
    scores = {tuple(name in record for name in SCORES) for record in records}
    whole = [record["epoch"] for record in records] == [*range(1, len(records) + 1)]
    if len(records) != epochs or not whole or len(scores) > 1:
        raise StoreError(
            f"metrics.jsonl does not contain the {epochs} finished epochs of this run",
            where=str(path),
            fix=fix,
        )
    return records


def write_metrics(folder: Path, records: list[dict[str, Any]]) -> None:
    """Replace metrics.jsonl."""
    lines = [json.dumps(record, allow_nan=False) + "\n" for record in records]
    checkpoint.write_file(folder / METRICS, "".join(lines).encode())
