"""The cost of a run and of its network: `cost.json` in the run, and a line at its end.

FLOPs count one forward pass for one shape by the deployable network, in evaluation mode and single
precision: matrix products, convolutions, sparse ones too, and attention, a multiply-add as two.
Sampling, neighbor search, norms and activations are not counted. For scenes, FLOPs are those of
the first validation scene. The numbers are those of this implementation, whose layers do less work
than the textbook's (see `backbones.blocks`).
"""

import json
import resource
import statistics
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from pointcmt.console import duration
from pointcmt.files import read_regular
from pointcmt.training.config.tables import MOST, Count, Number
from pointcmt.training.ops.sparse.convolution import convolution_flops
from pointcmt.training.runs.checkpoint import write_file

FILE = "cost.json"
NOTHING = {"seconds": 0.0, "peak": 0}  # for checkpoints that are older than this file


@dataclass(frozen=True)
class Cost:
    """The cost of a run after some epochs.

    parameters: those that were trained, all of the model, and those of the deployable network.
    flops: see the module. hours: wall time of all sessions. samples_per_second: shapes over all
    processes, of the median epoch. peak_memory_bytes: of the main process; on a GPU what torch
    allocated there, otherwise the resident memory of the whole process. disk_bytes: the run's
    folder without this file. feature_bytes: features that pre-training caches in the store, where
    other runs may share them; None on object storage.
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
            f"cost: {parameters}, {self.flops / 1e9:.2f} GFLOPs per sample; "
            f"{duration(3600 * self.hours)} on {self.processes} × {self.device}, "
            f"{self.samples_per_second:.0f} samples/s, {self.peak_memory_bytes / 2**20:.0f} MiB "
            f"of memory, {self.disk_bytes / 2**20:.0f} MiB on disk"
        )
        if self.feature_bytes:
            line += f" and {self.feature_bytes / 2**20:.0f} MiB of features in the store"
        return line


class Usage:
    """Seconds and memory used so far, carried from checkpoint to checkpoint.

    What a session does after its last checkpoint is in the cost that it writes at its end: see
    `continue_after`. The work of a killed process after its last checkpoint is repeated, and counts
    once.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.began = device, monotonic()
        self.seconds_before, self.peak_before = 0.0, 0
        if device.type == "cuda":
            torch.cuda.init()  # without it there are no statistics to reset
            torch.cuda.reset_peak_memory_stats(device)

    @property
    def seconds(self) -> float:
        """Wall time of earlier sessions and this one."""
        return self.seconds_before + monotonic() - self.began

    @property
    def peak(self) -> int:
        """The peak of the memory in use, in bytes."""
        if self.device.type == "cuda":
            return max(self.peak_before, torch.cuda.max_memory_allocated(self.device))
        return max(self.peak_before, peak_resident())

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"seconds": self.seconds, "peak": self.peak}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue counting from a checkpoint."""
        self.seconds_before, self.peak_before = float(state["seconds"]), int(state["peak"])

    def continue_after(self, folder: Path) -> None:
        """Also count what the last session did after its last checkpoint, if it ended by itself."""
        found = _read(folder)
        if found is not None:
            self.seconds_before = max(self.seconds_before, 3600 * found.hours)
            self.peak_before = max(self.peak_before, found.peak_memory_bytes)


def measure_cost(
    folder: Path,
    model: nn.Module,
    network: nn.Module,
    inputs: tuple[Tensor, ...],
    records: list[dict[str, Any]],
    usage: Usage,
    processes: int,
    feature_bytes: int | None,
) -> Cost:
    """Measure the cost of a run and write it into its folder.

    model: everything that was trained. network, inputs: see `Recipe.deployable`, for one shape.
    records: the lines of metrics.jsonl. feature_bytes: see `Cost`.
    """
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != FILE]
    cost = Cost(
        epochs=len(records),
        trainable_parameters=_count(p for p in model.parameters() if p.requires_grad),
        total_parameters=_count(model.parameters()),
        inference_parameters=_count(network.parameters()),
        flops=count_flops(network, inputs),
        hours=usage.seconds / 3600,
        samples_per_second=statistics.median(r["samples_per_second"] for r in records),
        peak_memory_bytes=usage.peak,
        disk_bytes=sum(path.stat().st_size for path in files),
        feature_bytes=feature_bytes,
        device=usage.device.type,
        processes=processes,
    )
    write_file(folder / FILE, (json.dumps(asdict(cost), indent=1) + "\n").encode())
    return cost


def read_cost(folder: Path, epochs: int) -> Cost | None:
    """Read the cost that was written after this many epochs; None if it must be measured (again).

    That is the case if a killed process did not get there, or if the file is damaged.
    """
    cost = _read(folder)
    return cost if cost is not None and cost.epochs == epochs else None


def _read(folder: Path) -> Cost | None:
    """Read the cost that was written last; None if there is none, or a damaged one."""
    try:
        return TypeAdapter(Cost).validate_json(read_regular(folder / FILE, MOST), strict=True)
    except (OSError, ValueError):
        return None


@torch.no_grad()
def count_flops(network: nn.Module, inputs: tuple[Tensor, ...]) -> int:
    """Count the FLOPs of one forward pass, see the module; sets the network to evaluation mode."""
    from torch.utils import flop_counter

    # torch's table lacks the operator that attention uses on a CPU
    on_cpu = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    known: dict[Any, Any] = {
        on_cpu: lambda q, k, v, *_, **__: flop_counter.sdpa_flop_count(q, k, v),
        torch.ops.pointcmt.sparse_convolution: convolution_flops,
    }
    counter = flop_counter.FlopCounterMode(display=False, custom_mapping=known)
    with torch.compiler.set_stance("force_eager"), counter:
        network.eval()(*inputs)
    return counter.get_total_flops()


def peak_resident() -> int:
    """Return the peak of this process's resident memory, in bytes.

    getrusage counts from before `exec` on Linux: a small process started by a large one begins with
    the large one's memory. The kernel's VmHWM is of this program alone.
    """
    with suppress(OSError, ValueError, IndexError):  # no such file, or no such line, elsewhere
        status = Path("/proc/self/status").read_text()
        return 1024 * int(status.split("VmHWM:")[1].split()[0])
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _count(parameters: Any) -> int:
    return sum(parameter.numel() for parameter in parameters)
