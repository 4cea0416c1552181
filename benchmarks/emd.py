"""The earth mover's distance: every solver against scipy, on one thread.

Usage: python benchmarks/emd.py [--points 256 1024 2048] [--seconds 1]

near: two samples of a sphere. far: a sphere and a box of another shape. Per solver and size: the
median ms per cloud of the runs that fit into --seconds (at least one), the excess of its distance
over the optimum (sliced and chamfer measure other quantities), and the speedup over scipy's cdist
and linear_sum_assignment, which is the solver exact.
"""

import argparse
import statistics
import time

import torch

from pointcmt.training.ops.emd import SOLVERS, earth_movers_distance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, nargs="+", default=[256, 1024, 2048])
    parser.add_argument("--seconds", type=float, default=1.0, help="to spend on each figure")
    options = parser.parse_args()
    torch.set_num_threads(1)
    solvers = ["exact", *(solver for solver in SOLVERS if solver != "exact")]
    print(f"{'clouds':8}{'points':>7}  {'solver':10}{'ms':>10}{'of optimum':>13}{'scipy / it':>12}")
    for points in options.points:
        for kind in ("near", "far"):
            x, y = clouds(kind, points)
            exact_ms = optimum = 0.0
            for solver in solvers:
                ms, distance = measure(x, y, solver, options.seconds)
                if solver == "exact":
                    exact_ms, optimum = ms, distance
                error = f"{100 * (distance / optimum - 1):+.3f} %"
                ratio = f"{exact_ms / ms:.2f} ×"
                line = f"{kind:8}{points:7}  {solver:10}{ms:10.2f}{error:>13}{ratio:>12}"
                print(line, flush=True)


def clouds(kind: str, points: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return two clouds, [1, N, 3] each, float32."""
    rng = torch.Generator().manual_seed(points)
    x, y = torch.nn.functional.normalize(torch.randn(2, 1, points, 3, generator=rng), dim=-1)
    if kind == "far":
        box = torch.tensor([0.3, 0.5, 1.5])
        y = (2 * torch.rand(1, points, 3, generator=rng) - 1) * box
    return x, y


def measure(x: torch.Tensor, y: torch.Tensor, solver: str, seconds: float) -> tuple[float, float]:
    """Return the median ms per cloud and the distance."""
    earth_movers_distance(x[:, :50], y[:, :50], solver)  # imports, compilation
    times: list[float] = []
    while not times or (sum(times) < seconds and len(times) < 50):
        start = time.perf_counter()
        distance, _ = earth_movers_distance(x, y, solver)
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times), float(distance)


if __name__ == "__main__":
    main()
