"""Point operations: `training.ops` against textbook torch and the fastest libraries, alternating.

Usage: python benchmarks/point_ops.py [--threads 1 2] [--rounds 7] [--only WORD] [--no-textbook]

Libraries are optional: `pip install pykdtree fpsample` (k-d trees, farthest points); for balls of a
room it is scipy's tree, the only one found that finds all points within a radius. Textbook is
how PointNet++ and DGCNN are usually written in PyTorch: a Python loop over the samples, the whole
distance matrix as |a|² - 2ab + |b|², sorting, topk and fancy indexing. fpsample begins at a point
of its own choice, so that its samples are others, though farthest points too.

- 32 clouds of 1,024 points on the unit sphere: farthest points to 512; balls of radius 0.2 around
  them, 32 neighbors; the 20 nearest of all points, in space and of 64 features; the 3 nearest of
  512 for all 1,024; rows of 64 features gathered for the balls, and their gradient.
- 1 cloud of 10,000 points in a cube: the 20 nearest of all.
- 1 room of 40,000 points: farthest points to 2,048, and VoteNet's four ball queries.

All float32. First prints the share of indices that are the same. Then, for each number of threads,
our median milliseconds, and for both baselines theirs and the median, least and largest ratio of
the rounds. With one thread the times are CPU times, which other jobs on the machine hardly affect.
"""

import argparse
import importlib
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from baselines.textbook_ops import (
    textbook_ball_query,
    textbook_farthest_points,
    textbook_gather,
    textbook_k_nearest,
    textbook_three_nearest,
)
from scipy.spatial import cKDTree
from threadpoolctl import threadpool_limits
from torch import Tensor

from pointcmt.training import ops

CLOUDS, POINTS, CENTERS, NEIGHBORS, RADIUS, K, WIDTH = 32, 1024, 512, 32, 0.2, 20, 64
ROOM, LEAVES = 40_000, 7  # points of the room; height of fpsample's trees, which it recommends
VOTENET = ((2048, 0.2, 64), (1024, 0.4, 32), (512, 0.8, 16), (256, 1.2, 16))
WIDE = 24  # columns of a name
REST = 0.05  # seconds before each call: threads of the one before spin for a while, on our cores
Call = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """One operation: ours, as usually written in torch, and by a library. None = not compared."""

    name: str
    ours: Call
    textbook: Call | None = None
    library: Call | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="", help="only operations whose name contains this")
    parser.add_argument("--no-textbook", action="store_true", help="only against the libraries")
    options = parser.parse_args()
    cases = [case for case in (*batch_cases(), *large_cases()) if options.only in case.name]
    if options.no_textbook:
        cases = [replace(case, textbook=None) for case in cases if case.library]
    for case in cases:
        print(f"{case.name:{WIDE}}{agreement(case)}")
    for threads in options.threads:
        torch.set_num_threads(threads)
        title = f"{threads} thread{'s' if threads > 1 else ''}"
        print(f"\n{title:{WIDE}}{'ours':>10}{'textbook':>34}{'library':>34}")
        with threadpool_limits(threads):
            for case in cases:
                print(compare(case, options.rounds, threads), flush=True)


def batch_cases() -> list[Case]:
    """Return the operations on 32 clouds."""
    torch.manual_seed(0)
    points = torch.nn.functional.normalize(torch.randn(CLOUDS, POINTS, 3), dim=-1)
    centers = ops.gather(points, ops.farthest_points(points, CENTERS))
    features = torch.randn(CLOUDS, POINTS, WIDTH, requires_grad=True)
    flat = features.detach()
    balls = ops.ball_query(points, centers, RADIUS, NEIGHBORS)
    grad = torch.randn(*balls.shape, WIDTH)

    def back_and_forth(look_up: Callable[[Tensor, Tensor], Tensor]) -> Call:
        return lambda: torch.autograd.grad(look_up(features, balls), features, grad)

    return [
        Case(
            f"farthest points {CENTERS}",
            lambda: ops.farthest_points(points, CENTERS),
            lambda: textbook_farthest_points(points, CENTERS),
            fpsample(points, CENTERS),
        ),
        Case(
            f"ball query {NEIGHBORS}",
            lambda: ops.ball_query(points, centers, RADIUS, NEIGHBORS),
            lambda: textbook_ball_query(points, centers, RADIUS, NEIGHBORS),
        ),
        Case(
            f"{K} nearest",
            lambda: ops.k_nearest(points, points, K)[0],
            lambda: textbook_k_nearest(points, points, K),
            pykdtree(points, points, K),
        ),
        Case(
            f"{K} nearest, {WIDTH} features",
            lambda: ops.k_nearest(flat, flat, K)[0],
            lambda: textbook_k_nearest(flat, flat, K),
            pykdtree(flat, flat, K),
        ),
        Case(
            "3 nearest with weights",
            lambda: ops.three_nearest_weights(centers, points)[0],
            lambda: textbook_three_nearest(centers, points),
            pykdtree(centers, points, 3),
        ),
        Case(
            "gather and its gradient", back_and_forth(ops.gather), back_and_forth(textbook_gather)
        ),
    ]


