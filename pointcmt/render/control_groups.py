"""Control groups: what a container or a batch system limits this process to (Linux)."""

from collections.abc import Iterator
from pathlib import Path

GROUPS, MOUNT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


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
