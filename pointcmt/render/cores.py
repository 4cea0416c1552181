"""How many processors this process may use: an affinity, or what a container is limited to."""

import math
import os
from pathlib import Path

from pointcmt.render.control_groups import GROUPS, MOUNT, limiting_groups


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
