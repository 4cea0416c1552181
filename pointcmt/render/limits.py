"""What an affinity, a container or a batch system limits this process to."""

import math
import os
from collections.abc import Iterator
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
    """Processors' worth of time that control groups allow (a container's --cpus), else inf."""
    return min(
        (_quota(folder, first) for folder, first in limiting_groups("cpu", groups, mount)),
        default=math.inf,
    )


def limiting_groups(
    controller: str, groups: Path = GROUPS, mount: Path = MOUNT
) -> Iterator[tuple[Path, bool]]:
    """The folders of the process' own group and of all that it lies in, in both versions.

    With each, whether it is of the first version, where controllers ("cpu", "memory") have folders
    of their own. A container sees its own group as the root.
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
                yield folder, bool(controllers)


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