def large_cases() -> list[Case]:
    """Return the operations on one cloud of 10,000 points, and on a room of 40,000."""
    rng = np.random.default_rng(0)
    cube = torch.from_numpy(rng.uniform(size=(1, 10_000, 3)).astype(np.float32))
    room = torch.from_numpy(make_room(rng, ROOM))[None]
    first = VOTENET[0][0]
    cases = [
        Case(
            f"{K} nearest of 10,000",
            lambda: ops.k_nearest(cube, cube, K)[0],
            lambda: textbook_k_nearest(cube, cube, K),
            pykdtree(cube, cube, K),
        ),
        Case(
            f"farthest points {first}",
            lambda: ops.farthest_points(room, first),
            lambda: textbook_farthest_points(room, first),
            fpsample(room, first),
        ),
    ]
    points = room
    for count, radius, neighbors in VOTENET:
        centers = ops.gather(points, ops.farthest_points(points, count))
        cases.append(ball_case(points, centers, radius, neighbors))
        points = centers
    return cases


def ball_case(points: Tensor, centers: Tensor, radius: float, count: int) -> Case:
    """Return a ball query as VoteNet's."""
    return Case(
        f"ball query {radius} m",
        lambda: ops.ball_query(points, centers, radius, count),
        lambda: textbook_ball_query(points, centers, radius, count),
        scipy_balls(points, centers, radius, count),
    )


def make_room(rng: np.random.Generator, count: int) -> np.ndarray:
    """Draw points [n, 3] on the walls, the floor and boxes of a room of 6 × 5 × 2.5 m."""
    points = rng.uniform(size=(count, 3)) * (6, 5, 2.5)
    side = rng.integers(0, 5, count)
    for number, (axis, place) in enumerate(((0, 0.0), (0, 6.0), (1, 0.0), (1, 5.0), (2, 0.0))):
        points[side == number, axis] = place
    boxes = rng.uniform(size=(12, 3)) * (5, 4, 0.5)
    inside = rng.integers(0, len(boxes), count)
    furniture = rng.uniform(size=count) < 0.4
    points[furniture] = boxes[inside[furniture]] + rng.uniform(size=(furniture.sum(), 3))
    return points.astype(np.float32)


def pykdtree(points: Tensor, queries: Tensor, k: int) -> Call | None:
    """Return a search with pykdtree, which builds a tree for each cloud; None without it."""
    tree = find("pykdtree.kdtree")
    if tree is None:
        return None
    pairs = list(zip(points.numpy(), queries.numpy(), strict=True))

    def search() -> Tensor:
        found = [tree.KDTree(cloud).query(asked, k=k)[1] for cloud, asked in pairs]
        return torch.from_numpy(np.stack(found).astype(np.int64))

    return search


def scipy_balls(points: Tensor, centers: Tensor, radius: float, count: int) -> Call:
    """Return a search with scipy's tree; it takes all points of a ball, the lowest `count` stay."""
    pairs = list(zip(points.numpy(), centers.numpy(), strict=True))

    def search() -> Tensor:
        index = np.empty((*centers.shape[:2], count), np.int64)
        for rows, (cloud, asked) in zip(index, pairs, strict=True):
            found = cKDTree(cloud).query_ball_point(asked, radius, return_sorted=True)
            for row, ball in zip(rows, found, strict=True):
                row[: len(ball)] = ball[:count]
                row[len(ball) :] = ball[0]
        return torch.from_numpy(index)

    return search


def fpsample(points: Tensor, count: int) -> Call | None:
    """Return the same samples by fpsample, with a thread for each cloud; None without it."""
    library = find("fpsample")
    if library is None:
        return None
    clouds = list(points.numpy())

    def sample(cloud: np.ndarray) -> np.ndarray:
        return library.bucket_fps_kdline_sampling(cloud, count, h=LEAVES, start_idx=0)

    def sample_all() -> Tensor:
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            found = list(pool.map(sample, clouds))
        return torch.from_numpy(np.stack(found).astype(np.int64))

    return sample_all


def find(module: str) -> Any:
    """Import an optional module; None if it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


def agreement(case: Case) -> str:
    """Say in which share of the indices both baselines agree: below 1 where their distances, or
    the order of equal ones, differ."""
    ours, said = case.ours(), []
    for name, call in (("textbook", case.textbook), ("library", case.library)):
        found = call() if call else None
        if isinstance(found, Tensor) and isinstance(ours, Tensor):
            said.append(f"{name} agrees in {float((found == ours).double().mean()):.4%}")
    return ", ".join(said)


def compare(case: Case, rounds: int, threads: int) -> str:
    """Time ours and both baselines in turn; return a line."""
    clock = time.process_time if threads == 1 else time.perf_counter
    calls = [case.ours, case.textbook, case.library]
    times: list[list[float]] = [[], [], []]
    for call in calls:
        if call:
            call()
    for _ in range(rounds):
        for column, call in zip(times, calls, strict=True):
            if call:
                time.sleep(REST)
                started = clock()
                call()
                column.append(1e3 * (clock() - started))
    own = times[0]
    line = f"{case.name:{WIDE}}{statistics.median(own):7.2f} ms"
    for theirs in times[1:]:
        if not theirs:
            line += f"{'–':>34}"
            continue
        ratios = sorted(t / o for t, o in zip(theirs, own, strict=True))
        spread = f"{statistics.median(ratios):.1f} × ({ratios[0]:.1f}–{ratios[-1]:.1f})"
        line += f"{f'{statistics.median(theirs):.1f} ms  {spread}':>34}"
    return line


if __name__ == "__main__":
    main()
