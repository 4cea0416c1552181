"""Sparse convolution and its U-Nets: speed, memory and growth, on a CPU or a CUDA device.

Usage: python benchmarks/sparse.py [--store DIR] [--threads 1] [--rounds 5] [--device cpu]

convolution: a 3³ submanifold convolution of 96 → 96 channels on 44,610 voxels, `ops.sparse` and the
im2col form (all neighbors gathered into one matrix) alternating, with the same result or the
benchmark stops. GFLOP are those of the pairs that exist. networks: forward and backward of a
training step on 6,861 voxels, and the peak memory of the process. growth: kernel map and
convolution from 10 thousand to 1 million voxels.

The voxels are the surface of a ball, with 13 to 14 neighbors of 27 on average. With `--store`,
they are those of the first scene of a store, at 2 cm (convolution) and 5 cm (networks).
Each part runs in a process of its own. Medians, and the lowest and highest of the rounds; with one
thread on a CPU, of CPU time, which other processes hardly change.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.training.networks.sparse.unet import (
    MINKUNET_14A,
    MINKUNET_34C,
    TINY,
    SparseUNet,
    build_pyramid,
)
from pointcmt.training.ops.sparse import KernelMap, VoxelGrid, sparse_convolution, voxelize

FINE, COARSE = (44_610, 0.02), (6_861, 0.05)  # voxels of the ball; size in meters for a store
CHANNELS, CLASSES = 96, 20
GROWTH = (10_000, 30_000, 100_000, 300_000, 1_000_000)
NETWORKS = {"minkunet-34c": MINKUNET_34C, "minkunet-14a": MINKUNET_14A, "tiny": TINY}
LIBRARIES = ("spconv", "MinkowskiEngine", "torchsparse", "ocnn")
TOLERANCE = 1e-4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, help="a store of scenes; default: a synthetic ball")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parts = ["convolution", *NETWORKS, "growth"]
    parser.add_argument("--part", choices=parts, help="run this part alone, in this process")
    options = parser.parse_args()
    if options.part is None:
        found = [name for name in LIBRARIES if find_spec(name)]
        print(f"other libraries, not compared: {', '.join(found) or 'none importable'}", flush=True)
        for part in parts:
            subprocess.run([sys.executable, *sys.argv, "--part", part], check=True)
        return
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    if options.part == "convolution":
        convolution(options)
    elif options.part == "growth":
        growth(options)
    else:
        network(options)


def convolution(options: argparse.Namespace) -> None:
    """Print times of one convolution and its kernel map, against im2col."""
    grid = voxels(options, FINE)
    kernel_map = VoxelGrid(grid.keys).neighbors(3)
    rows = torch.randn(len(grid), CHANNELS, device=options.device)
    weight = torch.randn(27, CHANNELS, CHANNELS, device=options.device) / CHANNELS
    table = neighbor_table(kernel_map)
    ours, theirs = sparse_convolution(rows, weight, kernel_map), im2col(rows, weight, table)
    if not torch.allclose(ours, theirs, atol=TOLERANCE):
        raise SystemExit(f"the results differ by {(ours - theirs).abs().max():.1e}")
    gflop = 2e-9 * kernel_map.pairs * CHANNELS**2
    print(
        f"\n{len(grid):,} voxels, {kernel_map.pairs / len(grid):.1f} neighbors, {gflop:.1f} GFLOP, "
        f"{options.threads} thread(s), {options.device}"
    )
    calls = {
        "kernel map 3³": lambda: VoxelGrid(grid.keys).neighbors(3),
        "kernel map 5³": lambda: VoxelGrid(grid.keys).neighbors(5),
        "im2col": lambda: im2col(rows, weight, table),
        "ours": lambda: sparse_convolution(rows, weight, kernel_map),
    }
    times = measure(calls, options)
    for name in ("im2col", "ours"):
        speed = gflop / statistics.median(times[name])
        print(f"{name}: {speed:.1f} GFLOP/s, {speed / options.threads:.1f} per thread")
    ratios = [a / b for a, b in zip(times["im2col"], times["ours"], strict=True)]
    print(f"im2col / ours: {spread(ratios)}")


def neighbor_table(kernel_map: KernelMap) -> Tensor:
    """Return the source of each target and offset, [n, 27]; n where there is none."""
    source, target, starts, total, *_ = kernel_map
    table = source.new_full((total, 27), total)
    table[:, 13] = torch.arange(total, device=source.device)
    for k, (start, end) in enumerate(pairwise(starts.tolist())):
        here, there = source[start:end], target[start:end]
        table[there, k], table[here, 26 - k] = here, there
    return table


def im2col(rows: Tensor, weight: Tensor, table: Tensor) -> Tensor:
    """The same convolution as one product with a matrix [n, 27 · C] of all neighbors."""
    padded = F.pad(rows, (0, 0, 0, 1))  # a row of zeros
    columns = padded.index_select(0, table.flatten()).view(len(rows), -1)
    return columns @ weight.flatten(0, 1)


def network(options: argparse.Namespace) -> None:
    """Print times of a network's step and the peak memory of this process."""
    grid = voxels(options, COARSE)
    before = peak_memory(options.device)
    model = SparseUNet(3, CLASSES, NETWORKS[options.part]).to(options.device)
    rows = torch.randn(len(grid), 3, device=options.device)
    labels = torch.randint(CLASSES, (len(grid),), device=options.device)
    pyramid, _ = build_pyramid(grid, model.config.stem)
    losses = []

    def forward() -> None:
        losses[:] = [F.cross_entropy(model.predict(rows, pyramid), labels)]

    def backward() -> None:
        model.zero_grad()
        losses.pop().backward()

    size = sum(p.numel() for p in model.parameters()) / 1e6
    print(f"\n{options.part}, {size:.2f} M parameters, {len(grid):,} voxels")
    calls = {
        "all kernel maps": lambda: build_pyramid(VoxelGrid(grid.keys), model.config.stem),
        "forward": forward,
        "backward": backward,
    }
    measure(calls, options)
    after = peak_memory(options.device)
    print(f"peak memory {after:.0f} MB, {before:.0f} MB of them before the network")


