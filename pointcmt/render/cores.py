"""How many processors this process may use: an affinity, or what a container is limited to."""

import math
import os
from pathlib import Path

GROUPS, MOUNT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def usable_cores() -> int:
    """Processors that the system lets this process have at once, at least 1."""
    if hasattr(os, "sched_getaffinity"):  # Linux; counts a batch system's share
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return math.ceil(min(cores, max(1, cpu_quota())))


def cpu_quota(groups: Path = GROUPS, mount: Path = MOUNT) -> float:
    """Processors' worth of time that control groups allow (a container's --cpus); inf = no limit.

    Of the process' own group and of all that it lies in, in both versions of control groups. A
    container sees its own group as the root.
    """
    try:
        lines = groups.read_text().splitlines()
    except OSError:
        return math.inf
    smallest = math.inf
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = mount / "cpu" if controllers else mount
        own = root / path.lstrip("/")
        for folder in (own, *own.parents):
            if folder.is_relative_to(root):
                smallest = min(smallest, _quota(folder, bool(controllers)))
    return smallest


def _quota(group: Path, first_version: bool) -> float:
    try:
        if first_version:
            quota = (group / "cpu.cfs_quota_us").read_text()
            period = (group / "cpu.cfs_period_us").read_text()
        else:
            quota, period = (group / "cpu.max").read_text().split()
    except (OSError, ValueError):
        return math.inf
    limited = quota.strip() not in ("max", "-1")
    return int(quota) / int(period) if limited else math.inf
