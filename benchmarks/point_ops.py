"""Point operations: `training.ops` against textbook torch, alternating, with the same threads.

Usage: python benchmarks/point_ops.py [--threads 1 2] [--rounds 5]

32 clouds of 1,024 points on the unit sphere, float32. Farthest points to 512; balls of radius 0.2
around them, 32 neighbors; the 20 nearest of all points, in space and of 64 features; the 3
nearest of 512 for all 1,024; rows of 64 features gathered for the balls, and their gradient.
Textbook is how PointNet++ and DGCNN are usually written in PyTorch: a Python loop over the samples,
the whole distance matrix as |a|² - 2ab + |b|², sorting, topk and fancy indexing.
Prints how often both find the same indices, then medians in milliseconds.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from baselines.textbook_ops import (
    textbook_ball_query,
    textbook_farthest_points,
    textbook_gather,
    textbook_k_nearest,
    textbook_three_nearest,
)
from torch import Tensor

from pointcmt.training import ops

CLOUDS, POINTS, CENTERS, NEIGHBORS, RADIUS, K, WIDTH = 32, 1024, 512, 32, 0.2, 20, 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, torch.get_num_threads()])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    pairs = prepare()
    for name, share in agreement(pairs).items():
        print(f"{name:24} agrees with the textbook in {share:.4%} of the indices")
    for threads in dict.fromkeys(options.threads):
        torch.set_num_threads(threads)
        print(f"\n{f'{threads} thread(s)':24}{'textbook':>12}{'ours':>12}{'ratio':>8}   rounds")
        for name, (textbook, ours) in pairs.items():
            rows = [(clock(textbook), clock(ours)) for _ in range(options.rounds + 1)][1:]
            theirs, own = (statistics.median(column) for column in zip(*rows, strict=True))
            ratios = sorted(t / o for t, o in rows)
            spread = f"{ratios[0]:.1f} ... {ratios[-1]:.1f}"
            print(f"{name:24}{theirs:9.1f} ms{own:9.1f} ms{theirs / own:8.1f}   {spread}")


def prepare() -> dict[str, tuple[Callable[[], object], Callable[[], object]]]:
    """Return name → (textbook, ours), calls without arguments."""
    torch.manual_seed(0)
    points = torch.nn.functional.normalize(torch.randn(CLOUDS, POINTS, 3), dim=-1)
    chosen = ops.farthest_points(points, CENTERS)
    centers = ops.gather(points, chosen)
    features = torch.randn(CLOUDS, POINTS, WIDTH, requires_grad=True)
    balls = ops.ball_query(points, centers, RADIUS, NEIGHBORS)
    grad = torch.randn(*balls.shape, WIDTH)

    def back_and_forth(look_up: Callable[[Tensor, Tensor], Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(look_up(features, balls), features, grad)

    return {
        f"farthest points {CENTERS}": (
            lambda: textbook_farthest_points(points, CENTERS),
            lambda: ops.farthest_points(points, CENTERS),
        ),
        f"ball query {NEIGHBORS}": (
            lambda: textbook_ball_query(points, centers, RADIUS, NEIGHBORS),
            lambda: ops.ball_query(points, centers, RADIUS, NEIGHBORS),
        ),
        f"{K} nearest, space": (
            lambda: textbook_k_nearest(points, points, K),
            lambda: ops.k_nearest(points, points, K)[0],
        ),
        f"{K} nearest, features": (
            lambda: textbook_k_nearest(features.detach(), features.detach(), K),
            lambda: ops.k_nearest(features, features, K)[0],
        ),
        "3 nearest with weights": (
            lambda: textbook_three_nearest(centers, points),
            lambda: ops.three_nearest_weights(centers, points)[0],
        ),
        "gather and its gradient": (back_and_forth(textbook_gather), back_and_forth(ops.gather)),
    }


def agreement(
    pairs: dict[str, tuple[Callable[[], object], Callable[[], object]]],
) -> dict[str, float]:
    """Return the share of equal indices: below 1 where the textbook's distances lose digits."""
    found = {name: (textbook(), ours()) for name, (textbook, ours) in pairs.items()}
    return {
        name: float((a == b).double().mean())
        for name, (a, b) in found.items()
        if isinstance(a, Tensor) and isinstance(b, Tensor)  # indices, not gradients
    }


def clock(call: Callable[[], object]) -> float:
    """Return the milliseconds of one call."""
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1e3


if __name__ == "__main__":
    main()