def peak_memory(device: str) -> float:
    """Return the most memory that this process had so far, in MB; on CUDA, of the device."""
    if device == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return torch.cuda.max_memory_allocated() / 2**20


def growth(options: argparse.Namespace) -> None:
    """Print microseconds per voxel of kernel map and convolution for more and more voxels."""
    weight = torch.randn(27, CHANNELS, CHANNELS, device=options.device) / CHANNELS
    for count in GROWTH:
        grid = ball(count, options.device)
        kernel_map = VoxelGrid(grid.keys).neighbors(3)
        rows = torch.randn(count, CHANNELS, device=options.device)
        print(f"\n{count:,} voxels, {kernel_map.pairs / count:.1f} neighbors")
        calls = {
            "kernel map 3³": lambda grid=grid: VoxelGrid(grid.keys).neighbors(3),
            "convolution": lambda rows=rows, m=kernel_map: sparse_convolution(rows, weight, m),
        }
        for name, times in measure(calls, options).items():
            print(f"{name}: {statistics.median(times) / count * 1e6:.2f} µs per voxel")


def voxels(options: argparse.Namespace, wanted: tuple[int, float]) -> VoxelGrid:
    """Return the voxels of the store's first scene, or a ball's."""
    count, size = wanted
    if options.store is None:
        return ball(count, options.device)
    points = torch.from_numpy(ViewStore.open(options.store).read("points", 0)).to(options.device)
    cloud = torch.zeros(len(points), dtype=torch.int64, device=options.device)
    return voxelize(points, cloud, size).grid


def ball(count: int, device: str) -> VoxelGrid:
    """Return `count` voxels that a sphere passes through, sliced off at one side."""
    radius = 1.02 * (count / 18.85) ** 0.5  # a sphere passes through 6 π r² voxels
    side = int(radius) + 1
    low = torch.cartesian_prod(*[torch.arange(-side, side)] * 2)  # columns of voxels
    far = torch.maximum(low.abs(), (low + 1).abs()).square().sum(dim=1)
    near = torch.minimum(low.abs(), (low + 1).abs()).square().sum(dim=1)
    bottom = (radius**2 - far).clamp(min=0).sqrt().floor().long()
    top = (radius**2 - near).clamp(min=0).sqrt().floor().long()
    inside = near < radius**2
    low, bottom, height = low[inside], bottom[inside], (top - bottom + 1)[inside]
    column = torch.arange(len(low)).repeat_interleave(height)
    first = (height.cumsum(0) - height)[column]
    upper = bottom[column] + torch.arange(len(column)) - first
    z = torch.cat([upper, -1 - upper])
    x, y = low[column].repeat(2, 1).unbind(1)
    coords = torch.stack([torch.zeros_like(x), x, y, z], dim=1).to(device)
    grid, _ = VoxelGrid.from_coords(coords)
    if len(grid) < count:
        raise SystemExit(f"the ball has {len(grid)} voxels, fewer than {count}")
    return VoxelGrid(grid.keys[:count])


def measure(
    calls: dict[str, Callable[[], object]], options: argparse.Namespace
) -> dict[str, list[float]]:
    """Run all calls in turn, print and return their seconds; the first round is not counted."""
    on_cpu = options.device == "cpu"
    now = time.process_time if on_cpu and options.threads == 1 else time.perf_counter

    def clock(call: Callable[[], object]) -> float:
        started = now()
        call()
        if not on_cpu:
            torch.cuda.synchronize()
        return now() - started

    rounds = [[clock(call) for call in calls.values()] for _ in range(options.rounds + 1)]
    times = dict(zip(calls, map(list, zip(*rounds[1:], strict=True)), strict=True))
    for name, seconds in times.items():
        print(f"{name:16} {spread([1e3 * each for each in seconds])} ms")
    return times


def spread(values: list[float]) -> str:
    """Return median, lowest and highest."""
    return f"{statistics.median(values):8.1f} ({min(values):.1f} ... {max(values):.1f})"


if __name__ == "__main__":
    main()
