"""What a run has cost, and what its network costs: `cost.json` in the run, and a line at its end.

FLOPs are those of one forward pass for one shape by the network that is used afterwards, in
evaluation mode and single precision: of matrix products, convolutions and attention, a multiply-add
counted as two. Sampling, neighbours, norms and activations are not among them. They are of this
implementation, whose layers do less than the textbook's (see `backbones.blocks`).
"""

import json
import resource
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from pointcmt.console import duration
from pointcmt.regular_files import read_regular
from pointcmt.training.config.tables import MOST, Count, Number
from pointcmt.training.runs.checkpoint import write_file

FILE = "cost.json"
NOTHING = {"seconds": 0.0, "peak": 0}  # what checkpoints know that are older than this file


@dataclass(frozen=True)
class Cost:
    """epochs: after how many. parameters: those that were trained, all of the model's, and those of
    the network that is used afterwards. flops: see the module. hours: of wall time, over all
    sessions. samples_per_second: shapes over all processes, the median epoch's. peak_memory_bytes:
    of the main process; on a GPU what torch allocated there, else the process's resident memory,
    whatever else it did before. disk_bytes: of the run's folder, but for this file. feature_bytes:
    of the features that pre-training caches in the store, which other runs may share; None on
    object storage.
    """

    epochs: Count
    trainable_parameters: Count
    total_parameters: Count
    inference_parameters: Count
    flops: Count
    hours: Number
    samples_per_second: Number
    peak_memory_bytes: Count
    disk_bytes: Count
    feature_bytes: Count | None
    device: str
    processes: Count

    def describe(self) -> str:
        """One line for people."""
        parameters = f"{self.inference_parameters / 1e6:.2f} M parameters"
        if self.total_parameters != self.inference_parameters:
            parameters += f" ({self.total_parameters / 1e6:.2f} M in training)"
        line = (
            f"cost: {parameters}, {self.flops / 1e9:.2f} GFLOPs a shape; "
            f"{duration(3600 * self.hours)} on {self.processes} × {self.device}, "
            f"{self.samples_per_second:.0f} samples/s, {self.peak_memory_bytes / 2**20:.0f} MiB of "
            f"memory, {self.disk_bytes / 2**20:.0f} MiB on disk"
        )
        if self.feature_bytes:
            line += f" and {self.feature_bytes / 2**20:.0f} MiB of features in the store"
        return line


class Spent:
    """Seconds and memory so far, carried from checkpoint to checkpoint.

    What a killed process did after its last checkpoint is done again, and counts once.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.began = device, time.monotonic()
        self.seconds_before, self.peak_before = 0.0, 0
        if device.type == "cuda":
            torch.cuda.init()  # before it there are no statistics, and none to reset
            torch.cuda.reset_peak_memory_stats(device)

    @property
    def seconds(self) -> float:
        """Seconds of wall time, of earlier sessions and of this one."""
        return self.seconds_before + time.monotonic() - self.began

    @property
    def peak(self) -> int:
        """The most memory that was in use, in bytes."""
        if self.device.type == "cuda":
            return max(self.peak_before, torch.cuda.max_memory_allocated(self.device))
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB on Linux
        return max(self.peak_before, 1024 * resident)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds of it."""
        return {"seconds": self.seconds, "peak": self.peak}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on counting from there."""
        self.seconds_before, self.peak_before = float(state["seconds"]), int(state["peak"])


def measure_cost(
    folder: Path,
    model: nn.Module,
    network: nn.Module,
    inputs: tuple[Tensor, ...],
    records: list[dict[str, Any]],
    spent: Spent,
    processes: int,
    feature_bytes: int | None,
) -> Cost:
    """The cost of a run, written into its folder.

    model: all that was trained. network, inputs: see `Task.inference`, for one shape. records: the
    lines of metrics.jsonl. feature_bytes: see `Cost`.
    """
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != FILE]
    cost = Cost(
        epochs=len(records),
        trainable_parameters=_count(p for p in model.parameters() if p.requires_grad),
        total_parameters=_count(model.parameters()),
        inference_parameters=_count(network.parameters()),
        flops=count_flops(network, inputs),
        hours=spent.seconds / 3600,
        samples_per_second=statistics.median(r["samples_per_second"] for r in records),
        peak_memory_bytes=spent.peak,
        disk_bytes=sum(path.stat().st_size for path in files),
        feature_bytes=feature_bytes,
        device=spent.device.type,
        processes=processes,
    )
    write_file(folder / FILE, (json.dumps(asdict(cost), indent=1) + "\n").encode())
    return cost


def read_cost(folder: Path, epochs: int) -> Cost | None:
    """What was written after so many epochs; None where it has to be measured (again).

    That is where a killed process did not get there, and where the file is damaged.
    """
    try:
        cost = TypeAdapter(Cost).validate_json(read_regular(folder / FILE, MOST), strict=True)
    except (OSError, ValueError):
        return None
    return cost if cost.epochs == epochs else None


@torch.no_grad()
def count_flops(network: nn.Module, inputs: tuple[Tensor, ...]) -> int:
    """FLOPs of one forward pass, see the module; leaves the network in evaluation mode."""
    from torch.utils import flop_counter

    # attention on a CPU is an operator of its own, which torch's table lacks
    on_cpu = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    known = {on_cpu: lambda q, k, v, *_, **__: flop_counter.sdpa_flop_count(q, k, v)}
    counter = flop_counter.FlopCounterMode(display=False, custom_mapping=known)
    with torch.compiler.set_stance("force_eager"), counter:
        network.eval()(*inputs)
    return counter.get_total_flops()


def _count(parameters: Any) -> int:
    return sum(parameter.numel() for parameter in parameters)
