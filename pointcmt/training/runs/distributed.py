"""One process or several (`torchrun -m pointcmt train …`), through accelerate.

Each process gets its share of every batch; gradients are averaged over all of them. The main
process (rank 0) alone writes files and talks.
"""

import atexit
import gc
import os
import warnings
from datetime import timedelta

import torch
import torch.distributed
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs
from torch import nn

from pointcmt.errors import UsageError
from pointcmt.training.ops.device import find_device

ASK = 50  # steps between two questions to all processes
PATIENCE = timedelta(hours=4)  # for a process that still encodes its part of a store's views


def launched() -> int:
    """How many processes torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def join_processes(device: str) -> tuple[Accelerator, torch.device]:
    """The process group, and where this process computes.

    device: as in `find_device`; under torchrun auto, cpu or cuda, which means one GPU for each
    process. Raises UsageError for a device that is unknown, absent or shared by processes.
    """
    on = find_device(device)
    if launched() > 1 and ":" in device:
        raise UsageError(
            f"{launched()} processes cannot share one device",
            where=f"--device {device}",
            fix="leave it out: each process takes the GPU of its number",
        )
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if on.type == "cuda" and launched() > 1 and local >= torch.cuda.device_count():
        raise UsageError(
            f"process {local} of this machine has no GPU: there are {torch.cuda.device_count()}",
            where="torchrun --nproc-per-node",
            fix="start one process for each GPU, or give --device cpu",
        )
    # Every rank has statistics of its own half of the batch; `average_buffers` joins them.
    ddp = DistributedDataParallelKwargs(broadcast_buffers=False)
    wait = InitProcessGroupKwargs(timeout=PATIENCE)
    # A process on its own has no use for accelerate's device, which is for good the first one that
    # it is asked for: training on a GPU first and on the CPU later would be refused.
    alone = launched() == 1 and "LOCAL_RANK" not in os.environ
    cpu, handlers = on.type == "cpu", [ddp, wait]
    accelerator = Accelerator(cpu=cpu or alone, device_placement=False, kwargs_handlers=handlers)
    atexit.unregister(_leave)
    atexit.register(_leave)
    return accelerator, on if cpu or launched() == 1 else accelerator.device


def _leave() -> None:
    """End the threads of the connections, which abort the process where they outlive Python."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
        gc.collect()  # what else holds the connections: models that were wrapped


def wrap(module: nn.Module, accelerator: Accelerator) -> nn.Module:
    """The module, with gradients averaged over the processes where there are several."""
    with warnings.catch_warnings():  # accelerate knows no other name for it yet
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        return accelerator.prepare_model(module, device_placement=False)


def average_buffers(model: nn.Module, accelerator: Accelerator) -> None:
    """Give every process the mean of all processes' running statistics."""
    if accelerator.num_processes > 1:
        for buffer in model.buffers():
            if buffer.is_floating_point():
                buffer.copy_(accelerator.reduce(buffer, reduction="mean"))


def agreed(mine: bool, step: int, accelerator: Accelerator) -> bool:
    """What the main process thinks, for all: clocks differ, and all must save together.

    With several processes they ask each other at some steps only, and answer no at the others.
    """
    if accelerator.num_processes == 1:
        return mine
    if step % ASK:
        return False
    said = torch.tensor(float(mine and accelerator.is_main_process), device=accelerator.device)
    return bool(accelerator.reduce(said).item())
