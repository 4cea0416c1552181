"""Limits on this process set by its CPU affinity, a container or a batch system."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

GROUPS, MOUNT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def usable_cores() -> int:
    """Return the number of processors that this process may use at once, at least 1."""
    if hasattr(os, "sched_getaffinity"):  # Linux; respects a batch system's allocation
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return math.ceil(min(cores, max(1, cpu_quota())))


def cpu_quota(groups: Path = GROUPS, mount: Path = MOUNT) -> float:
    """Return the CPU time that control groups allow, in processors (a container's --cpus).

    inf = no limit.
    """
    return min(
        (_quota(folder, version) for folder, version in limiting_groups("cpu", groups, mount)),
        default=math.inf,
    )


def limiting_groups(
    controller: str, groups: Path = GROUPS, mount: Path = MOUNT
) -> Iterator[tuple[Path, int]]:
    """Yield (folder, version) of this process' control group and all groups that contain it.

    version: 1 or 2, of the kernel's interface; in version 1 each controller ("cpu", "memory") has
    its own folders. A container sees its own group as the root. Yields nothing without groups.
    """
    try:
        lines = groups.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = mount / controller if controllers else mount
        own = root / path.lstrip("/")
        for folder in (own, *own.parents):
            if folder.is_relative_to(root):
                yield folder, 1 if controllers else 2


def _quota(group: Path, version: int) -> float:
    try:
        if version == 1:
            quota = (group / "cpu.cfs_quota_us").read_text()
            period = (group / "cpu.cfs_period_us").read_text()
        else:
            quota, period = (group / "cpu.max").read_text().split()
    except (OSError, ValueError):
        return math.inf
    limited = quota.strip() not in ("max", "-1")
    return int(quota) / int(period) if limited else math.inf
