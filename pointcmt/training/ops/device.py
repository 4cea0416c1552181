"""The device that a network runs on."""

from functools import cache
from importlib.util import find_spec

import torch

from pointcmt.errors import UsageError


def find_device(name: str) -> torch.device:
    """Return the device for `auto` (CUDA if available), `cpu`, `cuda` or `cuda:N`.

    Raises UsageError if the device is unknown or not available.
    """
    if name == "auto":
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    kind, _, number = name.partition(":")
    if name != "cpu" and (kind != "cuda" or (number and not number.isdecimal()) or name[-1] == ":"):
        raise UsageError(
            f"unknown device '{name}'", where="--device", fix="use auto, cpu, cuda or cuda:N"
        )
    if kind == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        built = torch.version.cuda is not None
        raise UsageError(
            "torch found no CUDA device" if built else "this torch is built without CUDA",
            where=f"--device {name}",
            fix="check the driver with nvidia-smi" if built else "install a CUDA build of torch",
        )
    index = int(number or 0)
    if index >= torch.cuda.device_count():
        raise UsageError(
            f"use an index below {torch.cuda.device_count()}, the number of CUDA devices",
            where=f"--device {name}",
        )
    return torch.device("cuda", index)


@cache
def has_triton() -> bool:
    """Return whether Triton is installed; CUDA builds of torch on Linux include it."""
    return find_spec("triton") is not None


def describe_device(device: torch.device) -> str:
    """Return a readable description of the device."""
    if device.type == "cuda":
        missing = (
            ""
            if has_triton()
            else "; Triton is not installed: using plain torch for point operations"
        )
        return f"{device} ({torch.cuda.get_device_name(device)}{missing})"
    return f"cpu ({torch.get_num_threads()} threads)"
