"""The peak memory of this process alone, on Linux.

`ru_maxrss` is not enough: a process starts with the peak of the one that has started it.
"""

import re
from pathlib import Path


def peak():
    """Return the largest resident size since the process began, or since `reset_peak`, in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) << 10


def reset_peak():
    """Let the peak begin at what is resident now, and return that in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak()
