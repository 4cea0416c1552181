"""Memory of a render worker over thousands of shapes: it must stay flat.

Usage: python benchmarks/memory.py [--shapes 2000] [--size 224]

Renders toy shapes with one worker process, as `pointcmt render --workers 1` does, and reads that
process's resident memory after each shard. The first quarter warms up; the peak of the last quarter
is compared with that of the second. Exit code 1 if it is more than 3 % higher.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pointcmt.cameras import find_rig
from pointcmt.datasets.sources import list_shapes, select
from pointcmt.render.config import RenderConfig
from pointcmt.render.jobs.backlog import Backlog, carry_out
from pointcmt.render.jobs.job import Job, create_store, tasks
from pointcmt.render.jobs.runner import make_runner
from pointcmt.render.jobs.supervisor import LocalWorkers, Work, WorkerPool

ALLOWED = 1.03  # allocator noise


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shapes", type=int, default=2000)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rig", default="dodeca20")
    options = parser.parse_args()
    listing = select(list_shapes("toy", None), None, options.shapes)
    config = RenderConfig(find_rig(options.rig), size=options.size)
    count, resident, started = [], [], time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        job = Job(f"{place}/S", "toy", None, listing.up, config)
        store = create_store(listing, job, shard=4)
        missing = tasks(store, render=True, correspondences=True)
        engine = LocalWorkers(Work(make_runner, job, timeout=600), 1, WorkerPool.run)
        for _ in carry_out(Backlog(missing, lambda shard: ""), engine):
            count.append((len(count) + 1) * store.schema.shard)
            resident.append(resident_mib(worker()))
            if len(count) % 25 == 1:
                rate = count[-1] / (time.monotonic() - started)
                print(f"{count[-1]:6} shapes  {resident[-1]:7.1f} MiB  {rate:5.1f}/s", flush=True)
    quarter = len(count) // 4
    early, late = max(resident[quarter : 2 * quarter]), max(resident[-quarter:])
    print(
        f"peak of the second quarter {early:.1f} MiB, of the last {late:.1f}: {late / early:.3f}×"
    )
    sys.exit(late > ALLOWED * early)


def worker() -> int:
    """Return the only process that this one has started."""
    command = ["pgrep", "-P", str(os.getpid()), "-f", "pointcmt.render.jobs.child"]
    return int(subprocess.run(command, capture_output=True, check=True).stdout)


def resident_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 2**20


if __name__ == "__main__":
    main()
