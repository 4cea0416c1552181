"""Memory of a render worker over thousands of shapes: it must stay flat.

Usage: python benchmarks/memory.py [--shapes 2000] [--size 224]

Renders toy shapes in one worker's code path, in this process, and prints its resident memory
as it goes on; the verdict compares the last quarter with the second one by a straight line.
"""

import argparse
import gc
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from pointcmt.cameras import find_rig
from pointcmt.datasets.sources import list_shapes, select
from pointcmt.render.config import RenderConfig
from pointcmt.render.job import Job, create_store, tasks
from pointcmt.render.shards import ShardRunner

ALLOWED = 2e-3  # MiB per shape: 4 MiB over 2,000 shapes, noise of the allocator included


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
        runner = ShardRunner(job)
        for task in tasks(store, render=True, correspondences=True):
            runner(task, {}, lambda shape: None)
            for array in Path(place, "S").glob("*/c"):
                shutil.rmtree(array)  # the disk is not what is measured
            gc.collect()
            count.append((task.shard + 1) * store.schema.shard)
            resident.append(resident_mib())
            if task.shard % 25 == 0:
                rate = count[-1] / (time.monotonic() - started)
                print(f"{count[-1]:6} shapes  {resident[-1]:7.1f} MiB  {rate:5.1f}/s", flush=True)
    half = len(count) // 4  # the first quarter warms up
    slope = float(np.polyfit(count[half:], resident[half:], 1)[0])
    print(
        f"{count[-1]} shapes: {resident[half]:.1f} MiB after {count[half]}, {resident[-1]:.1f} at "
        f"the end, {max(resident):.1f} at most; slope {slope * 1000:+.2f} MiB per 1,000 shapes"
    )
    sys.exit(slope > ALLOWED)


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


if __name__ == "__main__":
    main()
