"""Speedup from a second worker with its own core: the same job with one and two, alternating.

Usage: python benchmarks/scaling.py [--meshes DIR] [--copies 48] [--rounds 3] [--workers 1 2]

DIR holds mesh files at any depth; default: the real meshes of the tests (POINTCMT_TEST_DATA).
Times the whole job, from a new process to the last byte: 20 views of 224², points, correspondences.
With n workers the job has n cores, as on a cluster. With --all-cores it has all of them, and a
single worker uses more than one, since Embree and compression use idle ones. Linux only.
"""

import argparse
import os
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path

from render import REAL, SUFFIXES, VIEWS, lay_out, ours, timed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--meshes", type=Path, nargs="*", default=None)
    parser.add_argument("--copies", type=int, default=48, help="how often each mesh is in the job")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--all-cores", action="store_true")
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if max(options.workers) > len(cores):
        sys.exit(f"{max(options.workers)} workers need as many cores: there are {len(cores)}")
    folders = options.meshes or [REAL / "ModelNet40", REAL / "ModelNet10", REAL / "textured"]
    meshes = sorted(p for f in folders for p in f.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not meshes:
        sys.exit(f"no meshes in {', '.join(map(str, folders))}: give --meshes DIR")
    print(f"{len(meshes)} meshes × {options.copies}, {VIEWS} views of {options.size}²")
    seconds: dict[int, list[float]] = {count: [] for count in options.workers}
    with tempfile.TemporaryDirectory() as place:
        job = lay_out(meshes, options.copies, Path(place) / "meshes")
        for round_ in range(options.rounds + 1):
            for count, own in seconds.items():
                os.sched_setaffinity(0, cores if options.all_cores else cores[:count])  # inherited
                chosen = argparse.Namespace(size=options.size, workers=count)
                own.append(timed(partial(ours, "auto"), job, Path(place), chosen).seconds)
            if round_ == 0:  # compiled kernels and file caches, as on any second run
                seconds = {count: [] for count in seconds}
            else:
                report(f"round {round_}", {count: own[-1] for count, own in seconds.items()})
    report("median", {count: statistics.median(own) for count, own in seconds.items()})


def report(title: str, seconds: dict[int, float]) -> None:
    first = next(iter(seconds.values()))
    print(title)
    for count, own in seconds.items():
        print(f"  workers {count:3}: {own:7.2f} s   ratio {first / own:5.2f}", flush=True)


if __name__ == "__main__":
    main()
