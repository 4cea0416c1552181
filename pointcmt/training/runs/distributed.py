"""One process or several (`torchrun -m pointcmt train …`), through accelerate.

Each process gets its share of every batch; gradients are averaged over all of them. Only the main
process (rank 0) writes files and messages.
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

ASK_EVERY = 50  # steps between two exchanges of `agreed`
TIMEOUT = timedelta(hours=4)  # another process may still be encoding its part of a store's views


def launched() -> int:
    """Return how many processes torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def join_processes(device: str) -> tuple[Accelerator, torch.device]:
    """Join the process group; return it and the device of this process.

    device: as in `find_device`; under torchrun it is auto, cpu or cuda, which means one GPU for
    each process. Raises UsageError for a device that is unknown, absent or shared by processes.
    """
    requested = find_device(device)
    if launched() > 1 and ":" in device:
        raise UsageError(
            f"{launched()} processes cannot share one GPU",
            where=f"--device {device}",
            fix="leave it out: each process then takes the GPU with its local rank",
        )
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if requested.type == "cuda" and launched() > 1 and local >= torch.cuda.device_count():
        raise UsageError(
            f"no GPU for process {local} of this machine, which has {torch.cuda.device_count()} "
            "GPUs",
            where="torchrun --nproc-per-node",
            fix="start one process per GPU, or use --device cpu",
        )
    # Every process has statistics of its own share of the batch; `average_buffers` joins them.
    ddp = DistributedDataParallelKwargs(broadcast_buffers=False)
    wait = InitProcessGroupKwargs(timeout=TIMEOUT)
    # A single process does not use accelerate's device, which cannot change once it is chosen:
    # training on a GPU and later on the CPU would be refused.
    alone = launched() == 1 and "LOCAL_RANK" not in os.environ
    cpu, handlers = requested.type == "cpu", [ddp, wait]
    accelerator = Accelerator(cpu=cpu or alone, device_placement=False, kwargs_handlers=handlers)
    atexit.unregister(_leave)
    atexit.register(_leave)
    return accelerator, requested if cpu or launched() == 1 else accelerator.device


def _leave() -> None:
    """End the connections' threads: if they outlive Python, they abort the process."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
        gc.collect()  # wrapped models hold the connections, too


def wrap(module: nn.Module, accelerator: Accelerator) -> nn.Module:
    """Wrap a module so that its gradients are averaged over all processes."""
    with warnings.catch_warnings():  # accelerate has no other name for it yet
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        return accelerator.prepare_model(module, device_placement=False)


def average_buffers(model: nn.Module, accelerator: Accelerator) -> None:
    """Give every process the mean of all processes' running statistics."""
    if accelerator.num_processes > 1:
        for buffer in model.buffers():
            if buffer.is_floating_point():
                buffer.copy_(accelerator.reduce(buffer, reduction="mean"))


def agreed(answer: bool, step: int, accelerator: Accelerator) -> bool:
    """Return the main process's answer in every process.

    Processes must save together, but their clocks differ. Several processes exchange answers only
    every ASK_EVERY steps; in between the answer is no.
    """
    if accelerator.num_processes == 1:
        return answer
    if step % ASK_EVERY:
        return False
    vote = float(answer and accelerator.is_main_process)
    from_main = torch.tensor(vote, device=accelerator.device)
    return bool(accelerator.reduce(from_main).item())
