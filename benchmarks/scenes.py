"""Rendering toy rooms to a store of scenes: time, memory, disk, and where the time goes.

Usage: python benchmarks/scenes.py [--rooms 200] [--workers 2] [--profiled 3] [--out S]

Runs `pointcmt render --dataset toyrooms` (32 frames of 320 × 240) on one room, to compile the
kernels, and then on all of them. Prints wall and CPU time, the peak memory of the largest process,
the bytes on disk of each array, and how much of an instance's points its box contains, within 2 cm.
Then renders some rooms in this process under cProfile, and
prints each step's share of the time. Last come projections to the sizes of ScanNet and S3DIS, at
the same bytes and time per frame and per point: ordering points, visibility and writing, without
reading and decoding the sources. S3DIS has no frames there, and rooms keep all of their points.
"""

import argparse
import cProfile
import json
import pstats
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from pointcmt.datasets.sources import list_shapes, select
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.render.jobs.job import create_store, job_of_listing, tasks
from pointcmt.render.jobs.shards import ShardRunner
from pointcmt.render.scenes.config import SceneConfig
from pointcmt.training.ops.detection.boxes import inside

STEPS = {  # functions whose time, with all that they call, is a step's
    "build the room": "make_room",
    "draw its frames": "draw_views",
    "noise of the sensor": "sample_sensor",
    "smooth the depth": "smoothed",
    "fuse points": "fuse",
    "order points": "voxel_order",
    "visibility": "_put_visible",
    "boxes": "_put_boxes",
    "encode and write": "_commit",
}
PER_FRAME = ("rgb", "depth", "semantic_image", "instance_image")
PER_POINT = ("points", "normals", "color", "semantic", "instance")
FOR_FRAMES = ("visibility", "encode and write")
MARGIN = 0.02  # meters that a point may be outside of its instance's box
ENOUGH = 0.95  # share of an instance's points that its box should contain
SIZES = {  # scans or rooms, and frames and points of each: means of the published data
    "ScanNet": (1513, 64, 145_841),
    "S3DIS": (272, 0, 794_855),
}


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rooms", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--profiled", type=int, default=3, help="rooms rendered under cProfile")
    parser.add_argument("--out", help="a new folder for the store; default: removed at the end")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        _render(f"{place}/warm", 1, 1)
        before, started = _cpu(), time.monotonic()
        out = options.out or f"{place}/S"
        result = _render(out, options.rooms, options.workers)
        wall, cpu = time.monotonic() - started, _cpu() - before
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        print(
            f"{result['done']} rooms in {wall:.0f} s with {options.workers} workers,"
            f" {cpu:.0f} CPU s ({cpu / options.rooms:.2f} a room), largest process {peak:.0f} MB"
        )
        store = ViewStore.open(out)
        views, points = (store.read(f"{name}_count").astype(int) for name in ("view", "point"))
        counts = {"view": views.sum(), "point": points.sum(), "pair": (views * points).sum()}
        disk = {folder.name: _size(folder) for folder in Path(store.path).iterdir()}
        print(
            f"{counts['view']} frames, {counts['point']} points, {sum(disk.values()) / 1e6:.1f} MB"
        )
        for name, size in sorted(disk.items(), key=lambda item: -item[1]):
            if size > 0.001 * sum(disk.values()):
                print(f"  {name:16} {size / 1e6:8.1f} MB  {size / sum(disk.values()):6.1%}")
        _measure_boxes(store)
        seconds = _profile(f"{place}/P", options.profiled)
        store = ViewStore.open(f"{place}/P")
        frames, points = (int(store.read(f"{name}_count").sum()) for name in ("view", "point"))
    used = sum(seconds[step] for step in FOR_FRAMES) / frames, seconds["order points"] / points
    _project(disk, counts, *used)


def _render(out: str, rooms: int, workers: int) -> dict[str, int]:
    """Run the command; return what it reports."""
    command = [sys.executable, "-m", "pointcmt", "render", "--dataset", "toyrooms", "--out", out]
    command += ["--limit", str(rooms), "--workers", str(workers), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return found


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _size(path: Path) -> int:
    return sum(each.stat().st_size for each in (path, *path.rglob("*")) if each.is_file())


def _measure_boxes(store: ViewStore) -> None:
    """Print how much of the points of each box's instance are in the box, within MARGIN."""
    shares = []
    for scene in range(store.schema.shapes):
        points, instance = store.read("points", scene), store.read("instance", scene)
        count = int(store.read("box_count", scene))
        boxes, owners = (store.read(name, scene)[:count] for name in ("boxes", "box_instance"))
        boxes[:, 3:6] += 2 * MARGIN
        for box, owner in zip(boxes, owners, strict=True):
            own = torch.from_numpy(points[instance == owner])
            shares.append(inside(own, torch.from_numpy(box[None])).double().mean().item())
    few = sum(share < ENOUGH for share in shares)
    print(
        f"{len(shares)} boxes, of which {len(shares) - few} contain at least {ENOUGH:.0%} of their"
        f" instance's points within {MARGIN * 100:.0f} cm (median {np.median(shares):.1%},"
        f" least {min(shares):.1%})"
    )


def _profile(out: str, rooms: int) -> dict[str, float]:
    """Print the share of each step in rendering some rooms; return its CPU seconds."""
    listing = select(list_shapes("toyrooms", None), None, rooms)
    job = job_of_listing(listing, out, SceneConfig())
    planned = list(tasks(create_store(listing, job, 1), render=True, correspondences=True))
    runner, profile = ShardRunner(job), cProfile.Profile(time.process_time)
    for task in planned:
        profile.runcall(runner, task, {}, lambda shape: None)
    table = pstats.Stats(profile)
    spent = dict.fromkeys(STEPS.values(), 0.0)
    for (_, _, function), (*_, cumulative, _) in table.stats.items():  # type: ignore[attr-defined]
        if function in spent:
            spent[function] += cumulative
    total: float = table.total_tt  # type: ignore[attr-defined]
    print(f"{rooms} rooms under cProfile: {total / rooms:.2f} CPU s a room")
    seconds = {step: spent[function] for step, function in STEPS.items()}
    for step, used in [*seconds.items(), ("the rest", total - sum(seconds.values()))]:
        print(f"  {step:20} {used / rooms:6.3f} s  {used / total:6.1%}")
    return seconds


def _project(
    disk: dict[str, int], counts: dict[str, int], per_frame: float, per_point: float
) -> None:
    """Print what other data sets would take at the same bytes and CPU seconds per unit."""
    frame = sum(disk[name] for name in PER_FRAME) / counts["view"]
    point = sum(disk[name] for name in PER_POINT) / counts["point"]
    pair = disk["visible"] / counts["pair"]
    for name, (scenes, frames, points) in SIZES.items():
        size = scenes * (frames * frame + points * point + frames * points * pair)
        seconds = scenes * (frames * per_frame + points * per_point)
        print(
            f"{name}: {scenes} scenes of {frames} frames and {points} points:"
            f" {size / 1e9:.1f} GB, {seconds / 3600:.2f} CPU h"
        )


if __name__ == "__main__":
    main()
