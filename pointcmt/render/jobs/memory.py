"""Default memory limit of a worker, and whether a shard's arrays fit into it.

A worker that exceeds its limit loses one shape. If memory runs out, the kernel kills a process of
its own choice. So every worker has a limit unless the user says otherwise: an even share of the
memory of the machine or container.
"""

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pointcmt.datasets.store.schema import Schema, array_specs
from pointcmt.errors import PointcmtError, UsageError
from pointcmt.render.jobs.supervisor import Work
from pointcmt.render.limits import GROUPS, MOUNT, limiting_groups, usable_cores

GIB = 2**30
SHARED = 7 / 8  # of the memory; the rest is for the system and for the main process
LIBRARIES = 0.3  # GiB that a worker uses before it loads a shape
# Peak memory for drawing, joining and encoding one shape's images, as a multiple of its stored
# arrays. Measured at 224² to 2048² with 6 to 20 views: 2.7 to 2.8 for large images.
DRAWING = 3.0
HEADROOM = 1.5  # times what a shard needs: meshes and textures come on top
NO_LIMIT = 1 << 50  # bytes; control groups version 1 report 2^63 if there is no limit


def usable_memory(groups: Path = GROUPS, mount: Path = MOUNT) -> float:
    """Return the GiB that the machine has, or that a container or batch system allows."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(machine, memory_quota(groups, mount)) / GIB


def memory_quota(groups: Path = GROUPS, mount: Path = MOUNT) -> float:
    """Return the bytes that control groups allow (a container's --memory); inf = no limit."""
    smallest = math.inf
    for folder, version in limiting_groups("memory", groups, mount):
        name = "memory.limit_in_bytes" if version == 1 else "memory.max"
        try:
            allowed = int((folder / name).read_text())
        except (OSError, ValueError):  # no such file, or "max"
            continue
        if 0 < allowed < NO_LIMIT:
            smallest = min(smallest, allowed)
    return smallest


def shard_memory(schema: Schema) -> float:
    """Return the minimum GiB to render one shard: its arrays, and drawing one shape."""
    return drawing_memory(schema) + schema.shard * _shape_memory(schema)


def drawing_memory(schema: Schema) -> float:
    """Return the minimum GiB to draw one shape."""
    return LIBRARIES + DRAWING * _shape_memory(schema)


def _shape_memory(schema: Schema) -> float:
    """Return the GiB of one shape's arrays."""
    specs = array_specs(schema).values()
    return sum(np.dtype(spec.dtype).itemsize * math.prod(spec.shape) for spec in specs) / GIB


@dataclass(frozen=True)
class Shares:
    """workers: number to start. limit: GiB for each, 0 = none."""

    workers: int
    limit: float


def share_out(workers: int, limit: float | None, need: float, memory: float) -> Shares:
    """Share `memory` (GiB) among workers that need `need` each; use fewer if it is too little.

    limit: the user's limit, None = the share.
    """
    if limit is not None:
        return Shares(workers, limit)
    budget = memory * SHARED
    workers = max(1, min(workers, int(budget / (HEADROOM * need))))
    return Shares(workers, _rounded(budget / workers))


def with_share(work: Work, threads: int) -> Work:
    """Return the work with a memory limit for one of up to `threads` workers on this machine.

    Raises PointcmtError if this machine has too little memory for a single worker.
    """
    if work.memory_limit is not None:
        return work
    budget = usable_memory() * SHARED
    if work.need > budget:
        raise PointcmtError(
            f"a shard needs {work.need:.1f} GiB, but a worker may only use {budget:.1f} GiB here",
            fix="use machines or containers with more memory",
        )
    share = max(budget / max(threads, usable_cores()), min(budget, HEADROOM * work.need))
    return replace(work, memory_limit=_rounded(share))


def require_memory(schema: Schema, limit: float | None, memory: float) -> None:
    """Raise UsageError if a worker has too little memory to render one shard.

    limit: GiB for a worker, 0 = no limit, None = at most its share of `memory`.
    """
    if limit == 0:
        return
    allowed = memory * SHARED if limit is None else limit
    need = shard_memory(schema)
    if need <= allowed:
        return
    height, width = schema.image
    size = f"{width}²" if height == width else f"{width} × {height}"
    images = f"{schema.views} views of {size} pixels"
    of = "shape" if schema.shard == 1 else f"shard of {schema.shard} shapes"
    raise UsageError(
        f"a {of} with {images} needs {need:.1f} GiB, but a worker may only use {allowed:.1f} GiB",
        where="this machine's or container's memory"
        if limit is None
        else f"--memory-limit {limit:g}",
        fix=_remedy(schema, allowed),
    )


def _remedy(schema: Schema, allowed: float) -> str:
    """Return which flag to lower so that a shard fits."""
    for shard in range(schema.shard - 1, 0, -1):
        if shard_memory(replace(schema, shard=shard)) <= allowed:
            return f"use --shard-size {shard} or less"
    one = replace(schema, shard=1)
    sizes = [size for size in range(8, schema.size, 8) if _fits(one, size, allowed)]
    smaller = f"use a --size of {sizes[-1]} or less" if sizes else "use a smaller --size"
    return f"{smaller}, a --rig of fewer views, or more memory for the worker"


def _fits(schema: Schema, size: int, allowed: float) -> bool:
    return shard_memory(replace(schema, size=size)) <= allowed


def _rounded(gib: float) -> float:
    """Round to two decimals, but never to 0, which would mean no limit."""
    return max(0.01, math.floor(gib * 100) / 100)
